"""Messages from a file of JSON lines, as if they came from a topic: a line's number is its offset."""

from __future__ import annotations

import gzip
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, cast

from tidegate_components.events.decode import message_schema
from tidegate_components.events.kafka import Batch

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["SUFFIXES", "batch_of", "first_landed", "is_lines", "read_lines"]

SUFFIXES = (".jsonl", ".ndjson", ".jsonl.gz", ".ndjson.gz")


def is_lines(path: Path) -> bool:
    """Whether the file is one of JSON lines, by its name."""
    return path.name.endswith(SUFFIXES)


def read_lines(path: Path, landed: Mapping[str, int], rows: int = 250_000) -> Iterator[Batch]:
    """The lines after the landed ones, `rows` at a time. Empty lines are messages."""
    with _open(path) as handle:
        first = first_landed(path, landed)
        lines = islice(handle, first, None)
        while block := list(islice(lines, rows)):
            yield batch_of(path, landed, first, [line.rstrip(b"\r\n") for line in block])
            first += len(block)


def first_landed(path: Path, landed: Mapping[str, int]) -> int:
    """The first message of a file that has not landed."""
    return landed.get(f"{path.name}/0", 0)


def batch_of(path: Path, landed: Mapping[str, int], first: int, messages: list[bytes]) -> Batch:
    """Messages of a file from number `first` on; `ingested_at` is the file's time."""
    known = datetime.fromtimestamp(path.stat().st_mtime, UTC)
    return Batch(_table(path.name, first, known, messages), {**landed, f"{path.name}/0": first + len(messages)})


def _open(path: Path) -> IO[bytes]:
    return cast("IO[bytes]", gzip.open(path, "rb")) if path.suffix == ".gz" else path.open("rb")


def _table(name: str, first: int, known: datetime, lines: list[bytes]) -> pa.Table:
    import pyarrow as pa

    schema, count = message_schema(), len(lines)
    columns = [
        pa.array([name] * count, pa.string()).dictionary_encode(),
        pa.array([0] * count, pa.int32()),
        pa.array(range(first, first + count), pa.int64()),
        pa.array([known] * count, schema.field("ingested_at").type),
        pa.array(lines, pa.binary()),
    ]
    return pa.Table.from_arrays(columns, schema=schema)
