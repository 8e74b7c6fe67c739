"""The bytes of an online value, and the keys they lie under.

Value: version (1 byte) | as-of time (8 bytes, big-endian microseconds) | schema (first 8 bytes of the schemaHash) |
null bitmap (1 bit per feature) | the values that are not null, in the view's order, packed by type. Fixed sizes are
little-endian; a text or list starts with its length as UInt32. The highest bit of a list's length says that a null
bitmap follows (1 bit per item), and of the items only those that are not null. The time stands early so that a
server-side script can compare it without decoding. The schema under which a value was written lies beside the values,
so that a reader with another one takes what both know, as Avro resolves a writer's and a reader's schema.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache, partial
from operator import index
from typing import Any, NamedTuple
from urllib.parse import quote, unquote

from tidegate_api.feature_view import FeatureView, JoinKey
from tidegate_api.hashes import content_hash
from tidegate_components.features.errors import BadFeaturesError

__all__ = [
    "Codec",
    "Schema",
    "StoredValue",
    "codec_of",
    "entity_of",
    "from_micros",
    "key_of",
    "key_prefix",
    "key_value",
    "keys_of",
    "schema_key",
    "schema_of",
    "to_micros",
    "watermark_key",
]

_VERSION = 1
_HEADER = struct.Struct(">BQ8s")
_AS_OF = struct.Struct(">Q")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_PACKERS = {"Int64": struct.Struct("<q"), "Float64": struct.Struct("<d"), "Bool": struct.Struct("<?")}
_LENGTH = struct.Struct("<I")
_HAS_NULLS = 1 << 31
_NOBODY = "*"
"""The part of a key for null, under which nothing is stored: no text is quoted to it."""
_FINGERPRINT = 8


class StoredValue(NamedTuple):
    """One entity's features as of `as_of` (UTC microseconds), in the view's order; None is null."""

    as_of: int
    values: tuple[Any, ...]


@dataclass(frozen=True)
class Schema:
    """Names and types of a view's keys and features, in order: what its schemaHash covers."""

    keys: tuple[tuple[str, str], ...]
    features: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, view: FeatureView) -> Schema:
        """The schema that the view's values are written under."""
        keys = tuple((key.name, key.type) for key in view.spec.entity.join_keys)
        return cls(keys, tuple((feature.name, feature.type) for feature in view.spec.features))

    @classmethod
    def from_json(cls, text: str | bytes) -> Schema:
        """The inverse of to_json."""
        body = json.loads(text)
        return cls(tuple(map(tuple, body["keys"])), tuple(map(tuple, body["features"])))

    def to_json(self) -> str:
        """What the schemaHash is the hash of."""
        return json.dumps({"keys": self.keys, "features": self.features})

    @property
    def fingerprint(self) -> bytes:
        """The first bytes of the schemaHash; they stand in every value."""
        return bytes.fromhex(content_hash(json.loads(self.to_json())))[:_FINGERPRINT]

    def projection(self, reader: Schema) -> tuple[int, ...] | None:
        """Where each of the reader's features stands in a value of this schema; none where one is not there."""
        there = {feature: i for i, feature in enumerate(self.features)}
        if reader.keys != self.keys or any(feature not in there for feature in reader.features):
            return None
        return tuple(there[feature] for feature in reader.features)


class Codec:
    """Packs and unpacks the values of one schema."""

    def __init__(self, schema: Schema) -> None:
        self.schema = schema
        self.fingerprint = schema.fingerprint
        self._types = tuple(kind for _, kind in schema.features)
        self._no_nulls = bytes((len(self._types) + 7) // 8)
        self._at = _HEADER.size + len(self._no_nulls)
        self._whole = _whole(self._types)

    def encode(self, stored: StoredValue) -> bytes:
        """Pack a value."""
        head = _HEADER.pack(_VERSION, stored.as_of, self.fingerprint)
        if self._whole is not None and None not in stored.values:
            return head + self._no_nulls + self._whole.pack(*stored.values)
        nulls, parts = 0, []
        for i, (kind, value) in enumerate(zip(self._types, stored.values, strict=True)):
            if value is None:
                nulls |= 1 << i
            else:
                parts.append(_pack(kind, value))
        bitmap = nulls.to_bytes(len(self._no_nulls), "little")
        return head + bitmap + b"".join(parts)

    def decode(self, data: bytes) -> StoredValue:
        """The inverse of encode, for a value that was written under this schema (see schema_of)."""
        (as_of,) = _AS_OF.unpack_from(data, 1)
        bitmap = data[_HEADER.size : self._at]
        if self._whole is not None and bitmap == self._no_nulls:
            return StoredValue(as_of, self._whole.unpack_from(data, self._at))
        nulls = int.from_bytes(bitmap, "little")
        at, values = self._at, list[Any]()
        for i, kind in enumerate(self._types):
            value = None
            if not nulls >> i & 1:
                value, at = _unpack(kind, data, at)
            values.append(value)
        return StoredValue(as_of, tuple(values))

    def decode_all(
        self, found: Sequence[bytes | None], otherwise: Callable[[bytes], StoredValue]
    ) -> list[StoredValue | None]:
        """Many at once; `otherwise` takes what was written under another schema, and None stays None.

        A value without nulls whose features all have a fixed size, which is nearly every one of a candidate set, is
        unpacked in one step. What is compared and called is bound before the loop: it runs for each of 500 items.
        """
        if self._whole is None:
            return [None if data is None else otherwise(data) for data in found]
        at, mark, unpack, as_of = (
            self._at,
            self.fingerprint + self._no_nulls,
            self._whole.unpack_from,
            _AS_OF.unpack_from,
        )
        first, make = 1 + _AS_OF.size, tuple.__new__
        return [
            None
            if data is None
            else make(StoredValue, (as_of(data, 1)[0], unpack(data, at)))
            if data[first:at] == mark and data[0] == _VERSION
            else otherwise(data)
            for data in found
        ]


@lru_cache(maxsize=1024)
def codec_of(schema: Schema) -> Codec:
    """The codec of a schema; making one hashes the schema, so it is made once."""
    return Codec(schema)


def schema_of(data: bytes) -> bytes:
    """The fingerprint of the schema that a value was written under; empty for a version unknown to this release."""
    return data[1 + _AS_OF.size : _HEADER.size] if data[0] == _VERSION else b""


def _whole(types: Sequence[str]) -> struct.Struct | None:
    """All values at once, where each has a fixed size and needs no conversion."""
    if not all(kind in _PACKERS for kind in types):
        return None
    return struct.Struct("<" + "".join(_PACKERS[kind].format.lstrip("<") for kind in types))


def key_of(view: FeatureView, entity: Sequence[object]) -> str:
    """The online key of an entity: cluster-safe (no hash tag, so entities spread over the slots), readable.

    A value has one text by its declared type, whoever writes or reads it: of a time its UTC, whether it comes with a
    zone, naive or in microseconds. Raises BadFeaturesError where it has no such value.
    """
    return keys_of(view, [entity])[0]


def keys_of(view: FeatureView, entities: Sequence[Sequence[object]]) -> list[str]:
    """key_of each; a whole number, which nearly every key of a candidate set is, is its own text."""
    prefix, keys = key_prefix(view), view.spec.entity.join_keys
    if len(keys) == 1 and (key := keys[0]).type == "Int64":
        return [f"{prefix}{part if type(part) is int else _key_part(view, part, key)}" for (part,) in entities]
    return [prefix + ",".join(map(partial(_key_part, view), entity, keys)) for entity in entities]


def key_prefix(view: FeatureView) -> str:
    """What the keys of all entities of a view begin with."""
    return f"tidegate:{view.metadata.name}:"


def _key_part(view: FeatureView, part: object, key: JoinKey) -> str:
    value = key_value(view, part, key)
    return _NOBODY if value is None else quote(str(value), safe="")


def key_value(view: FeatureView, part: object, key: JoinKey) -> object:
    """A part of a key by its declared type; null, and NaN where it stands for null, is None: nobody's key.

    Raises BadFeaturesError where the type has no such value.
    """
    try:
        return _canonical(part, key.type)
    except (TypeError, ValueError, OverflowError) as error:
        raise BadFeaturesError(
            resource=f"FeatureView {view.metadata.name}", field=f"key {key.name}", value=part,
            expected=f"a value of type {key.type}", remedy="ask with a value of the declared type",
        ) from error  # fmt: skip


def _canonical(part: Any, kind: str) -> object:
    if part is None or (kind != "Float64" and isinstance(part, float) and math.isnan(part)):
        return None
    if kind == "Timestamp":
        return from_micros(part if isinstance(part, int) else to_micros(part)).replace(tzinfo=None)
    if kind == "Int64":
        return int(part) if isinstance(part, float) and part.is_integer() else index(part)
    if kind == "Bool" and isinstance(part, str):
        raise TypeError(f"{part!r} is not true or false")
    return {"Float64": float, "Bool": bool}.get(kind, str)(part)


def entity_of(view: FeatureView, key: str) -> tuple[Any, ...]:
    """The inverse of key_of; times are UTC."""
    parts = key.removeprefix(key_prefix(view)).split(",")
    return tuple(_parsed(part, k.type) for part, k in zip(parts, view.spec.entity.join_keys, strict=True))


def _parsed(part: str, kind: str) -> Any:
    text = unquote(part)
    if kind == "Bool":
        return text == "True"
    if kind == "Timestamp":
        return datetime.fromisoformat(text).replace(tzinfo=UTC)
    return {"Int64": int, "Float64": float}.get(kind, str)(text)


def watermark_key(view: str) -> str:
    """The key of a view's watermark."""
    return f"tidegate:{view}::watermark"


def schema_key(view: str, fingerprint: bytes) -> str:
    """The key of a schema that values of the view were written under."""
    return f"tidegate:{view}::schema:{fingerprint.hex()}"


def to_micros(time: datetime) -> int:
    """UTC microseconds of a time; naive times are UTC."""
    if not isinstance(time, datetime):
        raise TypeError(f"{time!r} is no time")
    return ((time if time.tzinfo else time.replace(tzinfo=UTC)) - _EPOCH) // timedelta(microseconds=1)


def from_micros(micros: int) -> datetime:
    """The inverse of to_micros."""
    return _EPOCH + timedelta(microseconds=micros)


def _pack(kind: str, value: Any) -> bytes:
    if kind.startswith("List<"):
        there = [item for item in value if item is not None]
        head = _LENGTH.pack(len(value)) if len(there) == len(value) else _with_nulls(value)
        return head + b"".join(_pack(kind[5:-1], item) for item in there)
    if kind == "String":
        text = str(value).encode()
        return _LENGTH.pack(len(text)) + text
    if kind == "Timestamp":
        return _PACKERS["Int64"].pack(to_micros(value))
    return _PACKERS[kind].pack(value)


def _with_nulls(items: Sequence[Any]) -> bytes:
    nulls = sum(1 << i for i, item in enumerate(items) if item is None)
    return _LENGTH.pack(len(items) | _HAS_NULLS) + nulls.to_bytes((len(items) + 7) // 8, "little")


def _unpack(kind: str, data: bytes, at: int) -> tuple[Any, int]:
    if kind.startswith("List<"):
        return _unpack_list(kind[5:-1], data, at)
    if kind == "String":
        (length,) = _LENGTH.unpack_from(data, at)
        start = at + _LENGTH.size
        return data[start : start + length].decode(), start + length
    packer = _PACKERS["Int64" if kind == "Timestamp" else kind]
    (value,) = packer.unpack_from(data, at)
    return (from_micros(value) if kind == "Timestamp" else value), at + packer.size


def _unpack_list(kind: str, data: bytes, at: int) -> tuple[list[Any], int]:
    (length,) = _LENGTH.unpack_from(data, at)
    at, nulls, items = at + _LENGTH.size, 0, list[Any]()
    if length & _HAS_NULLS:
        length ^= _HAS_NULLS
        size = (length + 7) // 8
        nulls, at = int.from_bytes(data[at : at + size], "little"), at + size
    for i in range(length):
        item = None
        if not nulls >> i & 1:
            item, at = _unpack(kind, data, at)
        items.append(item)
    return items, at
