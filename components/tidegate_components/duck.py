"""DuckDB: a connection for which naive times are UTC, whatever the machine says, and how its SQL names things."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import duckdb

__all__ = ["connect", "listed", "literal", "quoted"]


def connect() -> duckdb.DuckDBPyConnection:
    """A fresh in-memory database in UTC."""
    import duckdb

    db = duckdb.connect()
    db.execute("SET TimeZone = 'UTC'")
    db.execute("SET enable_progress_bar = false")
    return db


def quoted(name: str) -> str:
    """A SQL identifier, whatever the name holds."""
    return '"' + name.replace('"', '""') + '"'


def literal(value: object) -> str:
    """A SQL text, whatever the value's own text holds."""
    return "'" + str(value).replace("'", "''") + "'"


def listed(names: Iterable[str]) -> str:
    """SQL identifiers with commas between."""
    return ", ".join(map(quoted, names))
