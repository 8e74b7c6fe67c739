"""Values with intervals: every metric but AUC is a function of sums over clusters, and so are its interval and draws.

A cluster is what is independent of the rest: a group (user) where groups are given, else a row. The interval is that of
the infinitesimal jackknife (delta method): the variance of the function's linear part, cluster by cluster (Efron 1982).
What has no derivative is drawn: the Poisson bootstrap gives each cluster a Poisson(1) number of copies (Hanley &
MacGibbon 2006; Chamandy et al. 2012), the same copies for two contenders that are compared.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np

__all__ = [
    "Estimate",
    "Statistic",
    "absent",
    "bootstrap",
    "estimate",
    "interval_of",
    "ratio",
    "student",
    "within",
]

Array = np.ndarray[Any, Any]

MOST_DRAWN = 8192
"""Clusters that are drawn; where there are more, they are thrown together into as many random ones, whose sums have
the same variance (known then to 1.6 %)."""
_CHUNK = 128


@dataclass(frozen=True)
class Estimate:
    """A value with the ends of its interval; all None, with a reason, where the metric is not defined."""

    value: float | None
    low: float | None = None
    high: float | None = None
    reason: str = ""

    def to_json(self) -> dict[str, Any]:
        """{value, low, high}, and the reason where something is missing."""
        found = {"value": self.value, "low": self.low, "high": self.high}
        return {**found, "reason": self.reason} if self.reason else found


@dataclass(frozen=True)
class Statistic:
    """A function of sums over clusters.

    `sums` [C, K] by cluster; `value` takes totals [..., K] to values [...]; `gradient` takes totals [K] to the
    derivative [K] (None: there is none, the interval is drawn). The value lies within `bounds`; a `logarithmic` one is
    positive and has its interval on the logarithm.
    """

    sums: Array
    value: Callable[[Array], Array]
    gradient: Callable[[Array], Array] | None = None
    bounds: tuple[float, float] = (0.0, math.inf)
    logarithmic: bool = False

    @property
    def total(self) -> Array:
        """Sums [K] over all clusters."""
        totals: Array = self.sums.sum(axis=0)
        return totals

    @property
    def found(self) -> float:
        """The value; NaN where it is not defined."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return float(self.value(self.total))


def ratio(
    numerator: Array, denominator: Array, bounds: tuple[float, float] = (0.0, math.inf), logarithmic: bool = False
) -> Statistic:
    """Sum of `numerator` over sum of `denominator`, both [C]."""
    return Statistic(
        np.stack([numerator, denominator], axis=1).astype(np.float64),
        lambda totals: totals[..., 0] / totals[..., 1],
        lambda totals: np.array([1 / totals[1], -totals[0] / totals[1] ** 2]),
        bounds,
        logarithmic,
    )


def absent(reason: str) -> Estimate:
    """A metric that is not defined, and why."""
    return Estimate(None, None, None, reason)


def estimate(statistic: Statistic, confidence: float = 0.95, draws: int = 1000, seed: int = 7) -> Estimate:
    """The value with its interval: by the derivative where there is one, else by `draws` of the bootstrap."""
    value = statistic.found
    if not math.isfinite(value):
        return absent("no rows that it could be judged on")
    if len(statistic.sums) < 2:
        return Estimate(value, reason="no interval: a single group")
    if statistic.gradient is None:
        return _drawn(statistic, value, confidence, draws, seed)
    reach = student(confidence, len(statistic.sums) - 1) * _error(statistic)
    if statistic.logarithmic and value > 0:
        factor = math.exp(reach / value)
        return Estimate(value, *within(statistic.bounds, value / factor, value * factor))
    return Estimate(value, *within(statistic.bounds, value - reach, value + reach))


def _error(statistic: Statistic) -> float:
    assert statistic.gradient is not None  # noqa: S101 - asked by the caller
    parts = statistic.sums @ statistic.gradient(statistic.total)
    count = len(parts)
    return math.sqrt(max(float(np.square(parts - parts.mean()).sum()) * count / (count - 1), 0.0))


def _drawn(statistic: Statistic, value: float, confidence: float, draws: int, seed: int) -> Estimate:
    """The basic bootstrap, reaching to the value itself.

    A distance such as ECE is greater in each draw than in the data, as it is greater in the data than in truth: so the
    draws are mirrored at the value (Davison & Hinkley 1997, 5.2.1).
    """
    low, high = interval_of(bootstrap([statistic], draws, seed)[:, 0], confidence)
    return Estimate(value, *within(statistic.bounds, min(2 * value - high, value), max(2 * value - low, value)))


def within(bounds: tuple[float, float], low: float, high: float) -> tuple[float, float]:
    """The interval, cut at the bounds."""
    return float(max(low, bounds[0])), float(min(high, bounds[1]))


def interval_of(draws: Array, confidence: float) -> Array:
    """Both ends [2] of the middle share `confidence` of draws [B]."""
    tail = (1 - confidence) / 2
    return np.asarray(np.nanquantile(draws, [tail, 1 - tail]))


def student(confidence: float, freedom: int) -> float:
    """Two-sided quantile of Student's t, by its expansion about the normal one (Abramowitz & Stegun 26.7.5)."""
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    return z + (z**3 + z) / (4 * freedom) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)


def bootstrap(statistics: list[Statistic], draws: int, seed: int) -> Array:
    """Values [draws, statistics] in the same Poisson resamples of the clusters, which all statistics share.

    NaN where a draw took no cluster that the value could be told of.
    """
    widths = [statistic.sums.shape[1] for statistic in statistics]
    sums = _thrown_together(np.concatenate([statistic.sums for statistic in statistics], axis=1), seed)
    ends = np.cumsum(widths)
    found = []
    for copies in _copies(draws, len(sums), seed):
        totals = np.split(copies @ sums, ends[:-1], axis=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            found.append(np.stack([s.value(t) for s, t in zip(statistics, totals, strict=True)], axis=1))
    drawn = np.concatenate(found)
    return np.where(np.isfinite(drawn), drawn, np.nan)


def _copies(draws: int, clusters: int, seed: int) -> Iterator[Array]:
    rng = np.random.default_rng(seed)
    for start in range(0, draws, _CHUNK):
        yield rng.poisson(1.0, (min(_CHUNK, draws - start), clusters)).astype(np.float64)


def _thrown_together(sums: Array, seed: int) -> Array:
    count = len(sums)
    if count <= MOST_DRAWN:
        return sums
    into = np.random.default_rng(seed + 1).permutation(count) % MOST_DRAWN
    return np.stack([np.bincount(into, column, minlength=MOST_DRAWN) for column in sums.T], axis=1)
