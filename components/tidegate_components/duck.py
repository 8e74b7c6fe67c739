"""DuckDB: a connection for which naive times are UTC, whatever the machine says, and how its SQL names things."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import duckdb

__all__ = ["column_types", "connect", "key_values", "listed", "literal", "parquet", "quoted"]


def connect() -> duckdb.DuckDBPyConnection:
    """A fresh in-memory database in UTC."""
    import duckdb

    db = duckdb.connect()
    db.execute("SET TimeZone = 'UTC'")
    db.execute("SET enable_progress_bar = false")
    return db


def column_types(db: duckdb.DuckDBPyConnection, table: str) -> dict[str, str]:
    """The columns of a table, or of what stands after FROM, and their DuckDB types."""
    return {str(row[0]): str(row[1]) for row in db.execute(f"DESCRIBE SELECT * FROM {table}").fetchall()}  # noqa: S608


def parquet(files: Iterable[object], *options: str) -> str:
    """SQL that reads Parquet files or globs as one table.

    Statistics of a file leave NaN out, so DuckDB must be told that there may be some: else it takes `isnan(x)` or
    `x > 100`, which hold for NaN, for false by the file's least and greatest number.
    """
    return f"read_parquet([{', '.join(map(literal, files))}], {', '.join(('can_have_nan = true', *options))})"


def quoted(name: str) -> str:
    """A SQL identifier, whatever the name holds."""
    return '"' + name.replace('"', '""') + '"'


def literal(value: object) -> str:
    """A SQL text, whatever the value's own text holds."""
    return "'" + str(value).replace("'", "''") + "'"


def listed(names: Iterable[str]) -> str:
    """SQL identifiers with commas between."""
    return ", ".join(map(quoted, names))


def key_values(facts: Mapping[str, str]) -> str:
    """The option of COPY that writes facts, of which there is at least one, into a Parquet file's metadata."""
    return f"KV_METADATA {{{', '.join(f'{quoted(key)}: {literal(value)}' for key, value in facts.items())}}}"
