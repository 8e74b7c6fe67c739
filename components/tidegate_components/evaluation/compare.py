"""Challenger against baseline on the same rows: differences with intervals, and a verdict in one sentence."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from tidegate_components.evaluation.delong import area_of, difference_of
from tidegate_components.evaluation.errors import EvaluationError
from tidegate_components.evaluation.estimates import Statistic, bootstrap, interval_of
from tidegate_components.evaluation.gate import Verdict
from tidegate_components.evaluation.measure import Settings, statistics_of
from tidegate_components.evaluation.predictions import Rows
from tidegate_components.evaluation.ranking import Ranking, rank

__all__ = ["GUARDS", "METRIC_NAMES", "OBJECTIVES", "Compared", "Margins", "compare", "parse_margins", "verdict_of"]

Array = np.ndarray[Any, Any]
Role = Literal["objective", "guard", "shown"]

OBJECTIVES = {"auc": 0.002}
"""A challenger must be shown not to be worse by more than this."""
GUARDS = {"gauc": 0.002, "logloss": 0.002, "calibration_error": 0.02}
"""A challenger must not be shown to be worse by more than this."""

METRIC_NAMES = {
    "auc": "AUC", "gauc": "GAUC", "logloss": "LogLoss", "calibration_error": "calibration error", "ece": "ECE",
    "ndcg": "NDCG",
}  # fmt: skip
_HIGHER_IS_BETTER = {"auc", "gauc", "ndcg"}


@dataclass(frozen=True)
class Margins:
    """Tolerated losses, absolute, in the metric's unit."""

    objectives: dict[str, float]
    guards: dict[str, float]

    def of(self, metric: str) -> tuple[Role, float | None]:
        """What the metric is to the verdict, and its margin."""
        if metric in self.objectives:
            return "objective", self.objectives[metric]
        return ("guard", self.guards[metric]) if metric in self.guards else ("shown", None)


@dataclass(frozen=True)
class Compared:
    """A metric of both, and challenger less baseline with its interval; None where it cannot be judged.

    `passed` says whether it lets the challenger through (a metric that is only shown always does).
    """

    challenger: float | None
    baseline: float | None
    difference: float | None
    low: float | None
    high: float | None
    p_value: float | None
    higher_is_better: bool
    role: Role = "shown"
    margin: float | None = None
    passed: bool = True

    @property
    def harm(self) -> tuple[float, float]:
        """The interval of the loss: above 0 the challenger is worse."""
        low, high = self.low or 0.0, self.high or 0.0
        return (-high, -low) if self.higher_is_better else (low, high)

    @property
    def proven_worse(self) -> bool:
        """Whether the whole interval lies beyond the margin."""
        return self.low is not None and self.harm[0] > (self.margin or 0.0)


def parse_margins(given: list[str], k: int) -> Margins:
    """`METRIC=LOSS` texts over the defaults; a metric that is named becomes an objective."""
    objectives, guards = dict(OBJECTIVES), dict(GUARDS)
    known = [f"ndcg_at_{k}" if name == "ndcg" else name for name in METRIC_NAMES]
    for text in given:
        name, _, value = text.partition("=")
        try:
            margin = float(value)
        except ValueError:
            margin = math.nan
        if name not in known or not 0 <= margin < math.inf:
            raise EvaluationError(
                resource="evaluate", field="--margin", value=text,
                expected=f"METRIC=LOSS with one of {', '.join(known)} and a number from 0",
                remedy="write for example --margin auc=0.002",
            )  # fmt: skip
        objectives[name] = margin
        guards.pop(name, None)
    return Margins(objectives, guards)


def compare(challenger: Rows, baseline: Rows, settings: Settings, margins: Margins) -> dict[str, Compared]:
    """Every metric of both on the same rows: AUC by the paired DeLong test, the rest by a paired bootstrap.

    An objective that these rows do not offer, such as GAUC without groups, cannot be judged and so does not pass.
    """
    rankings = rank(challenger.scores), rank(baseline.scores)
    found = {"auc": _auc(challenger, rankings, settings)}
    first, second = (
        _with_error(statistics_of(rows, ranking, settings))
        for rows, ranking in zip((challenger, baseline), rankings, strict=True)
    )
    for name in ("gauc", "logloss", "calibration_error", "ece", f"ndcg_at_{settings.k}"):
        if name in first:
            found[name] = _drawn(name, first[name], second[name], settings)
    for name in set(margins.objectives) - set(found):
        found[name] = Compared(None, None, None, None, None, None, True)
    return {name: _judged(compared, *margins.of(name)) for name, compared in found.items()}


def _with_error(statistics: dict[str, Statistic]) -> dict[str, Statistic]:
    sums = statistics["calibration"].sums
    return {**statistics, "calibration_error": Statistic(sums, lambda totals: abs(totals[..., 0] / totals[..., 1] - 1))}


def _auc(challenger: Rows, rankings: tuple[Ranking, Ranking], settings: Settings) -> Compared:
    if challenger.one_class:
        return Compared(None, None, None, None, None, None, True)
    labels, weights, codes = challenger.labels, challenger.weights, challenger.codes
    first, second = (area_of(ranking, labels, weights) for ranking in rankings)
    found = difference_of(first, second, labels, codes, weights)
    low, high = found.interval(settings.confidence)
    return Compared(first.value, second.value, found.value, _finite(low), _finite(high), _finite(found.p_value), True)


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _drawn(name: str, first: Statistic, second: Statistic, settings: Settings) -> Compared:
    better = name.partition("_at_")[0] in _HIGHER_IS_BETTER
    values = first.found, second.found
    if not all(math.isfinite(value) for value in values) or len(first.sums) < 2:
        return Compared(_finite(values[0]), _finite(values[1]), None, None, None, None, better)
    draws = bootstrap([first, second], settings.draws, settings.seed)
    differences = draws[:, 0] - draws[:, 1]
    low, high = interval_of(differences, settings.confidence)
    return Compared(
        *values, values[0] - values[1], float(low), float(high), _two_sided(differences), better
    )  # fmt: skip


def _two_sided(differences: Array) -> float:
    """Twice the share of draws on the rarer side of zero, never below what so many draws can tell."""
    count = len(differences)
    rarer = min(int((differences <= 0).sum()), int((differences >= 0).sum()))
    return min(1.0, 2 * (rarer + 1) / (count + 1))


def _judged(found: Compared, role: Role, margin: float | None) -> Compared:
    from dataclasses import replace

    judged = replace(found, role=role, margin=margin)
    if role == "objective":
        return replace(judged, passed=judged.low is not None and judged.harm[1] <= (margin or 0.0))
    return replace(judged, passed=role == "shown" or not judged.proven_worse)


def verdict_of(
    found: dict[str, Compared], confidence: float, challenger: str = "The challenger", baseline: str = "the baseline"
) -> Verdict:
    """Passed where every objective and guard is; the sentence tells AUC, or what failed, with figures."""
    failed = [(name, one) for name, one in found.items() if not one.passed]
    if not failed:
        proven = [_figures(n, one, confidence, baseline) for n, one in found.items() if one.role == "objective"]
        return Verdict(True, f"{challenger} passes: {'; '.join(proven)}.")
    reasons = "; ".join(_failure(name, one, confidence, baseline) for name, one in failed)
    return Verdict(False, f"{challenger} fails: {reasons}.")


def _failure(name: str, one: Compared, confidence: float, baseline: str) -> str:
    if one.low is None:
        return f"its {_name(name)} cannot be judged on these rows"
    figures = _figures(name, one, confidence, baseline)
    if one.proven_worse:
        return f"it is worse than {baseline}, {figures}"
    return f"it is not shown to be as good as {baseline}, {figures}; more rows would tell"


def _figures(name: str, one: Compared, confidence: float, baseline: str) -> str:
    tolerated = f"a loss of up to {one.margin:g} is tolerated"
    return (
        f"{_name(name)} {one.challenger:.4f}, {baseline} {one.baseline:.4f}, difference {one.difference:+.4f} "
        f"({confidence:.0%} interval {one.low:+.4f} to {one.high:+.4f}), {tolerated}"
    )


def _name(metric: str) -> str:
    base, at, k = metric.partition("_at_")
    return METRIC_NAMES[base] + (f"@{k}" if at else "")
