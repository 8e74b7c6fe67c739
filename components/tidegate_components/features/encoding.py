"""The bytes of an online value, and the keys they lie under.

Value: version (1 byte) | as-of time (8 bytes, big-endian microseconds) | schema (first 8 bytes of the schemaHash) |
null bitmap (1 bit per feature) | the values that are not null, in the view's order, packed by type. Fixed sizes are
little-endian; a text or list starts with its length as UInt32. The time stands early so that a server-side script can
compare it without decoding.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

from tidegate_api.feature_view import FeatureView
from tidegate_components.features.errors import SchemaMismatchError

__all__ = ["StoredValue", "decode", "encode", "from_micros", "key_of", "to_micros", "watermark_key"]

_VERSION = 1
_HEADER = struct.Struct(">BQ8s")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_PACKERS = {"Int64": struct.Struct("<q"), "Float64": struct.Struct("<d"), "Bool": struct.Struct("<?")}
_LENGTH = struct.Struct("<I")


@dataclass(frozen=True)
class StoredValue:
    """One entity's features as of `as_of` (UTC microseconds), in the view's order; None is null."""

    as_of: int
    values: tuple[Any, ...]


def key_of(view: str, entity: Sequence[object]) -> str:
    """The online key of an entity: cluster-safe (no hash tag, so entities spread over the slots), readable."""
    return f"tidegate:{view}:" + ",".join(quote(str(part), safe="") for part in entity)


def watermark_key(view: str) -> str:
    """The key of a view's watermark."""
    return f"tidegate:{view}::watermark"


def to_micros(time: datetime) -> int:
    """UTC microseconds of a time; naive times are UTC."""
    return ((time if time.tzinfo else time.replace(tzinfo=UTC)) - _EPOCH) // timedelta(microseconds=1)


def from_micros(micros: int) -> datetime:
    """The inverse of to_micros."""
    return _EPOCH + timedelta(microseconds=micros)


def encode(view: FeatureView, stored: StoredValue) -> bytes:
    """Pack a value under the view's schema."""
    nulls, parts = 0, []
    for i, (feature, value) in enumerate(zip(view.spec.features, stored.values, strict=True)):
        if value is None:
            nulls |= 1 << i
        else:
            parts.append(_pack(feature.type, value))
    bitmap = nulls.to_bytes((len(view.spec.features) + 7) // 8, "little")
    return _HEADER.pack(_VERSION, stored.as_of, _schema(view)) + bitmap + b"".join(parts)


def decode(view: FeatureView, data: bytes) -> StoredValue:
    """The inverse of encode. Raises SchemaMismatchError where the value was written under another schema."""
    version, as_of, schema = _HEADER.unpack_from(data)
    if version != _VERSION or schema != _schema(view):
        raise SchemaMismatchError(
            resource=f"FeatureView {view.metadata.name}", field="schemaHash of a stored value", value=schema.hex(),
            expected=_schema(view).hex(), remedy="materialize the view again, or read with the view that wrote it",
        )  # fmt: skip
    size = (len(view.spec.features) + 7) // 8
    nulls = int.from_bytes(data[_HEADER.size : _HEADER.size + size], "little")
    at, values = _HEADER.size + size, list[Any]()
    for i, feature in enumerate(view.spec.features):
        value = None
        if not nulls >> i & 1:
            value, at = _unpack(feature.type, data, at)
        values.append(value)
    return StoredValue(as_of, tuple(values))


def _schema(view: FeatureView) -> bytes:
    return bytes.fromhex(view.schema_hash)[:8]


def _pack(kind: str, value: Any) -> bytes:
    if kind.startswith("List<"):
        return _LENGTH.pack(len(value)) + b"".join(_pack(kind[5:-1], item) for item in value)
    if kind == "String":
        text = str(value).encode()
        return _LENGTH.pack(len(text)) + text
    if kind == "Timestamp":
        return _PACKERS["Int64"].pack(to_micros(value))
    return _PACKERS[kind].pack(value)


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
    at, items = at + _LENGTH.size, []
    for _ in range(length):
        item, at = _unpack(kind, data, at)
        items.append(item)
    return items, at
