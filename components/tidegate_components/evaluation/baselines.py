"""The two baselines of every run: popularity, and a logistic regression on the model's own inputs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tidegate_components.evaluation.metrics import logloss
from tidegate_components.models.arrays import Arrays
from tidegate_components.models.inputs import Inputs

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

__all__ = ["logistic_regression", "popularity"]

_PRIOR_ROWS = 10
_STRENGTHS = (0.001, 0.003, 0.01, 0.1)


def popularity(learned: Arrays, test: Arrays, inputs: Inputs) -> Array:
    """The item's share of clicks in the rows learned from, drawn to the overall share with a weight of ten rows; [N].

    `learned` is training and validation set together, since there is nothing to choose.
    """
    import numpy as np

    from tidegate_components.evaluation.ranking import dense_codes

    column = inputs.id_columns.index("item_id")
    codes = dense_codes(np.concatenate([learned.ids[:, column], test.ids[:, column]]))
    items, rows = codes[: len(learned.labels)], int(codes.max()) + 1
    overall = float(learned.labels.mean())
    clicks = np.bincount(items, weights=learned.labels, minlength=rows)
    shown = np.bincount(items, minlength=rows)
    shares: Array = (clicks + _PRIOR_ROWS * overall) / (shown + _PRIOR_ROWS)
    scores: Array = shares[codes[len(learned.labels) :]]
    return scores


def logistic_regression(train: Arrays, validation: Arrays, test: Arrays, inputs: Inputs) -> Array:
    """Probabilities [N] of an L2 logistic regression on exactly what Wide & Deep reads.

    Every id is one-hot (an unknown id is all zero), the numbers are scaled the same. Its strength is chosen on the
    validation set, as the model's epoch is; like the model it is then fitted anew on both sets.
    """
    matrix, held_out = _matrix(train, inputs), _matrix(validation, inputs)
    found = {
        strength: logloss(validation.labels, _fit(matrix, train.labels, strength).predict_proba(held_out)[:, 1])
        for strength in _STRENGTHS
    }
    both = train.followed_by(validation)
    best = _fit(_matrix(both, inputs), both.labels, min(found, key=lambda strength: found[strength]))
    scores: Array = best.predict_proba(_matrix(test, inputs))[:, 1]
    return scores


def _fit(matrix: Any, labels: Array, strength: float) -> Any:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=strength, max_iter=200).fit(matrix, labels)


def _matrix(data: Arrays, inputs: Inputs) -> Any:
    """Sparse [N, one column per known id + numbers]."""
    import torch
    from scipy import sparse  # type: ignore[import-untyped]

    from tidegate_components.models.numbers import Scale

    blocks, start = [], 0
    for bag in (bag for bag in inputs.bags if bag.columns):  # a cross has none
        ids = data.ids[:, start : start + len(bag.columns)]
        start += len(bag.columns)
        blocks.append(_one_hot(ids, bag.rows, bag.none if len(bag.columns) > 1 else None))
    blocks.append(sparse.csr_matrix(Scale(inputs)(torch.from_numpy(data.dense)).numpy()))
    return sparse.hstack(blocks).tocsr()


def _one_hot(ids: Array, rows: int, none: int | None) -> Any:
    """Sparse [N, rows]; unknown and missing ids, and the id `none` of an empty slot, are all zero."""
    import numpy as np
    from scipy import sparse

    there = (ids >= 0) & (ids < rows) & (ids != none)
    row, column = np.nonzero(there)
    return sparse.csr_matrix((np.ones(len(row)), (row, ids[row, column])), shape=(len(ids), rows))
