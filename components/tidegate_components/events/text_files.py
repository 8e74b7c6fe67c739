"""Tables written as text, CSV and JSON lines: read so that no row and no digit is lost unsaid."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from tidegate_components.duck import column_types, literal, quoted

if TYPE_CHECKING:
    import duckdb

__all__ = ["CSV", "JSON_LINES", "column_as_text", "csv_rows", "exact_values", "json_rows", "ragged_row", "rounded_id"]

CSV = (".csv",)
JSON_LINES = (".jsonl", ".ndjson", ".json")
_DELIMITERS = ",;\t|"
_WIDE = ("HUGEINT", "UHUGEINT")
_MOST_UINT64 = 2**64 - 1
_WHOLE = "^-?[0-9]+$"


def csv_rows(files: Iterable[Path]) -> str:
    """SQL that reads CSV files: names in the first line, which also says what stands between fields; RFC 4180.

    Nothing of that is guessed from the rows: DuckDB would rather skip lines, or take a line for one field, than say
    that a row has a field too many.
    """
    found = list(files)
    form = (
        f"delim = {literal(_delimiter(found[0]))}, header = true, quote = '\"', escape = '\"', comment = '', skip = 0"
    )
    return f"read_csv([{_listed(found)}], {form}, union_by_name = true, hive_partitioning = false)"


def json_rows(files: Iterable[Path]) -> str:
    """SQL that reads files of JSON lines."""
    form = "format = 'newline_delimited', union_by_name = true, hive_partitioning = false"
    return f"read_json([{_listed(files)}], {form})"


def _listed(files: Iterable[Path]) -> str:
    return ", ".join(map(literal, files))


def _delimiter(file: Path) -> str:
    with file.open(errors="replace") as lines:
        header = lines.readline()
    return max(_DELIMITERS, key=header.count)


def ragged_row(file: Path) -> tuple[int, int, int] | None:
    """The line, fields and expected fields of the first row of a CSV file that has not as many as the header."""
    with file.open(newline="", encoding="utf-8-sig", errors="replace") as lines:
        rows = csv.reader(lines, delimiter=_delimiter(file))
        wanted = len(next(rows, []))
        wrong = ((rows.line_num, len(row), wanted) for row in rows if row and len(row) != wanted)
        return next(wrong, None)


def exact_values(db: duckdb.DuckDBPyConnection, table: str) -> str:
    """The rows of a text table as Parquet can keep them.

    Integers beyond 64 bits become decimals, those beyond 63 bits unsigned, for DuckDB writes both as rounded doubles;
    of values that are texts in some rows and numbers in others, the text.
    """
    kinds = column_types(db, table)
    kept = [f"{quoted(name)} ->> '$' AS {quoted(name)}" for name, kind in kinds.items() if kind == "JSON"]
    kept += [_exact_integer(db, table, name) for name, kind in kinds.items() if kind in _WIDE]
    return f"(SELECT * REPLACE ({', '.join(kept)}) FROM {table})" if kept else table


def _exact_integer(db: duckdb.DuckDBPyConnection, table: str, name: str) -> str:
    column = quoted(name)
    query = f"SELECT coalesce(min({column}) >= 0 AND max({column}) <= {_MOST_UINT64}, true) FROM {table}"
    (unsigned,) = db.execute(query).fetchall()[0]
    return f"CAST({column} AS {'UBIGINT' if unsigned else 'DECIMAL(38, 0)'}) AS {column}"


def rounded_id(db: duckdb.DuckDBPyConnection, files: Iterable[Path], table: str) -> tuple[Path, str, int, str] | None:
    """The file, column, row and text of the first id that `table`, which reads the files, has as another double.

    Ids are columns `*_id`. One fraction among them (`7.0`, as pandas writes integers where some are missing) makes
    doubles of all, in whichever file it stands.
    """
    ids = [name for name, kind in column_types(db, table).items() if kind == "DOUBLE" and _is_id(name)]
    for file in files if ids else ():
        rows = csv_rows([file]) if file.suffix in CSV else json_rows([file])
        for name in set(ids) & set(column_types(db, rows)):
            found = _first_rounded(db, file, name)
            if found is not None:
                return file, name, *found
    return None


def _is_id(column: str) -> bool:
    return column == "id" or column.endswith("_id")


def _first_rounded(db: duckdb.DuckDBPyConnection, file: Path, column: str) -> tuple[int, str] | None:
    numbered = f"SELECT {quoted(column)} AS id, row_number() OVER () AS row FROM {column_as_text(file, column)}"
    rounded = f"regexp_matches(id, '{_WHOLE}') AND CAST(CAST(id AS DOUBLE) AS HUGEINT)::VARCHAR <> id"
    found: tuple[int, str] | None = db.execute(
        f"SELECT row, id FROM ({numbered}) WHERE {rounded} ORDER BY row LIMIT 1"
    ).fetchone()
    return found


def column_as_text(file: Path, column: str) -> str:
    """SQL that reads a file with one column as it is written."""
    if file.suffix in CSV:
        return csv_rows([file]).removesuffix(")") + ", all_varchar = true)"
    return json_rows([file]).removesuffix(")") + f", columns = {{{literal(column)}: 'VARCHAR'}})"
