"""The online store on Redis: newest wins, TTL enforced, one round trip for a whole candidate set."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from itertools import islice
from typing import Any, TypeAlias

from tidegate_api.feature_view import FeatureView
from tidegate_components.features.encoding import (
    Codec,
    Schema,
    StoredValue,
    codec_of,
    entity_of,
    key_prefix,
    keys_of,
    schema_key,
    schema_of,
    watermark_key,
)
from tidegate_components.features.errors import BadFeaturesError, OnlineStoreError, SchemaMismatchError

__all__ = ["Entities", "OnlineStore", "Watermark", "defaults", "expiry_ms", "open_store"]

Entities: TypeAlias = Sequence[Sequence[object]]
"""Keys of entities, each in the order of the view's joinKeys."""

_BATCH = 2000
_KEYS_A_CALL = 200
_TIMEOUT_S = 5
_LIMITS = {"socket_timeout": _TIMEOUT_S, "socket_connect_timeout": _TIMEOUT_S}

_WRITE_IF_NEWER = """
for i, key in ipairs(KEYS) do
    local there, value, expires = redis.call('GET', key), ARGV[2 * i - 1], tonumber(ARGV[2 * i])
    if not there or string.sub(there, 2, 9) <= string.sub(value, 2, 9) then
        if expires > 0 then redis.call('SET', key, value, 'PXAT', expires) else redis.call('SET', key, value) end
    end
end
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

    @classmethod
    def from_json(cls, text: str | bytes | None) -> Watermark | None:
        """The inverse of to_json; none of none."""
        return cls(*json.loads(text)) if text else None

    def to_json(self) -> str:
        """Canonical text, so that it can be compared as a string."""
        return json.dumps([self.micros, self.schema_hash, self.transform_hash])


class OnlineStore:
    """Values of one Redis (or Valkey). Every method raises OnlineStoreError where it cannot be reached."""

    def __init__(self, client: Any, url: str) -> None:
        self._client = client
        self._url = url
        self._is_cluster = hasattr(client, "get_nodes")
        self._write = client.register_script(_WRITE_IF_NEWER)
        self._swap = client.register_script(_COMPARE_AND_SET)
        self._written_under: dict[tuple[str, bytes], Codec] = {}

    def write(self, view: FeatureView, rows: Iterable[tuple[tuple[Any, ...], StoredValue, int]]) -> int:
        """Write (entity key, value, expiry in Unix ms; 0: never) where nothing newer is there; returns the rows."""
        written, codec = 0, codec_of(Schema.of(view))
        with _speaking(self._url):
            self._client.set(schema_key(view.metadata.name, codec.fingerprint), codec.schema.to_json())
            for batch in _batched(rows, _BATCH):
                keys = keys_of(view, [entity for entity, _, _ in batch])
                values = [(codec.encode(value), expires) for _, value, expires in batch]
                pipe = self._client.pipeline(transaction=False)
                self._queue(pipe, [(key, *value) for key, value in zip(keys, values, strict=True)])
                pipe.execute()
                written += len(batch)
        return written

    def _queue(self, pipe: Any, entries: Sequence[tuple[str, bytes, int]]) -> None:
        """A few calls of the script, each for many keys: short enough not to hold up readers for long.

        On a cluster a call for each key, which may be anywhere; its pipeline refuses scripts by digest, since a node
        may not have them, so there the text goes along.
        """
        if self._is_cluster:
            for key, value, expires in entries:
                pipe.execute_command("EVAL", _WRITE_IF_NEWER, 1, key, value, expires)
            return
        for first in range(0, len(entries), _KEYS_A_CALL):
            some = entries[first : first + _KEYS_A_CALL]
            args = [arg for _, value, expires in some for arg in (value, expires)]
            self._write(keys=[key for key, _, _ in some], args=args, client=pipe)

    def read(self, wanted: Sequence[tuple[FeatureView, Entities]]) -> list[list[StoredValue | None]]:
        """By view the stored values of its entities, all of it in one round trip; None: not there.

        A value that was written under another schema gives what the view's schema has too. Raises SchemaMismatchError
        where it lacks one of the view's features, or has it with another type.
        """
        return self.read_with_watermarks(wanted, ())[0]

    def read_with_watermarks(
        self, wanted: Sequence[tuple[FeatureView, Entities]], views: Sequence[FeatureView]
    ) -> tuple[list[list[StoredValue | None]], list[Watermark | None]]:
        """As `read`, with how far each of `views` is materialized, in the same round trip.

        What is not stored has its default as of the watermark.
        """
        keys = [key for view, entities in wanted for key in keys_of(view, entities)]
        keys += [watermark_key(view.metadata.name) for view in views]
        if not keys:
            return [[] for _ in wanted], []
        with _speaking(self._url):
            found = iter(self._mget(keys))
        values = [self._decoded(view, list(islice(found, len(entities)))) for view, entities in wanted]
        return values, [Watermark.from_json(data) for data in found]

    def _decoded(self, view: FeatureView, found: Sequence[bytes | None]) -> list[StoredValue | None]:
        return codec_of(Schema.of(view)).decode_all(found, self._decoder(view))

    def _mget(self, keys: Sequence[str]) -> list[bytes | None]:
        """One command; on a cluster, whose slots a command cannot cross, one pipeline to all of its nodes."""
        if not self._is_cluster:
            return list(self._client.mget(keys))
        pipe = self._client.pipeline()
        for key in keys:
            pipe.get(key)
        return list(pipe.execute())

    def _decoder(self, view: FeatureView) -> Callable[[bytes], StoredValue]:
        reader = codec_of(Schema.of(view))

        def decode(data: bytes) -> StoredValue:
            fingerprint = schema_of(data)
            if fingerprint == reader.fingerprint:
                return reader.decode(data)
            writer = self._writer(view, fingerprint)
            places = writer.schema.projection(reader.schema)
            if places is None:
                raise _mismatch(view, fingerprint, reader)
            stored = writer.decode(data)
            return StoredValue(stored.as_of, tuple(stored.values[place] for place in places))

        return decode

    def _writer(self, view: FeatureView, fingerprint: bytes) -> Codec:
        """What a value with this fingerprint was written with; a schema never changes, so it is read once."""
        name = (view.metadata.name, fingerprint)
        if name not in self._written_under:
            with _speaking(self._url):
                text = self._client.get(schema_key(*name)) if fingerprint else None
            if text is None:
                raise _mismatch(view, fingerprint, codec_of(Schema.of(view)))
            self._written_under[name] = codec_of(Schema.from_json(text))
        return self._written_under[name]

    def scan(self, view: FeatureView) -> Iterator[tuple[tuple[Any, ...], StoredValue]]:
        """Every stored (entity key, value) of a view, in no order; what is written meanwhile may be there or not.

        Raises SchemaMismatchError as `read` does.
        """
        prefix = key_prefix(view)
        decode = self._decoder(view)
        with _speaking(self._url):
            found = self._client.scan_iter(match=f"{_literal(prefix)}*", count=_BATCH)
            for keys in _batched((key for key in map(_text, found) if not key.startswith(f"{prefix}:")), _BATCH):
                for key, data in zip(keys, self._mget(keys), strict=True):
                    if data:
                        yield entity_of(view, key), decode(data)

    def watermark(self, view: FeatureView) -> Watermark | None:
        """How far the view is materialized; None: never."""
        with _speaking(self._url):
            found = self._client.get(watermark_key(view.metadata.name))
        return Watermark.from_json(found)

    def advance(self, view: FeatureView, before: Watermark | None, after: Watermark) -> bool:
        """Set the watermark to `after` if it still is `before`; False where another run moved it meanwhile."""
        with _speaking(self._url):
            args = [before.to_json() if before else "", after.to_json()]
            return bool(self._swap(keys=[watermark_key(view.metadata.name)], args=args))


def _text(key: str | bytes) -> str:
    return key.decode() if isinstance(key, bytes) else key


def _literal(text: str) -> str:
    """A pattern of SCAN that matches the text itself."""
    return "".join(f"\\{letter}" if letter in "*?[]^\\" else letter for letter in text)


def open_store(url: str) -> OnlineStore:
    """Connect to `redis://HOST:PORT/DB`.

    Raises BadFeaturesError where that is no such address, OnlineStoreError within seconds where nothing answers.
    """
    import redis

    client = _client(url)
    with _speaking(url):
        if client.info("cluster").get("cluster_enabled"):
            client = redis.RedisCluster.from_url(url, **_LIMITS)
        client.ping()
    return OnlineStore(client, url)


def _client(url: str) -> Any:
    import redis

    try:
        return redis.Redis.from_url(url, **_LIMITS)
    except ValueError as error:
        raise BadFeaturesError(
            resource="online store", field="redis url", value=_without_password(url),
            expected="redis://HOST:PORT/DB or rediss://HOST:PORT/DB", remedy="correct --online or the view's redis url",
        ) from error  # fmt: skip


def _mismatch(view: FeatureView, fingerprint: bytes, reader: Codec) -> SchemaMismatchError:
    return SchemaMismatchError(
        resource=f"FeatureView {view.metadata.name}", field="schemaHash of a stored value", value=fingerprint.hex(),
        expected=f"{reader.fingerprint.hex()}, or a schema that has all of its features",
        remedy="materialize the view again, or read with the view that wrote it",
    )  # fmt: skip


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
    hidden = re.sub(r"([?&]password=)[^&#]*", r"\1***", url)
    return re.sub(r"(://[^/?#@:]*:)[^/?#]*@", r"\1***@", hidden)
