"""The point-in-time join in numpy: for each entity row the range of its events, and the aggregates of these ranges.

Events are sorted by key, time and created timestamp, so that a window is a range of positions; how each aggregate is
had from ranges is in `ranges/`. Pure: arrays in, arrays out. The meaning of every word is "As of time t" in
docs/feature-views.md.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tidegate_components.features.ranges.bounds import Ints, first_not_before, segment_ends
from tidegate_components.features.ranges.distinct import previous_occurrence, range_distinct
from tidegate_components.features.ranges.extremes import range_extremes
from tidegate_components.features.ranges.sums import range_float_sums, range_int_sums
from tidegate_components.features.values import addends, in_order, same_codes

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Events", "Probes", "Wanted", "aggregates", "newest_rows", "tie_groups"]


@dataclass(frozen=True)
class Events:
    """Sorted by key code, time and created timestamp (if the source has one); `values` are columns beside them."""

    keys: NDArray[np.integer[Any]]
    times: Ints
    created: Ints | None
    values: Sequence[pa.Array]


@dataclass(frozen=True)
class Probes:
    """The entity rows: key code and as-of time; sorted by both, searches touch neighbouring events."""

    keys: NDArray[np.integer[Any]]
    times: Ints


@dataclass(frozen=True)
class Wanted:
    """One aggregate: its function, the index of its value (none: count every event) and its window, microseconds."""

    function: str
    value: int | None
    window: int


def newest_rows(events: Events, probes: Probes, ttl: int) -> Ints:
    """For each probe the position of the last event with time <= as-of <= time + ttl, else -1."""
    lo, hi = _segments(events, probes)
    hi = first_not_before(events.times, lo, hi, probes.times + 1)
    newest = hi - 1
    fresh = (hi > lo) & (probes.times - events.times.take(newest, mode="clip") <= ttl) if len(events.times) else hi < lo
    return np.where(fresh, newest, -1)


def aggregates(events: Events, probes: Probes, wanted: Sequence[Wanted]) -> list[pa.Array]:
    """One column per aggregate, a value per probe; null where no value was in the window."""
    first, last = _segments(events, probes)
    hi = first_not_before(events.times, first, last, probes.times)
    lo = {w: first_not_before(events.times, first, hi, probes.times - w) for w in {each.window for each in wanted}}
    found: dict[Wanted, pa.Array] = {}
    for value in {each.value for each in wanted}:
        column = _column(events, value)
        for window in {each.window for each in wanted if each.value == value}:
            windows = _Windows(column, column.rank(lo[window]), column.rank(hi))
            same = {each for each in wanted if (each.value, each.window) == (value, window)}
            with ThreadPoolExecutor(os.cpu_count()) as pool:  # numpy lets go of the interpreter while it works
                found |= zip(same, pool.map(windows.compute, [each.function for each in same]), strict=True)
    return [found[each] for each in wanted]


def _segments(events: Events, probes: Probes) -> tuple[Ints, Ints]:
    ends = segment_ends(events.keys, int(probes.keys.max(initial=-1)) + 1)
    return ends.take(probes.keys), ends.take(probes.keys + 1)


def tie_groups(events: Events) -> NDArray[np.int32] | None:
    """For each event the number of its group of equal key, time and created timestamp; none where all differ."""
    new = np.zeros(len(events.keys), dtype=bool)
    new[:1] = True
    for column in (events.keys, events.times, events.created):
        if column is not None:
            new[1:] |= column[1:] != column[:-1]
    return None if new.all() else np.cumsum(new, dtype=np.int32) - 1


@dataclass(frozen=True)
class _Column:
    """One value of the events, without those where it is null; `rank` maps positions among all events to these."""

    events: Events
    values: pa.Array | None
    upto: Ints | None

    def rank(self, positions: Ints) -> Ints:
        """How many of the column's values lie before these positions among all events."""
        return positions if self.upto is None else self.upto.take(positions)


def _column(events: Events, value: int | None) -> _Column:
    values = None if value is None else events.values[value]
    if values is None or not values.null_count:
        return _Column(events, values, None)
    there = np.asarray(values.is_valid())
    kept = Events(
        events.keys[there], events.times[there], None if events.created is None else events.created[there], ()
    )
    return _Column(kept, values.drop_null(), np.concatenate([[0], np.cumsum(there, dtype=np.int64)]))


class _Windows:
    """The ranges [lo, hi) of all probes over one column; each method of an aggregate's name gives a value per probe."""

    def __init__(self, column: _Column, lo: Ints, hi: Ints) -> None:
        self._found = hi > lo
        self._events, self._values = column.events, column.values
        self._lo, self._hi = lo[self._found], hi[self._found]

    def compute(self, function: str) -> pa.Array:
        """An aggregate by its name, null where the range is empty."""
        import pyarrow as pa

        values = getattr(self, function)()
        place = np.cumsum(self._found) - 1
        return values.take(pa.array(place, mask=~self._found))

    def count(self) -> pa.Array:
        return _array(self._hi - self._lo)

    def sum(self) -> pa.Array:
        return _array(self._sums)

    def mean(self) -> pa.Array:
        return _array(self._sums / (self._hi - self._lo))

    def min(self) -> pa.Array:
        values, decode = self._ordered
        return decode(range_extremes(values, self._lo, self._hi, np.fmin))

    def max(self) -> pa.Array:
        values, decode = self._ordered
        return decode(range_extremes(values, self._lo, self._hi, np.maximum))

    def last(self) -> pa.Array:
        """The newest event's value; of events that tie, the greatest."""
        values, decode = self._ordered
        groups = tie_groups(self._events)
        if groups is not None:
            values = np.maximum.reduceat(values, np.flatnonzero(np.diff(groups, prepend=-1)))[groups]
        return decode(values.take(self._hi - 1))

    def distinct(self) -> pa.Array:
        keys = self._events.keys
        starts = np.searchsorted(keys, keys)
        before = previous_occurrence(same_codes(self._values), keys)
        return _array(range_distinct(before, starts, self._lo, self._hi))

    @cached_property
    def _ordered(self) -> tuple[NDArray[Any], Callable[[NDArray[Any]], pa.Array]]:
        return in_order(self._values)

    @cached_property
    def _sums(self) -> NDArray[Any]:
        values, scale = addends(self._values)
        summed = range_float_sums if values.dtype.kind == "f" else range_int_sums
        sums = summed(values, self._lo, self._hi)
        return sums if not scale else sums / 10.0**scale


def _array(values: NDArray[Any]) -> pa.Array:
    import pyarrow as pa

    return pa.array(values)
