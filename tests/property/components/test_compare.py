"""Intervals and differences: DeLong against all pairs, coverage by simulation, the bootstrap as resampling."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tidegate_components.evaluation.compare import GUARDS, OBJECTIVES, Compared, Margins, compare, verdict_of
from tidegate_components.evaluation.delong import area_of, difference_of, variance_of
from tidegate_components.evaluation.estimates import Statistic, bootstrap, estimate, ratio
from tidegate_components.evaluation.measure import Settings, measure, statistics_of
from tidegate_components.evaluation.metrics import logloss
from tidegate_components.evaluation.predictions import Rows
from tidegate_components.evaluation.ranking import rank

pytestmark = pytest.mark.xdist_group("simulated")  # drawn once for all

MARGINS = Margins(OBJECTIVES, GUARDS)
PAIRS = st.lists(
    st.tuples(st.integers(0, 1), *[st.integers(0, 8).map(lambda n: n / 8)] * 2, st.integers(0, 4)),
    min_size=4, max_size=40,
)  # fmt: skip


def columns(rows: Any) -> tuple[Any, Any, Any, Any]:
    labels, first, second, groups = (np.array(column) for column in zip(*rows, strict=True))
    return labels, first, second, np.unique(groups, return_inverse=True)[1]


def structural(labels: Any, scores: Any) -> tuple[Any, Any]:
    """V10 of each clicked row and V01 of each other one, from all pairs."""
    above, below = scores[labels == 1][:, None], scores[labels == 0][None]
    wins = (above > below) + 0.5 * (above == below)
    return wins.mean(axis=1), wins.mean(axis=0)


@settings(deadline=None)
@given(PAIRS)
def test_delongs_covariance_is_that_of_all_pairs(rows: Any) -> None:
    labels, first, second, _ = columns(rows)
    assume(2 <= labels.sum() <= len(labels) - 2)
    parts = [structural(labels, scores) for scores in (first, second)]
    wanted = sum(np.cov(parts[0][side], parts[1][side]) / len(parts[0][side]) for side in (0, 1))
    areas = [area_of(rank(scores), labels) for scores in (first, second)]
    for place, area in enumerate(areas):
        assert math.isclose(area.value, parts[place][0].mean(), abs_tol=1e-12)
        assert math.isclose(variance_of(area.components, labels), wanted[place, place], abs_tol=1e-12)
    found = difference_of(*areas, labels)
    assert math.isclose(found.error**2, wanted[0, 0] + wanted[1, 1] - 2 * wanted[0, 1], abs_tol=1e-12)


@settings(deadline=None)
@given(PAIRS)
def test_the_variance_by_group_is_obuchowskis_and_delongs_for_groups_of_one(rows: Any) -> None:
    labels, scores, _, codes = columns(rows)
    assume(2 <= labels.sum() <= len(labels) - 2)
    area = area_of(rank(scores), labels)
    alone = variance_of(area.components, labels, np.arange(len(labels)))
    assert math.isclose(alone, variance_of(area.components, labels), abs_tol=1e-12)
    found = variance_of(area.components, labels, codes)
    above, below = structural(labels, scores)
    groups = [(above[codes[labels == 1] == g], below[codes[labels == 0] == g]) for g in range(codes.max() + 1)]
    gains = np.array([[(one - area.value).sum(), (other - area.value).sum()] for one, other in groups])
    count, has = len(groups), [sum(len(part[side]) > 0 for part in groups) for side in (0, 1)]
    assume(min(has) > 1)
    sizes = labels.sum(), len(labels) - labels.sum()
    wanted = sum(has[s] / (has[s] - 1) * (gains[:, s] ** 2).sum() / sizes[s] ** 2 for s in (0, 1))
    wanted += 2 * count / (count - 1) * (gains[:, 0] * gains[:, 1]).sum() / (sizes[0] * sizes[1])
    assert math.isclose(found, max(wanted, 0), abs_tol=1e-12)


@settings(deadline=None, max_examples=25)
@given(PAIRS)
def test_swapping_the_contenders_flips_the_sign(rows: Any) -> None:
    labels, first, second, codes = columns(rows)
    contenders = Rows(labels, first, codes), Rows(labels, second, codes)
    there = compare(*contenders, Settings(draws=100), MARGINS)
    back = compare(*reversed(contenders), Settings(draws=100), MARGINS)
    for name, one in there.items():
        other = back[name]
        assert (one.challenger, one.baseline) == (other.baseline, other.challenger)
        if one.low is not None and one.high is not None and other.low is not None and other.high is not None:
            assert math.isclose(one.difference or 0, -(other.difference or 0), abs_tol=1e-12)
            assert math.isclose(one.low, -other.high, abs_tol=1e-9)


def test_the_bootstrap_is_resampling_with_poisson_copies() -> None:
    rng = np.random.default_rng(1)
    labels, scores = rng.integers(0, 2, 300).astype(np.int8), rng.random(300)
    rows = Rows(labels, scores)
    statistic = statistics_of(rows, rank(scores), Settings())["logloss"]
    draws = bootstrap([statistic], 200, seed=3)[:, 0]
    again = np.random.default_rng(3)
    copies = np.concatenate([again.poisson(1.0, (count, 300)) for count in (128, 72)])
    wanted = [logloss(np.repeat(labels, times), np.repeat(scores, times)) for times in copies]
    np.testing.assert_allclose(draws, wanted, rtol=1e-9)


def test_draws_spread_as_the_delta_method_says_also_where_clusters_are_thrown_together() -> None:
    rng = np.random.default_rng(2)
    numerator, denominator = rng.gamma(2.0, size=50_000), rng.integers(1, 9, 50_000)
    statistic = ratio(numerator, denominator)
    by_derivative = estimate(statistic)
    by_draws = estimate(Statistic(statistic.sums, statistic.value))
    widths = [(one.high or 0) - (one.low or 0) for one in (by_derivative, by_draws)]
    assert widths[1] == pytest.approx(widths[0], rel=0.08)


@settings(deadline=None, max_examples=20)
@given(PAIRS)
def test_the_derivative_of_normalized_entropy_is_right(rows: Any) -> None:
    labels, scores, _, _ = columns(rows)
    assume(0 < labels.sum() < len(labels))
    statistic = statistics_of(Rows(labels, scores), rank(scores), Settings())["normalized_entropy"]
    assert statistic.gradient is not None
    total = statistic.total
    steps = np.eye(3) * 1e-6
    wanted = [(statistic.value(total + step) - statistic.value(total - step)) / 2e-6 for step in steps]
    np.testing.assert_allclose(statistic.gradient(total), wanted, rtol=1e-4, atol=1e-6)


@settings(deadline=None, max_examples=30)
@given(PAIRS)
def test_every_row_twice_in_its_group_or_an_equal_weight_leaves_values_and_intervals(rows: Any) -> None:
    labels, scores, _, codes = columns(rows)
    plain = measure(Rows(labels, scores, codes), Settings(draws=100))
    twice = Rows(*(np.repeat(part, 2) for part in (labels, scores, codes)))
    for other in (twice, Rows(labels, scores, codes, np.full(len(labels), 2.5))):
        found = measure(other, Settings(draws=100))
        for name in ("auc", "gauc", "logloss", "calibration", "normalized_entropy", "ece", "precision", "recall"):
            for end in ("value", "low", "high"):
                one, same = getattr(plain[name], end), getattr(found[name], end)
                assert (one is None) == (same is None), name
                assert one is None or math.isclose(one, same, rel_tol=1e-9, abs_tol=1e-9), name


def clicks(rng: np.random.Generator, groups: int, each: int) -> Rows:
    """Impressions of users who differ in how much they click, scored without knowing the user."""
    lift = np.repeat(rng.normal(0, 0.7, groups), each)
    appeal = rng.normal(0, 1, groups * each)
    labels = (rng.random(groups * each) < 1 / (1 + np.exp(1 - lift - appeal))).astype(np.int8)
    scores = 1 / (1 + np.exp(1 - appeal))
    return Rows(labels, scores, np.repeat(np.arange(groups), each))


@cache
def simulated() -> tuple[dict[str, float], list[dict[str, tuple[float, float]]]]:
    """Metrics of a million rows, and the intervals of 400 draws of 120 users with 12 rows each."""
    rng = np.random.default_rng(4)
    truth = measure(clicks(rng, 80_000, 12), Settings(draws=100))
    return {name: one.value or 0.0 for name, one in truth.items()}, [_ends(clicks(rng, 120, 12)) for _ in range(400)]


def _ends(rows: Rows) -> dict[str, tuple[float, float]]:
    found = measure(rows, Settings(draws=100))
    return {name: (one.low or 0.0, one.high or 0.0) for name, one in found.items()}


@pytest.mark.parametrize("metric", ["auc", "gauc", "logloss", "calibration", "normalized_entropy", "ndcg_at_10"])
def test_intervals_hold_the_true_value_as_often_as_they_say(metric: str) -> None:
    truth, draws = simulated()
    held = sum(ends[metric][0] <= truth[metric] <= ends[metric][1] for ends in draws)
    assert 0.91 <= held / len(draws) <= 0.985


@cache
def simulated_rows() -> tuple[dict[str, float], list[dict[str, tuple[float, float]]]]:
    """The same without groups and without users who differ: every row is independent."""
    rng = np.random.default_rng(14)

    def alone(count: int) -> Rows:
        scores = 1 / (1 + np.exp(1 - rng.normal(size=count)))
        return Rows((rng.random(count) < scores).astype(np.int8), scores)

    truth = measure(alone(1_000_000), Settings(draws=100))
    return {name: one.value or 0.0 for name, one in truth.items()}, [_ends(alone(600)) for _ in range(400)]


@pytest.mark.parametrize("metric", ["auc", "logloss", "calibration", "normalized_entropy", "recall"])
def test_intervals_of_independent_rows_hold_the_true_value_as_often_as_they_say(metric: str) -> None:
    truth, draws = simulated_rows()
    held = sum(ends[metric][0] <= truth[metric] <= ends[metric][1] for ends in draws)
    assert 0.91 <= held / len(draws) <= 0.985


@cache
def simulated_pairs() -> tuple[dict[str, float], list[dict[str, tuple[float, float]]]]:
    """True differences of a noisy challenger to its baseline, and the intervals of 300 draws of 100 users."""
    rng = np.random.default_rng(24)

    def pair(groups: int, draws: int) -> dict[str, Compared]:
        rows = clicks(rng, groups, 12)
        noisy = rows.scores ** np.exp(rng.normal(0, 0.3, len(rows.scores)))
        return compare(Rows(rows.labels, noisy, rows.codes), rows, Settings(draws=draws), MARGINS)

    truth = {name: one.difference or 0.0 for name, one in pair(60_000, 100).items()}
    return truth, [{n: (one.low or 0.0, one.high or 0.0) for n, one in pair(100, 200).items()} for _ in range(300)]


@pytest.mark.parametrize("metric", ["auc", "gauc", "logloss", "ndcg_at_10"])
def test_intervals_of_differences_hold_the_true_one_as_often_as_they_say(metric: str) -> None:
    truth, draws = simulated_pairs()
    held = sum(ends[metric][0] <= truth[metric] <= ends[metric][1] for ends in draws)
    assert 0.9 <= held / len(draws) <= 0.985


def test_the_paired_test_refuses_equal_contenders_as_often_as_it_says() -> None:
    """Two noisy copies of one score on the same rows: p below 0.05 in about 5 % of 400 draws."""
    rng, refused = np.random.default_rng(11), 0
    for _ in range(400):
        rows = clicks(rng, 60, 10)
        pair = [rows.scores + rng.normal(0, 0.1, len(rows.scores)) for _ in range(2)]
        areas = [area_of(rank(scores), rows.labels) for scores in pair]
        refused += difference_of(*areas, rows.labels, rows.codes).p_value < 0.05
    assert 0.02 <= refused / 400 <= 0.085


def test_a_challenger_that_is_the_baseline_passes_and_a_reversed_one_fails() -> None:
    rows = clicks(np.random.default_rng(6), 100, 10)
    same = verdict_of(compare(rows, rows, Settings(draws=200), MARGINS), 0.95)
    assert same.passed
    assert "difference +0.0000" in same.sentence
    turned = Rows(rows.labels, 1 - rows.scores, rows.codes)
    worse = verdict_of(compare(turned, rows, Settings(draws=200), MARGINS), 0.95)
    assert not worse.passed
    assert "worse than the baseline, AUC" in worse.sentence


def test_a_challenger_that_ranks_as_well_but_promises_double_fails_by_its_guards() -> None:
    rows = clicks(np.random.default_rng(7), 200, 10)
    doubled = Rows(rows.labels, np.minimum(rows.scores * 2, 1), rows.codes)
    found = compare(doubled, rows, Settings(draws=200), Margins({}, GUARDS))
    assert not found["calibration_error"].passed
    assert not found["logloss"].passed
    assert "calibration error" in verdict_of(found, 0.95).sentence


def test_too_few_rows_are_no_proof() -> None:
    rng = np.random.default_rng(8)
    rows = clicks(rng, 10, 6)
    noisy = Rows(rows.labels, np.clip(rows.scores + rng.normal(0, 0.05, 60), 0, 1), rows.codes)
    verdict = verdict_of(compare(noisy, rows, Settings(draws=200), MARGINS), 0.95)
    assert not verdict.passed
    assert "not shown to be as good as the baseline" in verdict.sentence
