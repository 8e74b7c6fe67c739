"""Messages from a file of CSV or Parquet whose rows are events, as if they came from a topic: a row is an offset."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from tidegate_components.duck import connect, quoted
from tidegate_components.events.kafka import Batch
from tidegate_components.events.lines import BEGINNING, Position, batch_of, is_lines, name_kinds, position_of, shorter
from tidegate_components.events.sources import Source, columns_of, reading

if TYPE_CHECKING:
    import duckdb

__all__ = ["has_kinds", "read_rows"]

_SUFFIXES = (".csv", ".parquet")
_KIND = "type"


def has_kinds(path: Path) -> bool:
    """Whether the file is JSON lines, CSV or Parquet with a field `type`, which names the kind of each event."""
    if not path.is_file():
        return False
    if is_lines(path):
        return name_kinds(path)
    if path.suffix not in _SUFFIXES:
        return False
    with connect() as db:
        return _KIND in _columns(db, path)


def read_rows(path: Path, landed: Mapping[str, int], rows: int = 250_000) -> Iterator[Batch]:
    """The rows after the landed ones, `rows` at a time, each as the JSON of its columns that are not empty."""
    with connect() as db:
        fields = ", ".join(f"{quoted(name)}: {quoted(name)}" for name in _columns(db, path))
        query = f"SELECT to_json({{{fields}}}) FROM {_as_written(path)}"
        beginning = [_without_empty(line) for (line,) in db.execute(f"{query} LIMIT {BEGINNING}").fetchall()]
        at = position_of(path, beginning, landed)
        there = int(db.execute(f"SELECT count(*) FROM {_as_written(path)}").fetchall()[0][0])
        if there < at.first:
            raise shorter(path, there, at.first)
        for batch in db.sql(f"{query} OFFSET {at.first}").to_arrow_reader(rows):
            lines = [_without_empty(line.as_py()) for line in batch.column(0)]
            yield batch_of(path, landed, at, lines)
            at = Position(at.source, at.first + len(lines))


def _as_written(path: Path) -> str:
    """A CSV's values as text: a row that came later makes no message of an earlier one another."""
    text = reading((path,))
    return text.removesuffix(")") + ", all_varchar = true)" if path.suffix == ".csv" else text


def _without_empty(line: str) -> bytes:
    import json

    return json.dumps({name: value for name, value in json.loads(line).items() if value is not None}).encode()


def _columns(db: duckdb.DuckDBPyConnection, path: Path) -> list[str]:
    return list(columns_of(db, Source(path.stem, (path,))))
