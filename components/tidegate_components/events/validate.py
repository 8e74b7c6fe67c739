"""Validating: the gate that event tables pass only if they are as expected, and its report."""

from __future__ import annotations

import html
import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path

from tidegate_components.events.engines import Engine, QueryError, starting
from tidegate_components.events.expectations import Bounds, Expectation, Expectations
from tidegate_components.events.rules import refused
from tidegate_components.events.sources import find_table
from tidegate_components.events.tables import BadEventsError
from tidegate_components.storage import replacing

__all__ = ["Check", "Validation", "to_json", "validate", "write_report"]


@dataclass(frozen=True)
class Check:
    """One expectation: the number observed (null where there was none), its bounds, and whether it keeps them."""

    table: str
    expected: str
    observed: float | None
    min: float | None
    max: float | None
    passed: bool


@dataclass(frozen=True)
class Validation:
    """Every check of one run."""

    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        """Whether the gate is open."""
        return all(check.passed for check in self.checks)

    def require(self, folder: Path) -> None:
        """Raise BadEventsError with the expectations that failed, where one did."""
        failed = [f"{c.table}: {c.expected} {_observed(c)}" for c in self.checks if not c.passed]
        if failed:
            raise _bad(
                f"events in {folder}", "expectations", "; ".join(failed), "each within its bounds (see the report)"
            )


def validate(folder: Path, expectations: Expectations, engine: str = "duckdb") -> Validation:
    """Observe each expected number. Raises BadEventsError where a table or column is not there."""
    with starting(engine) as running:
        columns = {name: _load(running, folder, name) for name in _tables(expectations)}
        checks = [
            _check(running, (expectations.file, table, place), columns[table], expectation)
            for table, listed in expectations.tables.items()
            for place, expectation in enumerate(listed)
        ]
    return Validation(tuple(checks))


def _tables(expectations: Expectations) -> list[str]:
    others = [e.refers.to for listed in expectations.tables.values() for e in listed if e.refers]
    return list(dict.fromkeys([*expectations.tables, *others]))


def _load(engine: Engine, folder: Path, name: str) -> list[str]:
    source = find_table(folder, name)
    if source is None:
        raise _bad(f"events in {folder}", "tables", f"no {name}", f"{name}.parquet or a folder {name}/")
    return engine.load(source)


def _check(engine: Engine, at: tuple[str, str, int], columns: list[str], expectation: Expectation) -> Check:
    table = at[1]
    if missing := [column for column in expectation.columns() if column not in columns]:
        raise _bad(f"table {table}", "columns", ", ".join(columns), f"a column {missing[0]}")
    try:
        value = engine.rows(expectation.query(table))[0][0]
    except QueryError as error:
        raise refused(*at, expectation.sentence(), error) from error
    observed = None if value is None else round(float(value), 9)
    bounds = expectation.bounds()
    return Check(table, expectation.sentence(), observed, bounds.min, bounds.max, keeps(observed, bounds))


def keeps(observed: float | None, bounds: Bounds) -> bool:
    """Whether the number lies in the bounds; one that is not there (or is NaN) keeps none."""
    if observed is None:
        return False
    low = bounds.min is None or observed >= bounds.min
    return low and (bounds.max is None or observed <= bounds.max) and not math.isnan(observed)


def write_report(validation: Validation, report: Path) -> None:
    """Write the report as HTML or Markdown, by its name, and as JSON beside it."""
    if report.suffix not in {".html", ".md"}:
        raise BadEventsError(
            resource="events validate", field="--report", value=str(report), expected="a name in .html or .md",
            remedy="name the report like that",
        )  # fmt: skip
    page = _html(validation) if report.suffix == ".html" else _markdown(validation)
    texts = {report: page, report.with_suffix(".json"): json.dumps(to_json(validation), indent=1)}
    for path, text in texts.items():
        with replacing(path) as beside:
            beside.write_text(text)


def to_json(validation: Validation) -> dict[str, object]:
    """The report for machines."""
    return {"passed": validation.passed, "checks": [asdict(check) for check in validation.checks]}


def _headline(validation: Validation) -> str:
    failed = sum(not check.passed for check in validation.checks)
    return f"{failed} of {len(validation.checks)} expectations failed" if failed else "Every expectation is met"


def _cells(check: Check) -> list[str]:
    low, high = ("" if bound is None else f"{bound:g}" for bound in (check.min, check.max))
    return ["passed" if check.passed else "FAILED", check.table, check.expected, _observed(check), low, high]


def _observed(check: Check) -> str:
    return "none" if check.observed is None else f"{check.observed:g}"


_HEADS = ["", "table", "what", "observed", "at least", "at most"]


def _markdown(validation: Validation) -> str:
    rows = [_HEADS, ["---"] * len(_HEADS), *map(_cells, validation.checks)]
    return "\n".join([f"**{_headline(validation)}.**", "", *(f"| {' | '.join(row)} |" for row in rows)]) + "\n"


_STYLE = """body{font:16px/1.5 system-ui;margin:2rem auto;max-width:60rem;padding:0 1rem;color:#1b1f24}
table{border-collapse:collapse;width:100%}td,th{padding:.4rem .6rem;text-align:left;border-bottom:1px solid #d0d7de}
.passed td:first-child{color:#1a7f37}.failed{background:#fff1f0}.failed td:first-child{color:#b42318;font-weight:600}"""


def _html(validation: Validation) -> str:
    head = "".join(f"<th>{name}</th>" for name in _HEADS)
    rows = "".join(
        f'<tr class="{"passed" if check.passed else "failed"}">'
        + "".join(f"<td>{html.escape(cell)}</td>" for cell in _cells(check))
        + "</tr>\n"
        for check in validation.checks
    )
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>Validation of events</title>'
        f"<style>{_STYLE}</style><h1>{_headline(validation)}</h1><table><thead><tr>{head}</tr></thead>\n"
        f"<tbody>{rows}</tbody></table></html>\n"
    )


def _bad(resource: str, field: str, value: str, expected: str) -> BadEventsError:
    return BadEventsError(
        resource=resource, field=field, value=value, expected=expected, remedy="check the folder and the expectations"
    )
