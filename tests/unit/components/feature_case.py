"""A view over a handful of events, asked as of a handful of times."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tidegate_api.feature_view import FeatureView
from tidegate_components.features.join import join_views
from unit.components.shop import START, parsed, view_body

FUNCTIONS = ("count", "sum", "mean", "min", "max", "last", "distinct")
EVENTS = pa.schema(
    [
        ("user_id", pa.int64()),
        ("event_time", pa.timestamp("us")),
        ("ingested_at", pa.timestamp("us")),
        ("price", pa.float64()),
    ]
)


def at(seconds: float) -> datetime:
    """A naive UTC time, so many seconds after the start."""
    return (START + timedelta(seconds=seconds)).replace(tzinfo=None)


def event(user: int | None, when: float | None, price: float | None, known: float | None = None) -> dict[str, Any]:
    created = at(known) if known is not None else None
    return {"user_id": user, "event_time": None if when is None else at(when), "ingested_at": created, "price": price}


def aggregate_view(source: Path, window: str = "10s", created: bool = False, **changes: Any) -> FeatureView:
    """All seven functions of `price` over one window, and `rows`, the count without a column."""
    features = [
        {"name": f, "type": "Int64" if f in {"count", "distinct"} else "Float64",
         "aggregate": {"function": f, "column": "price", "window": window}}
        for f in FUNCTIONS
    ]  # fmt: skip
    features.append({"name": "rows", "type": "Int64", "aggregate": {"function": "count", "window": window}})
    body = view_body("v", "user_id", features, str(source))
    if created:
        body["spec"]["source"]["createdTimestamp"] = "ingested_at"
    for feature in features:
        feature.update(changes.get(str(feature["name"]), {}))
    body["spec"].update({key: value for key, value in changes.items() if key in {"ttl", "sql", "features"}})
    return parsed(body)


def write_events(folder: Path, events: Sequence[dict[str, Any]]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(list(events), EVENTS), folder / "events.parquet")
    return folder


def as_of(view: FeatureView, *asked: tuple[int | None, float], as_known: bool = False) -> list[dict[str, Any]]:
    """The view's features, by their own names, of (user, time) pairs."""
    schema = pa.schema([("user_id", pa.int64()), ("t", pa.timestamp("us"))])
    entities = pa.Table.from_pylist([{"user_id": user, "t": at(time)} for user, time in asked], schema)
    joined = join_views(entities, "t", [view], as_known=as_known)
    prefix = f"{view.metadata.name}__"
    return [{k.removeprefix(prefix): v for k, v in row.items() if k.startswith(prefix)} for row in joined.to_pylist()]
