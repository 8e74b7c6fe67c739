"""Messages from a file of JSON lines, as if they came from a topic: a line's number is its offset.

A file is known again by its name and its first messages, so one that grew goes on where it was, while another of the
same name lands whole. Its source in the landing is `NAME#COUNT-DIGEST-FIRST`: how many first messages the digest is of,
and a digest of the very first one.
"""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, cast

from tidegate_components.events.decode import message_schema
from tidegate_components.events.kafka import Batch
from tidegate_components.events.tables import BadEventsError

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = [
    "BEGINNING",
    "SUFFIXES",
    "Position",
    "batch_of",
    "is_lines",
    "name_kinds",
    "position_of",
    "read_lines",
    "shorter",
]

SUFFIXES = (".jsonl", ".ndjson", ".jsonl.gz", ".ndjson.gz")

BEGINNING = 16
"""So many first messages tell files of one name apart."""


_LOOKED_AT = 1000


@dataclass(frozen=True)
class Position:
    """A file as the landing knows it, and its first message that has not landed."""

    source: str
    first: int = 0


def is_lines(path: Path) -> bool:
    """Whether the file is one of JSON lines, by its name."""
    return path.name.endswith(SUFFIXES)


def name_kinds(path: Path) -> bool:
    """Whether the lines say what kind of event they are: one of the first does by a field `type`, or none is an object.

    Compressed lines are always read as events.
    """
    with _open(path) as handle:
        objects = [line for line in map(_parsed, islice(handle, _LOOKED_AT)) if isinstance(line, dict)]
    return path.suffix == ".gz" or not objects or any("type" in line for line in objects)


def _parsed(line: bytes) -> object:
    try:
        return json.loads(line)
    except ValueError:
        return None


def read_lines(path: Path, landed: Mapping[str, int], rows: int = 250_000) -> Iterator[Batch]:
    """The lines after the landed ones, `rows` at a time. Empty lines are messages."""
    with _open(path) as handle:
        at = position_of(path, _messages(handle, BEGINNING), landed)
    with _open(path) as handle:
        if (there := sum(1 for _ in islice(handle, at.first))) < at.first:
            raise shorter(path, there, at.first)
        while block := _messages(handle, rows):
            yield batch_of(path, landed, at, block)
            at = Position(at.source, at.first + len(block))


def _messages(handle: IO[bytes], count: int) -> list[bytes]:
    return [line.rstrip(b"\r\n") for line in islice(handle, count)]


def position_of(path: Path, beginning: Sequence[bytes], landed: Mapping[str, int]) -> Position:
    """Where to go on in a file with these first messages. Raises BadEventsError where it lost some that have landed."""
    for key, first in landed.items():
        source = key.removesuffix("/0")
        name, _, mark = source.rpartition("#")
        if name != path.name or mark.count("-") != 2:
            continue
        count = int(mark.partition("-")[0])
        if mark == _mark(beginning[:count]):
            return Position(source, first)
        if len(beginning) < count and mark.endswith(_mark(beginning[:1]).rpartition("-")[2]):
            raise shorter(path, len(beginning), first)
    return Position(f"{path.name}#{_mark(beginning)}")


def _mark(messages: Sequence[bytes]) -> str:
    whole, start = (hashlib.sha256(b"\n".join(some)).hexdigest() for some in (messages, messages[:1]))
    return f"{len(messages)}-{whole[:12]}-{start[:8]}"


def shorter(path: Path, found: int, landed: int) -> BadEventsError:
    """A file has fewer messages than have landed of it."""
    return BadEventsError(
        resource=str(path), field="messages", value=found, expected=f"at least the {landed} that have landed of it",
        remedy="give the whole file again; another file of the same name should begin differently",
    )  # fmt: skip


def batch_of(path: Path, landed: Mapping[str, int], at: Position, messages: list[bytes]) -> Batch:
    """The next messages of a file; `ingested_at` is the file's time."""
    known = datetime.fromtimestamp(path.stat().st_mtime, UTC)
    table = _table(at.source, at.first, known, messages)
    return Batch(table, {**landed, f"{at.source}/0": at.first + len(messages)})


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
