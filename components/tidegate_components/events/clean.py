"""Cleaning by declared rules: rows in = rows out + rows quarantined, each with the reason.

A table without a rule is copied as it is.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from tidegate_components.duck import listed, quoted
from tidegate_components.events.engines import Engine, QueryError, starting
from tidegate_components.events.kinds import QUARANTINE
from tidegate_components.events.landing import LOG
from tidegate_components.events.rules import Rule, Rules, read_rules, refused
from tidegate_components.events.sources import TIME, WRITTEN, Source, all_tables, find_table
from tidegate_components.events.tables import BadEventsError
from tidegate_components.storage import content_digest, replacing

__all__ = ["CleanReport", "clean"]


@dataclass(frozen=True)
class CleanReport:
    """What became of one table's rows; `reasons` counts the quarantined ones by reason. `digest`: of what is clean.

    `copied`: no rule is about the table.
    """

    table: str
    rows_in: int
    rows_out: int
    reasons: dict[str, int]
    digest: str = ""
    copied: bool = False


def clean(
    folder: Path, into: Path, quarantine: Path, rules: Rules | None = None, engine: str = "duckdb"
) -> list[CleanReport]:
    """Sort the tables of `folder` that have rules into `into` and `quarantine`, as Parquet.

    Quarantined rows have a column `reason`, or `quarantine_reason` beside one of their own. Other tables are copied.
    Also writes `into/report.json`. Raises BadEventsError where a table of `rules` is not there
    (of the built-in ones, None: all of them), a column that a rule names is missing, or nothing of a table is left.
    """
    _check_places(folder, into, quarantine)
    found = _ruled(folder, rules)
    all_rules = rules or read_rules()
    said = all_rules.tables
    others = [table for table in _event_tables(folder, into, quarantine) if table.name not in said]
    with replacing(into) as good, replacing(quarantine) as bad, starting(engine) as running:
        good.mkdir()
        bad.mkdir()
        reports = [_clean_table(running, source, all_rules, good, bad) for source in found.values()]
        reports += [_copy_table(running, source, good) for source in others]
        (good / "report.json").write_text(json.dumps([asdict(report) for report in reports], indent=1))
    return reports


def _check_places(folder: Path, into: Path, quarantine: Path) -> None:
    if not folder.is_dir():
        raise _bad(folder, "folder", "not there", "a folder of event tables, or a landing")
    for target in (into, quarantine):
        if target.resolve() in {folder.resolve(), *folder.resolve().parents}:
            raise _bad(folder, "folder to write", str(target), "another folder, for what stands there is replaced")


def _ruled(folder: Path, rules: Rules | None) -> dict[str, Source]:
    """The tables that have rules; each is there if the rules are the user's own, else at least one is."""
    named = (rules or read_rules()).tables
    found = {name: source for name in named if (source := find_table(folder, name)) is not None}
    if rules is not None and (absent := [name for name in named if name not in found]):
        raise _bad(folder, "tables", f"no {absent[0]}", f"{absent[0]}.parquet or a folder {absent[0]}/")
    if not found:
        raise _bad(folder, "tables", "none with a rule", " or ".join(named))
    return found


def _event_tables(folder: Path, *written: Path) -> list[Source]:
    """The tables of a folder, without what an earlier run wrote there; of a landing without what was no event."""
    landing = (folder / LOG).is_dir()
    found = all_tables(folder, {path.resolve() for path in written})
    return [table for table in found if not (landing and table.name == QUARANTINE)]


def _copy_table(engine: Engine, source: Source, good: Path) -> CleanReport:
    names = _as_written(engine.load(source))
    rows = int(engine.rows(f"SELECT count(*) FROM {quoted(source.name)}")[0][0])
    engine.write(f"SELECT {names} FROM {quoted(source.name)}", good, source.name)
    return CleanReport(source.name, rows, rows, {}, _digest(good, source.name), copied=True)


def _digest(folder: Path, name: str) -> str:
    file = folder / f"{name}.parquet"
    return content_digest(file if file.is_file() else folder / name)


def _clean_table(engine: Engine, source: Source, all_rules: Rules, good: Path, bad: Path) -> CleanReport:
    columns, rules = engine.load(source), all_rules.tables[source.name]
    present = [rule for rule in rules if not (rule.if_present and set(rule.columns()) - set(columns))]
    for rule in present:
        if missing := [column for column in rule.columns() if column not in columns]:
            raise _bad(source.files[0], "columns", ", ".join(columns), f"a column {missing[0]}")
    try:
        engine.view("judged", judged(source.name, columns, present))
        counted = dict(engine.rows("SELECT coalesce(tg_reason, ''), count(*) FROM judged GROUP BY 1 ORDER BY 1"))
    except QueryError:
        if not engine.rows(f"SELECT 1 FROM {quoted(source.name)} LIMIT 1"):  # text without rows has no types
            _check(CleanReport(source.name, 0, 0, {}), source)
        _check_each(engine, source.name, all_rules, present)
        raise
    kept = int(counted.pop("", 0))
    report = CleanReport(
        source.name, int(engine.rows(f"SELECT count(*) FROM {quoted(source.name)}")[0][0]), kept, counted
    )
    _check(report, source)
    names, written, order = listed(_without_written(columns)), _as_written(columns), listed(_order(columns))
    engine.write(f"SELECT {names} FROM judged WHERE tg_reason IS NULL ORDER BY {order}", good, source.name)
    rest = f"SELECT {written}, tg_reason AS {_reason_column(columns)} FROM judged WHERE tg_reason IS NOT NULL"
    engine.write(f"{rest} ORDER BY {order}", bad, source.name)
    return replace(report, digest=_digest(good, source.name))


def _reason_column(columns: list[str]) -> str:
    """What quarantined rows call their reason: a purchase may have a `reason` of its own."""
    taken = {column.lower() for column in columns}
    return next(name for name in ("reason", "quarantine_reason", "tg_reason") if name not in taken)


def _without_written(columns: list[str]) -> list[str]:
    return [column for column in columns if column != WRITTEN]


def _as_written(columns: list[str]) -> str:
    """The columns as they came, a time as its text where it was text."""
    came = {TIME: f"{WRITTEN} AS {quoted(TIME)}"} if WRITTEN in columns else {}
    return ", ".join(came.get(column, quoted(column)) for column in _without_written(columns))


def _check_each(engine: Engine, table: str, rules: Rules, present: list[Rule]) -> None:
    """Raise BadRulesError for the first rule that cannot be judged alone."""
    for place, rule in enumerate(rules.tables[table]):
        if rule.duplicate or rule not in present:
            continue
        try:
            engine.rows(f"SELECT count(CASE WHEN {rule.broken()} THEN 1 END) FROM {quoted(table)}")
        except QueryError as error:
            raise refused(rules.file, table, place, rule.where or rule.why(), error) from error


def judged(table: str, columns: list[str], rules: list[Rule]) -> str:
    """Each row of the table with the first reason to quarantine it, or null."""
    no_time = f" WHEN {quoted(TIME)} IS NULL AND {WRITTEN} IS NOT NULL THEN '{TIME} is no time'"
    cases = no_time if WRITTEN in columns else ""
    cases += "".join(f" WHEN {rule.broken()} THEN {_text(rule.why())}" for rule in rules if not rule.duplicate)
    reason = f"CASE{cases} END" if cases else "CAST(NULL AS VARCHAR)"
    query = f"SELECT {listed(columns)}, {reason} AS tg_reason FROM {quoted(table)}"
    for rule in rules:
        if rule.duplicate:
            query = _without_duplicates(query, columns, rule)
    return query


def _without_duplicates(query: str, columns: list[str], rule: Rule) -> str:
    """Of rows with the same keys that have broken no rule so far, the earliest stays."""
    keys, order = listed(rule.duplicate or ()), listed(_order(columns))
    place = f"row_number() OVER (PARTITION BY tg_reason IS NULL, {keys} ORDER BY {order})"
    whole = " AND ".join(["tg_reason IS NULL", *(f"{quoted(key)} IS NOT NULL" for key in (rule.duplicate or ())[:1])])
    case = f"CASE WHEN {whole} AND {place} > 1 THEN {_text(rule.why())} ELSE tg_reason END"
    return f"SELECT {listed(columns)}, {case} AS tg_reason FROM ({query}) AS ruled"


def _order(columns: list[str]) -> list[str]:
    first = [TIME] if TIME in columns else []
    return [*first, *sorted(column for column in columns if column != TIME)]


def _text(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _check(report: CleanReport, source: Source) -> None:
    lost = report.rows_in - report.rows_out - sum(report.reasons.values())
    if lost or not report.rows_out:
        raise BadEventsError(
            resource=f"events in {source.files[0]}",
            field=f"table {report.table}",
            value=f"{report.rows_out} clean rows of {report.rows_in}, quarantined: {report.reasons}",
            expected="at least one clean row, and every row in exactly one of the two",
            remedy="look at the reasons and mend the source",
        )


def _bad(origin: Path, field: str, value: str, expected: str) -> BadEventsError:
    return BadEventsError(
        resource=f"events in {origin}", field=field, value=value, expected=expected,
        remedy="check the folder and the rules",
    )  # fmt: skip
