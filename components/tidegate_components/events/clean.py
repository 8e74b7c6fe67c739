"""Cleaning by declared rules: rows in = rows out + rows quarantined, each with the reason."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from tidegate_components.events.tables import TABLES, BadEventsError, read_table
from tidegate_components.storage import replacing

__all__ = ["RULES", "CleanReport", "Rule", "clean"]


@dataclass(frozen=True)
class Rule:
    """Rows of `table` for which `broken` (a SQL condition on its columns) holds are quarantined for `reason`."""

    table: str
    reason: str
    broken: str


@dataclass(frozen=True)
class CleanReport:
    """What became of one table's rows; `reasons` counts the quarantined ones by reason."""

    table: str
    rows_in: int
    rows_out: int
    reasons: dict[str, int]


_DUPLICATE = "row_number() OVER (PARTITION BY {} ORDER BY event_time, position) > 1"
_BEHAVIORS = "('impression', 'rating', 'click')"

RULES: tuple[Rule, ...] = (
    *(Rule(table, "missing event_time", "event_time IS NULL") for table in TABLES),
    *(Rule(table, "missing item_id", "item_id IS NULL") for table in TABLES),
    *(Rule(table, "missing request_id", "request_id IS NULL") for table in ("impressions", "clicks", "ratings")),
    *(Rule(table, "missing user_id", "user_id IS NULL") for table in ("impressions", "ratings", "interactions")),
    *(Rule(table, "negative item_id", "item_id < 0") for table in TABLES),
    Rule("impressions", "age out of range", "age NOT BETWEEN 0 AND 130"),
    Rule("ratings", "rating out of range", "rating IS NULL OR rating NOT BETWEEN 0.5 AND 5"),
    Rule("interactions", "rating out of range", "rating NOT BETWEEN 0.5 AND 5"),
    Rule("interactions", "unknown behavior", f"behavior IS NULL OR behavior NOT IN {_BEHAVIORS}"),
    Rule("impressions", "duplicate", _DUPLICATE.format("request_id, item_id")),
    Rule("ratings", "duplicate", _DUPLICATE.format("request_id, item_id")),
)
"""A row is quarantined for the first of its table's rules that it breaks. Several clicks of one item may stand."""


def clean(folder: Path, into: Path, quarantine: Path, rules: tuple[Rule, ...] = RULES) -> list[CleanReport]:
    """Sort the tables of `folder` into `into/NAME.parquet` and `quarantine/NAME.parquet` (with a column `reason`).

    Also writes `into/report.json`. Raises BadEventsError where a table is missing or nothing of it is left.
    """
    with replacing(into) as good, replacing(quarantine) as bad:
        good.mkdir()
        bad.mkdir()
        reports = [_clean_table(folder, name, good, bad, rules) for name in TABLES]
        (good / "report.json").write_text(json.dumps([asdict(report) for report in reports], indent=1))
    return reports


def _clean_table(folder: Path, name: str, good: Path, bad: Path, rules: tuple[Rule, ...]) -> CleanReport:
    import duckdb
    import pyarrow.parquet as pq

    raw = read_table(folder, name)
    cases = "".join(f" WHEN {rule.broken} THEN '{rule.reason}'" for rule in rules if rule.table == name)
    with duckdb.connect() as db:
        db.register("raw", raw)
        db.execute("CREATE TEMP TABLE rows AS SELECT *, row_number() OVER () AS position FROM raw")
        db.execute(f"CREATE TEMP TABLE judged AS SELECT *, CASE{cases} END AS reason FROM rows")
        kept = db.sql(
            "SELECT * EXCLUDE (reason, position) FROM judged WHERE reason IS NULL ORDER BY event_time, position"
        ).to_arrow_table()
        dropped = db.sql(
            "SELECT * EXCLUDE (position) FROM judged WHERE reason IS NOT NULL ORDER BY position"
        ).to_arrow_table()
        reasons = dict(db.execute(_REASONS).fetchall())
    report = CleanReport(name, raw.num_rows, kept.num_rows, reasons)
    _check(report, dropped.num_rows, folder)
    pq.write_table(kept, good / f"{name}.parquet")
    pq.write_table(dropped, bad / f"{name}.parquet")
    return report


_REASONS = "SELECT reason, count(*) FROM judged WHERE reason IS NOT NULL GROUP BY 1 ORDER BY 1"


def _check(report: CleanReport, quarantined: int, folder: Path) -> None:
    lost = report.rows_in - report.rows_out - quarantined
    if lost or not report.rows_out:
        raise BadEventsError(
            resource=f"events in {folder}",
            field=f"table {report.table}",
            value=f"{report.rows_out} clean rows and {quarantined} quarantined of {report.rows_in}: {report.reasons}",
            expected="at least one clean row, and every row in exactly one of the two",
            remedy="look at the reasons and mend the source",
        )
