"""Event tables where they lie: Parquet, CSV or JSON lines, in a file, a folder, a glob or a landing."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tidegate_components.duck import column_types, parquet, quoted
from tidegate_components.events.landing import LOG, Landing, landed_files
from tidegate_components.events.tables import BadEventsError
from tidegate_components.events.text_files import (
    CSV,
    JSON_LINES,
    column_as_text,
    csv_rows,
    exact_values,
    json_rows,
    ragged_row,
    rounded_id,
)
from tidegate_components.storage import resolve

if TYPE_CHECKING:
    import duckdb

__all__ = [
    "TIME",
    "WRITTEN",
    "Source",
    "all_tables",
    "check_present",
    "clock",
    "columns_of",
    "find_source",
    "find_table",
    "naming",
    "reading",
    "with_times",
    "with_written_times",
]

TIME, WRITTEN = "event_time", "tg_written"

_SUFFIXES = (".parquet", *CSV, *JSON_LINES)
_WRITTEN = ("VARCHAR", "BIGINT")
_FORMS = "RFC 3339, e.g. 2026-01-31T12:00:00Z, or epoch milliseconds of the years 2000 to 2099"
_MILLISECONDS = "946684800000 AND 4102444799999"


def clock(column: str) -> str:
    """SQL for a time written as text or number: RFC 3339 (naive is UTC) or epoch milliseconds, else null."""
    text = f"CAST({quoted(column)} AS VARCHAR)"
    epoch = f"TRY_CAST({text} AS BIGINT)"
    return (
        f"CASE WHEN {epoch} BETWEEN {_MILLISECONDS} THEN make_timestamptz({epoch} * 1000) "
        f"WHEN {epoch} IS NULL THEN TRY_CAST({text} AS TIMESTAMPTZ) END"
    )


@dataclass(frozen=True)
class Source:
    """The files of one event table; all of one format."""

    name: str
    files: tuple[Path, ...]


def find_source(name: str, address: str) -> Source:
    """The files at `address`; of a landing's table only those that its commits list. Raises BadEventsError."""
    path = resolve(address)
    landed = landed_files(path.parent, path.name) if (path.parent / LOG).is_dir() else None
    files = sorted(landed if landed is not None else _files(path))
    if not files or len({file.suffix for file in files}) > 1:
        raise BadEventsError(
            resource=str(path), field=f"files of {name}", value=f"{len(files)} of {sorted({f.suffix for f in files})}",
            expected="Parquet, CSV or JSON lines, one of them", remedy="check the address and what was written there",
        )  # fmt: skip
    return Source(name, tuple(files))


def find_table(folder: Path, name: str) -> Source | None:
    """The table NAME of a folder: of a landing, a folder NAME/ or a file NAME.*; None where there is none."""
    if landed := landed_files(folder, name):
        return Source(name, tuple(sorted(landed)))
    places = [folder / name, *(folder / f"{name}{suffix}" for suffix in _SUFFIXES)]
    return next((find_source(name, str(place)) for place in places if place.exists()), None)


def all_tables(path: Path, besides: Collection[Path] = ()) -> list[Source]:
    """Every table of a folder or landing, by name, `besides` these folders; of a file, the one that it is."""
    if path.is_file():
        return [find_source(_stem(path), str(path))]
    if (path / LOG).is_dir():
        names = {file.table for commit in Landing(path).commits() for file in commit.files}
    else:
        found = (each for each in path.glob("[!._]*") if each.resolve() not in besides)
        names = {_stem(each) for each in found if _is_table(each)}
    return [table for name in sorted(names) if (table := find_table(path, name)) is not None]


def _is_table(path: Path) -> bool:
    """Whether a folder has a file of a table in it, or the file is one; the report that `clean` writes is none."""
    return bool(_files(path)) if path.is_dir() else path.suffix in _SUFFIXES and path.name != "report.json"


def _stem(path: Path) -> str:
    return path.name.partition(".")[0]


def columns_of(db: duckdb.DuckDBPyConnection, source: Source) -> dict[str, str]:
    """The columns of a table and their DuckDB types. Raises BadEventsError where a file cannot be read."""
    import duckdb

    try:
        return column_types(db, reading(source.files))
    except duckdb.Error as error:
        _check_fields(source.files)
        raise _bad(source.files[0], "content", str(error).splitlines()[0], "a file that can be read") from error


def _check_fields(files: Iterable[Path]) -> None:
    """Raise BadEventsError for the first row of a CSV file that has not as many fields as the header."""
    for file in files:
        ragged = ragged_row(file) if file.suffix in CSV else None
        if ragged is not None:
            line, fields, wanted = ragged
            raise _bad(
                file, f"line {line}", f"{fields} fields", f"{wanted}, as the header has",
                "mend the export: what holds the delimiter stands in double quotes",
            )  # fmt: skip


def _exact(db: duckdb.DuckDBPyConnection, source: Source, table: str) -> str:
    """The rows of `table`, which reads the source, with every digit of its ids.

    Raises BadEventsError, by file and row, where an id was rounded.
    """
    if source.files[0].suffix == ".parquet":
        return table
    rounded = rounded_id(db, source.files, table)
    if rounded is not None:
        file, column, row, text = rounded
        expected = "an id that is not rounded beside fractions such as 7.0: whole numbers, or texts, in each row"
        remedy = "mend the export, or give the table as Parquet"
        raise _bad(file, f"column {column} in row {row}", text, expected, remedy)
    return exact_values(db, table)


def with_times(db: duckdb.DuckDBPyConnection, source: Source) -> str:
    """The query of a table with its times as UTC microseconds; naive ones are UTC.

    Raises BadEventsError where `event_time` is no time, by file and row.
    """
    columns_of(db, source)
    casts, table = [], _exact(db, source, reading(source.files))
    for name, kind in column_types(db, table).items():
        if name == TIME and kind in _WRITTEN:
            casts.append(f"{clock(name)} AS {quoted(name)}")
        elif kind.startswith("TIMESTAMP") or (name == TIME and kind == "DATE"):
            casts.append(f"CAST({quoted(name)} AS TIMESTAMPTZ) AS {quoted(name)}")
        elif name == TIME:
            raise _bad(source.files[0], f"column {TIME}", kind, f"a timestamp, {_FORMS}")
    _check_times(db, source)
    replaced = f" REPLACE ({', '.join(casts)})" if casts else ""
    return f"SELECT *{replaced} FROM {table}"


def with_written_times(db: duckdb.DuckDBPyConnection, source: Source) -> str:
    """The query of a table of text, with null for an `event_time` that is no time and the text itself as WRITTEN.

    A table without such a column, or whose files have types of their own, is read as it is.
    """
    suffix = source.files[0].suffix
    if suffix == ".parquet" or TIME not in columns_of(db, source):
        return f"SELECT * FROM {_exact(db, source, reading(source.files))}"
    more = f", types = {{'{TIME}': 'VARCHAR'}})" if suffix in CSV else ", sample_size = -1)"
    table = _exact(db, source, reading(source.files).removesuffix(")") + more)
    if column_types(db, table)[TIME] not in _WRITTEN:
        return f"SELECT * FROM {table}"
    return f"SELECT * REPLACE ({clock(TIME)} AS {TIME}), CAST({TIME} AS VARCHAR) AS {WRITTEN} FROM {table}"


def _check_times(db: duckdb.DuckDBPyConnection, source: Source) -> None:
    for file in source.files:
        if columns_of(db, Source(source.name, (file,))).get(TIME) in (*_WRITTEN, "JSON"):
            _check_times_of(db, file)


def _check_times_of(db: duckdb.DuckDBPyConnection, file: Path) -> None:
    numbered = f"(SELECT {TIME}, row_number() OVER () AS tg_row FROM {_time_as_text(file)})"
    wrong = f"{TIME} IS NOT NULL AND {clock(TIME)} IS NULL"
    found = db.execute(f"SELECT tg_row, {TIME} FROM {numbered} WHERE {wrong} ORDER BY tg_row LIMIT 1").fetchone()
    if found:
        raise _bad(file, f"column {TIME} in row {found[0]}", str(found[1]), _FORMS)


def _time_as_text(file: Path) -> str:
    return reading((file,)) if file.suffix == ".parquet" else column_as_text(file, TIME)


@contextmanager
def naming(db: duckdb.DuckDBPyConnection, sources: Iterable[Source]) -> Iterator[None]:
    """Turn what DuckDB says of a value deep in a file into a BadEventsError that names file and, for a time, row.

    A CSV's and JSON's columns get their types from the first 20,480 rows; what does not fit them comes up later.
    """
    import duckdb

    try:
        yield
    except (duckdb.ConversionException, duckdb.InvalidInputException, duckdb.IOException) as error:
        files = [file for source in sources for file in source.files]
        _check_fields(files)
        for file in files:
            if TIME in columns_of(db, Source(file.stem, (file,))) and file.suffix != ".parquet":
                _check_times_of(db, file)
        said = " ".join(str(error).split())
        file = next((file for file in files if str(file) in said), files[0])
        raise _bad(file, "content", said[:300], "values of one type in each column") from error


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    if path.is_dir():
        return [p for p in path.rglob("*") if p.suffix in _SUFFIXES and not p.name.startswith(".")]
    return [p for p in Path(path.anchor or ".").glob(str(path.relative_to(path.anchor))) if p.suffix in _SUFFIXES]


def reading(files: tuple[Path, ...]) -> str:
    """The SQL table function that reads the files."""
    suffix = files[0].suffix
    if suffix in CSV:
        return csv_rows(files)
    if suffix in JSON_LINES:
        return json_rows(files)
    return parquet(files, "union_by_name = true", "hive_partitioning = false")


def check_present(db: duckdb.DuckDBPyConnection, source: Source, columns: tuple[str, ...]) -> None:
    """Raise BadEventsError that names file, column and, for a missing value, the row."""
    for file in source.files:
        found = columns_of(db, Source(source.name, (file,)))
        for column in columns:
            if column not in found:
                raise _bad(file, "columns", ", ".join(found), f"a column {column}")
    gaps = " OR ".join(f"{quoted(column)} IS NULL" for column in columns)
    if db.execute(f"SELECT 1 FROM {reading(source.files)} WHERE {gaps} LIMIT 1").fetchone():
        raise _first_gap(db, source, columns)


def _first_gap(db: duckdb.DuckDBPyConnection, source: Source, columns: tuple[str, ...]) -> BadEventsError:
    for file in source.files:
        for column in columns:
            numbered = f"(SELECT {quoted(column)}, row_number() OVER () AS tg_row FROM {reading((file,))})"
            found = db.execute(f"SELECT min(tg_row) FROM {numbered} WHERE {quoted(column)} IS NULL").fetchone()
            if found and found[0] is not None:
                return _bad(file, f"column {column}", f"missing in row {found[0]}", "a value in each row")
    raise AssertionError("a gap that no file has")


_CLEAN = "run `tidegate events clean` first, which quarantines such rows, or mend the export"


def _bad(file: Path, field: str, value: str, expected: str, remedy: str = _CLEAN) -> BadEventsError:
    return BadEventsError(resource=str(file), field=field, value=value, expected=expected, remedy=remedy)
