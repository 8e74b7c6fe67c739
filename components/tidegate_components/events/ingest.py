"""Ingest: bring the event tables of a source into one folder, as Parquet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from tidegate_components.duck import connect, literal, parquet
from tidegate_components.events.movielens import fetch_movielens, movielens_tables
from tidegate_components.events.sources import Source, all_tables, columns_of, naming, with_times
from tidegate_components.events.tables import BadEventsError, check_columns, no_table
from tidegate_components.storage import replacing, resolve

if TYPE_CHECKING:
    import duckdb

__all__ = ["ingest", "parse_time"]

MOVIELENS = "movielens-100k"


def ingest(
    source: str, into: Path, newest_event: str = "", required: Mapping[str, Sequence[str]] | None = None
) -> dict[str, int]:
    """Write each event table of a source to `into/NAME.parquet`; returns the rows per table.

    source: `movielens-100k`, or the address of a folder of tables as Parquet, CSV or JSON lines, each a file NAME.* or
    a folder NAME/, or of one such file. `newest_event` (RFC 3339; MovieLens only) moves all times so that the last
    event falls on it. required: tables that must be there, with their columns. Raises BadEventsError for a missing,
    empty or incomplete table, and for an `event_time` that is no time, by file, column and row.
    """
    if source == MOVIELENS:
        return _movielens(into, newest_event)
    found = _tables(resolve(source), required or {})
    with replacing(into) as beside, connect() as db:
        beside.mkdir()
        return {table.name: _copy(db, table, beside / f"{table.name}.parquet") for table in found}


def _movielens(into: Path, newest_event: str) -> dict[str, int]:
    import pyarrow.parquet as pq

    tables = movielens_tables(fetch_movielens(), parse_time(newest_event) if newest_event else None)
    with replacing(into) as beside:
        beside.mkdir()
        for name, table in tables.items():
            pq.write_table(table, beside / f"{name}.parquet")
    return {name: table.num_rows for name, table in tables.items()}


def _tables(path: Path, required: Mapping[str, Sequence[str]]) -> list[Source]:
    """The tables of a folder, or the one file; each that is required is there with its columns."""
    if not path.exists():
        raise BadEventsError(
            resource=str(path), field="file or folder", value="not there", remedy="check the address",
            expected="a file of events, a table as Parquet, CSV or JSON lines, or a folder of tables",
        )  # fmt: skip
    found = {table.name: table for table in all_tables(path)}
    for name in required:
        if name not in found:
            raise no_table(path, name)
    if not found:
        raise no_table(path, "any")
    with connect() as db:
        for name, columns in required.items():
            check_columns(columns_of(db, found[name]), columns, name, path)
    return list(found.values())


def _copy(db: duckdb.DuckDBPyConnection, table: Source, into: Path) -> int:
    """Write a table as Parquet, its times as UTC microseconds; returns its rows."""
    with naming(db, [table]):
        db.execute(f"COPY ({with_times(db, table)}) TO {literal(into)} (FORMAT parquet, COMPRESSION zstd)")
    (rows,) = db.execute(f"SELECT count(*) FROM {parquet([into])}").fetchall()[0]
    if not rows:
        raise BadEventsError(
            resource=f"events in {table.files[0]}", field=f"table {table.name}", value="0 rows",
            expected="at least one row", remedy="check the folder and the export that filled it",
        )  # fmt: skip
    return int(rows)


def parse_time(text: str) -> datetime:
    """A time as RFC 3339 or a date; naive times are UTC. Raises BadEventsError."""
    try:
        time = datetime.fromisoformat(text)
    except ValueError as error:
        raise BadEventsError(
            resource="time", field="value", value=text, expected="RFC 3339, e.g. 2026-01-31T12:00:00Z",
            remedy="write the time like that",
        ) from error  # fmt: skip
    return time if time.tzinfo else time.replace(tzinfo=UTC)
