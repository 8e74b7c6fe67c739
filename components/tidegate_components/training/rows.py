"""Where training rows come from: blocks of columns, out of Parquet files of any size or out of memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from tidegate_components.models.arrays import Arrays, bad_set, check_columns, columns_read, to_arrays
from tidegate_components.models.inputs import Inputs
from tidegate_components.storage import parquet_files

if TYPE_CHECKING:
    import pyarrow.parquet as pq

    Array = np.ndarray[Any, Any]

__all__ = ["ArrayRows", "Block", "ParquetRows", "Rows", "joined"]

_BLOCK_ROWS = 1 << 18
"""Row groups are read until a block has so many rows; shuffling is within a block, and of row groups over all files."""


@dataclass(frozen=True)
class Block:
    """Some rows, columns first: ids [C, n] Int64, dense [n, D] and taste [n, T] Float32, labels and weights [n]."""

    ids: Array
    dense: Array
    labels: Array
    weights: Array
    taste: Array

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, at: Array) -> Block:
        """The rows at these places."""
        return Block(np.take(self.ids, at, axis=1), *(np.take(part, at, axis=0) for part in self._parts()[1:]))

    def _parts(self) -> list[Array]:
        return [getattr(self, field.name) for field in fields(self)]


def joined(first: Block, second: Block) -> Block:
    """The rows of both, the first ones first."""
    (ids, *rest), (more_ids, *more) = first._parts(), second._parts()
    return Block(
        np.concatenate([ids, more_ids], axis=1), *(np.concatenate(pair) for pair in zip(rest, more, strict=True))
    )


class Rows(Protocol):
    """A training or validation set."""

    @property
    def count(self) -> int:
        """How many rows there are."""

    def blocks(self, order: np.random.Generator | None) -> Iterator[Block]:
        """All rows once; the blocks in an order drawn from `order`, or as they lie."""


@dataclass(frozen=True)
class ArrayRows:
    """Rows in memory, with what `taste` says of each where the model has taste."""

    arrays: Arrays
    taste: Array

    @property
    def count(self) -> int:
        """How many rows there are."""
        return len(self.arrays.labels)

    def blocks(self, order: np.random.Generator | None) -> Iterator[Block]:
        """One block of everything."""
        yield _block(self.arrays, self.taste)


class ParquetRows:
    """Rows of Parquet files or folders, row group by row group."""

    def __init__(self, paths: Sequence[Path], inputs: Inputs, label: str = "label", weight: str = "") -> None:
        self.inputs = inputs
        self.label, self.weight = label, weight
        self.columns = [*columns_read(inputs), label, *([weight] if weight else [])]
        self.files = [_opened(file) for path in paths for file in _some_files(path)]
        for path, file in self.files:
            check_columns(file.schema_arrow.names, inputs, path)
            if label not in file.schema_arrow.names:
                raise bad_set(path, "columns", file.schema_arrow.names, f"a column {label}")
        self.groups = [
            (f, group, file.metadata.row_group(group).num_rows)
            for f, (_, file) in enumerate(self.files)
            for group in range(file.num_row_groups)
        ]
        if not self.count:
            raise bad_set(paths[0], "rows", 0, "at least one row")

    @property
    def count(self) -> int:
        """How many rows there are."""
        return sum(rows for _, _, rows in self.groups)

    def blocks(self, order: np.random.Generator | None) -> Iterator[Block]:
        """Blocks of whole row groups. Raises TrainingSetError where a label is neither 0 nor 1."""
        places = order.permutation(len(self.groups)) if order else range(len(self.groups))
        waiting: list[tuple[int, int, int]] = []
        for place in places:
            waiting.append(self.groups[place])
            if sum(rows for _, _, rows in waiting) >= _BLOCK_ROWS:
                yield self._read(waiting)
                waiting = []
        if waiting:
            yield self._read(waiting)

    def _read(self, groups: list[tuple[int, int, int]]) -> Block:
        import pyarrow as pa

        table = pa.concat_tables([self.files[f][1].read_row_group(group, self.columns) for f, group, _ in groups])
        path = self.files[groups[0][0]][0]
        arrays = to_arrays(table, self.inputs, path, self.label, self.weight)
        if (wrong := np.flatnonzero(~np.isin(arrays.labels, (0, 1)))).size:
            where, row = self._place(groups, int(wrong[0]))
            raise bad_set(where, f"{self.label} in row {row}", float(arrays.labels[wrong[0]]), "labels of 0 and 1")
        weights = np.ones(0) if arrays.weights is None else arrays.weights
        if (wrong := np.flatnonzero(~(np.isfinite(weights) & (weights >= 0)))).size:
            where, row = self._place(groups, int(wrong[0]))
            raise bad_set(where, f"{self.weight} in row {row}", float(weights[wrong[0]]), "a weight of 0 or more")
        return _block(arrays, np.zeros((len(arrays.labels), 0), dtype=np.float32))

    def _place(self, groups: list[tuple[int, int, int]], at: int) -> tuple[Path, int]:
        """The file and its row, from 1, of a row of a block."""
        for f, group, rows in groups:
            if at < rows:
                before = sum(count for file, number, count in self.groups if file == f and number < group)
                return self.files[f][0], before + at + 1
            at -= rows
        raise AssertionError("a row of no group")


def _block(arrays: Arrays, taste: Array) -> Block:
    weights = np.ones_like(arrays.labels) if arrays.weights is None else arrays.weights
    return Block(np.ascontiguousarray(arrays.ids.T), arrays.dense, arrays.labels, weights, taste)


def _some_files(path: Path) -> list[Path]:
    files = parquet_files(path)
    if not files:
        raise bad_set(path, "file", str(path), "a Parquet file, or a folder that holds some")
    return files


def _opened(path: Path) -> tuple[Path, pq.ParquetFile]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return path, pq.ParquetFile(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise bad_set(path, "file", str(path), f"readable Parquet ({str(error).splitlines()[0]})") from error
