"""Metrics of ranked probabilities, in numpy. Labels are [N] in {0, 1}, scores [N] probabilities, groups [N] ids."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

__all__ = ["all_metrics", "auc", "calibration", "gauc", "logloss", "ndcg_at", "reliability"]


def auc(labels: Array, scores: Array) -> float:
    """Area under the ROC curve by the rank-sum statistic with mean ranks for ties (Mann & Whitney 1947).

    NaN where there is one class only.
    """
    import numpy as np

    positives = float((labels == 1).sum())
    negatives = len(labels) - positives
    if not positives or not negatives:
        return float("nan")
    rank_sum = _mean_ranks(np.asarray(scores))[labels == 1].sum()
    return float((rank_sum - positives * (positives + 1) / 2) / (positives * negatives))


def _mean_ranks(values: Array) -> Array:
    """Ranks from 1; equal values share the mean of their ranks."""
    import numpy as np

    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = counts.cumsum()
    ranks: Array = (last - (counts - 1) / 2)[inverse]
    return ranks


def gauc(labels: Array, scores: Array, groups: Array) -> float:
    """AUC within each group, weighted by the group's rows; groups of one class are left out (Zhu et al. 2017).

    NaN where no group has both classes.
    """
    import numpy as np

    parts = [(len(rows), auc(labels[rows], scores[rows])) for rows in _by_group(groups)]
    judged = [(rows, value) for rows, value in parts if not np.isnan(value)]
    weight = sum(rows for rows, _ in judged)
    return sum(rows * value for rows, value in judged) / weight if weight else float("nan")


def _by_group(groups: Array) -> list[Array]:
    import numpy as np

    order = np.argsort(groups, kind="stable")
    starts = np.flatnonzero(np.diff(groups[order])) + 1
    return list(np.split(order, starts))


def logloss(labels: Array, scores: Array) -> float:
    """Mean negative log likelihood in nats; scores are kept 1e-15 away from 0 and 1."""
    import numpy as np

    sure = np.clip(np.asarray(scores, dtype=np.float64), 1e-15, 1 - 1e-15)
    return float(-np.mean(labels * np.log(sure) + (1 - labels) * np.log(1 - sure)))


def calibration(labels: Array, scores: Array) -> float:
    """Sum of scores over sum of labels: 1 is right, above 1 promises too much. NaN where nothing was clicked."""
    import numpy as np

    clicked = float(np.sum(labels, dtype=np.float64))
    return float(np.sum(scores, dtype=np.float64)) / clicked if clicked else float("nan")


def ndcg_at(labels: Array, scores: Array, groups: Array, k: int = 10) -> float:
    """Mean over groups of DCG@k over the ideal DCG@k, gain = label (Järvelin & Kekäläinen 2002).

    Ties share their gain evenly (McSherry & Najork 2008). Groups without a click are left out; NaN where all are.
    """
    import numpy as np

    values = [_ndcg(labels[rows], scores[rows], k) for rows in _by_group(groups) if labels[rows].any()]
    return float(np.mean(values)) if values else float("nan")


def _ndcg(labels: Array, scores: Array, k: int) -> float:
    import numpy as np

    size = len(labels)
    discount = np.zeros(size)
    discount[:k] = 1 / np.log2(np.arange(2, min(k, size) + 2))
    _, inverse, counts = np.unique(-np.asarray(scores), return_inverse=True, return_counts=True)
    gains = np.bincount(inverse, weights=labels) / counts
    summed = np.add.reduceat(discount, np.concatenate([[0], counts.cumsum()[:-1]]))
    ideal = np.sort(labels)[::-1] @ discount
    return float(gains @ summed / ideal)


def all_metrics(labels: Array, scores: Array, groups: Array) -> dict[str, float]:
    """The five metrics that Tidegate reports, by their public names."""
    return {
        "auc": auc(labels, scores),
        "gauc": gauc(labels, scores, groups),
        "logloss": logloss(labels, scores),
        "calibration": calibration(labels, scores),
        "ndcg_at_10": ndcg_at(labels, scores, groups),
    }


def reliability(labels: Array, scores: Array, bins: int = 10) -> list[tuple[float, float, int]]:
    """(mean score, share clicked, rows) of `bins` equally filled bins of the scores, lowest first."""
    import numpy as np

    chunks = [rows for rows in np.array_split(np.argsort(scores, kind="stable"), bins) if len(rows)]
    return [(float(scores[rows].mean()), float(labels[rows].mean()), len(rows)) for rows in chunks]
