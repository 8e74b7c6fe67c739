"""Every metric of some rows, each with its interval."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from tidegate_components.evaluation.bins import edges_of
from tidegate_components.evaluation.delong import area_of, variance_of
from tidegate_components.evaluation.errors import EvaluationError
from tidegate_components.evaluation.estimates import Estimate, Statistic, absent, estimate, ratio, within
from tidegate_components.evaluation.metrics import row_losses
from tidegate_components.evaluation.predictions import Rows
from tidegate_components.evaluation.ranking import Ranking, Runs, group_auc, group_runs, rank, share_of_top

__all__ = ["Settings", "auc_of", "measure", "statistics_of"]

Array = np.ndarray[Any, Any]

_SHARE = (0.0, 1.0)
_MOST_CLUSTERS = 1 << 16
"""Without groups each row is a cluster; more rows than this are thrown into as many random blocks."""


@dataclass(frozen=True)
class Settings:
    """How to judge: coverage of intervals, draws and seed of the bootstrap, places looked at, threshold, bins."""

    confidence: float = 0.95
    draws: int = 1000
    seed: int = 7
    k: int = 10
    threshold: float = 0.5
    bins: int = 10

    def checked(self) -> Settings:
        """These settings. Raises EvaluationError where the confidence is none."""
        if not 0.5 <= self.confidence < 1:
            raise EvaluationError(
                resource="evaluate", field="--confidence", value=self.confidence, expected="from 0.5 to below 1",
                remedy="write for example --confidence 0.95",
            )  # fmt: skip
        return self


@dataclass(frozen=True)
class _Clusters:
    """What is independent: `codes` [N] of `count` clusters; None where every row is one."""

    codes: Array | None
    count: int

    def sums(self, values: Array) -> Array:
        """By cluster [count] of values of rows [N]."""
        if self.codes is None:
            return values.astype(np.float64)
        return np.bincount(self.codes, values, minlength=self.count)

    def crossed(self, values: Array, bins: Array, size: int) -> Array:
        """By cluster and bin [count, size]."""
        codes = np.arange(self.count) if self.codes is None else self.codes
        return np.bincount(codes * size + bins, values, minlength=self.count * size).reshape(self.count, size)


def _clusters(rows: Rows, seed: int) -> _Clusters:
    count = len(rows.labels)
    if rows.codes is not None:
        return _Clusters(rows.codes, int(rows.codes.max()) + 1)
    if count <= _MOST_CLUSTERS:
        return _Clusters(None, count)
    return _Clusters(np.random.default_rng(seed).integers(0, _MOST_CLUSTERS, count), _MOST_CLUSTERS)


def measure(rows: Rows, settings: Settings) -> dict[str, Estimate]:
    """AUC, GAUC, LogLoss, calibration and the rest of rows (at least one), by their public names."""
    ranking = rank(rows.scores)
    found = {"auc": auc_of(rows, ranking, settings.confidence)}
    for name, statistic in statistics_of(rows, ranking, settings).items():
        judged = estimate(statistic, settings.confidence, settings.draws, settings.seed)
        found[name] = absent(_reason(name, rows, settings)) if judged.value is None else judged
    if rows.codes is None:
        names = ("gauc", f"ndcg_at_{settings.k}", f"precision_at_{settings.k}", f"recall_at_{settings.k}")
        found |= {name: absent("no --group was given") for name in names}
    return {name: found[name] for name in sorted(found, key=_place)}


_ORDER = ("auc", "gauc", "logloss", "calibration", "normalized_entropy", "ece", "ndcg", "precision", "recall")


def _place(name: str) -> tuple[int, bool]:
    return _ORDER.index(name.partition("_at_")[0]), "_at_" in name


def _reason(name: str, rows: Rows, settings: Settings) -> str:
    if name == "precision":
        return f"no score reaches the threshold {settings.threshold:g}"
    if name == "gauc":
        return "no group has both classes"
    if rows.one_class:
        return f"one class only: every label is {int(rows.labels[0])}"
    return "no rows that it could be judged on"


def auc_of(rows: Rows, ranking: Ranking, confidence: float) -> Estimate:
    """AUC with DeLong's interval, by group where groups are given."""
    if rows.one_class:
        return absent(_reason("auc", rows, Settings()))
    area = area_of(ranking, rows.labels, rows.weights)
    variance = variance_of(area.components, rows.labels, rows.codes, rows.weights)
    if not math.isfinite(variance):
        return Estimate(area.value, reason="no interval: a class has a single row or group")
    return Estimate(area.value, *within(_SHARE, *_normal(area.value, variance, confidence)))


def _normal(value: float, variance: float, confidence: float) -> tuple[float, float]:
    from statistics import NormalDist

    reach = NormalDist().inv_cdf((1 + confidence) / 2) * math.sqrt(variance)
    return value - reach, value + reach


def statistics_of(rows: Rows, ranking: Ranking, settings: Settings) -> dict[str, Statistic]:
    """Every metric but AUC as a function of sums over clusters."""
    clusters = _clusters(rows, settings.seed)
    found = _probabilities(rows, clusters) | _decisions(rows, clusters, settings.threshold)
    found["ece"] = _ece(rows, ranking, clusters, settings.bins)
    if rows.codes is not None:
        found |= _orders(group_runs(ranking, rows.labels, rows.codes, rows.weights), settings.k)
    return found


def _probabilities(rows: Rows, clusters: _Clusters) -> dict[str, Statistic]:
    weights = np.ones(len(rows.labels)) if rows.weights is None else rows.weights
    weight, clicked = clusters.sums(weights), clusters.sums(weights * rows.labels)
    losses = clusters.sums(weights * row_losses(rows.labels, rows.scores))
    promised = clusters.sums(weights * rows.scores)
    return {
        "logloss": ratio(losses, weight),
        "calibration": ratio(promised, clicked, logarithmic=True),
        "normalized_entropy": Statistic(np.stack([losses, weight, clicked], axis=1), _entropy, _entropy_gradient),
    }


def _entropy(totals: Array) -> Array:
    loss, weight, clicked = totals[..., 0], totals[..., 1], totals[..., 2]
    share = clicked / weight
    found: Array = loss / weight / -(share * np.log(share) + (1 - share) * np.log(1 - share))
    return found


def _entropy_gradient(totals: Array) -> Array:
    loss, weight, clicked = totals
    share = clicked / weight
    entropy = -(share * math.log(share) + (1 - share) * math.log(1 - share))
    steep = loss / weight / entropy**2 * math.log((1 - share) / share)
    return np.array([1 / (weight * entropy), -loss / (weight**2 * entropy) + steep * share / weight, -steep / weight])


def _decisions(rows: Rows, clusters: _Clusters, threshold: float) -> dict[str, Statistic]:
    weights = np.ones(len(rows.labels)) if rows.weights is None else rows.weights
    chosen = weights * (rows.scores >= threshold)
    right = clusters.sums(chosen * rows.labels)
    return {
        "precision": ratio(right, clusters.sums(chosen), _SHARE),
        "recall": ratio(right, clusters.sums(weights * rows.labels), _SHARE),
    }


def _ece(rows: Rows, ranking: Ranking, clusters: _Clusters, bins: int) -> Statistic:
    weights = np.ones(len(rows.labels)) if rows.weights is None else rows.weights
    ordered = None if rows.weights is None else rows.weights[ranking.order]
    place = np.searchsorted(edges_of(rows.scores[ranking.order], bins, ordered), rows.scores, side="left")
    gaps = clusters.crossed(weights * (rows.scores - rows.labels), place, bins)
    return Statistic(np.column_stack([gaps, clusters.sums(weights)]), _mean_gap, bounds=_SHARE)


def _mean_gap(totals: Array) -> Array:
    found: Array = np.abs(totals[..., :-1]).sum(axis=-1) / totals[..., -1]
    return found


def _orders(runs: Runs, k: int) -> dict[str, Statistic]:
    """Metrics of the order within groups; a group is a cluster, those that cannot be judged are left out."""
    values, weight = group_auc(runs)
    judged = ~np.isnan(values)
    worth = 1 / np.log2(np.arange(2, k + 2))
    gained, _, clicked = share_of_top(runs, worth)
    hits, rows, _ = share_of_top(runs, np.ones(k))
    some = clicked > 0
    ideal = np.concatenate([[0.0], np.cumsum(worth)])[np.minimum(clicked, k)]
    return {
        "gauc": ratio(weight[judged] * values[judged], weight[judged], _SHARE),
        f"ndcg_at_{k}": _mean(gained[some] / ideal[some]),
        f"precision_at_{k}": _mean(hits / np.minimum(rows, k)),
        f"recall_at_{k}": _mean(hits[some] / clicked[some]),
    }


def _mean(values: Array) -> Statistic:
    return ratio(values, np.ones(len(values)), _SHARE)
