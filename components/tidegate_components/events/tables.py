"""The event tables of the training DAG and their columns, with a check at the door.

A time is a Parquet timestamp in UTC microseconds. `request_id` names one slate; `(request_id, item_id)` one impression.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from tidegate_api.errors import TidegateError

__all__ = ["CONTEXT", "TABLES", "BadEventsError", "check_columns", "no_table"]

GENRE_SLOTS = tuple(f"genre_{slot}" for slot in range(1, 7))

CONTEXT = ("age", "gender", "occupation", "release_year", *GENRE_SLOTS)
"""What an impression carries of its user and item, all Int64; a genre slot of 0 is empty."""

TABLES: dict[str, tuple[str, ...]] = {
    "impressions": ("request_id", "item_id", "user_id", "event_time", *CONTEXT),
    "clicks": ("request_id", "item_id", "event_time"),
    "ratings": ("request_id", "item_id", "user_id", "event_time", "rating"),
    "interactions": ("user_id", "item_id", "event_time", "behavior", "rating"),
}
"""Table name -> columns that it must have. `interactions` is the log that feature views read."""


class BadEventsError(TidegateError):
    """An event table that is missing, empty, or lacks a column."""


def check_columns(found: Iterable[str], wanted: Iterable[str], table: str, origin: Path) -> None:
    """Raise BadEventsError that names the first wanted column that `found` lacks."""
    there = list(found)
    missing = [column for column in wanted if column not in there]
    if missing:
        raise _bad(origin, table, f"columns {', '.join(there)}", f"a column {missing[0]}")


def no_table(origin: Path, name: str) -> BadEventsError:
    """A folder lacks a table."""
    return _bad(origin, name, "no such table", f"a file {name}.parquet, .csv or .jsonl, or a folder {name}/ with such")


def _bad(origin: Path, table: str, value: str, expected: str) -> BadEventsError:
    return BadEventsError(
        resource=f"events in {origin}",
        field=f"table {table}",
        value=value,
        expected=expected,
        remedy="check the folder that `data` names and the export that filled it",
    )
