"""The sample join: exactly one labelled row per impression."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from tidegate_components.duck import column_types, connect, key_values, literal
from tidegate_components.events.attribution import COUNTS, Attribution, added_columns, mature, payload, statements
from tidegate_components.events.sources import (
    Source,
    check_present,
    columns_of,
    find_source,
    find_table,
    naming,
    reading,
    with_times,
)
from tidegate_components.events.tables import BadEventsError, no_table
from tidegate_components.storage import replacing, resolve

if TYPE_CHECKING:
    import duckdb

__all__ = ["Joined", "join_events", "join_samples", "tables_in"]

_NEEDED = {
    "impressions": ("request_id", "item_id", "event_time"),
    "clicks": ("request_id", "item_id", "event_time"),
    "conversions": ("event_time",),
    "feature_log": ("request_id", "event_time"),
}
_IDENTITY = {"clicks": "click_id", "conversions": "order_id"}
"""Where this column is there, it tells one event from another, so no row may lack it."""

_KEYS = {
    "clicks": {"request_id": "impressions", "item_id": "impressions"},
    "conversions": {"click_id": "clicks"},
    "feature_log": {"request_id": "impressions"},
}


_INTEGERS = {"TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT"}


@dataclass(frozen=True)
class Joined:
    """What became of the events: counts by name, and how many samples of an earlier run have another label now."""

    counts: dict[str, int]
    corrected: int = 0
    now: str = ""


def join_events(
    addresses: Mapping[str, str],
    into: Path,
    how: Attribution = Attribution(),  # noqa: B008 - frozen
    now: datetime | None = None,
    told: Callable[[str], None] = lambda _: None,
) -> Joined:
    """Join the event tables at `addresses` (impressions, clicks, and maybe conversions, feature_log) into one file.

    One row per impression that is at least `how.delay` old at `now` (the newest event where None), less the negatives
    that down-sampling leaves out. The rate stands in the columns `sampling_rate` and `weight` and in the file's
    metadata. Raises BadEventsError that names file, column and row.
    """
    for name in ("impressions", "clicks"):
        if name not in addresses:
            raise BadEventsError(
                resource="sample join", field="tables", value=", ".join(addresses) or "none", expected=name,
                remedy=f"pass --{name}, or --in with a folder that has it",
            )  # fmt: skip
    _check_target(into)
    sources = {name: find_source(name, address) for name, address in addresses.items()}
    with replacing(into) as beside, connect() as db, naming(db, sources.values()):
        columns = {name: _load(db, source, told) for name, source in sources.items()}
        _set_up(db, beside)
        _check_keys(db, columns, sources)
        _check_free(columns, sources["impressions"].files[0])
        _set_now(db, columns, now)
        for statement in statements(columns, how):
            told(statement.split(" AS", 1)[0].removeprefix("CREATE TABLE ").replace("_", " "))
            db.execute(statement)
        report = _report(db, columns, how, into)
        _write(db, columns, how, beside)
    return report


def _check_target(into: Path) -> None:
    """Refuse to replace what no earlier run wrote: anything but Parquet with an impression's label."""
    if not into.exists():
        return
    found: list[str] = []
    if into.is_file():
        with connect() as db, suppress(BadEventsError):
            found = list(columns_of(db, Source("samples", (into,))))
    if not {"request_id", "item_id", "label"} <= set(found):
        raise BadEventsError(
            resource=str(into), field="--out", value="a folder" if into.is_dir() else f"columns {', '.join(found)}",
            expected="nothing there, or the samples of an earlier run", remedy="name another file, or remove it first",
        )  # fmt: skip


def _set_up(db: duckdb.DuckDBPyConnection, beside: Path) -> None:
    spill = literal(beside.parent / f"{beside.name}.spill")
    db.execute(f"SET temp_directory = {spill}")
    db.execute("SET preserve_insertion_order = false")


def _load(db: duckdb.DuckDBPyConnection, source: Source, told: Callable[[str], None]) -> list[str]:
    told(f"reading {source.name}, {len(source.files)} files")
    check_present(db, source, _NEEDED[source.name])
    columns = list(columns_of(db, source))
    if (identity := _IDENTITY.get(source.name)) and identity in columns:
        check_present(db, source, (identity,))
    if source.name == "conversions" and "click_id" not in columns:
        raise _bad(source.files[0], "columns", ", ".join(columns), "a column click_id")
    db.execute(f"CREATE VIEW {source.name} AS {with_times(db, source)}")
    return columns


def _check_keys(db: duckdb.DuckDBPyConnection, columns: Mapping[str, list[str]], sources: Mapping[str, Source]) -> None:
    types = {name: column_types(db, name) for name in columns}
    empty = {name for name in columns if not db.execute(f"SELECT 1 FROM {name} LIMIT 1").fetchall()}
    for table, keys in _KEYS.items():
        for key, other in keys.items() if table in columns else ():
            if key not in types[other]:
                raise _bad(sources[other].files[0], "columns", ", ".join(columns[other]), f"a column {key}")
            if empty & {table, other}:  # a day without clicks; what has no value has no type to speak of
                continue
            if _meaning(types[table][key]) != _meaning(types[other][key]):
                expected = f"{types[other][key]}, as in {sources[other].files[0]}"
                raise _bad(sources[table].files[0], f"column {key}", types[table][key], expected)


def _check_free(columns: Mapping[str, list[str]], file: Path) -> None:
    """Refuse impressions with a column that the join writes: DuckDB would call the join's own one by another name."""
    added = {name.lower() for name in added_columns(columns)}
    for column in payload("impressions", columns):
        if column.lower() in added:
            raise BadEventsError(
                resource=str(file), field=f"column {column}", value="there already",
                expected="no column that the join writes", remedy="rename it, or leave it out",
            )  # fmt: skip


def _meaning(kind: str) -> str:
    """Integers of any width are compared as they are."""
    return "INTEGER" if kind.removeprefix("U") in _INTEGERS else kind


def _set_now(db: duckdb.DuckDBPyConnection, columns: Mapping[str, list[str]], now: datetime | None) -> None:
    newest = " UNION ALL ".join(f"SELECT max(event_time) AS t FROM {name}" for name in columns)
    value = "$1::TIMESTAMPTZ" if now else f"(SELECT max(t) FROM ({newest}))"
    db.execute(f"CREATE TABLE moment AS SELECT {value} AS now", [now] if now else [])


def _report(db: duckdb.DuckDBPyConnection, columns: Mapping[str, list[str]], how: Attribution, into: Path) -> Joined:
    absent = tuple({"conversions", "feature_log"} - set(columns))
    queries = {name: sql for name, sql in COUNTS.items() if not (absent and name.startswith(absent))}
    counts = {name: _number(db, sql.format(mature=mature(how))) for name, sql in queries.items()}
    lost = counts["impressions_in"] - sum(counts[n] for n in ("duplicates", "held_back", "sampled_out", "rows_out"))
    if lost:
        raise _bad(into, "rows", str(counts), "each impression once: out, repeated, held back or sampled out")
    now = db.execute("SELECT strftime(now AT TIME ZONE 'UTC', '%Y-%m-%dT%H:%M:%S.%fZ') FROM moment").fetchall()[0][0]
    return Joined(counts, _corrected(db, into), now or "")


def _corrected(db: duckdb.DuckDBPyConnection, into: Path) -> int:
    """How many impressions of the file that stands at `into` have another label now."""
    if not into.is_file():
        return 0
    return _number(
        db,
        f"""SELECT count(*) FROM {reading((into,))} p JOIN samples s
        ON p.request_id = s.request_id AND p.item_id = s.item_id WHERE p.label <> s.label""",
    )


def _number(db: duckdb.DuckDBPyConnection, query: str) -> int:
    return int(db.execute(query).fetchall()[0][0])


def _write(db: duckdb.DuckDBPyConnection, columns: Mapping[str, list[str]], how: Attribution, path: Path) -> None:
    order = [
        name for name in ("event_time", "user_id", "item_id", "request_id") if name in payload("impressions", columns)
    ]
    facts = {
        "tidegate.negative_rate": repr(how.negative_rate),
        "tidegate.correction": "p / (p + (1 - p) / negative_rate)",
        "tidegate.attribution_window_seconds": str(how.window.total_seconds()),
        "tidegate.label_delay_seconds": str(how.delay.total_seconds()),
    }
    db.execute(
        f"COPY (SELECT * FROM samples ORDER BY {', '.join(order)}) TO {literal(path)} "
        f"(FORMAT parquet, COMPRESSION zstd, {key_values(facts)})"
    )


def tables_in(folder: str) -> dict[str, str]:
    """The addresses of `impressions` and `clicks` in a folder or landing; none for an empty name."""
    return {name: _address(resolve(folder), name) for name in ("impressions", "clicks")} if folder else {}


def _address(folder: Path, name: str) -> str:
    table = find_table(folder, name)
    if table is None:
        raise no_table(folder, name)
    return str(table.files[0] if table.files[0].parent == folder else folder / name)


def join_samples(folder: Path, into: Path, how: Attribution = Attribution()) -> int:  # noqa: B008 - frozen
    """Join `impressions` LEFT JOIN `clicks` of a folder of clean tables; returns the rows, one per impression.

    Raises BadEventsError where impressions repeat: they were to be quarantined before.
    """
    addresses = tables_in(str(folder))
    with connect() as db:
        files = find_source("impressions", addresses["impressions"]).files
        _check_unique(db.execute(_REPEATED.format(reading(files))).fetchall(), folder)
    return join_events(addresses, into, how).counts["rows_out"]


_REPEATED = """
SELECT request_id, item_id, count(*) FROM {} GROUP BY ALL HAVING count(*) > 1 ORDER BY ALL LIMIT 1
"""


def _check_unique(repeated: list[tuple[str, int, int]], folder: Path) -> None:
    for request, item, count in repeated:
        raise BadEventsError(
            resource=f"events in {folder}",
            field="table impressions",
            value=f"item {item} {count} times in request {request}",
            expected="each item once per request",
            remedy="run `tidegate events clean` first; it quarantines duplicates",
        )


def _bad(file: Path, field: str, value: str, expected: str) -> BadEventsError:
    return BadEventsError(
        resource=str(file), field=field, value=value, expected=expected,
        remedy="mend the export, or name another file",
    )  # fmt: skip
