"""The sample join equals plain Python, and neither order, repetition nor files matter to it."""

from __future__ import annotations

import random
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate_components.events.attribution import Attribution
from tidegate_components.events.join import join_events
from unit.components.join_oracle import Row, known_by, samples_of

START = datetime(2026, 1, 1, tzinfo=UTC)
TIME = pa.timestamp("us", tz="UTC")
SCHEMAS = {
    "impressions": {"request_id": pa.string(), "item_id": pa.int64(), "user_id": pa.int64(), "event_time": TIME},
    "clicks": {"click_id": pa.string(), "request_id": pa.string(), "item_id": pa.int64(), "event_time": TIME},
    "conversions": {
        "order_id": pa.string(), "item_id": pa.int64(), "click_id": pa.string(), "event_time": TIME,
        "amount": pa.float64(),
    },
    "feature_log": {
        "request_id": pa.string(), "item_id": pa.int64(), "event_time": TIME, "features": pa.string(),
    },
}  # fmt: skip

times = st.integers(-3, 12).map(lambda minutes: START + timedelta(minutes=minutes))
requests, items = st.sampled_from(["r1", "r2", "r3"]), st.integers(1, 3)
click_ids = st.sampled_from([f"c{number}" for number in range(5)])
rows = {
    "impressions": {"request_id": requests, "item_id": items, "user_id": st.integers(1, 2), "event_time": times},
    "clicks": {"click_id": click_ids, "request_id": requests, "item_id": items, "event_time": times},
    "conversions": {
        "order_id": st.sampled_from(["o1", "o2", "o3"]), "item_id": items, "click_id": st.none() | click_ids,
        "event_time": times, "amount": st.none() | st.sampled_from([0.25, 1.5, 9.75]),
    },
    "feature_log": {
        "request_id": requests, "item_id": st.none() | items, "event_time": times,
        "features": st.sampled_from(["a", "b"]),
    },
}  # fmt: skip
events = st.fixed_dictionaries(
    {name: st.lists(st.fixed_dictionaries(row), min_size=1, max_size=12) for name, row in rows.items()}
)
minutes = st.integers(0, 6).map(lambda count: timedelta(minutes=count))
hows = st.builds(Attribution, window=minutes, skew=minutes, delay=minutes, negative_rate=st.sampled_from([1.0, 0.5]))


@settings(max_examples=60, deadline=None)
@given(tables=events, how=hows, asked=st.none() | times)
def test_the_join_equals_plain_python(tables: dict[str, list[Row]], how: Attribution, asked: datetime | None) -> None:
    now = asked or max(row["event_time"] for table in tables.values() for row in table)
    expected = samples_of(tables, how.window, how.skew, how.delay, now, how.negative_rate)
    with tempfile.TemporaryDirectory() as folder:
        assert joined(Path(folder), tables, how, now=asked) == expected


@settings(max_examples=15, deadline=None)
@given(tables=events, how=hows, now=times)
def test_a_run_as_of_a_time_gives_what_a_run_at_that_time_gave(
    tables: dict[str, list[Row]], how: Attribution, now: datetime
) -> None:
    by_then = {name: table if name == "feature_log" else known_by(now, table) for name, table in tables.items()}
    with tempfile.TemporaryDirectory() as folder:
        first, later = (joined(Path(folder) / name, t, how, now=now) for name, t in (("a", by_then), ("b", tables)))
        assert first == later


@settings(max_examples=15, deadline=None)
@given(tables=events, how=hows, seed=st.integers(0, 99))
def test_shuffled_repeated_and_split_events_give_the_same(
    tables: dict[str, list[Row]], how: Attribution, seed: int
) -> None:
    mixed = random.Random(seed)
    twice = {name: mixed.sample(table * 2, len(table) * 2) for name, table in tables.items()}
    with tempfile.TemporaryDirectory() as folder:
        assert joined(Path(folder) / "a", tables, how) == joined(Path(folder) / "b", twice, how, parts=3)


def joined(
    folder: Path, tables: dict[str, list[Row]], how: Attribution, parts: int = 1, now: datetime | None = None
) -> list[dict[str, Any]]:
    for name, table in tables.items():
        (folder / name).mkdir(parents=True)
        for part in range(parts):
            schema = pa.schema(list(SCHEMAS[name].items()))
            pq.write_table(pa.Table.from_pylist(table[part::parts], schema), folder / name / f"{part}.parquet")
    join_events({name: str(folder / name) for name in tables}, folder / "samples.parquet", how, now)
    return list(pq.read_table(folder / "samples.parquet").to_pylist())
