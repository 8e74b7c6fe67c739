"""What a feature's values look like: how many are missing, mean, variance and quantiles, of all rows and by slice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tidegate_api.feature import Expectation, Feature
from tidegate_api.feature_view import FeatureView
from tidegate_components.duck import literal
from tidegate_components.features.source import Connection
from tidegate_components.features.sql import quoted

__all__ = ["QUANTILES", "FeatureStatistics", "describe", "failed_expectations"]

QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
_NUMBER = {
    "Int64": "CAST({} AS DOUBLE)",
    "Float64": "CASE WHEN NOT isnan({0}) THEN {0} END",
    "Bool": "CAST({} AS DOUBLE)",
    "Timestamp": "epoch({})",
}


@dataclass(frozen=True)
class FeatureStatistics:
    """One feature over the rows of one slice (`COLUMN=VALUE`; empty: all rows).

    `missing` counts rows without a value, NaN among them. The variance is that of the population. A Bool counts as 0
    and 1, a Timestamp as Unix seconds, a list by its length; texts have no mean, variance and quantiles.
    """

    feature: str
    slice: str
    rows: int
    missing: int
    distinct: int
    min: float | None
    max: float | None
    mean: float | None
    variance: float | None
    quantiles: tuple[float, ...]

    @property
    def missing_rate(self) -> float:
        """Share of rows without a value; 0 where there are no rows."""
        return self.missing / self.rows if self.rows else 0.0

    def to_json(self) -> dict[str, Any]:
        """For machines; quantiles by their probability."""
        named = dict(zip(map(str, QUANTILES), self.quantiles, strict=False))
        return asdict(self) | {"missing_rate": self.missing_rate, "quantiles": named}


def describe(
    db: Connection, relation: str, features: Sequence[tuple[str, Feature]], slices: Sequence[str] = ()
) -> list[FeatureStatistics]:
    """Statistics of each (column, feature) of a relation, over all rows and by each value of each slice column."""
    return [found for column, feature in features for found in _describe(db, relation, column, feature, slices)]


def failed_expectations(view: FeatureView, found: Sequence[FeatureStatistics]) -> tuple[str, ...]:
    """How the values of all rows fail what the view's features expect, a sentence each; nothing to fail on no rows."""
    whole = {one.feature: one for one in found if not one.slice and one.rows}
    return tuple(
        sentence
        for feature in view.spec.features
        if feature.expect is not None and feature.name in whole
        for sentence in _failed(feature.expect, whole[feature.name])
    )


def _failed(expect: Expectation, found: FeatureStatistics) -> list[str]:
    said = []
    if expect.max_missing is not None and found.missing_rate > expect.max_missing:
        said.append(
            f"feature {found.feature} has no value for {found.missing:,} of {found.rows:,} entities "
            f"({found.missing_rate:.1%}), more than maxMissing {expect.max_missing:.1%}"
        )
    bounds = (
        ("min", found.min, expect.min, None),
        ("max", found.max, None, expect.max),
        ("mean", found.mean, expect.min_mean, expect.max_mean),
    )
    for name, number, least, most in bounds:
        if number is None:
            continue
        if least is not None and number < least:
            said.append(f"feature {found.feature} has {name} {number:g}, less than the expected {least:g}")
        if most is not None and number > most:
            said.append(f"feature {found.feature} has {name} {number:g}, more than the expected {most:g}")
    return said


def _describe(
    db: Connection, relation: str, column: str, feature: Feature, slices: Sequence[str]
) -> list[FeatureStatistics]:
    quoted_column, number = quoted(column), _number(quoted(column), feature.type)
    sets = ", ".join(["()", *(f"({quoted(name)})" for name in slices)])
    rows = db.execute(f"""
SELECT {_slice(slices)} AS slice, count(*) AS rows, count(*) - count({_value(quoted_column, feature.type)}) AS missing,
    count(DISTINCT {quoted_column}), min({number}), max({number}), avg({number}), var_pop({number}),
    quantile_cont({number}, {list(QUANTILES)})
FROM {relation} GROUP BY GROUPING SETS ({sets}) ORDER BY slice
""").fetchall()  # noqa: S608
    return [_statistics(feature.name, row) for row in rows]


def _statistics(feature: str, row: tuple[Any, ...]) -> FeatureStatistics:
    slice_, rows, missing, distinct, least, most, mean, variance, quantiles = row
    return FeatureStatistics(
        feature, slice_, rows, missing, distinct, least, most, mean, variance, tuple(quantiles or ())
    )


def _slice(names: Sequence[str]) -> str:
    """SQL: which slice a row of the grouping sets is of."""
    named = [(quoted(name), literal(name + "=")) for name in names]
    cases = [f"WHEN grouping({name}) = 0 THEN {words} || coalesce({name}::VARCHAR, 'null')" for name, words in named]
    return f"CASE {' '.join(cases)} ELSE '' END" if cases else "''"


def _value(column: str, kind: str) -> str:
    return _NUMBER[kind].format(column) if kind == "Float64" else column


def _number(column: str, kind: str) -> str:
    if kind.startswith("List<"):
        return f"CAST(len({column}) AS DOUBLE)"
    return _NUMBER[kind].format(column) if kind in _NUMBER else "CAST(NULL AS DOUBLE)"
