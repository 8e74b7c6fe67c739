"""Metrics against scikit-learn, to 1e-9."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import log_loss, ndcg_score, roc_auc_score

from tidegate_components.evaluation.metrics import auc, calibration, gauc, logloss, ndcg_at, reliability

Rows = list[tuple[int, float, int]]
ROWS = st.lists(
    st.tuples(st.integers(0, 1), st.integers(1, 19).map(lambda n: n / 20), st.integers(0, 3)), min_size=2, max_size=60
)


def columns(rows: Rows) -> tuple[Any, Any, Any]:
    labels, scores, groups = (np.array(column) for column in zip(*rows, strict=True))
    return labels, scores, groups


def both_classes(labels: Any) -> bool:
    return 0 < labels.sum() < len(labels)


@settings(deadline=None)
@given(ROWS)
def test_auc_and_logloss(rows: Rows) -> None:
    labels, scores, _ = columns(rows)
    if both_classes(labels):
        assert math.isclose(auc(labels, scores), roc_auc_score(labels, scores), abs_tol=1e-9)
    else:
        assert math.isnan(auc(labels, scores))
    assert math.isclose(logloss(labels, scores), log_loss(labels, scores, labels=[0, 1]), abs_tol=1e-9)


@settings(deadline=None)
@given(ROWS)
def test_gauc_weighs_groups_by_rows_and_skips_those_of_one_class(rows: Rows) -> None:
    labels, scores, groups = columns(rows)
    parts = [
        (m.sum(), roc_auc_score(labels[m], scores[m])) for g in set(groups) if both_classes(labels[m := groups == g])
    ]
    found = gauc(labels, scores, groups)
    if parts:
        assert math.isclose(found, sum(n * a for n, a in parts) / sum(n for n, _ in parts), abs_tol=1e-9)
    else:
        assert math.isnan(found)


@settings(deadline=None)
@given(ROWS)
def test_ndcg_shares_the_gain_of_ties(rows: Rows) -> None:
    labels, scores, groups = columns(rows)
    masks = [groups == g for g in set(groups) if labels[groups == g].any()]
    parts = [ndcg_score([labels[m]], [scores[m]], k=10) if m.sum() > 1 else 1.0 for m in masks]
    found = ndcg_at(labels, scores, groups)
    assert math.isclose(found, float(np.mean(parts)), abs_tol=1e-9) if parts else math.isnan(found)


@given(ROWS)
def test_calibration_is_promised_over_come(rows: Rows) -> None:
    labels, scores, _ = columns(rows)
    if labels.any():
        assert math.isclose(calibration(labels, scores), scores.sum() / labels.sum(), abs_tol=1e-9)
    else:
        assert math.isnan(calibration(labels, scores))


@given(ROWS)
def test_reliability_counts_every_row_once(rows: Rows) -> None:
    labels, scores, _ = columns(rows)
    assert sum(count for _, _, count in reliability(labels, scores)) == len(rows)
