"""Columns of values: their declared types, and the numbers that the kernel works on to add, to order, to tell apart."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tidegate_api.feature_view import FeatureView

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["addends", "arrow_type", "columns_of", "fits", "in_order", "same_codes"]

_NUMBERS = {"TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINYINT", "USMALLINT", "UINTEGER", "FLOAT", "DOUBLE"}
_ORDERED = _NUMBERS | {"BOOLEAN", "VARCHAR", "DATE", "TIMESTAMP", "TIMESTAMP WITH TIME ZONE"}
_NARROW_DECIMAL = 18
"""Digits that surely fit 64 bits."""


def arrow_type(kind: str) -> Any:
    """The Arrow type of a feature type of the API; times are UTC microseconds."""
    import pyarrow as pa

    if kind.startswith("List<"):
        return pa.list_(arrow_type(kind[5:-1]))
    simple = {"Int64": pa.int64(), "Float64": pa.float64(), "String": pa.string(), "Bool": pa.bool_()}
    return simple.get(kind) or pa.timestamp("us", tz="UTC")


def columns_of(view: FeatureView) -> list[tuple[str, pa.DataType]]:
    """Names and Arrow types of a view's keys, then of its features."""
    keys = [(key.name, arrow_type(key.type)) for key in view.spec.entity.join_keys]
    return keys + [(feature.name, arrow_type(feature.type)) for feature in view.spec.features]


def fits(function: str, kind: str) -> bool:
    """Whether the kernel computes the function of values of this DuckDB type; else SQL does."""
    if function == "count":
        return True
    if kind.startswith("DECIMAL("):
        return function not in {"sum", "mean"} or int(kind[8:].partition(",")[0]) <= _NARROW_DECIMAL
    return kind in (_NUMBERS if function in {"sum", "mean"} else _ORDERED)


def addends(values: pa.Array) -> tuple[NDArray[Any], int]:
    """The values as int64 or float64, and how many of the digits are decimals; there are no nulls."""
    import pyarrow as pa

    if pa.types.is_decimal(values.type):
        words = np.frombuffer(values.buffers()[1], dtype=np.int64)[2 * values.offset :]
        return words[: 2 * len(values) : 2], int(values.type.scale)
    kind = pa.float64() if pa.types.is_floating(values.type) else pa.int64()
    return values.cast(kind).to_numpy(), 0


def in_order(values: pa.Array) -> tuple[NDArray[Any], Callable[[NDArray[Any]], pa.Array]]:
    """Numbers in the order of the values, and the way back; there are no nulls."""
    import pyarrow as pa

    kind = values.type
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return values.to_numpy(), pa.array
    if pa.types.is_timestamp(kind):
        return values.view(pa.int64()).to_numpy(), lambda found: pa.array(found).view(kind)
    encoded = values.dictionary_encode()
    order = _order(encoded.dictionary)
    ranks = np.empty(len(order), dtype=np.int32)
    ranks[order] = np.arange(len(order), dtype=np.int32)
    ascending = encoded.dictionary.take(pa.array(order))
    return ranks.take(encoded.indices.to_numpy()), lambda found: ascending.take(pa.array(found))


def _order(dictionary: pa.Array) -> NDArray[np.int64]:
    import pyarrow.compute as pc

    order: NDArray[np.int64] = pc.sort_indices(dictionary).to_numpy().astype(np.int64)
    return order


def same_codes(values: pa.Array) -> NDArray[np.int32]:
    """Equal codes for equal values, below their number; all NaN are equal, and so are both zeros; no nulls."""
    import pyarrow as pa

    if pa.types.is_floating(values.type):
        values = pa.array(values.to_numpy() + 0.0)
    codes: NDArray[np.int32] = values.dictionary_encode().indices.to_numpy()
    return codes
