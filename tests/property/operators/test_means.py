"""The sequential test of means and estimates: its e-process is one, and it holds its level where pooling would lie."""

from __future__ import annotations

import math
from datetime import timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollouts import START
from tidegate_api.model_deployment import Analysis, Evidence, Tally
from tidegate_operators.rollout.counting import Series, mean_windows
from tidegate_operators.rollout.evidence import accumulate
from tidegate_operators.rollout.judgement import harm, unproven
from tidegate_operators.rollout.mixture import expected_drift, log_mixture, prior_scale, radius
from tidegate_operators.rollout.observed import Estimate, Window
from tidegate_operators.rollout.sequential import log_threshold

REWARD = {"name": "reward", "higherIsBetter": True, "margin": 0.0,
          "mean": {"sum": "s{$track}", "sumOfSquares": "q{$track}", "count": "n{$track}"}}  # fmt: skip
SECONDS = 10


def _analysis(role: str, **changed: object) -> Analysis:
    return Analysis.model_validate(
        {"interval": "10s", "minSamples": 100, "metrics": [REWARD | {"role": role} | changed]}
    )


@given(information=st.floats(0.01, 1e6), prior=st.floats(1e-3, 1e3))
def test_under_the_null_the_mixture_s_mean_is_one(information: float, prior: float) -> None:
    """A score under the null is normal with the information as its variance: integrate over it."""
    scores = np.linspace(-12, 12, 48001) * math.sqrt(information)
    density = np.exp(-(scores**2) / (2 * information)) / math.sqrt(2 * math.pi * information)
    widths = prior * math.sqrt(information)
    if widths > 3:  # the mean lies in scores too rare for the grid
        return
    values = np.exp([log_mixture(float(s), information, prior) for s in scores[::40]])
    mean = np.trapezoid(values * density[::40], scores[::40])
    assert mean <= 1.0 + 1e-3


@given(information=st.floats(0.01, 1e8), prior=st.floats(1e-4, 1e3), alpha=st.floats(1e-6, 0.5))
def test_the_interval_ends_where_the_e_process_falls(information: float, prior: float, alpha: float) -> None:
    half = radius(information, prior, alpha)
    reached = log_mixture(half * information, information, prior)
    assert reached == pytest.approx(log_threshold(alpha), abs=1e-6)


def test_the_interval_is_nearly_as_narrow_at_any_time_as_one_that_was_meant_for_it_alone() -> None:
    """Robbins' mixture of one scale is narrowest, 3.0 standard errors to an end, at a time chosen beforehand."""
    for trials in (300, 1000, 10_000, 100_000):
        assert radius(trials, prior_scale(1.0), 0.025) * math.sqrt(trials) <= 1.15 * 3.04


@given(score=st.floats(-60, 20), information=st.floats(0.1, 1e5), prior=st.floats(1e-3, 1.0))
def test_the_expected_drift_is_the_slope_of_the_mixture(score: float, information: float, prior: float) -> None:
    at, step = score * math.sqrt(information), 1e-4 * math.sqrt(information)
    slope = (log_mixture(at + step, information, prior) - log_mixture(at - step, information, prior)) / (2 * step)
    assert expected_drift(at, information, prior) == pytest.approx(slope, rel=1e-3, abs=1e-6)


def _side(generator: np.random.Generator, n: int, scale: float) -> Tally:
    """Rewards of requests: mostly nothing, else log-normal; `scale` is the share that pays."""
    paid = generator.lognormal(0.0, 0.7, generator.binomial(n, scale))
    return Tally(events=float(paid.sum()), squares=float((paid**2).sum()), trials=float(n))


def _ended(seed: int, canary: float, role: str, intervals: int = 200) -> bool:
    """Whether harm (guard) or proof (objective) is found; the baseline doubles and the weight changes on the way."""
    generator = np.random.default_rng(seed)
    analysis, evidence = _analysis(role), [Evidence(metric="reward")]
    for k in range(intervals):
        weight, drift = (0.02, 0.1, 0.3)[3 * k // intervals], 1 + k / intervals
        sizes = generator.poisson([1000 * (1 - weight), 1000 * weight])
        sides = [_side(generator, int(n), 0.05 * drift * f) for n, f in zip(sizes, (1.0, canary), strict=True)]
        at = START + timedelta(seconds=SECONDS * k)
        window = Window("reward", at, at + timedelta(seconds=SECONDS), stable=sides[0], canary=sides[1])
        evidence = accumulate(analysis, evidence, [window], START)
        if role == "guard" and harm(analysis, evidence):
            return True
        if role == "objective" and not unproven(analysis, evidence):
            return True
    return False


def test_equal_rewards_are_seldom_called_harmful_while_the_baseline_doubles_and_weights_change() -> None:
    alarms = sum(_ended(seed, 1.0, "guard") for seed in range(150))
    assert alarms <= 15  # P(more than 15 of 150 at rate 0.05) is below 0.5 %


def test_a_reward_that_falls_by_a_fifth_is_caught() -> None:
    assert sum(_ended(seed, 0.8, "guard") for seed in range(20)) >= 18


def test_a_reward_that_rises_is_proven() -> None:
    assert sum(_ended(seed, 1.25, "objective") for seed in range(20)) >= 18


def test_pooling_would_have_lied_where_weights_follow_the_baseline() -> None:
    """The same traffic pooled: the canary gets its weight while the baseline is high, and looks better than it is."""
    generator = np.random.default_rng(1)
    pooled = [Tally(), Tally()]
    analysis, evidence = _analysis("guard"), [Evidence(metric="reward")]
    for k in range(200):
        weight, paying = (0.02, 0.02, 0.5)[3 * k // 200], (0.03, 0.03, 0.09)[3 * k // 200]
        sizes = [int(1000 * (1 - weight)), int(1000 * weight)]
        sides = [_side(generator, n, paying) for n in sizes]
        pooled = [total.plus(side) for total, side in zip(pooled, sides, strict=True)]
        at = START + timedelta(seconds=SECONDS * k)
        window = Window("reward", at, at + timedelta(seconds=SECONDS), stable=sides[0], canary=sides[1])
        evidence = accumulate(analysis, evidence, [window], START)
    stable, canary = (side.rate or 0.0 for side in pooled)
    assert canary > 1.3 * stable
    (item,) = evidence
    assert item.low is not None
    assert item.high is not None
    assert item.low <= 0 <= item.high


def test_an_external_estimate_is_judged_by_its_newest_reading() -> None:
    external = {"value": "auc{$track}", "standardError": "se{$track}", "sampleSize": "n{$track}"}
    metric = {"name": "auc", "role": "guard", "higherIsBetter": True, "margin": 0.005, "external": external}
    analysis = Analysis.model_validate({"interval": "10s", "minSamples": 100, "metrics": [metric]})
    evidence = [Evidence(metric="auc")]
    for k, n in enumerate((1000.0, 4000.0, 16000.0, 64000.0)):
        at = START + timedelta(seconds=SECONDS * k)
        sides = (Estimate(0.78, 0.5 / n**0.5, n), Estimate(0.74, 0.5 / n**0.5, n))
        window = Window("auc", at, at + timedelta(seconds=SECONDS), estimates=sides)
        evidence = accumulate(analysis, evidence, [window], START)
    (item,) = evidence
    assert item.canary.rate == pytest.approx(0.74)
    assert item.step_samples.canary == 64000
    assert item.difference == pytest.approx(-0.04)
    assert harm(analysis, evidence) is item


@given(growth=st.lists(st.tuples(st.integers(0, 30), st.floats(0, 5)), min_size=1, max_size=10))
def test_sums_and_squares_are_counted_like_trials(growth: list[tuple[int, float]]) -> None:
    points = [START + timedelta(seconds=SECONDS * k) for k in range(len(growth) + 1)]
    count, total, square = [0.0], [0.0], [0.0]
    for n, value in growth:
        count.append(count[-1] + n)
        total.append(total[-1] + n * value)
        square.append(square[-1] + n * value * value)
    series = [[Series("s", tuple(values)), Series("c", tuple(values))] for values in (total, square, count)]
    found = mean_windows("reward", points, "s", "c", sums=series[0], squares=series[1], counts=series[2])
    for window, (n, value) in zip(found, growth, strict=True):
        assert window.canary.trials == n
        assert window.canary.events == pytest.approx(n * value, abs=1e-6)
        assert window.canary.squares == pytest.approx(n * value * value, abs=1e-6)
