"""The online store on Redis: newest wins, TTL enforced, one round trip for a whole candidate set."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from tidegate_api.feature_view import FeatureView
from tidegate_components.features.encoding import StoredValue, decode, encode, key_of, watermark_key
from tidegate_components.features.errors import OnlineStoreError

__all__ = ["OnlineStore", "Watermark", "defaults", "expiry_ms", "open_store"]

_BATCH = 1000
_TIMEOUT_S = 5

_WRITE_IF_NEWER = """
local there = redis.call('GET', KEYS[1])
if there and string.sub(there, 2, 9) > string.sub(ARGV[1], 2, 9) then return 0 end
local expires = tonumber(ARGV[2])
if expires > 0 then redis.call('SET', KEYS[1], ARGV[1], 'PXAT', expires) else redis.call('SET', KEYS[1], ARGV[1]) end
return 1
"""

_COMPARE_AND_SET = """
local there = redis.call('GET', KEYS[1]) or ''
if there ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2])
return 1
"""


@dataclass(frozen=True)
class Watermark:
    """Both stores hold everything up to `micros`, computed by the definition that `transform_hash` covers."""

    micros: int
    schema_hash: str
    transform_hash: str

    def to_json(self) -> str:
        """Canonical text, so that it can be compared as a string."""
        return json.dumps([self.micros, self.schema_hash, self.transform_hash])


class OnlineStore:
    """Values of one Redis (or Valkey). Every method raises OnlineStoreError where it cannot be reached."""

    def __init__(self, client: Any, url: str) -> None:
        self._client = client
        self._url = url
        self._write = client.register_script(_WRITE_IF_NEWER)
        self._swap = client.register_script(_COMPARE_AND_SET)

    def write(self, view: FeatureView, rows: Iterable[tuple[tuple[Any, ...], StoredValue, int]]) -> int:
        """Write (entity key, value, expiry in Unix ms; 0: never) where nothing newer is there; returns the rows."""
        written = 0
        with _speaking(self._url):
            for batch in _batched(rows, _BATCH):
                pipe = self._client.pipeline(transaction=False)
                for entity, value, expires in batch:
                    key = key_of(view.metadata.name, entity)
                    self._write(keys=[key], args=[encode(view, value), expires], client=pipe)
                pipe.execute()
                written += len(batch)
        return written

    def read(self, wanted: Sequence[tuple[FeatureView, Sequence[object]]]) -> list[StoredValue | None]:
        """The stored values of (view, entity key) pairs in one round trip, also of several views; None: not there.

        Raises SchemaMismatchError where a value was written under another schema than the view's.
        """
        if not wanted:
            return []
        with _speaking(self._url):
            found = self._client.mget([key_of(view.metadata.name, entity) for view, entity in wanted])
        return [decode(view, data) if data else None for (view, _), data in zip(wanted, found, strict=True)]

    def watermark(self, view: FeatureView) -> Watermark | None:
        """How far the view is materialized; None: never."""
        with _speaking(self._url):
            found = self._client.get(watermark_key(view.metadata.name))
        return Watermark(*json.loads(found)) if found else None

    def advance(self, view: FeatureView, before: Watermark | None, after: Watermark) -> bool:
        """Set the watermark to `after` if it still is `before`; False where another run moved it meanwhile."""
        with _speaking(self._url):
            args = [before.to_json() if before else "", after.to_json()]
            return bool(self._swap(keys=[watermark_key(view.metadata.name)], args=args))


def open_store(url: str) -> OnlineStore:
    """Connect to `redis://HOST:PORT/DB`; raises OnlineStoreError within seconds where nothing answers."""
    import redis

    with _speaking(url):
        client = redis.Redis.from_url(url, socket_timeout=_TIMEOUT_S, socket_connect_timeout=_TIMEOUT_S)
        client.ping()
    return OnlineStore(client, url)


def defaults(view: FeatureView) -> tuple[Any, ...]:
    """What an entity without a stored value has: count and distinct 0, every other feature its default."""
    return tuple(
        0 if f.default is None and f.aggregate and f.aggregate.function in {"count", "distinct"} else f.default
        for f in view.spec.features
    )


def expiry_ms(view: FeatureView, holds_from: int) -> int:
    """Unix ms at which a value that holds from `holds_from` (micros) is gone; the TTL is inclusive. 0: never."""
    if view.spec.ttl is None:
        return 0
    return (holds_from + view.spec.ttl // timedelta(microseconds=1)) // 1000 + 1


def _batched(rows: Iterable[Any], size: int) -> Iterator[list[Any]]:
    batch: list[Any] = []
    for row in rows:
        batch.append(row)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


@contextmanager
def _speaking(url: str) -> Iterator[None]:
    import redis

    try:
        yield
    except (redis.RedisError, OSError, ValueError) as error:
        raise OnlineStoreError(
            resource="online store", field="redis url", value=_without_password(url),
            expected=f"a Redis that answers ({error})", remedy="check the url and that Redis is up",
        ) from error  # fmt: skip


def _without_password(url: str) -> str:
    from urllib.parse import urlsplit

    parts = urlsplit(url)
    return url if not parts.password else url.replace(parts.password, "***")
