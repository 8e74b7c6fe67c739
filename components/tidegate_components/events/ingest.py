"""Ingest: bring the event tables of a source into one folder, as Parquet."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from tidegate_components.events.movielens import fetch_movielens, movielens_tables
from tidegate_components.events.tables import TABLES, BadEventsError, read_table
from tidegate_components.storage import replacing, resolve

__all__ = ["ingest", "parse_time"]

MOVIELENS = "movielens-100k"


def ingest(source: str, into: Path, newest_event: str = "") -> dict[str, int]:
    """Write each table of `events.tables` to `into/NAME.parquet`; returns the rows per table.

    `source` is `movielens-100k` or the address of a folder with these tables. `newest_event` (RFC 3339; MovieLens only)
    moves all times so that the last event falls on it. Raises BadEventsError for a missing, empty or incomplete table.
    """
    import pyarrow.parquet as pq

    if source == MOVIELENS:
        tables = movielens_tables(fetch_movielens(), parse_time(newest_event) if newest_event else None)
    else:
        tables = {name: read_table(resolve(source), name) for name in TABLES}
    with replacing(into) as beside:
        beside.mkdir()
        for name, table in tables.items():
            pq.write_table(table, beside / f"{name}.parquet")
    return {name: table.num_rows for name, table in tables.items()}


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
