"""What a stream keeps of one partition: each entity's events in the longest window, and when its value changes next.

Pure but for the key-value store it is given. A value changes when an event becomes visible (as of later than its event
time, and known) and when it leaves a window; each entity stands in the bucket of the next such moment. A tick with the
time m takes the entities of all buckets up to m. Events that come late are due at once.

The writes made for messages last together with the messages' offsets. Those of a tick alone need not last together: an
engine killed half-way may keep some of them, so what is done goes only once what comes of it has lasted (`committed`).

Keys of the store: `c` the first bucket that is not done; `b` + second: the entities due in it; `e` + entity: when it is
due, its youngest events, its pages; `p` + entity + number: a page of older arrivals, not rewritten while it is listed.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import OrderedDict, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Protocol

import orjson

from tidegate_api.feature_view import FeatureView
from tidegate_components.features.sql import in_micros
from tidegate_components.features.stream_messages import Event

__all__ = ["Due", "PartitionState", "Schedule", "Store"]

_BUCKET = 1_000_000
_PAGE = 256
_CACHED_PAGES = 1000
_NOTED = 60
_CURSOR = b"c"

Row = list[Any]
"""Event time, known since (UTC microseconds), then the event's columns."""


class Store(Protocol):
    """A key-value store of bytes, as an engine keeps one for each partition."""

    def get_bytes(self, key: bytes) -> bytes | None:
        """The value, or None."""

    def set_bytes(self, key: bytes, value: bytes) -> None:
        """Set the value."""

    def delete(self, key: bytes) -> None:
        """Remove the key, also where it is not there."""


@dataclass(frozen=True)
class Due:
    """An entity whose value as of `as_of` is to be computed from `rows`."""

    entity: tuple[Any, ...]
    as_of: int
    rows: list[Row]


@dataclass(frozen=True)
class Schedule:
    """When a value changes by itself. Microseconds."""

    windows: tuple[int, ...]
    refresh: int | None
    """Rewrite a value after so long although nothing changed: its TTL is shorter than its longest window."""

    @classmethod
    def of(cls, view: FeatureView) -> Schedule:
        """The windows of a view's aggregates."""
        windows = sorted({in_micros(f.aggregate.window) for f in view.spec.features if f.aggregate})
        ttl = view.spec.ttl
        short = ttl is not None and ttl < timedelta(microseconds=windows[-1])
        return cls(tuple(windows), in_micros(ttl) // 2 if short and ttl is not None else None)

    def keeps(self, at: int, as_of: int) -> bool:
        """Whether an event at `at` may count as of `as_of` or later."""
        return at >= as_of - self.windows[-1]

    def next_change(self, rows: Sequence[Row], as_of: int) -> int | None:
        """The first time after `as_of` at which the value of these rows (sorted) may change; None: never."""
        times = [row[0] for row in rows]
        changes = [_visible_from(row) for row in rows if row[1] > as_of or row[0] >= as_of]
        for window in self.windows:
            first = bisect_left(times, as_of - window)
            if first < len(times):
                changes.append(times[first] + window + 1)
        if self.refresh is not None and rows:
            changes.append(as_of + self.refresh)
        return min((change for change in changes if change > as_of), default=None)


def _visible_from(row: Row) -> int:
    return int(max(row[0] + 1, row[1]))


@dataclass
class _Entity:
    """`listed`: the bucket that holds it for a later time, so that it is not listed there twice."""

    due: int | None = None
    listed: int | None = None
    rows: list[Row] = field(default_factory=list)
    pages: list[list[int]] = field(default_factory=list)

    def pack(self) -> bytes:
        return orjson.dumps([self.due, self.listed, self.rows, self.pages])


class PartitionState:
    """The events of one partition in a `Store`. Not for use by two threads at once."""

    def __init__(self, schedule: Schedule, store: Store) -> None:
        self._schedule, self._store = schedule, store
        self._last: int | None = None
        self._next: int | None = None
        self._noted = 0
        self._visited: set[int] = set()
        self._handled: set[tuple[int, str]] = set()
        self._pages: OrderedDict[bytes, list[Row]] = OrderedDict()

    def use(self, store: Store) -> PartitionState:
        """Go on with another handle on the same store: an engine gives one for each transaction."""
        self._store = store
        return self

    def absorb(self, events: Iterable[Event]) -> None:
        """Keep events; each entity is due when the first of them becomes visible."""
        by_entity: dict[tuple[Any, ...], list[Row]] = defaultdict(list)
        for event in events:
            by_entity[event.entity].append([event.at, event.known, *event.values])
        listed: dict[int, list[bytes]] = defaultdict(list)
        for entity, rows in by_entity.items():
            self._add(orjson.dumps(entity), rows, listed)
        self._enlist(listed)

    def _add(self, name: bytes, rows: list[Row], listed: dict[int, list[bytes]]) -> None:
        found = self._load(name)
        found.rows += rows
        due = min(map(_visible_from, rows))
        if found.due is None or due < found.due:
            found.due = due
            listed[self._bucket(due)].append(name)
        if len(found.rows) >= _PAGE:
            self._seal(name, found)
        self._store.set_bytes(b"e" + name, found.pack())

    def _seal(self, name: bytes, found: _Entity) -> None:
        """Move the youngest rows into a page of their own."""
        number = found.pages[-1][0] + 1 if found.pages else 0
        found.pages.append([number, max(row[0] for row in found.rows)])
        key = _page_key(name, number)
        self._pages.pop(key, None)  # numbers begin anew once all pages have gone
        self._store.set_bytes(key, orjson.dumps(found.rows))
        found.rows = []

    def _bucket(self, due: int) -> int:
        """Where an entity is listed: what should have been done before the last tick is done at the next."""
        return max(due, self._last) // _BUCKET if self._last is not None else due // _BUCKET

    def _enlist(self, listed: dict[int, list[bytes]]) -> None:
        for bucket, names in listed.items():
            key, new = _bucket_key(bucket), [name.decode() for name in names]
            before = orjson.loads(self._store.get_bytes(key) or b"[]")
            self._store.set_bytes(key, orjson.dumps(before + new))
            self._handled.difference_update((bucket, name) for name in new)
        cursor = self._cursor()
        if listed and (cursor is None or min(listed) < cursor):
            self._next = min(listed)
            self._store.set_bytes(_CURSOR, str(self._next).encode())

    def tick(self, as_of: int) -> list[Due]:
        """The entities whose value changed up to `as_of`, which must not go back; their next change is noted."""
        found: list[Due] = []
        cursor, end = self._cursor(), as_of // _BUCKET
        for bucket in range(end if cursor is None else cursor, end + 1):
            listed: dict[int, list[bytes]] = defaultdict(list)
            found += self._take(bucket, as_of, listed)
            self._enlist(listed)
        self._last = as_of
        if self._next is not None:
            self._next = max(self._next, end)
        return found

    def committed(self) -> None:
        """All that was written so far lasts: only now buckets that are done may go.

        Of writes that are killed half-way some may last. Then an entity still stands in a bucket that comes again.
        """
        passed = {bucket for bucket in self._visited if self._next is not None and bucket < self._next}
        for bucket in passed:
            self._store.delete(_bucket_key(bucket))
        self._visited -= passed
        self._handled = {(bucket, name) for bucket, name in self._handled if bucket not in passed}
        if self._next is not None and self._next // _NOTED > self._noted // _NOTED:
            self._noted = self._next
            self._store.set_bytes(_CURSOR, str(self._noted).encode())

    def _take(self, bucket: int, as_of: int, listed: dict[int, list[bytes]]) -> Iterator[Due]:
        packed = self._store.get_bytes(_bucket_key(bucket))
        if packed is None:
            return
        self._visited.add(bucket)
        for name in dict.fromkeys(orjson.loads(packed)):
            if (bucket, name) not in self._handled:
                yield from self._come_due(name, bucket, as_of, listed)

    def _come_due(self, name: str, bucket: int, as_of: int, listed: dict[int, list[bytes]]) -> Iterator[Due]:
        found, key = self._load(name.encode()), name.encode()
        if found.due is not None and found.due <= as_of:
            self._handled.add((bucket, name))
            rows = sorted(self._rows(key, found, as_of), key=lambda row: row[0])
            yield Due(tuple(orjson.loads(name)), as_of, rows)
            self._reschedule(key, found, rows, as_of, listed)
        elif found.due is not None and self._last is None:
            found.listed = found.due // _BUCKET
            self._store.set_bytes(b"e" + key, found.pack())
            if found.listed != bucket:
                listed[found.listed].append(key)

    def _reschedule(
        self, name: bytes, found: _Entity, rows: list[Row], as_of: int, listed: dict[int, list[bytes]]
    ) -> None:
        found.due = self._schedule.next_change(rows, as_of)
        found.rows = [row for row in found.rows if self._schedule.keeps(row[0], as_of)]
        if found.due is None:
            self._store.delete(b"e" + name)
            return
        bucket = found.due // _BUCKET
        if bucket != found.listed or bucket <= as_of // _BUCKET:
            found.listed = bucket
            listed[bucket].append(name)
        self._store.set_bytes(b"e" + name, found.pack())

    def _rows(self, name: bytes, found: _Entity, as_of: int) -> Iterator[Row]:
        """The rows that still count; pages of which none does are dropped."""
        for number, newest in list(found.pages):
            key = _page_key(name, number)
            if self._schedule.keeps(newest, as_of):
                yield from (row for row in self._page(key) if self._schedule.keeps(row[0], as_of))
            else:
                self._store.delete(key)
                found.pages.remove([number, newest])
        yield from (row for row in found.rows if self._schedule.keeps(row[0], as_of))

    def _page(self, key: bytes) -> list[Row]:
        """A page does not change while it is listed, so that those of busy entities are parsed once."""
        if key not in self._pages:
            packed = self._store.get_bytes(key)
            self._pages[key] = orjson.loads(packed) if packed else []
            if len(self._pages) > _CACHED_PAGES:
                self._pages.popitem(last=False)
        self._pages.move_to_end(key)
        return self._pages[key]

    def _load(self, name: bytes) -> _Entity:
        packed = self._store.get_bytes(b"e" + name)
        found = _Entity(*orjson.loads(packed)) if packed else _Entity()
        if self._last is None:
            found.listed = None  # before the first tick: what a tick listed before a kill may not have lasted
        return found

    def _cursor(self) -> int | None:
        if self._next is None and (packed := self._store.get_bytes(_CURSOR)):
            self._next = self._noted = int(packed)
        return self._next


def _bucket_key(bucket: int) -> bytes:
    return b"b%d" % bucket


def _page_key(name: bytes, number: int) -> bytes:
    return b"p%d/" % number + name
