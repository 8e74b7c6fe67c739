"""A view over a topic and its twin over Parquet of the same events: what the stream stores is held to the twin."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tidegate_api.feature_view import FeatureView
from tidegate_components.features.join import join_views
from tidegate_components.features.stream_messages import Message
from unit.components.shop import parsed, view_body

FUNCTIONS = ("count", "sum", "mean", "min", "max", "last", "distinct")
SCHEMA = pa.schema(
    [
        ("user_id", pa.int64()),
        ("event_time", pa.timestamp("us", tz="UTC")),
        ("ingested_at", pa.timestamp("us", tz="UTC")),
        ("kind", pa.string()),
        ("price", pa.float64()),
    ]
)


class Shelf:
    """A store of one partition in memory."""

    def __init__(self) -> None:
        self.kept: dict[bytes, bytes] = {}
        self.save()

    def get_bytes(self, key: bytes) -> bytes | None:
        return self.kept.get(key)

    def set_bytes(self, key: bytes, value: bytes) -> None:
        self.kept[key] = value

    def delete(self, key: bytes) -> None:
        self.kept.pop(key, None)

    def save(self) -> None:
        """What is written from now on may be lost."""
        self._saved = dict(self.kept)

    def lose(self, chance: random.Random) -> None:
        """Of what was written since then some is lost."""
        for key in sorted({*self.kept, *self._saved}):
            if chance.random() < 0.5:
                self.kept.pop(key, None)
                self.kept |= {key: self._saved[key]} if key in self._saved else {}


def features(windows: Sequence[str]) -> list[dict[str, Any]]:
    """All seven functions of `price` over each window, counts of rows and of those that fit a condition."""
    found: list[dict[str, Any]] = []
    for window in windows:
        for f in FUNCTIONS:
            kind = "Int64" if f in {"count", "distinct"} else "Float64"
            how = {"function": f, "column": "price", "window": window, "where": "kind <> 'view'"}
            found.append({"name": f"{f}_{window}", "type": kind, "aggregate": how})
        clicks = {"function": "count", "window": window, "where": "kind = 'click' AND coalesce(price, 0) < 50"}
        found.append({"name": f"clicks_{window}", "type": "Int64", "aggregate": clicks})
    return found


def streamed(
    name: str, windows: Sequence[str], servers: str = "nowhere:9092", topic: str = "events", **spec: Any
) -> FeatureView:
    """The view over the topic."""
    body = view_body(name, "user_id", features(windows))
    body["spec"]["source"] = {
        "kafka": {"bootstrapServers": servers, "topic": topic},
        "eventTimestamp": "event_time",
        "createdTimestamp": "ingested_at",
    }
    body["spec"].update(spec)
    return parsed(body)


def twin(view: FeatureView, folder: Path) -> FeatureView:
    """The same view over Parquet."""
    body = view.to_dict()
    del body["spec"]["source"]["kafka"]
    body["spec"]["source"]["parquet"] = {"uri": str(folder)}
    body.pop("status", None)
    return parsed(body)


def micros(time: int) -> datetime:
    return datetime.fromtimestamp(time / 1_000_000, UTC)


def row(user: int, at_ms: int, known_ms: int, price: float | None, kind: str = "click") -> dict[str, Any]:
    return {
        "user_id": user, "event_time": micros(at_ms * 1000), "ingested_at": micros(known_ms * 1000), "kind": kind,
        "price": price,
    }  # fmt: skip


def message(row: dict[str, Any], partition: int = 0, offset: int = 0) -> Message:
    fields = {**row, "event_time": row["event_time"].isoformat()}
    known = int(fields.pop("ingested_at").timestamp() * 1000)
    return Message(partition, offset, known, str(row["user_id"]).encode(), json.dumps(fields).encode())


def write_rows(folder: Path, rows: Sequence[dict[str, Any]]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(list(rows), SCHEMA), folder / "events.parquet")


def same(found: dict[str, Any], expected: dict[str, Any]) -> bool:
    """Equal but for a sum's last bits, which depend on its order."""
    pairs = [(found[name], value) for name, value in expected.items()]
    return all(a == b or (None not in {a, b} and math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-6)) for a, b in pairs)


def offline(view: FeatureView, asked: Sequence[tuple[int, int]]) -> list[dict[str, Any]]:
    """The twin's values, as known, of (user, micros)."""
    schema = pa.schema([("user_id", pa.int64()), ("t", pa.timestamp("us", tz="UTC"))])
    entities = pa.Table.from_pylist([{"user_id": user, "t": micros(time)} for user, time in asked], schema)
    joined = join_views(entities, "t", [view], as_known=True)
    prefix = f"{view.metadata.name}__"
    return [{k.removeprefix(prefix): v for k, v in row.items() if k.startswith(prefix)} for row in joined.to_pylist()]
