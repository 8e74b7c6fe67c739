"""What a model reads: bags of ids and numbers, described once from the training set.

`ids` is Int64 [N, number of id columns] and `dense` is Float32 [N, number of numeric columns], both in the order given
here. A row of an embedding table belongs to an id below `rows`; every other id is folded by modulo into one of
`buckets` rows behind them, which training fills by showing a share of known ids as unknown.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tidegate_api.errors import TidegateError

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

__all__ = ["VIEWS_KEY", "Arrays", "Bag", "Inputs", "Numeric", "TrainingSetError", "describe", "read_set"]

VIEWS_KEY = b"tidegate.feature_views"
"""Parquet metadata: a JSON list of {column, view, feature, type, schemaHash}, written by the features step."""

_MOST_ROWS = 1 << 20


class TrainingSetError(TidegateError):
    """A training set that is empty, one-sided or lacks a column."""


@dataclass(frozen=True)
class Bag:
    """One embedding table and the id columns that are summed out of it; with several columns an id of 0 is no id."""

    name: str
    columns: tuple[str, ...]
    rows: int
    buckets: int
    unknown_share: float


@dataclass(frozen=True)
class Numeric:
    """A number, standardized as (f(x) - mean) / std, where f is log(1 + x) for counts."""

    column: str
    view: str
    schema_hash: str
    is_count: bool
    mean: float
    std: float


@dataclass(frozen=True)
class Inputs:
    """All that a model reads, in order."""

    bags: tuple[Bag, ...]
    numerics: tuple[Numeric, ...]

    @property
    def id_columns(self) -> list[str]:
        """Columns of `ids`."""
        return [column for bag in self.bags for column in bag.columns]

    @property
    def numeric_columns(self) -> list[str]:
        """Columns of `dense`."""
        return [numeric.column for numeric in self.numerics]

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)

    @staticmethod
    def from_dict(data: dict[str, Any]) -> Inputs:
        """The inverse of to_dict."""
        bags = tuple(Bag(**{**bag, "columns": tuple(bag["columns"])}) for bag in data["bags"])
        return Inputs(bags, tuple(Numeric(**numeric) for numeric in data["numerics"]))


@dataclass(frozen=True)
class Arrays:
    """A data set in memory: ids [N, C] Int64, dense [N, D] Float32 (raw), labels [N] Float32 in {0, 1}."""

    ids: np.ndarray[Any, Any]
    dense: np.ndarray[Any, Any]
    labels: np.ndarray[Any, Any]


_BAGS = (
    # name, columns, unknown buckets, share of known ids shown as unknown: many users of tomorrow are new, few items are
    ("user", ("user_id",), 4, 0.4),
    ("item", ("item_id",), 4, 0.05),
    ("age", ("age",), 1, 0.02),
    ("gender", ("gender",), 1, 0.02),
    ("occupation", ("occupation",), 1, 0.02),
    ("release_year", ("release_year",), 1, 0.02),
    ("genres", tuple(f"genre_{slot}" for slot in range(1, 7)), 1, 0.02),
)


def describe(table: pa.Table) -> Inputs:
    """The inputs that a training set offers: the context's ids and every feature of its views."""
    import pyarrow.compute as pc

    bags = []
    for name, columns, buckets, share in _BAGS:
        greatest = max(
            (pc.max(table[column]).as_py() or 0 for column in columns if column in table.column_names), default=-1
        )
        if greatest >= 0:
            bags.append(Bag(name, columns, min(int(greatest) + 1, _MOST_ROWS), buckets, share))
    return Inputs(tuple(bags), tuple(_numeric(table, feature) for feature in _view_features(table)))


def _view_features(table: pa.Table) -> list[dict[str, str]]:
    found = (table.schema.metadata or {}).get(VIEWS_KEY, b"[]")
    return [feature for feature in json.loads(found) if feature["type"] in {"Int64", "Float64"}]


def _numeric(table: pa.Table, feature: dict[str, str]) -> Numeric:
    import numpy as np

    is_count = feature["type"] == "Int64"
    values = _floats(table, feature["column"])
    seen = np.log1p(np.maximum(values, 0)) if is_count else values
    std = float(seen.std()) or 1.0
    return Numeric(feature["column"], feature["view"], feature["schemaHash"], is_count, float(seen.mean()), std)


def _floats(table: pa.Table, column: str) -> np.ndarray[Any, Any]:
    import pyarrow as pa
    import pyarrow.compute as pc

    values: np.ndarray[Any, Any] = pc.fill_null(table[column].cast(pa.float64()), 0.0).to_numpy()
    return values


def read_set(path: Path, inputs: Inputs | None = None) -> tuple[Arrays, Inputs]:
    """Read a Parquet training set as arrays; describes the inputs too where none are given. Nulls become 0.

    Raises TrainingSetError where it is empty, has one class only, or lacks a column.
    """
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    table = pq.read_table(path)
    inputs = inputs or describe(table)
    _check(table, inputs, path)
    ids = np.stack([pc.fill_null(table[c].cast(pa.int64()), 0).to_numpy() for c in inputs.id_columns], axis=1)
    dense = [_floats(table, column) for column in inputs.numeric_columns]
    matrix = np.stack(dense, axis=1) if dense else np.zeros((table.num_rows, 0))
    return Arrays(ids, matrix.astype(np.float32), _floats(table, "label").astype(np.float32)), inputs


def _check(table: pa.Table, inputs: Inputs, path: Path) -> None:
    import pyarrow.compute as pc

    missing = [c for c in ("label", *inputs.id_columns, *inputs.numeric_columns) if c not in table.column_names]
    if missing:
        raise _bad(path, "columns", table.column_names, f"a column {missing[0]}")
    labels = pc.unique(table["label"]).to_pylist()
    if sorted(label for label in labels if label is not None) != [0, 1]:
        raise _bad(
            path, "label", f"{table.num_rows} rows with labels {labels}", "rows with label 0 and rows with label 1"
        )
    if not inputs.bags:
        raise _bad(path, "columns", table.column_names, "at least one id column such as item_id")


def _bad(path: Path, field: str, value: object, expected: str) -> TrainingSetError:
    return TrainingSetError(
        resource=f"training set {path.name}", field=field, value=value, expected=expected,
        remedy="check the sample join and how much time the data covers",
    )  # fmt: skip
