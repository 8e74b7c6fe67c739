"""Metrics of ranked probabilities: labels [N] in {0, 1}, scores [N] probabilities, groups [N] ids, weights [N].

Every function is exact: ties and weights mean what they mean in scikit-learn. Sources and formulas: docs/evaluation.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    from tidegate_components.evaluation.ranking import Runs

    Array = np.ndarray[Any, Any]

__all__ = [
    "all_metrics",
    "auc",
    "calibration",
    "ece",
    "gains",
    "gauc",
    "logloss",
    "ndcg_at",
    "normalized_entropy",
    "precision",
    "precision_at",
    "recall",
    "recall_at",
    "reliability",
    "row_losses",
]


def auc(labels: Array, scores: Array, weights: Array | None = None) -> float:
    """Area under the ROC curve, ties counting a half (Mann & Whitney 1947). NaN where there is one class only."""
    import numpy as np

    from tidegate_components.evaluation.ranking import group_auc, rank, runs_of

    labels, scores = np.asarray(labels), np.asarray(scores)
    return float(group_auc(runs_of(rank(scores), labels, weights))[0][0]) if len(labels) else float("nan")


def gauc(labels: Array, scores: Array, groups: Array, weights: Array | None = None) -> float:
    """AUC within each group, weighted by the group's rows or their weight; one-class groups are left out (Zhu 2017).

    NaN where no group has both classes.
    """
    import numpy as np

    from tidegate_components.evaluation.ranking import group_auc

    values, weight = group_auc(_grouped(labels, scores, groups, weights))
    judged = ~np.isnan(values)
    return float(values[judged] @ weight[judged] / weight[judged].sum()) if judged.any() else float("nan")


def _grouped(labels: Array, scores: Array, groups: Array, weights: Array | None = None) -> Runs:
    import numpy as np

    from tidegate_components.evaluation.ranking import dense_codes, group_runs, rank

    return group_runs(rank(np.asarray(scores)), np.asarray(labels), dense_codes(np.asarray(groups)), weights)


def row_losses(labels: Array, scores: Array) -> Array:
    """Negative log likelihood of rows [N] in nats; scores are kept 2.2e-16 from 0 and 1, as scikit-learn does."""
    import numpy as np

    tiny = np.finfo(np.float64).eps
    sure = np.clip(np.asarray(scores, dtype=np.float64), tiny, 1 - tiny)
    losses: Array = -np.log(np.where(np.asarray(labels) == 1, sure, 1 - sure))
    return losses


def logloss(labels: Array, scores: Array, weights: Array | None = None) -> float:
    """Mean negative log likelihood in nats."""
    import numpy as np

    return float(np.average(row_losses(labels, scores), weights=weights))


def normalized_entropy(labels: Array, scores: Array, weights: Array | None = None) -> float:
    """LogLoss over the entropy of the share clicked: below 1 the scores say more than that share (He et al. 2014).

    NaN where there is one class only.
    """
    import numpy as np

    share = float(np.average(labels, weights=weights))
    if not 0 < share < 1:
        return float("nan")
    entropy = -(share * np.log(share) + (1 - share) * np.log(1 - share))
    return float(logloss(labels, scores, weights) / entropy)


def calibration(labels: Array, scores: Array, weights: Array | None = None) -> float:
    """Sum of scores over sum of labels: 1 is right, above 1 promises too much. NaN where nothing was clicked."""
    import numpy as np

    weight = np.float64(1) if weights is None else weights
    clicked = float(np.sum(weight * labels, dtype=np.float64))
    return float(np.sum(weight * scores, dtype=np.float64)) / clicked if clicked else float("nan")


def precision(labels: Array, scores: Array, threshold: float = 0.5, weights: Array | None = None) -> float:
    """Share clicked of the rows whose score is at least `threshold`; NaN where there are none."""
    import numpy as np

    weight = np.ones(len(labels)) if weights is None else weights
    chosen = weight * (np.asarray(scores) >= threshold)
    return float(chosen @ labels / chosen.sum()) if chosen.any() else float("nan")


def recall(labels: Array, scores: Array, threshold: float = 0.5, weights: Array | None = None) -> float:
    """Share of the clicked rows whose score is at least `threshold`; NaN where nothing was clicked."""
    import numpy as np

    weight = np.asarray(labels, dtype=np.float64) if weights is None else weights * labels
    return float(weight @ (np.asarray(scores) >= threshold) / weight.sum()) if weight.any() else float("nan")


def ndcg_at(labels: Array, scores: Array, groups: Array, k: int = 10) -> float:
    """Mean over groups of DCG@k over the ideal DCG@k, gain = label (Järvelin & Kekäläinen 2002).

    Ties share their gain evenly (McSherry & Najork 2008). Groups without a click are left out; NaN where all are.
    """
    import numpy as np

    from tidegate_components.evaluation.ranking import share_of_top

    worth = 1 / np.log2(np.arange(2, k + 2))
    gained, _, clicked = share_of_top(_grouped(labels, scores, groups), worth)
    ideal = np.concatenate([[0.0], np.cumsum(worth)])[np.minimum(clicked, k)]
    return float(np.mean(gained[clicked > 0] / ideal[clicked > 0])) if clicked.any() else float("nan")


def precision_at(labels: Array, scores: Array, groups: Array, k: int = 10) -> float:
    """Mean over groups of the share clicked of the k rows with the greatest scores, or of all where there are fewer."""
    import numpy as np

    from tidegate_components.evaluation.ranking import share_of_top

    gained, rows, _ = share_of_top(_grouped(labels, scores, groups), np.ones(k))
    return float(np.mean(gained / np.minimum(rows, k)))


def recall_at(labels: Array, scores: Array, groups: Array, k: int = 10) -> float:
    """Mean over groups of the share of a group's clicked rows that are among its k with the greatest scores.

    Groups without a click are left out; NaN where all are.
    """
    import numpy as np

    from tidegate_components.evaluation.ranking import share_of_top

    gained, _, clicked = share_of_top(_grouped(labels, scores, groups), np.ones(k))
    return float(np.mean(gained[clicked > 0] / clicked[clicked > 0])) if clicked.any() else float("nan")


def all_metrics(labels: Array, scores: Array, groups: Array) -> dict[str, float]:
    """The five metrics that Tidegate reports of every model, by their public names."""
    return {
        "auc": auc(labels, scores),
        "gauc": gauc(labels, scores, groups),
        "logloss": logloss(labels, scores),
        "calibration": calibration(labels, scores),
        "ndcg_at_10": ndcg_at(labels, scores, groups),
    }


def reliability(
    labels: Array, scores: Array, bins: int = 10, weights: Array | None = None
) -> list[tuple[float, float, int]]:
    """(mean score, share clicked, rows) of `bins` equally filled bins of the scores, lowest first.

    Equal scores are never parted, so there are fewer bins where ties are long.
    """
    import numpy as np

    number = _bin_of(np.asarray(scores), bins, weights)
    weight = np.ones(len(number)) if weights is None else weights
    rows, weighed = np.bincount(number, minlength=bins), np.bincount(number, weight, minlength=bins)
    promised = np.bincount(number, weight * scores, minlength=bins)
    clicked = np.bincount(number, weight * labels, minlength=bins)
    return [
        (float(promised[b] / weighed[b]), float(clicked[b] / weighed[b]), int(rows[b]))
        for b in np.flatnonzero(weighed > 0)
    ]


def gains(labels: Array, scores: Array, weights: Array | None = None, points: int = 50) -> list[tuple[float, float]]:
    """(share of rows, share of clicks caught) with the greatest scores first; equal scores are taken in no order.

    Starts at (0, 0) and ends at (1, 1); empty where nothing was clicked.
    """
    import numpy as np

    from tidegate_components.evaluation.ranking import rank, runs_of

    runs = runs_of(rank(np.asarray(scores)), np.asarray(labels), weights)
    positive, weight = runs.positive[::-1], (runs.positive + runs.negative)[::-1]
    if not positive.sum():
        return []
    looked, caught = (np.concatenate([[0.0], np.cumsum(part) / part.sum()]) for part in (weight, positive))
    shares = np.linspace(0, 1, points + 1)
    return [(float(x), float(y)) for x, y in zip(shares, np.interp(shares, looked, caught), strict=True)]


def ece(labels: Array, scores: Array, bins: int = 10, weights: Array | None = None) -> float:
    """Expected calibration error: mean over rows of |mean score - share clicked| of the row's bin (Naeini 2015).

    The bins are those of `reliability`: equally filled (Nguyen & O'Connor 2015), since equally wide ones put nearly all
    of a click-through model's rows into one.
    """
    import numpy as np

    number = _bin_of(np.asarray(scores), bins, weights)
    weight = np.ones(len(number)) if weights is None else weights
    gaps = np.bincount(number, weight * (np.asarray(scores, dtype=np.float64) - labels), minlength=bins)
    return float(np.abs(gaps).sum() / weight.sum())


def _bin_of(scores: Array, bins: int, weights: Array | None) -> Array:
    import numpy as np

    from tidegate_components.evaluation.bins import edges_of

    order = np.argsort(scores)
    weight = None if weights is None else weights[order]
    number: Array = np.searchsorted(edges_of(scores[order], bins, weight), scores, side="left")
    return number
