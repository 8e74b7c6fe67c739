"""The sequential test is exact: its claims are checked by enumeration, not by simulation alone."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tidegate_api.model_deployment import Tally
from tidegate_operators.rollout.sequential import log_e_value, log_threshold

RATES = st.floats(0.001, 0.999)
TALLIES = st.builds(
    lambda n, share: Tally(events=float(round(n * share)), trials=float(n)), st.integers(0, 500), st.floats(0, 1)
)


def _binomial(events: int, trials: int, rate: float) -> float:
    return math.comb(trials, events) * rate**events * (1 - rate) ** (trials - events)


def _tally(events: float, trials: float) -> Tally:
    return Tally(events=float(events), trials=float(trials))


NOTHING = st.just((Tally(), Tally()))


@example(
    past=(Tally(events=197, trials=197), Tally(events=0, trials=56)), trials=(1, 5), first=0.5, gap=1.0, bound=0.375
)
@given(past=NOTHING | st.tuples(TALLIES, TALLIES), trials=st.tuples(st.integers(1, 6), st.integers(1, 6)),
       first=RATES, gap=st.floats(-1, 1), bound=st.floats(-0.5, 0.5))  # fmt: skip
def test_under_the_null_the_mean_e_value_is_at_most_one(
    past: tuple[Tally, Tally], trials: tuple[int, int], first: float, gap: float, bound: float
) -> None:
    second = min(max(first + min(gap, bound), 0.0), 1.0)
    if second - first > bound:  # clipped out of the null
        return
    mean = sum(
        _binomial(a, trials[0], first)
        * _binomial(b, trials[1], second)
        * math.exp(log_e_value(past, (_tally(a, trials[0]), _tally(b, trials[1])), bound))
        for a, b in itertools.product(range(trials[0] + 1), range(trials[1] + 1))
    )
    assert mean <= 1 + 1e-6


@given(past=st.tuples(TALLIES, TALLIES), bound=st.floats(-0.5, 0.5))
def test_an_interval_without_both_sides_says_nothing(past: tuple[Tally, Tally], bound: float) -> None:
    assert log_e_value(past, (_tally(0, 0), _tally(3, 5)), bound) == 0.0
    assert log_e_value(past, (_tally(3, 5), _tally(0, 0)), bound) == 0.0


@pytest.mark.parametrize("bound", [0.0, 0.005, 0.1])
def test_gross_harm_falls_in_the_first_interval_and_an_ordinary_one_costs_little(bound: float) -> None:
    nothing = (Tally(), Tally())
    gross = log_e_value(nothing, (_tally(0, 900), _tally(30, 100)), bound)
    assert gross >= log_threshold(0.01)
    ordinary = log_e_value(nothing, (_tally(9, 9000), _tally(0, 100)), bound)
    assert math.log(0.8) - 1e-9 <= ordinary <= 0


def _intervals_until_harm(rates: tuple[float, float], drift: float, seed: int, margin: float) -> int | None:
    """Look at each of 300 intervals, with a weight that changes and a baseline that doubles."""
    generator = np.random.default_rng(seed)
    totals, log_e = [_tally(0, 0), _tally(0, 0)], 0.0
    for k in range(300):
        weight, scale = (0.01, 0.05, 0.2)[k // 100], 1 + drift * k / 300
        trials = generator.poisson([2000 * (1 - weight), 2000 * weight])
        events = generator.binomial(trials, np.minimum(np.array(rates) * scale, 1.0))
        now = [_tally(e, n) for e, n in zip(events, trials, strict=True)]
        log_e += log_e_value((totals[0], totals[1]), (now[0], now[1]), margin)
        totals = [total.plus(count) for total, count in zip(totals, now, strict=True)]
        if log_e >= log_threshold(0.05):
            return k + 1
    return None


@pytest.mark.parametrize("drift", [0.0, 1.0])
def test_an_equal_canary_is_seldom_called_harmful_however_often_one_looks(drift: float) -> None:
    alarms = sum(_intervals_until_harm((0.03, 0.03), drift, seed, 0.0) is not None for seed in range(100))
    assert alarms <= 11  # P(more than 11 of 100 at rate 0.05) is below 0.5 %


def test_a_tenth_fewer_clicks_is_found_in_most_rollouts_of_three_hundred_intervals() -> None:
    """3.8 standard errors in all: a test of the same level that looks once, at the end, would find 98 of 100."""
    found = [_intervals_until_harm((0.027, 0.03), 0.0, seed, 0.0) for seed in range(60)]
    assert sum(k is not None for k in found) >= 42


def test_errors_from_a_tenth_of_a_percent_to_two_are_caught_soon() -> None:
    found = [_intervals_until_harm((0.001, 0.02), 0.0, seed, 0.005) for seed in range(20)]
    assert all(k is not None and k <= 110 for k in found)
