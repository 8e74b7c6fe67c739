"""Whatever comes in whatever order: after each tick every stored value is the batch path's as known at that time.

That holds also where an engine was killed and only some of the writes of the tick before have lasted.
"""

from __future__ import annotations

import random
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate_api.feature_view import FeatureView
from tidegate_components.features import stream_state
from tidegate_components.features.online import defaults
from tidegate_components.features.stream_messages import MessageReader
from tidegate_components.features.stream_state import PartitionState, Schedule
from tidegate_components.features.stream_values import Calculator
from unit.components.stream_case import Shelf, message, offline, row, same, streamed, twin, write_rows

START = 1_763_712_000_000
VIEW = streamed("v", ("2s", "5s"))
USERS = (1, 2, 3)

_EVENTS = st.lists(
    st.tuples(
        st.sampled_from(USERS),
        st.integers(-9000, 3000),  # the event's time against its arrival: late, at once, or of a wrong clock
        st.integers(0, 1500),  # milliseconds since the arrival before
        st.one_of(st.none(), st.integers(-3, 3).map(float), st.floats(-1e6, 1e6)),
        st.sampled_from(("click", "view", "buy")),
        st.booleans(),  # whether a tick comes after it
    ),
    max_size=40,
)


class Stream:
    """The pure parts of a stream, put together as the engine does, over a store in memory."""

    def __init__(self, view: FeatureView) -> None:
        self.shelf, self.view = Shelf(), view
        self.reader, self.calculator = MessageReader(view, keyed=True), Calculator(view)
        self.stored: dict[tuple[Any, ...], tuple[Any, ...]] = {}
        self.restart()

    def restart(self) -> None:
        self.state = PartitionState(Schedule.of(self.view), self.shelf)

    def take(self, rows: list[dict[str, Any]]) -> None:
        read = self.reader.read([message(row, 0, n) for n, row in enumerate(rows)])
        assert not read.broken
        self.state.absorb(read.events)

    def tick(self, as_of: int) -> None:
        computed = self.calculator.compute(self.state.tick(as_of))
        assert not computed.faults
        self.stored |= {entity: value.values for entity, value, _ in computed.rows}

    def value(self, user: int) -> dict[str, Any]:
        values = self.stored.get((user,), defaults(self.view))
        return dict(zip((feature.name for feature in self.view.spec.features), values, strict=True))


STREAM = Stream(VIEW)


@settings(max_examples=12, deadline=None)
@given(events=_EVENTS, restarts=st.sets(st.integers(0, 40)), idle=st.lists(st.integers(1, 6000), max_size=4))
@pytest.mark.parametrize("page", [2, 256])
def test_streaming_is_batch(events: list[Any], restarts: set[int], idle: list[int], page: int) -> None:
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        patch.setattr(stream_state, "_PAGE", page)
        _hold(events, restarts, idle, Path(folder))


def _hold(events: list[Any], restarts: set[int], idle: list[int], folder: Path) -> None:
    stream = STREAM
    stream.shelf, stream.stored = Shelf(), {}
    stream.restart()
    now, rows, pending = START, [], []
    seen: dict[int, dict[int, Any]] = {}

    def tick() -> None:
        stream.take(pending)
        pending.clear()
        stream.state.committed()
        stream.shelf.save()
        stream.tick(now * 1000 + 999)
        seen[now * 1000 + 999] = {user: stream.value(user) for user in USERS}

    for n, (user, offset, later, price, kind, ticks) in enumerate(events):
        now += max(later, int(now * 1000 + 999 in seen))  # a tick is as of a millisecond that has no more arrivals
        rows.append(row(user, now + offset, now, price, kind))
        pending.append(rows[-1])
        if ticks:
            tick()
        if n in restarts and not pending:
            stream.shelf.lose(random.Random(n))
            stream.restart()
    for pause in [*idle, 20_000]:
        now += pause
        tick()
    write_rows(folder, rows or [row(9, START, START, None)])
    asked = [(user, time) for time in seen for user in USERS]
    expected = offline(twin(VIEW, folder), asked)
    for (user, time), values in zip(asked, expected, strict=True):
        assert same(seen[time][user], values), (user, time, seen[time][user], values)
    stream.tick(now * 1000 + 2_000_000)
    stream.state.committed()
    left = {key for key in stream.shelf.kept if key != b"c"}
    assert restarts or not left, "nothing is kept of what has left every window"


def test_a_user_who_comes_again_after_all_events_left_is_counted_by_the_new_ones_alone(tmp_path: Path) -> None:
    """Pages of events are numbered anew then: what a number held before must be forgotten."""
    before = [(1, 0, 0, 1.0, "click", False), (1, 0, 0, 1.0, "click", True), (2, 0, 30_000, 1.0, "click", True)]
    events = [*before, (1, 0, 1, 2.0, "buy", False), (1, 0, 0, 3.0, "click", True)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stream_state, "_PAGE", 2)
        _hold(events, set(), [], tmp_path)


def test_a_listing_lost_in_a_kill_is_written_again_for_an_entity_that_an_event_made_due_sooner(tmp_path: Path) -> None:
    """Its entry says where it was listed; that the listing lasted, only a tick of the same life can say."""
    events = [(1, 0, 272, None, "click", False), (1, 0, 456, None, "click", False)]
    events += [(3, 0, 272, None, "click", True), (3, 0, 0, None, "click", True)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stream_state, "_PAGE", 2)
        _hold(events, {2}, [], tmp_path)
