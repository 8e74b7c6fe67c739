"""Predictions as they come in Parquet: labels, scores, groups, weights, columns to slice by; checked once, here."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tidegate_components.evaluation.bins import edges_of
from tidegate_components.evaluation.errors import EvaluationError
from tidegate_components.evaluation.ranking import dense_codes
from tidegate_components.storage import parquet_files

__all__ = ["Columns", "Predictions", "Rows", "parts_of", "read_baseline", "read_predictions"]

Array = np.ndarray[Any, Any]

_MOST_PARTS = 30
_RANGES = 5


@dataclass(frozen=True)
class Columns:
    """Which column is what."""

    label: str
    score: str
    group: str | None = None
    weight: str | None = None
    key: str | None = None
    slices: tuple[str, ...] = ()

    @property
    def named(self) -> list[str]:
        """Every column that is read, once."""
        wanted = (self.label, self.score, self.group, self.weight, self.key, *self.slices)
        return list(dict.fromkeys(name for name in wanted if name is not None))


@dataclass(frozen=True)
class Rows:
    """What is judged: labels [N] in {0, 1}, scores [N] Float64, dense codes of groups [N], weights [N]."""

    labels: Array
    scores: Array
    codes: Array | None = None
    weights: Array | None = None

    @property
    def one_class(self) -> bool:
        """Whether all labels are equal; rows without weight do not count."""
        seen = self.labels if self.weights is None else self.labels[self.weights > 0]
        return bool((seen == seen[0]).all()) if len(seen) else True

    def take(self, index: Array) -> Rows:
        """Some of the rows."""
        codes = None if self.codes is None else dense_codes(self.codes[index])
        weights = None if self.weights is None else self.weights[index]
        return Rows(self.labels[index], self.scores[index], codes, weights)


@dataclass(frozen=True)
class Predictions:
    """The rows of a file, its name, and the columns that are not judged: group and key as they stand, slices."""

    name: str
    rows: Rows
    group: pa.ChunkedArray | None = None
    key: pa.ChunkedArray | None = None
    slices: dict[str, pa.ChunkedArray] = field(default_factory=dict)


def read_predictions(path: Path, columns: Columns, what: str = "predictions") -> Predictions:
    """Read a Parquet file, folder or glob. Raises EvaluationError naming file, column and row for whatever is wrong.

    what: how its errors call it.
    """
    table, name = _read(path, columns, what), f"{what} {path.name}"
    group = None if columns.group is None else _whole(table, columns.group, name, "a group in every row")
    if columns.group is not None:
        _flat(table, columns.group, name)
    rows = Rows(
        _labels(table, columns.label, name),
        _scores(table, columns.score, name),
        None if group is None else _codes(group),
        None if columns.weight is None else _weights(table, columns.weight, name),
    )
    for column in columns.slices:
        _flat(table, column, name)
    key = None if columns.key is None else _unique(table, columns.key, name)
    return Predictions(name, rows, group, key, {column: table[column] for column in columns.slices})


def _read(path: Path, columns: Columns, what: str) -> pa.Table:
    files = parquet_files(path)
    if not files:
        raise _bad(f"{what} {path}", "path", str(path), "a Parquet file, folder or glob", "check the path")
    try:
        present = set(pq.read_schema(files[0]).names)
        missing = [column for column in columns.named if column not in present]
        if missing:
            expected = f"one of the columns {', '.join(sorted(present)[:20])}"
            raise _bad(f"{what} {path.name}", "column", missing[0], expected, "name a column that is there")
        table = undictionaried(pq.read_table(files, columns=columns.named, partitioning=None))
    except (pa.ArrowInvalid, OSError) as error:
        reason = str(error).splitlines()[0][:200]
        raise _bad(f"{what} {path.name}", "content", reason, "readable Parquet", "write it again") from error
    if not table.num_rows:
        raise _bad(f"{what} {path.name}", "rows", 0, "at least one row", "score some impressions first")
    return table


def undictionaried(table: pa.Table) -> pa.Table:
    """The table with plain values where columns are dictionary-coded, as pandas writes its categories."""
    plain = [field.with_type(getattr(field.type, "value_type", field.type)) if pa.types.is_dictionary(field.type)
             else field for field in table.schema]  # fmt: skip
    return table.cast(pa.schema(plain))


def _bad(resource: str, where: str, value: object, expected: str, remedy: str) -> EvaluationError:
    return EvaluationError(resource=resource, field=where, value=value, expected=expected, remedy=remedy)


def _whole(table: pa.Table, column: str, name: str, expected: str) -> pa.ChunkedArray:
    """The column; a null or NaN in it is told by its row."""
    values = table[column]
    row = pc.index(pc.is_null(values, nan_is_null=True), True).as_py()
    if row >= 0:
        raise _wrong(name, column, row, values[row].as_py(), expected)
    return values


def _flat(table: pa.Table, column: str, name: str) -> None:
    if pa.types.is_nested(table[column].type):
        kind, expected = str(table[column].type), "plain values, no lists or structs"
        raise _bad(name, f"column {column}", kind, expected, "write one value a row")


def _wrong(name: str, column: str, row: int, value: object, expected: str) -> EvaluationError:
    remedy = "correct the value or leave out the row"
    return _bad(name, f"column {column}, row {row + 1}", value, expected, remedy)


_ORDERED = (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal, pa.types.is_timestamp, pa.types.is_date)
_NUMERIC = (pa.types.is_boolean, pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal)


def _numbers(table: pa.Table, column: str, name: str, expected: str) -> Array:
    values = _whole(table, column, name, expected)
    kind = values.type
    if not any(holds(kind) for holds in _NUMERIC):
        raise _bad(name, f"column {column}", str(kind), f"numbers ({expected})", "write the column as numbers")
    return np.asarray(pc.cast(values, pa.float64(), safe=False).to_numpy())


def _checked(values: Array, right: Array, name: str, column: str, expected: str) -> Array:
    if not right.all():
        row = int(np.argmin(right))
        raise _wrong(name, column, row, float(values[row]), expected)
    return values


def _labels(table: pa.Table, column: str, name: str) -> Array:
    values = _numbers(table, column, name, "0 or 1")
    return _checked(values, (values == 0) | (values == 1), name, column, "0 or 1").astype(np.int8)


def _scores(table: pa.Table, column: str, name: str) -> Array:
    expected = "a probability from 0 to 1"
    values = _numbers(table, column, name, expected)
    return _checked(values, (values >= 0) & (values <= 1), name, column, expected)


def _weights(table: pa.Table, column: str, name: str) -> Array:
    expected = "a finite weight of at least 0"
    values = _numbers(table, column, name, expected)
    _checked(values, (values >= 0) & np.isfinite(values), name, column, expected)
    if not values.any():
        raise _bad(name, f"column {column}", 0.0, "a weight above 0 in some row", "leave out --weight or correct it")
    return values


def _codes(group: pa.ChunkedArray) -> Array:
    if pa.types.is_integer(group.type):
        return dense_codes(group.to_numpy())
    encoded = group.combine_chunks().dictionary_encode()
    return dense_codes(encoded.indices.to_numpy())


def _unique(table: pa.Table, column: str, name: str) -> pa.ChunkedArray:
    values = _whole(table, column, name, "a key in every row")
    if pc.count_distinct(values).as_py() != len(values):
        expected, remedy = "each key once", "name a column that tells rows apart"
        raise _bad(name, f"column {column}", _twice(values), expected, remedy)
    return values


def _twice(values: pa.ChunkedArray) -> object:
    counted = pc.value_counts(values)
    many = pc.greater(counted.field("counts"), 1)
    return counted.field("values").filter(many)[0].as_py()


def read_baseline(path: Path, columns: Columns, judged: Predictions) -> Rows:
    """The baseline's scores on the rows of `judged`, in their order; weights are those of `judged`.

    Rows belong together by `columns.key` where it is given, else by their place. Raises EvaluationError where the
    baseline has other rows, labels or groups.
    """
    found = read_predictions(path, columns, "baseline")
    if len(found.rows.labels) != len(judged.rows.labels):
        expected = f"the {len(judged.rows.labels)} rows of {judged.name}"
        raise _bad(f"baseline {path.name}", "rows", len(found.rows.labels), expected, "score the same rows")
    index = _places(found, judged, columns.key) if columns.key is not None else None
    labels, scores, group = found.rows.labels, found.rows.scores, found.group
    if index is not None:
        labels, scores = labels[index], scores[index]
        group = None if group is None else group.take(pa.array(index))
    _check_same(path.name, f"column {columns.label}", labels, judged.rows.labels)
    if group is not None and judged.group is not None:
        _check_same(path.name, f"column {columns.group}", _plain(group), _plain(judged.group))
    return Rows(judged.rows.labels, scores, judged.rows.codes, judged.rows.weights)


def _plain(values: pa.ChunkedArray) -> Array:
    return np.asarray(values.to_numpy())


def _places(found: Predictions, judged: Predictions, column: str | None) -> Array:
    wanted = judged.key
    assert wanted is not None  # noqa: S101 - both were read with a key
    index = pc.index_in(wanted, value_set=found.key)
    if index.null_count:
        row = int(np.argmax(pc.is_null(index).to_numpy()))
        value, remedy = wanted[row].as_py(), "score the same rows"
        raise _bad(found.name, f"column {column}", "no such key", f"the key {value!r} of row {row + 1}", remedy)
    return np.asarray(index.to_numpy())


def _check_same(name: str, column: str, found: Array, wanted: Array) -> None:
    if found.dtype.kind != wanted.dtype.kind:
        found, wanted = found.astype(str), wanted.astype(str)
    different = found != wanted
    if different.any():
        row = int(np.argmax(different))
        raise _bad(
            f"baseline {name}", f"{column}, row {row + 1}", found[row].item(),
            f"{wanted[row].item()!r} as in the predictions", "write both files from the same rows, or give --key",
        )  # fmt: skip


def parts_of(column: str, values: pa.ChunkedArray) -> Iterator[tuple[str, Array]]:
    """(name, rows) of the parts that a column cuts the rows into, in order of the values.

    Numbers and times of more than thirty values are cut into five ranges that are equally full; of more than thirty
    other values the most frequent stand alone and the rest go together.
    """
    encoded = values.combine_chunks().dictionary_encode("encode")
    names = encoded.dictionary
    if len(names) > _MOST_PARTS and any(holds(names.type) for holds in _ORDERED):
        yield from _ranges(column, values)
        return
    codes = encoded.indices.to_numpy()
    counts = np.bincount(codes, minlength=len(names))
    kept = np.argsort(-counts, kind="stable")[: _MOST_PARTS if len(names) <= _MOST_PARTS else _MOST_PARTS - 1]
    named = sorted(((names[int(code)].as_py(), int(code)) for code in kept), key=lambda part: _sortable(part[0]))
    for value, code in named:
        yield f"{column} = {'(none)' if value is None else value}", np.flatnonzero(codes == code)
    if len(kept) < len(names):
        yield f"{column}: {len(names) - len(kept):,} other values", np.flatnonzero(~np.isin(codes, kept))


def _sortable(value: object) -> tuple[bool, Any]:
    return (True, "") if value is None else (False, value)


def _ranges(column: str, values: pa.ChunkedArray) -> Iterator[tuple[str, Array]]:
    numbers = _in_order(values)
    known = np.isfinite(numbers)
    edges = np.unique(edges_of(np.sort(numbers[known]), _RANGES))
    place = np.searchsorted(edges, numbers, side="left")
    for number in range(len(edges) + 1):
        rows = np.flatnonzero(known & (place == number))
        if len(rows):
            ends = pc.min_max(values.take(pa.array(rows))).as_py()
            yield f"{column} {_shown(ends['min'])} to {_shown(ends['max'])}", rows
    if not known.all():
        yield f"{column} = (none)", np.flatnonzero(~known)


def _in_order(values: pa.ChunkedArray) -> Array:
    """Numbers as they are, times as the number that they are stored as; nulls are NaN."""
    kind = values.type
    if pa.types.is_temporal(kind):
        values = values.cast(pa.int32() if kind.bit_width == 32 else pa.int64())
    return np.asarray(pc.cast(values, pa.float64(), safe=False).to_numpy())


def _shown(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
