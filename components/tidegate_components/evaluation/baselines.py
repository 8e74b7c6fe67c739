"""The two baselines of every run: popularity, and a logistic regression on the model's own inputs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tidegate_components.evaluation.metrics import auc
from tidegate_components.models.inputs import Arrays, Inputs

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

__all__ = ["logistic_regression", "popularity"]

_PRIOR_ROWS = 10
_STRENGTHS = (0.01, 0.1)


def popularity(train: Arrays, test: Arrays, inputs: Inputs) -> Array:
    """The item's share of clicks in the training set, drawn to the overall share with a weight of ten rows; [N]."""
    import numpy as np

    column = inputs.id_columns.index("item_id")
    items = train.ids[:, column]
    rows = int(max(items.max(), test.ids[:, column].max())) + 1
    overall = float(train.labels.mean())
    clicks = np.bincount(items, weights=train.labels, minlength=rows)
    shown = np.bincount(items, minlength=rows)
    shares: Array = (clicks + _PRIOR_ROWS * overall) / (shown + _PRIOR_ROWS)
    scores: Array = shares[test.ids[:, column]]
    return scores


def logistic_regression(train: Arrays, validation: Arrays, test: Arrays, inputs: Inputs) -> Array:
    """Probabilities [N] of an L2 logistic regression on exactly what Wide & Deep reads.

    Every id is one-hot (an unknown id is all zero), the numbers are scaled the same. Its strength is chosen on the
    validation set, as the model's epoch is.
    """
    from sklearn.linear_model import LogisticRegression

    matrix, held_out = _matrix(train, train, inputs), _matrix(validation, train, inputs)
    fits = [LogisticRegression(C=strength, max_iter=200).fit(matrix, train.labels) for strength in _STRENGTHS]
    best = max(fits, key=lambda fit: auc(validation.labels, fit.predict_proba(held_out)[:, 1]))
    scores: Array = best.predict_proba(_matrix(test, train, inputs))[:, 1]
    return scores


def _matrix(data: Arrays, train: Arrays, inputs: Inputs) -> Any:
    """Sparse [N, one column per known id + numbers]."""
    import torch
    from scipy import sparse  # type: ignore[import-untyped]

    from tidegate_components.models.scoring import Scale

    blocks, start = [], 0
    for bag in inputs.bags:
        ids = data.ids[:, start : start + len(bag.columns)]
        start += len(bag.columns)
        blocks.append(_one_hot(ids, bag.rows, empty_is_zero=len(bag.columns) > 1))
    blocks.append(sparse.csr_matrix(Scale(inputs)(torch.from_numpy(data.dense)).numpy()))
    return sparse.hstack(blocks).tocsr()


def _one_hot(ids: Array, rows: int, empty_is_zero: bool) -> Any:
    import numpy as np
    from scipy import sparse

    there = (ids >= (1 if empty_is_zero else 0)) & (ids < rows)
    row, column = np.nonzero(there)
    return sparse.csr_matrix((np.ones(len(row)), (row, ids[row, column])), shape=(len(ids), rows))
