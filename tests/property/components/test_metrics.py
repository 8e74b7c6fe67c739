"""Metrics against scikit-learn, to 1e-9: ties, weights, groups of one class."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn.metrics import log_loss, ndcg_score, precision_score, recall_score, roc_auc_score

from tidegate_components.evaluation.measure import Settings, measure
from tidegate_components.evaluation.metrics import (
    auc,
    calibration,
    ece,
    gains,
    gauc,
    logloss,
    ndcg_at,
    normalized_entropy,
    precision,
    precision_at,
    recall,
    recall_at,
    reliability,
)
from tidegate_components.evaluation.predictions import Rows as Judged

Rows = list[tuple[int, float, int, int]]
ROWS = st.lists(
    st.tuples(
        st.integers(0, 1), st.integers(0, 20).map(lambda n: n / 20), st.integers(0, 3), st.integers(1, 5)
    ),
    min_size=2, max_size=60,
)  # fmt: skip
K = st.integers(1, 12)


def columns(rows: Rows) -> tuple[Any, Any, Any, Any]:
    labels, scores, groups, weights = (np.array(column) for column in zip(*rows, strict=True))
    return labels, scores, groups, weights / 3


def both_classes(labels: Any) -> bool:
    return 0 < labels.sum() < len(labels)


def close(found: float, wanted: float) -> bool:
    return math.isclose(found, wanted, rel_tol=1e-9, abs_tol=1e-9)


def like(one: float, other: float) -> bool:
    return close(one, other) or (math.isnan(one) and math.isnan(other))


@settings(deadline=None)
@given(ROWS)
def test_auc_and_logloss(rows: Rows) -> None:
    labels, scores, _, weights = columns(rows)
    for weight in (None, weights):
        if both_classes(labels):
            assert close(auc(labels, scores, weight), roc_auc_score(labels, scores, sample_weight=weight))
        else:
            assert math.isnan(auc(labels, scores, weight))
        wanted = log_loss(labels, scores, labels=[0, 1], sample_weight=weight)
        assert close(logloss(labels, scores, weight), wanted)


@settings(deadline=None)
@given(ROWS)
def test_gauc_weighs_groups_by_rows_or_weight_and_skips_those_of_one_class(rows: Rows) -> None:
    labels, scores, groups, weights = columns(rows)
    masks = [groups == group for group in set(groups) if both_classes(labels[groups == group])]
    for weight in (None, weights):
        found, given_weight = gauc(labels, scores, groups, weight), np.ones(len(labels)) if weight is None else weight
        parts = [
            (given_weight[m].sum(), roc_auc_score(labels[m], scores[m], sample_weight=given_weight[m])) for m in masks
        ]
        wanted = sum(n * a for n, a in parts) / sum(n for n, _ in parts) if parts else math.nan
        assert like(found, wanted)


@settings(deadline=None)
@given(ROWS, K)
def test_ndcg_shares_the_gain_of_ties(rows: Rows, k: int) -> None:
    labels, scores, groups, _ = columns(rows)
    masks = [groups == g for g in set(groups) if labels[groups == g].any()]
    parts = [ndcg_score([labels[m]], [scores[m]], k=k) if m.sum() > 1 else 1.0 for m in masks]
    assert like(ndcg_at(labels, scores, groups, k), float(np.mean(parts)) if parts else math.nan)


@settings(deadline=None)
@given(ROWS, st.integers(0, 20).map(lambda n: n / 20))
def test_precision_and_recall(rows: Rows, threshold: float) -> None:
    labels, scores, _, weights = columns(rows)
    chosen = scores >= threshold
    for weight in (None, weights):
        wanted = precision_score(labels, chosen, sample_weight=weight, zero_division=math.nan)
        assert like(precision(labels, scores, threshold, weight), wanted)
        wanted = recall_score(labels, chosen, sample_weight=weight, zero_division=math.nan)
        assert like(recall(labels, scores, threshold, weight), wanted)


@settings(deadline=None)
@given(ROWS, K)
def test_precision_and_recall_at_k_are_means_over_every_order_of_ties(rows: Rows, k: int) -> None:
    labels, scores, groups, _ = columns(rows)
    found, share = [], []
    for group in set(groups):
        mine = groups == group
        cut = np.sort(scores[mine])[::-1][:k][-1]
        sure, tied = mine & (scores > cut), mine & (scores == cut)
        places = min(k, int(mine.sum())) - int(sure.sum())
        hits = labels[sure].sum() + labels[tied].mean() * places
        found.append(hits / min(k, mine.sum()))
        share += [hits / labels[mine].sum()] if labels[mine].any() else []
    assert close(precision_at(labels, scores, groups, k), float(np.mean(found)))
    assert like(recall_at(labels, scores, groups, k), float(np.mean(share)) if share else math.nan)


@given(ROWS)
def test_calibration_is_promised_over_come(rows: Rows) -> None:
    labels, scores, _, weights = columns(rows)
    wanted = (weights @ scores) / (weights @ labels) if labels.any() else math.nan
    assert like(calibration(labels, scores, weights), wanted)
    assert like(calibration(labels, scores), scores.sum() / labels.sum() if labels.any() else math.nan)


@given(ROWS)
def test_normalized_entropy_is_one_for_who_always_says_the_mean(rows: Rows) -> None:
    labels, _, _, weights = columns(rows)
    assume(both_classes(labels))
    mean = np.full(len(labels), np.average(labels, weights=weights))
    assert close(normalized_entropy(labels, mean, weights), 1.0)


def deciles(scores: Any, times: Any) -> Any:
    """The inverse of the distribution function at 0.1 to 0.9, in whole numbers: numpy's may round to a neighbour."""
    repeated = np.sort(np.repeat(scores, times))
    return np.array([repeated[-(-place * len(repeated) // 10) - 1] for place in range(1, 10)])


@settings(deadline=None)
@given(ROWS)
def test_reliability_and_ece_are_those_of_quantile_bins(rows: Rows) -> None:
    labels, scores, _, weights = columns(rows)
    for weight in (None, weights):
        given_weight = np.ones(len(labels)) if weight is None else weight
        cuts = deciles(scores, np.ones(len(labels), int) if weight is None else np.rint(weight * 3).astype(int))
        bins = [np.searchsorted(cuts, scores, side="left") == place for place in range(10)]
        wanted = [
            (np.average(scores[b], weights=given_weight[b]), np.average(labels[b], weights=given_weight[b]), b.sum())
            for b in bins if b.any()
        ]  # fmt: skip
        np.testing.assert_allclose(reliability(labels, scores, 10, weight), wanted, atol=1e-9)
        shares = [given_weight[b].sum() / given_weight.sum() for b in bins if b.any()]
        gap = sum(part * abs(score - clicked) for part, (score, clicked, _) in zip(shares, wanted, strict=True))
        assert close(ece(labels, scores, 10, weight), gap)


@given(ROWS)
def test_reliability_counts_every_row_once(rows: Rows) -> None:
    labels, scores, _, _ = columns(rows)
    assert sum(count for _, _, count in reliability(labels, scores)) == len(rows)


@given(ROWS)
def test_gains_end_with_every_click(rows: Rows) -> None:
    labels, scores, _, weights = columns(rows)
    curve = gains(labels, scores, weights)
    assert curve == [] if not labels.any() else curve[0] == (0, 0) and close(curve[-1][1], 1)


@settings(deadline=None)
@given(ROWS, K)
def test_measuring_gives_the_very_metrics_within_their_intervals(rows: Rows, k: int) -> None:
    labels, scores, groups, weights = columns(rows)
    codes = np.unique(groups, return_inverse=True)[1]
    found = measure(Judged(labels, scores, codes, weights), Settings(draws=100, k=k, threshold=0.3))
    wanted = {
        "auc": auc(labels, scores, weights), "gauc": gauc(labels, scores, groups, weights),
        "logloss": logloss(labels, scores, weights), "calibration": calibration(labels, scores, weights),
        "normalized_entropy": normalized_entropy(labels, scores, weights), "ece": ece(labels, scores, 10, weights),
        f"ndcg_at_{k}": ndcg_at(labels, scores, groups, k), "precision": precision(labels, scores, 0.3, weights),
        "recall": recall(labels, scores, 0.3, weights), f"precision_at_{k}": precision_at(labels, scores, groups, k),
        f"recall_at_{k}": recall_at(labels, scores, groups, k),
    }  # fmt: skip
    assert set(found) == set(wanted)
    for name, one in found.items():
        assert like(math.nan if one.value is None else one.value, wanted[name]), name
        assert (one.value is None) <= bool(one.reason), name
        if one.value is not None and one.low is not None and one.high is not None:
            assert one.low - 1e-9 <= one.value <= one.high + 1e-9, name


@settings(deadline=None)
@given(ROWS)
def test_what_only_orders_is_the_same_after_a_monotone_change(rows: Rows) -> None:
    labels, scores, groups, weights = columns(rows)
    bent = 1 / (1 + np.exp(3 - 5 * scores))
    assert like(auc(labels, scores, weights), auc(labels, bent, weights))
    assert like(gauc(labels, scores, groups, weights), gauc(labels, bent, groups, weights))
    assert like(ndcg_at(labels, scores, groups), ndcg_at(labels, bent, groups))


@settings(deadline=None)
@given(ROWS)
def test_a_weight_of_two_is_a_row_twice(rows: Rows) -> None:
    labels, scores, groups, _ = columns(rows)
    times = np.arange(len(rows)) % 3 + 1
    again = [np.repeat(part, times) for part in (labels, scores, groups)]
    for metric in (auc, logloss, calibration, normalized_entropy):
        assert like(metric(labels, scores, weights=times), metric(*again[:2]))
    assert like(gauc(labels, scores, groups, times), gauc(*again))
    assert like(ece(labels, scores, weights=times), ece(*again[:2]))
    assert like(precision(labels, scores, 0.4, times), precision(*again[:2], 0.4))


@pytest.mark.parametrize("kind", [np.int64, str, np.uint8])
def test_groups_may_be_of_any_type(kind: Any) -> None:
    labels, scores = np.array([0, 1, 1, 0]), np.array([0.1, 0.9, 0.2, 0.6])
    assert gauc(labels, scores, np.array([7, 7, 200, 200]).astype(kind)) == 0.5


def test_many_distinct_scores_are_exact() -> None:
    rng = np.random.default_rng(5)
    scores, groups = rng.random(200_000), rng.integers(0, 50, 200_000)
    labels = (rng.random(200_000) < scores).astype(np.int8)
    assert close(auc(labels, scores), roc_auc_score(labels, scores))
    parts = [(m.sum(), roc_auc_score(labels[m], scores[m])) for m in (groups == g for g in range(50))]
    assert close(gauc(labels, scores, groups), sum(n * a for n, a in parts) / len(scores))
