"""The point-in-time join against a plain-Python oracle, and what must not change it."""

from __future__ import annotations

import math
import random
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from unit.components.feature_case import aggregate_view, as_of, event, write_events

USERS = st.integers(1, 3)
SECONDS = st.integers(0, 30)
EVENTS = st.lists(
    st.tuples(USERS, SECONDS, st.none() | st.integers(-3, 3).map(float), st.none() | SECONDS), min_size=1, max_size=30
)
ASKED = st.lists(st.tuples(USERS, st.integers(0, 45)), min_size=1, max_size=12)
WINDOW = st.sampled_from([1, 5, 12])


def oracle(events: list[Any], user: int, t: int, window: int, as_known: bool) -> dict[str, Any]:
    """What api.md says, word by word."""
    there = [
        e for e in events
        if e[0] == user and t - window <= e[1] < t and (not as_known or (e[3] if e[3] is not None else e[1]) <= t)
    ]  # fmt: skip
    valued = [e for e in there if e[2] is not None]
    values = [e[2] for e in valued]
    newest = max(valued, key=lambda e: (e[1], -math.inf if e[3] is None else e[3], e[2]), default=None)
    return {
        "count": len(values),
        "sum": sum(values) if values else None,
        "mean": sum(values) / len(values) if values else None,
        "min": min(values, default=None),
        "max": max(values, default=None),
        "last": newest[2] if newest else None,
        "distinct": len(set(values)),
        "rows": len(there),
    }


def agree(found: dict[str, Any], wanted: dict[str, Any]) -> bool:
    return all(
        found[name] == value or (value is not None and found[name] is not None and math.isclose(found[name], value))
        for name, value in wanted.items()
    )


@settings(max_examples=40, deadline=None)
@given(events=EVENTS, asked=ASKED, window=WINDOW, as_known=st.booleans())
def test_it_agrees_with_the_oracle(events: list[Any], asked: list[Any], window: int, as_known: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        source = write_events(Path(folder), [event(*e) for e in events])
        found = as_of(aggregate_view(source, f"{window}s", created=True), *asked, as_known=as_known)
    wanted = [oracle(events, user, t, window, as_known) for user, t in asked]
    assert all(agree(f, w) for f, w in zip(found, wanted, strict=True)), (found, wanted)


@settings(max_examples=15, deadline=None)
@given(events=EVENTS, asked=ASKED, seed=st.integers(0, 99))
def test_order_of_the_log_and_the_future_change_nothing(events: list[Any], asked: list[Any], seed: int) -> None:
    shuffled = [*events, (asked[0][0], max(t for _, t in asked), 99.0, None)]
    random.Random(seed).shuffle(shuffled)
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as two:
        before = as_of(aggregate_view(write_events(Path(one), [event(*e) for e in events]), created=True), *asked)
        after = as_of(aggregate_view(write_events(Path(two), [event(*e) for e in shuffled]), created=True), *asked)
    assert all(agree(a, b) for a, b in zip(after, before, strict=True))
