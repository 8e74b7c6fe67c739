"""The join against the plain-Python oracle for every type, several keys, unsorted files and any division into parts."""

from __future__ import annotations

import math
import random
import tempfile
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate_components.features.join import join_views
from unit.components.feature_case import FUNCTIONS, at
from unit.components.shop import parsed, view_body

TYPES: dict[str, tuple[pa.DataType, str, Callable[[int], Any]]] = {
    "whole": (pa.int64(), "Int64", lambda v: v),
    "large": (pa.int64(), "Int64", lambda v: v * 2**58),
    "small": (pa.int16(), "Int64", lambda v: v),
    "unsigned": (pa.uint32(), "Int64", lambda v: v + 2**32 - 99),
    "huge": (pa.uint64(), "Float64", lambda v: v + 2**63),
    "real": (pa.float64(), "Float64", lambda v: v / 8),
    "single": (pa.float32(), "Float64", lambda v: v / 8),
    "money": (pa.decimal128(9, 2), "Float64", lambda v: Decimal(v) / 4),
    "wide": (pa.decimal128(30, 2), "Float64", lambda v: Decimal(v) / 4),
    "text": (pa.string(), "String", lambda v: "zé漢\U0001f600a"[v % 5] * (1 + v % 2)),
    "flag": (pa.bool_(), "Bool", lambda v: v > 0),
    "moment": (pa.timestamp("us"), "Timestamp", lambda v: datetime(2026, 1, 1) + timedelta(hours=v)),
    "zoned": (pa.timestamp("us", "UTC"), "Timestamp", lambda v: datetime(2026, 1, 1) + timedelta(hours=v)),
    "day": (pa.date32(), "Timestamp", lambda v: date(2026, 1, 9) + timedelta(v)),
    "list": (pa.list_(pa.int64()), "List<Int64>", lambda v: [v]),
}
ADDED = {"whole", "large", "small", "unsigned", "huge", "real", "single", "money", "wide"}

EVENT = st.tuples(
    st.tuples(st.integers(1, 2), st.sampled_from(["a", "b"])),
    st.integers(0, 30),
    st.none() | st.integers(-3, 6),
    st.none() | st.integers(0, 30),
)
EVENTS = st.lists(EVENT, min_size=1, max_size=40)
ASKED = st.lists(
    st.tuples(st.tuples(st.integers(1, 3), st.sampled_from(["a", "b", None])), st.integers(0, 45)),
    min_size=1, max_size=12,
)  # fmt: skip


def features_of(column: str) -> list[dict[str, Any]]:
    usable = [f for f in FUNCTIONS if column in ADDED or f not in {"sum", "mean"}]
    kinds = {"count": "Int64", "distinct": "Int64", "mean": "Float64", "sum": "Float64"}
    return [
        {"name": f"{f}_{window}", "type": kinds.get(f, TYPES[column][1]),
         "aggregate": {"function": f, "column": column, "window": f"{window}s"}}
        for f in usable for window in (4, 11)
    ]  # fmt: skip


def view_of(column: str, folder: Path) -> Any:
    body = view_body("v", "a", features_of(column), str(folder))
    body["spec"]["entity"]["joinKeys"] = [{"name": "a", "type": "Int64"}, {"name": "b", "type": "String"}]
    body["spec"]["source"]["createdTimestamp"] = "ingested_at"
    return parsed(body)


def write(folder: Path, events: list[Any], column: str) -> None:
    """Two files, in the order that the events have."""
    kind, _, value = TYPES[column]
    for number in range(2):
        rows = [
            {"a": a, "b": b, "event_time": at(t), "ingested_at": None if known is None else at(known),
             column: None if v is None else value(v)}
            for (a, b), t, v, known in events[number::2]
        ]  # fmt: skip
        stamp = pa.timestamp("us")
        fields = [("a", pa.int64()), ("b", pa.string()), ("event_time", stamp), ("ingested_at", stamp), (column, kind)]
        pq.write_table(pa.Table.from_pylist(rows, pa.schema(fields)), folder / f"{number}.parquet")


def joined(events: list[Any], asked: list[Any], column: str, part: int) -> list[dict[str, Any]]:
    rows = [{"a": a, "b": b, "t": at(t)} for (a, b), t in asked]
    schema = pa.schema([("a", pa.int64()), ("b", pa.string()), ("t", pa.timestamp("us"))])
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), events, column)
        found = join_views(pa.Table.from_pylist(rows, schema), "t", [view_of(column, Path(folder))], part=part)
    return found.select([name for name in found.column_names if name.startswith("v__")]).to_pylist()


def same(found: Any, wanted: Any) -> bool:
    if isinstance(wanted, date) and not isinstance(wanted, datetime):
        wanted = datetime(wanted.year, wanted.month, wanted.day)
    if isinstance(wanted, datetime):
        wanted = wanted.replace(tzinfo=UTC)
    if found is None or wanted is None or isinstance(wanted, str | datetime | list):
        return bool(found == wanted)
    return math.isclose(float(found), float(wanted), rel_tol=1e-12, abs_tol=1e-12)


PLAIN: dict[str, Callable[[list[Any]], Any]] = {
    "count": len,
    "sum": sum,
    "mean": lambda values: sum(values) / len(values),
    "min": min,
    "max": max,
    "last": lambda values: values[-1],
    "distinct": lambda values: len(set(values)),
}
"""What api.md says of the values in a window, oldest first."""


def wanted(events: list[Any], key: Any, t: int, window: int, function: str, value: Callable[[int], Any]) -> Any:
    there = [(s, -1 if known is None else known, value(v)) for k, s, v, known in events
             if k == key and t - window <= s < t and v is not None]  # fmt: skip
    if not there:
        return 0 if function in {"count", "distinct"} else None
    return PLAIN[function]([v for *_, v in sorted(there)])


def check(events: list[Any], asked: list[Any], column: str, part: int) -> None:
    value = TYPES[column][2]
    of = (lambda v: tuple(value(v))) if column == "list" else value
    for (key, t), row in zip(asked, joined(events, asked, column, part), strict=True):
        for name, found in row.items():
            function, window = name.removeprefix("v__").split("_")
            right = wanted(events, key, t, int(window), function, of)
            right = list(right) if isinstance(right, tuple) else right
            assert same(found, right), (column, name, key, t, found, right)


@settings(max_examples=60, deadline=None)
@given(events=EVENTS, asked=ASKED, column=st.sampled_from(sorted(TYPES)), part=st.sampled_from([5, 1000]))
def test_every_type_agrees_with_the_oracle(events: list[Any], asked: list[Any], column: str, part: int) -> None:
    check(events, asked, column, part)


@settings(max_examples=20, deadline=None)
@given(events=EVENTS, asked=ASKED, column=st.sampled_from(["real", "text", "money"]), seed=st.integers(0, 99))
def test_order_parts_and_the_future_change_not_a_bit(
    events: list[Any], asked: list[Any], column: str, seed: int
) -> None:
    future = [(asked[0][0] if asked[0][0][1] else (1, "a"), max(t for _, t in asked), 5, None), ((3, "b"), 1, 1, 1)]
    shuffled = [*events, *future]
    random.Random(seed).shuffle(shuffled)
    early = [(key, t) for key, t in asked if key != (3, "b")]
    assert joined(shuffled, early, column, 7) == joined(events, early, column, 1000)


def newest(events: list[Any], key: Any, t: int, ttl: int) -> Any:
    """The newest row that holds at t; among equals the newest created, then the greatest value; null is below all."""
    lowest = -math.inf
    there = [
        (s, lowest if known is None else known, lowest if v is None else v)
        for k, s, v, known in events
        if k == key and 0 <= t - s <= ttl
    ]
    value = max(there, default=(0, 0, lowest))[2]
    return None if value == lowest else value


@settings(max_examples=30, deadline=None)
@given(events=EVENTS, asked=ASKED, part=st.sampled_from([5, 1000]), as_known=st.booleans())
def test_the_newest_row_agrees_with_the_oracle(events: list[Any], asked: list[Any], part: int, as_known: bool) -> None:
    body = view_body("v", "a", [{"name": "whole", "type": "Int64"}])
    body["spec"]["entity"]["joinKeys"] = [{"name": "a", "type": "Int64"}, {"name": "b", "type": "String"}]
    body["spec"]["source"]["createdTimestamp"] = "ingested_at"
    body["spec"] |= {"sql": "SELECT * FROM source", "ttl": "6s"}
    schema = pa.schema([("a", pa.int64()), ("b", pa.string()), ("t", pa.timestamp("us"))])
    entities = pa.Table.from_pylist([{"a": a, "b": b, "t": at(t)} for (a, b), t in asked], schema)
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), events, "whole")
        body["spec"]["source"]["parquet"]["uri"] = folder
        found = join_views(entities, "t", [parsed(body)], part=part, as_known=as_known)["v__whole"].to_pylist()
    for (key, t), value in zip(asked, found, strict=True):
        known = [e for e in events if not as_known or (e[1] if e[3] is None else e[3]) <= t]
        assert value == newest(known, key, t, 6), (key, t)
