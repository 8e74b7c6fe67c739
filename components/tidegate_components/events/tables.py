"""The event tables: their columns, and how they are read with a check at the door.

A time is a Parquet timestamp in UTC microseconds. `request_id` names one slate; `(request_id, item_id)` one impression.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tidegate_api.errors import TidegateError
from tidegate_components.storage import parquet_files

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["CONTEXT", "TABLES", "BadEventsError", "check_columns", "read_table"]

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


def read_table(folder: Path, name: str) -> pa.Table:
    """Read `folder/NAME.parquet` (or the folder NAME) and check that each declared column is there.

    Raises BadEventsError where the table is missing, empty or lacks a column.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    files = parquet_files(folder / f"{name}.parquet") or parquet_files(folder / name)
    if not files:
        raise _bad(folder, name, "no such table", f"{name}.parquet or a folder {name}/ with Parquet files")
    table = pa.concat_tables([pq.ParquetFile(file).read() for file in files], promote_options="default")
    check_columns(table.column_names, name, folder)
    if table.num_rows == 0:
        raise _bad(folder, name, "0 rows", "at least one row")
    return table


def check_columns(found: list[str], name: str, origin: Path) -> None:
    """Raise BadEventsError that names the first declared column that `found` lacks."""
    missing = [column for column in TABLES[name] if column not in found]
    if missing:
        raise _bad(origin, name, f"columns {', '.join(found)}", f"a column {missing[0]}")


def _bad(origin: Path, table: str, value: str, expected: str) -> BadEventsError:
    return BadEventsError(
        resource=f"events in {origin}",
        field=f"table {table}",
        value=value,
        expected=expected,
        remedy="check the folder that `data` names and the export that filled it",
    )
