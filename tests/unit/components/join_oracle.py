"""The sample join once more, in plain Python and from its description alone: slow, and the judge of the fast one."""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta
from typing import Any

Row = dict[str, Any]


def first_of_each(rows: list[Row], keys: tuple[str, ...]) -> list[Row]:
    best: dict[tuple[Any, ...], Row] = {}
    for row in rows:
        key = tuple(row[name] for name in keys)
        rest = [row["event_time"], *((row[name] is None, row[name] or 0) for name in sorted(row) if name not in keys)]
        if key not in best or rest < best[key]["_rest"]:
            best[key] = {**row, "_rest": rest}
    return [{name: value for name, value in row.items() if name != "_rest"} for row in best.values()]


def is_kept(row: Row, rate: float) -> bool:
    digest = hashlib.md5(f"{row['request_id']}/{row['item_id']}".encode()).hexdigest()
    return rate == 1 or int(digest[:8], 16) < max(1, round(rate * 2**32))


def known_by(now: datetime, rows: list[Row]) -> list[Row]:
    return [row for row in rows if row["event_time"] <= now]


def samples_of(
    tables: dict[str, list[Row]], window: timedelta, skew: timedelta, delay: timedelta, now: datetime, rate: float
) -> list[Row]:
    with_items = any("item_id" in row for row in tables["feature_log"])
    clicks = known_by(now, first_of_each(tables["clicks"], ("click_id",)))
    orders = known_by(now, first_of_each(tables["conversions"], ("order_id", "item_id", "click_id")))
    keys = ("request_id", "item_id") if with_items else ("request_id",)
    log = {(row["request_id"], row.get("item_id")): row for row in first_of_each(tables["feature_log"], keys)}
    samples = []
    for shown in first_of_each(tables["impressions"], ("request_id", "item_id")):
        mine = [c for c in clicks if (c["request_id"], c["item_id"]) == (shown["request_id"], shown["item_id"])]
        mine = [c for c in mine if c["event_time"] >= shown["event_time"] - skew]
        mine.sort(key=lambda click: (click["event_time"], click["click_id"]))
        bought = [
            order
            for click in mine
            for order in orders
            if order["click_id"] == click["click_id"]
            and click["event_time"] - skew <= order["event_time"] <= click["event_time"] + window
        ]
        if shown["event_time"] > now - delay or not (mine or is_kept(shown, rate)):
            continue
        request = shown["request_id"]
        used = log.get((request, shown["item_id"])) or log.get((request, None)) or {}
        amounts = [order["amount"] for order in bought if order["amount"] is not None]
        samples.append(
            {
                **shown,
                "label": int(bool(mine)),
                "click_time": mine[0]["event_time"] if mine else None,
                "click_id": mine[0]["click_id"] if mine else None,
                "clicks": len(mine),
                "converted": int(bool(bought)),
                "conversions": len(bought),
                "conversion_time": min((order["event_time"] for order in bought), default=None),
                "conversion_value": float(sum(amounts)) if amounts else None,
                "feature_log__event_time": used.get("event_time"),
                "feature_log__features": used.get("features"),
                "sampling_rate": 1.0 if mine else rate,
                "weight": 1.0 if mine else 1 / rate,
            }
        )
    return sorted(samples, key=lambda row: (row["event_time"], row["user_id"], row["item_id"], row["request_id"]))
