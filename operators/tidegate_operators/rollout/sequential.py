"""Always-valid test of a difference of two proportions, stratified by interval, and exact.

For the null hypothesis `p_second - p_first <= bound` in every interval, each interval contributes the
e-variable of Turner & Grünwald, "Exact anytime-valid confidence intervals for contingency tables and beyond" (2023):
the likelihood ratio of an alternative, chosen before the interval is seen, to the point of the null nearest to it in
Kullback-Leibler divergence. Its mean under the null is at most 1 whatever the interval's sample sizes and base rate, so
the running product is a test supermartingale, and by Ville's inequality it ever reaches 1/alpha with probability
at most alpha. No normal approximation is involved, and looking at each interval costs nothing.

The alternative is what the past leads to expect under the mixture's prior. So bets stay small while there is but noise,
and the product grows about as the mixture would (Dawid, "Present position and potential developments: some personal
views: statistical theory: the prequential approach", 1984).
"""

from __future__ import annotations

import math

from tidegate_api.model_deployment import Tally
from tidegate_operators.rollout.mixture import expected_drift, log_price, prior_scale

__all__ = ["log_e_value", "log_threshold", "price"]

_EDGE = 1e-7
# Of the first interval's bet this much goes on differences that are so much beyond the bound, at these rates.
_FIRST_BET = 0.2
_RATES, _GROSS = (0.001, 0.01, 0.05, 0.2, 0.5), (0.05, 0.2, 0.5, 0.9)
_MOST_STEPS, _CLOSE = 60, 1e-8
"""Of the distance to the nearest end: there a rate that is hardly off is many times another."""


def log_threshold(alpha: float) -> float:
    """The log e-value at which a null hypothesis falls with error probability alpha."""
    return -math.log(alpha)


def log_e_value(past: tuple[Tally, Tally], interval: tuple[Tally, Tally], bound: float) -> float:
    """Log e-value of one interval against `p_second - p_first <= bound`.

    past: totals of (first, second) before the interval; they alone choose the alternative. Without a past a small part
    of the bet goes evenly on gross differences, so that these need no second interval.
    interval: counts of (first, second) within it. Returns 0.0 where a side has no trials.
    """
    first, second = interval
    if first.trials <= 0 or second.trials <= 0 or abs(bound) >= 1:
        return 0.0
    if not all(side.trials for side in past):
        return _log_first(interval, bound)
    alternative = _alternative(*past, bound)
    return _log_bet(interval, alternative, bound) if alternative[1] - alternative[0] > bound else 0.0


def price(totals: tuple[Tally, Tally], bound: float) -> float:
    """How much of the log e-value noise has cost after these totals of (first, second), if there is harm, about."""
    return log_price(*_seen(*totals, bound))


def _log_first(interval: tuple[Tally, Tally], bound: float) -> float:
    """A mixture of e-variables, the constant 1 among them, is one: what is not bet is kept."""
    gross = [(rate, rate + bound + more) for rate in _RATES for more in _GROSS if 0 < rate + bound + more < 1]
    logs = [_log_bet(interval, alternative, bound) for alternative in gross]
    if not logs:
        return 0.0
    greatest = max(0.0, *logs)
    bet = sum(math.exp(each - greatest) for each in logs) * _FIRST_BET / len(logs)
    return greatest + math.log((1 - _FIRST_BET) * math.exp(-greatest) + bet)


def _log_bet(interval: tuple[Tally, Tally], alternative: tuple[float, float], bound: float) -> float:
    """Log likelihood ratio of an alternative beyond the bound to the point of the null nearest to it."""
    nearest = _nearest_null(alternative, (interval[0].trials, interval[1].trials), bound)
    return sum(_log_ratio(t, a, n) for t, a, n in zip(interval, alternative, nearest, strict=True))


def _alternative(first: Tally, second: Tally, bound: float) -> tuple[float, float]:
    """The rates that the past leads to expect if the difference is beyond the bound; their mean is the past's."""
    difference = min(bound + expected_drift(*_seen(first, second, bound)), 1.0 - 3 * _EDGE)
    rate = _pooled(first, second) - difference * second.trials / (first.trials + second.trials)
    rate = min(max(rate, max(0.0, -difference) + _EDGE), 1.0 - max(0.0, difference) - _EDGE)
    return rate, rate + difference


def _seen(first: Tally, second: Tally, bound: float) -> tuple[float, float, float]:
    """Score beyond the bound, information and greatest scale of the totals, by the variance of both together."""
    pooled = _pooled(first, second)
    variance = pooled * (1.0 - pooled)
    information = 1.0 / (variance / first.trials + variance / second.trials)
    excess = second.events / second.trials - first.events / first.trials - bound
    return excess * information, information, prior_scale(variance)


def _pooled(first: Tally, second: Tally) -> float:
    """The rate of both, never 0 or 1."""
    return (first.events + second.events + 0.5) / (first.trials + second.trials + 1.0)


def _nearest_null(alternative: tuple[float, float], trials: tuple[float, float], bound: float) -> tuple[float, float]:
    """The point (p, p + bound) with the least `sum of trials x KL(alternative | point)`, by bounded Newton steps."""
    low, high = max(0.0, -bound) + _EDGE / 2, min(1.0, 1.0 - bound) - _EDGE / 2
    point = min(
        max(sum(n * a for a, n in zip(_moved(alternative, bound), trials, strict=True)) / sum(trials), low), high
    )
    for _ in range(_MOST_STEPS):
        slope, curvature = _slope(alternative, trials, (point, point + bound))
        following = point - slope / curvature
        if abs(following - point) <= _CLOSE * min(point, 1.0 - point, point + bound, 1.0 - point - bound):
            point = min(max(following, low), high)
            break
        low, high = (low, point) if slope > 0 else (point, high)
        point = following if low < following < high else (low + high) / 2
    return point, point + bound


def _moved(alternative: tuple[float, float], bound: float) -> tuple[float, float]:
    return alternative[0], alternative[1] - bound


def _slope(
    alternative: tuple[float, float], trials: tuple[float, float], null: tuple[float, float]
) -> tuple[float, float]:
    """First and second derivative of `sum of trials x KL(alternative | null)` along the null."""
    slope = curvature = 0.0
    for a, n, p in zip(alternative, trials, null, strict=True):
        spread = p * (1.0 - p)
        slope += n * (p - a) / spread
        curvature += n * (p * p - 2 * a * p + a) / (spread * spread)
    return slope, curvature


def _log_ratio(count: Tally, alternative: float, null: float) -> float:
    events = min(count.events, count.trials)
    return events * math.log(alternative / null) + (count.trials - events) * math.log(
        (1.0 - alternative) / (1.0 - null)
    )
