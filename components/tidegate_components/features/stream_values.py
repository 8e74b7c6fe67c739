"""Values of entities that came due, by the batch path's own SQL over the rows that the stream kept of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tidegate_api.feature_view import FeatureView
from tidegate_components.duck import connect
from tidegate_components.features.encoding import StoredValue
from tidegate_components.features.online import expiry_ms
from tidegate_components.features.sql import as_of_query, quoted
from tidegate_components.features.stream_messages import source_columns
from tidegate_components.features.stream_state import Due

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Calculator", "Computed", "OnlineRow"]

OnlineRow = tuple[tuple[Any, ...], StoredValue, int]
"""What OnlineStore.write takes: entity, value, expiry in Unix milliseconds."""


@dataclass(frozen=True)
class Computed:
    """The rows to write, and the entities whose value does not compute, with the reason."""

    rows: list[OnlineRow]
    faults: list[tuple[tuple[Any, ...], str]]


class Calculator:
    """Computes values as known at each entity's as-of time; holds the DuckDB connection."""

    def __init__(self, view: FeatureView) -> None:
        self._view, self._db = view, connect()
        self._columns = source_columns(view)
        names = ", ".join(quoted(feature.name) for feature in view.spec.features)
        self._query = f"SELECT {names} FROM ({as_of_query(view, as_known=True)}) ORDER BY tg_row"  # noqa: S608

    def compute(self, due: Sequence[Due]) -> Computed:
        """The value of each entity. One that does not compute does not take the others with it."""
        import duckdb

        if not due:
            return Computed([], [])
        try:
            return Computed(self._compute(due), [])
        except duckdb.Error as error:
            if len(due) == 1:
                return Computed([], [(due[0].entity, str(error).splitlines()[0])])
            first, second = self.compute(due[: len(due) // 2]), self.compute(due[len(due) // 2 :])
            return Computed(first.rows + second.rows, first.faults + second.faults)

    def _compute(self, due: Sequence[Due]) -> list[OnlineRow]:
        self._db.register("entities", _entities(self._view, due))
        self._db.register("source", _source(self._view, self._columns, due))
        found = self._db.sql(self._query).to_arrow_table()
        rows = zip(*(column.to_pylist() for column in found.columns), strict=True)
        return [
            (one.entity, StoredValue(one.as_of, row), expiry_ms(self._view, one.as_of))
            for one, row in zip(due, rows, strict=True)
        ]


def _entities(view: FeatureView, due: Sequence[Due]) -> pa.Table:
    import pyarrow as pa

    columns = {
        "tg_row": pa.array(range(len(due)), pa.int64()),
        "tg_as_of": pa.array([one.as_of for one in due], pa.int64()),
    }
    for n, key in enumerate(view.spec.entity.join_keys):
        columns[key.name] = _array(key.type, [one.entity[n] for one in due], naive=True)
    return pa.table(columns)


def _source(view: FeatureView, types: dict[str, str], due: Sequence[Due]) -> pa.Table:
    columns = {
        key.name: _array(key.type, [one.entity[n] for one in due for _ in one.rows])
        for n, key in enumerate(view.spec.entity.join_keys)
    }
    values = list(zip(*(row for one in due for row in one.rows), strict=True))[2:] or [()] * len(types)
    for (name, kind), column in zip(types.items(), values, strict=True):
        columns[name] = _array(kind, column)
    import pyarrow as pa

    return pa.table(columns)


def _array(kind: str, values: Sequence[Any], *, naive: bool = False) -> pa.Array:
    """An Arrow array of a feature type; times are given as UTC microseconds."""
    import pyarrow as pa

    stamp = pa.timestamp("us") if naive else pa.timestamp("us", tz="UTC")
    types = {"Int64": pa.int64(), "Float64": pa.float64(), "String": pa.string(), "Bool": pa.bool_()}
    if kind == "Timestamp":
        return pa.array(values, pa.int64()).cast(stamp)
    if kind == "List<Timestamp>":
        return pa.array(values, pa.list_(pa.int64())).cast(pa.list_(stamp))
    if kind.startswith("List<"):
        return pa.array(values, pa.list_(types[kind[5:-1]]))
    return pa.array(values, types[kind])
