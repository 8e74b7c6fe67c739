"""Expectations of event tables, declared in YAML: each becomes one number and the bounds that it should keep."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, model_validator

from tidegate_components.duck import listed, quoted
from tidegate_components.events.rules import Rule, read_yaml

__all__ = ["Expectation", "Expectations", "read_expectations"]

_Strict = ConfigDict(extra="forbid", frozen=True)


class Bounds(BaseModel):
    """Both ends included; an end that is left out bounds nothing."""

    model_config = _Strict
    min: float | None = None
    max: float | None = None


class Mean(BaseModel):
    """The mean of a column's values, missing ones left out."""

    model_config = _Strict
    column: str
    min: float | None = None
    max: float | None = None


class Refers(BaseModel):
    """Each row's `columns` stand in a row of the table `to`."""

    model_config = _Strict
    columns: list[str] = Field(min_length=1)
    to: str


class Expectation(BaseModel):
    """Exactly one of `rows`, `mean`, `refers`, `rule`; of the last two a share of `max_rate` rows may break it."""

    model_config = _Strict
    rows: Bounds | None = None
    mean: Mean | None = None
    refers: Refers | None = None
    rule: Rule | None = None
    max_rate: float = Field(default=0.0, ge=0, le=1)

    @model_validator(mode="after")
    def _exactly_one(self) -> Expectation:
        if sum(said is not None for said in (self.rows, self.mean, self.refers, self.rule)) != 1:
            raise ValueError("an expectation says exactly one of rows, mean, refers, rule")
        return self

    def columns(self) -> tuple[str, ...]:
        """The columns that must be there."""
        if self.mean:
            return (self.mean.column,)
        if self.refers:
            return tuple(self.refers.columns)
        return self.rule.columns() if self.rule else ()

    def sentence(self) -> str:
        """What is expected, for people."""
        if self.rows:
            return "rows"
        if self.mean:
            return f"mean of {self.mean.column}"
        if self.refers:
            return f"share of rows whose {', '.join(self.refers.columns)} is not in {self.refers.to}"
        what = self.rule.why() if self.rule else ""
        on = f" ({', '.join(self.columns())})" if what == "duplicate" else ""
        return f"share of rows with: {what}{on}"

    def bounds(self) -> Bounds:
        """What the observed number should keep."""
        if self.mean:
            return Bounds(min=self.mean.min, max=self.mean.max)
        return self.rows or Bounds(max=self.max_rate)

    def query(self, table: str) -> str:
        """The SQL of the observed number."""
        origin = quoted(table)
        if self.rows:
            return f"SELECT count(*) FROM {origin}"
        if self.mean:
            return f"SELECT avg(CAST({quoted(self.mean.column)} AS DOUBLE)) FROM {origin}"
        if self.refers:
            return _unmatched(table, self.refers)
        if self.rule and self.rule.duplicate:
            keys = listed(self.rule.duplicate)
            kept = f"(SELECT count(*) FROM (SELECT DISTINCT {keys} FROM {origin}) AS d)"
            return f"SELECT 1 - CAST({kept} AS DOUBLE) / count(*) FROM {origin}"
        broken = self.rule.broken() if self.rule else "FALSE"
        return f"SELECT avg(CASE WHEN {broken} THEN CAST(1 AS DOUBLE) ELSE CAST(0 AS DOUBLE) END) FROM {origin}"


def _unmatched(table: str, refers: Refers) -> str:
    keys = listed(refers.columns)
    same = " AND ".join(f"o.{column} = t.{column}" for column in map(quoted, refers.columns))
    found = f"(SELECT DISTINCT {keys} FROM {quoted(refers.to)}) AS o"
    missing = f"CASE WHEN o.{quoted(refers.columns[0])} IS NULL THEN CAST(1 AS DOUBLE) ELSE CAST(0 AS DOUBLE) END"
    return f"SELECT avg({missing}) FROM {quoted(table)} t LEFT JOIN {found} ON {same}"


class Expectations(BaseModel):
    """Table name -> what is expected of it."""

    model_config = _Strict
    tables: dict[str, list[Expectation]] = Field(min_length=1)
    _file: str = PrivateAttr("expectations")

    @property
    def file(self) -> str:
        """Where the expectations stand."""
        return self._file


def read_expectations(path: Path | None = None) -> Expectations:
    """Parse a file of expectations, or those of the training DAG. Raises BadRulesError that names file and field."""
    path = path or Path(__file__).with_suffix(".yaml")
    expectations = read_yaml(path, Expectations)
    expectations._file = str(path)
    return expectations
