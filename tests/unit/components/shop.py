"""A small seeded shop: event tables with a planted taste, feature views over them, a trained model package."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from tidegate_api.feature_view import FeatureView

START = datetime(2026, 1, 1, tzinfo=UTC)
USERS, ITEMS, ROWS = 40, 30, 3000


def event_tables(rows: int = ROWS, seed: int = 3) -> dict[str, pa.Table]:
    """Sixty days of impressions; a click depends on how well user and item fit, and on the item itself."""
    rng = np.random.default_rng(seed)
    users, items = rng.integers(1, USERS + 1, rows), rng.integers(1, ITEMS + 1, rows)
    times = np.sort(rng.integers(0, 60 * 86400, rows))
    appeal, taste = rng.normal(size=ITEMS + 1), rng.normal(size=USERS + 1)
    clicked = rng.random(rows) < 1 / (1 + np.exp(-(1.5 * appeal[items] + taste[users])))
    when = [START + timedelta(seconds=int(t)) for t in times]
    columns: dict[str, Any] = {
        "request_id": [f"r{i}" for i in range(rows)], "item_id": items, "user_id": users,
        "event_time": pa.array(when, pa.timestamp("us", tz="UTC")), "age": 20 + users % 50, "gender": 1 + users % 2,
        "occupation": users % 5, "release_year": 1990 + items % 9,
        **{f"genre_{slot}": (items % 7 + 1 if slot == 1 else np.zeros(rows, dtype=np.int64)) for slot in range(1, 7)},
    }  # fmt: skip
    impressions = pa.table(columns)
    clicks = impressions.select(["request_id", "item_id", "event_time"]).filter(pa.array(clicked))
    plain = impressions.select(["user_id", "item_id", "event_time"])
    rated = impressions.select(["request_id", "item_id", "user_id", "event_time"])
    stars = pa.array(np.where(clicked, 5.0, 2.0))
    seen = plain.append_column("behavior", pa.array(["impression"] * rows)).append_column("rating", stars)
    hits = plain.filter(pa.array(clicked))
    liked = hits.append_column("behavior", pa.array(["click"] * len(hits)))
    return {
        "impressions": impressions,
        "clicks": clicks,
        "ratings": rated.append_column("rating", stars),
        "interactions": pa.concat_tables([seen, liked], promote_options="default").sort_by("event_time"),
    }


def write_shop(folder: Path, **changes: Any) -> Path:
    """The event tables as Parquet; `changes` replace tables."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, table in {**event_tables(), **changes}.items():
        pq.write_table(table, folder / f"{name}.parquet")
    return folder


def view_body(name: str, key: str, features: list[dict[str, Any]], source: str = "pvc://lake/interactions") -> Any:
    return {
        "apiVersion": "tidegate.dev/v1alpha1",
        "kind": "FeatureView",
        "metadata": {"name": name},
        "spec": {
            "entity": {"name": key.removesuffix("_id"), "joinKeys": [{"name": key, "type": "Int64"}]},
            "source": {"parquet": {"uri": source}, "eventTimestamp": "event_time"},
            "features": features,
            "ttl": "30d",
            "offline": {"uri": f"pvc://lake/features/{name}"},
            "online": {"redis": {"url": "redis://localhost:6379/0"}},
            "materialization": {"schedule": "*/15 * * * *"},
        },
    }


def shop_views() -> list[Any]:
    def counts(window: str) -> list[dict[str, Any]]:
        return [
            {"name": f"{behavior}s_{window}", "type": "Int64",
             "aggregate": {"function": "count", "window": window, "where": f"behavior = '{behavior}'"}}
            for behavior in ("impression", "click")
        ]  # fmt: skip

    return [view_body("user-activity", "user_id", counts("7d")), view_body("item-popularity", "item_id", counts("30d"))]


def write_views(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for body in shop_views():
        (folder / f"{body['metadata']['name']}.yaml").write_text(yaml.safe_dump(body))
    return folder


def parsed(body: Any) -> FeatureView:
    return FeatureView.parse(body)
