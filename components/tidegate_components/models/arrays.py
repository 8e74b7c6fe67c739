"""Training sets in memory: Parquet columns as the arrays that `Inputs` describe."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tidegate_components.models.inputs import MISSING, Bag, Inputs, TrainingSetError

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    Array = np.ndarray[Any, Any]

__all__ = [
    "Arrays",
    "bad_set",
    "check_columns",
    "columns_read",
    "integer_ids",
    "is_text",
    "numbers_of",
    "read_set",
    "read_sets",
    "read_tables",
    "schema_of",
    "to_arrays",
]


@dataclass(frozen=True)
class Arrays:
    """A data set in memory: ids [N, C] Int64, dense [N, D] Float32 (raw), labels [N] Float32 in {0, 1}.

    `weights` [N] Float32 of rows, where the set has some.
    """

    ids: Array
    dense: Array
    labels: Array
    weights: Array | None = None

    def followed_by(self, later: Arrays) -> Arrays:
        """The rows of both, these first."""
        import numpy as np

        pairs = ((self.ids, later.ids), (self.dense, later.dense), (self.labels, later.labels))
        weights = None if self.weights is None or later.weights is None else (self.weights, later.weights)
        ids, dense, labels = (np.concatenate(pair) for pair in pairs)
        return Arrays(ids, dense, labels, None if weights is None else np.concatenate(weights))


def read_set(path: Path, inputs: Inputs | None = None, label: str = "label", weight: str = "") -> tuple[Arrays, Inputs]:
    """Read a Parquet training set as arrays; describes the inputs too where none are given.

    A null id is MISSING; a null number is NaN, which the model reads as `Numeric.missing`.

    Raises TrainingSetError where it is empty, has one class only, or lacks a column.
    """
    from tidegate_components.models.fitting import describe

    table = _read(path)
    _check_labels(table, path, label)
    inputs = inputs or describe(table)
    return to_arrays(table, inputs, path, label, weight), inputs


def read_sets(first: Path, second: Path) -> tuple[Arrays, Inputs]:
    """Two training sets as one, its inputs described from both. Raises TrainingSetError as `read_set` does."""
    from tidegate_components.models.fitting import describe

    table = read_tables([first, second])
    _check_labels(table, first, "label")
    inputs = describe(table)
    return to_arrays(table, inputs, first), inputs


def read_tables(paths: Sequence[Path], columns: list[str] | None = None) -> pa.Table:
    """Training sets, one after the other, as one table. Raises TrainingSetError where one cannot be read."""
    import pyarrow as pa

    return pa.concat_tables([_read(path, columns) for path in paths])


def _read(path: Path, columns: list[str] | None = None) -> pa.Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from tidegate_components.storage import parquet_files

    try:
        return pq.read_table(path if path.exists() else parquet_files(path) or path, columns=columns)
    except (OSError, pa.ArrowInvalid) as error:
        raise _unreadable(path, error) from error


def schema_of(path: Path) -> pa.Schema:
    """Columns and metadata of a file or a folder of Parquet. Raises TrainingSetError where there is none."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from tidegate_components.storage import parquet_files

    files = parquet_files(path)
    if not files:
        raise bad_set(path, "file", str(path), "a Parquet file, or a folder that holds some")
    try:
        return pq.read_schema(files[0])
    except (OSError, pa.ArrowInvalid) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> TrainingSetError:
    return bad_set(path, "file", str(path), f"readable Parquet ({str(error).splitlines()[0]})")


def to_arrays(table: pa.Table, inputs: Inputs, path: Path, label: str = "label", weight: str = "") -> Arrays:
    """The columns of a table as arrays. Raises TrainingSetError where one is missing."""
    import numpy as np

    check_columns(table.column_names, inputs, path)
    dense = [numbers_of(table[column]) for column in inputs.numeric_columns]
    return Arrays(
        np.stack([column for bag in inputs.bags for column in bag_ids(table, bag)], axis=1),
        np.stack(dense, axis=1) if dense else np.zeros((table.num_rows, 0), dtype=np.float32),
        numbers_of(table[label]),
        numbers_of(table[weight]) if weight else None,
    )


def columns_read(inputs: Inputs) -> list[str]:
    """The columns of a table that the inputs need."""
    lists = {bag.list_column for bag in inputs.bags if bag.list_column}
    ids = [column for bag in inputs.bags if not bag.list_column for column in bag.columns]
    return [*dict.fromkeys([*ids, *sorted(lists), *inputs.numeric_columns])]


def bag_ids(table: pa.Table, bag: Bag) -> Sequence[Array]:
    """One Int64 array [N] for each column of the bag."""
    import pyarrow as pa

    _check_texts(table, bag)
    try:
        if bag.list_column:
            return _slots(table[bag.list_column], len(bag.columns))
        return [integer_ids(table[column]) for column in bag.columns]
    except pa.ArrowInvalid as error:
        raise TrainingSetError(
            resource=f"input {bag.name}", field=bag.list_column or ", ".join(bag.columns), value=str(error),
            expected="ids of at most 63 bits", remedy="write them as texts, which are hashed, or number them anew",
        ) from error  # fmt: skip


def _check_texts(table: pa.Table, bag: Bag) -> None:
    """Hashes of texts are no integers: a column of the other kind would be all unknown ids, and nobody would see it."""
    for column in {bag.list_column} if bag.list_column else set(bag.columns):
        kind = table[column].type
        inner = getattr(kind, "value_type", kind)
        if is_text(inner) != bag.texts and not _is_null(inner):
            raise TrainingSetError(
                resource=f"input {bag.name}", field=column, value=str(kind),
                expected="texts, as the model learned them" if bag.texts else "integers, as the model learned them",
                remedy="give the column as the training set has it",
            )  # fmt: skip


def _is_null(kind: pa.DataType) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_null(kind))


def is_text(kind: pa.DataType) -> bool:
    """Whether a type is text, dictionary-coded or not."""
    import pyarrow as pa

    inner = kind.value_type if pa.types.is_dictionary(kind) else kind
    return any(holds(inner) for holds in (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view))


def integer_ids(column: pa.ChunkedArray) -> Array:
    """Ids [N] Int64: integers as they are, texts by hash, nulls as MISSING.

    The hash of a text is XXH3-64 of its UTF-8 bytes without the highest bit, so that any client can make the same id.
    """
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    if is_text(column.type):
        column = column.cast(pa.string()) if pa.types.is_string_view(column.type) else column
        coded = column.combine_chunks().dictionary_encode() if not pa.types.is_dictionary(column.type) else column
        coded = coded.combine_chunks() if isinstance(coded, pa.ChunkedArray) else coded
        hashes = np.array([*map(_text_id, coded.dictionary.to_pylist()), MISSING], dtype=np.int64)
        found: Array = hashes[pc.fill_null(coded.indices.cast(pa.int64()), len(hashes) - 1).to_numpy()]
        return found
    whole = column.cast(pa.int64())
    ids: Array = (pc.fill_null(whole, MISSING) if whole.null_count else whole).to_numpy()
    return ids


def _text_id(text: str) -> int:
    import xxhash

    return int(xxhash.xxh3_64_intdigest(text.encode())) & (2**63 - 1)


def _slots(column: pa.ChunkedArray, length: int) -> list[Array]:
    """The last `length` ids of every list, in order, each slot an array [N]; short lists end in MISSING."""
    import numpy as np

    lists = column.combine_chunks()
    values = integer_ids(_chunked(lists.flatten()))
    counts = np.nan_to_num(lists.value_lengths().to_numpy(zero_copy_only=False)).astype(np.int64)
    ends = counts.cumsum()
    starts = np.maximum(ends - counts, ends - length)
    found = np.full((length, len(counts)), MISSING, dtype=np.int64)
    for slot in range(length):
        there = starts + slot < ends
        found[slot, there] = values[starts[there] + slot]
    return list(found)


def _chunked(array: pa.Array) -> pa.ChunkedArray:
    import pyarrow as pa

    return array if isinstance(array, pa.ChunkedArray) else pa.chunked_array([array])


def numbers_of(column: pa.ChunkedArray) -> Array:
    """A column as Float32 [N]; nulls are NaN."""
    import pyarrow as pa

    values: Array = column.cast(pa.float32(), safe=False).to_numpy()
    return values


def _check_labels(table: pa.Table, path: Path, label: str) -> None:
    import pyarrow.compute as pc

    if label not in table.column_names:
        raise bad_set(path, "columns", table.column_names, f"a column {label}")
    labels = pc.unique(table[label]).to_pylist()
    if None in labels or sorted(labels) != [0, 1]:
        raise bad_set(
            path, label, f"{table.num_rows} rows with labels {labels[:5]}", "rows with label 0 and rows with label 1"
        )


def check_columns(names: Sequence[str], inputs: Inputs, path: Path) -> None:
    """Raise TrainingSetError where a column that the inputs need is missing, or there is no id at all."""
    missing = [column for column in columns_read(inputs) if column not in names]
    if missing:
        raise bad_set(path, "columns", list(names), f"a column {missing[0]}")
    if not inputs.bags:
        raise bad_set(path, "columns", list(names), "at least one id column such as item_id")


_REMEDY = "check the path, the sample join and how much time the data covers"


def bad_set(path: Path, field: str, value: object, expected: str, remedy: str = _REMEDY) -> TrainingSetError:
    """A fault of a training set."""
    resource = f"training set {path.name}"
    return TrainingSetError(resource=resource, field=field, value=value, expected=expected, remedy=remedy)
