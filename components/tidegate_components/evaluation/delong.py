"""AUC with its variance, and two AUCs on the same rows, by structural components.

DeLong, DeLong & Clarke-Pearson (1988), in O(n log n) by mid-ranks (Sun & Xu 2014). Where rows come in groups (a user's
impressions), components are summed by group first (Obuchowski 1997); with one row a group that is DeLong's variance.
A weight multiplies the row's components: rows are independent, their weights are given (no frequencies).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np

from tidegate_components.evaluation.ranking import Ranking, runs_of

__all__ = ["Area", "Difference", "area_of", "difference_of", "variance_of"]

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Area:
    """An AUC and its centred structural components [N], in the order of the rows.

    A clicked row's component is the share of the others that it outranks, and the other way round; less the AUC.
    """

    value: float
    components: Array


@dataclass(frozen=True)
class Difference:
    """First AUC less the second, its standard error, and the two-sided p-value of "they are equal"."""

    value: float
    error: float
    p_value: float

    def interval(self, confidence: float) -> tuple[float, float]:
        """The interval of the difference by the normal distribution."""
        reach = NormalDist().inv_cdf((1 + confidence) / 2) * self.error
        return self.value - reach, self.value + reach


def area_of(ranking: Ranking, labels: Array, weights: Array | None = None) -> Area:
    """AUC and components. There must be weight on both classes."""
    runs = runs_of(ranking, labels, weights)
    positive, negative = runs.positive.astype(np.float64), runs.negative.astype(np.float64)
    outranked = (np.cumsum(negative) - negative / 2) / negative.sum()
    outranking = 1 - (np.cumsum(positive) - positive / 2) / positive.sum()
    value = float(positive @ outranked / positive.sum())
    centred = [np.repeat(part - value, runs.rows) for part in (outranked, outranking)]
    components = np.empty(len(labels))
    components[ranking.order] = np.where(labels[ranking.order] == 1, *centred)
    return Area(value, components)


def variance_of(components: Array, labels: Array, codes: Array | None = None, weights: Array | None = None) -> float:
    """Variance of the AUC, or difference of AUCs, that these centred components [N] belong to.

    NaN with fewer than two independent rows (or groups) of a class.
    """
    clicked = labels == 1
    weight = np.ones(len(labels)) if weights is None else weights
    parts = weight * components / np.where(clicked, weight[clicked].sum(), weight[~clicked].sum())
    if codes is None:
        return _spread(parts[clicked]) + _spread(parts[~clicked])
    size = int(codes.max()) + 1
    above = np.bincount(codes, parts * clicked, minlength=size)
    below = np.bincount(codes, parts * ~clicked, minlength=size)
    has_above = np.bincount(codes, clicked, minlength=size) > 0
    has_below = np.bincount(codes, ~clicked, minlength=size) > 0
    both = 2 * size / (size - 1) * float(above @ below) if size > 1 else math.nan
    return max(_spread(above[has_above]) + _spread(below[has_below]) + both, 0.0)


def _spread(parts: Array) -> float:
    """Sum of squares of centred parts, unbiased: times n / (n - 1)."""
    return float(parts @ parts) * len(parts) / (len(parts) - 1) if len(parts) > 1 else math.nan


def difference_of(
    first: Area, second: Area, labels: Array, codes: Array | None = None, weights: Array | None = None
) -> Difference:
    """The paired test: both contenders scored the same rows."""
    variance = variance_of(first.components - second.components, labels, codes, weights)
    value, error = first.value - second.value, math.sqrt(variance)
    if error:
        return Difference(value, error, math.erfc(abs(value) / error / math.sqrt(2)))
    return Difference(value, error, 1.0 if value == 0 else 0.0)
