"""Rows in order of their scores, as runs of equal scores: one sort carries AUC, GAUC, NDCG and the reliability curve.

A second sort puts groups together. It sorts one 64-bit integer a row, of group, rank and label, so that nothing has to
be looked up afterwards; only weights need the permutation itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["Ranking", "Runs", "dense_codes", "group_auc", "group_runs", "rank", "runs_of", "share_of_top"]

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Ranking:
    """`order` [N] are the rows from the lowest score to the highest; `level` [N] counts distinct scores along it."""

    order: Array
    level: Array


@dataclass(frozen=True)
class Runs:
    """Runs of equal scores [R], lowest first within a group; groups [G] begin at the runs `firsts` and have `codes`.

    `rows` and `clicked` count rows; `positive` and `negative` are the weights of those clicked and of the others.
    """

    rows: Array
    clicked: Array
    positive: Array
    negative: Array
    firsts: Array
    codes: Array

    def by_group(self, values: Array) -> Array:
        """Sums [G] of values of runs [R]."""
        summed: Array = np.add.reduceat(values, self.firsts)
        return summed

    def spread(self, values: Array) -> Array:
        """Values of groups [G] at their runs [R]."""
        counts = np.diff(self.firsts, append=len(self.rows))
        repeated: Array = np.repeat(values, counts)
        return repeated


def rank(scores: Array) -> Ranking:
    """Order scores [N], which have no NaN; equal scores share a level."""
    order = np.argsort(scores)
    ordered = scores[order]
    level = np.zeros(len(scores), dtype=np.int64)
    np.cumsum(ordered[1:] != ordered[:-1], out=level[1:])
    return Ranking(order, level)


def dense_codes(groups: Array) -> Array:
    """Codes from 0 without gaps [N] for groups [N] of any type; integers in a narrow range are counted, not sorted."""
    if np.issubdtype(groups.dtype, np.integer) and len(groups):
        low, span = int(groups.min()), int(groups.max()) - int(groups.min())
        if span < 4 * len(groups) + 1024:
            if groups.dtype.kind == "u":  # beyond 63 bits only the distance fits
                shifted = (groups - groups.dtype.type(low)).astype(np.int64)
            else:
                shifted = groups.astype(np.int64, copy=False) - low
            number = np.cumsum(np.bincount(shifted, minlength=span + 1) > 0) - 1
            codes: Array = number[shifted]
            return codes
    inverse: Array = np.unique(groups, return_inverse=True)[1]
    return inverse


def runs_of(ranking: Ranking, labels: Array, weights: Array | None = None) -> Runs:
    """All rows as one group. Labels [N] are 0 or 1."""
    clicked = labels[ranking.order].astype(np.int64)
    weight = None if weights is None else weights[ranking.order]
    return _runs(ranking.level, clicked, weight, bits=63)


def group_runs(ranking: Ranking, labels: Array, codes: Array, weights: Array | None = None) -> Runs:
    """Rows by group; `codes` [N] are integers from 0, groups that no row has are left out."""
    bits = int(ranking.level[-1]).bit_length() if len(ranking.level) else 1
    keys = codes[ranking.order].astype(np.int64)
    keys <<= bits
    keys |= ranking.level
    keys <<= 1
    keys |= labels[ranking.order].astype(np.int64)
    weight = None
    if weights is None:
        keys.sort()
    else:
        found = np.argsort(keys)
        keys, weight = keys[found], weights[ranking.order][found]
    return _runs(keys >> 1, keys & 1, weight, bits)


def _runs(place: Array, clicked: Array, weights: Array | None, bits: int) -> Runs:
    """Runs of equal `place` [N], which is sorted; its bits from `bits` on are the group."""
    starts = np.flatnonzero(place[1:] != place[:-1]) + 1
    starts = np.concatenate([[0], starts])
    rows = np.diff(starts, append=len(place))
    clicks = np.add.reduceat(clicked, starts)
    codes = place[starts] >> bits
    firsts = np.concatenate([[0], np.flatnonzero(codes[1:] != codes[:-1]) + 1])
    positive, negative = clicks, rows - clicks
    if weights is not None:
        positive = np.add.reduceat(weights * clicked, starts)
        negative = np.add.reduceat(weights * (1 - clicked), starts)
    return Runs(rows, clicks, positive, negative, firsts, codes[firsts])


def group_auc(runs: Runs) -> tuple[Array, Array]:
    """AUC [G], NaN where a group has one class, and weight [G] of each group.

    Pairs of a clicked and another row that are ordered rightly, ties counting a half (Mann & Whitney 1947).
    """
    below = np.cumsum(runs.negative) - runs.negative
    below = below - runs.spread(below[runs.firsts])
    ordered = runs.by_group(runs.positive * (below + runs.negative / 2))
    positive, negative = runs.by_group(runs.positive), runs.by_group(runs.negative)
    pairs = (positive * negative).astype(np.float64)
    return np.divide(ordered, pairs, out=np.full(len(pairs), np.nan), where=pairs > 0), positive + negative


def share_of_top(runs: Runs, worth: Array) -> tuple[Array, Array, Array]:
    """By group [G]: what its clicked rows are worth at their places, the rows, and the clicked rows.

    `worth` [k] is what the first, second, ... place from the top is worth. Equal scores share their places evenly
    (McSherry & Najork 2008).
    """
    upto = np.concatenate([[0.0], np.cumsum(worth)])
    size, end = runs.by_group(runs.rows), np.cumsum(runs.rows)
    last = np.cumsum(size)
    above = runs.spread(last) - end
    seen = np.flatnonzero(above < len(worth))
    first, rows = above[seen], runs.rows[seen]
    places = upto[np.minimum(first + rows, len(worth))] - upto[first]
    gained = np.zeros(len(runs.rows))
    gained[seen] = runs.clicked[seen] / rows * places
    return runs.by_group(gained), size, runs.by_group(runs.clicked)
