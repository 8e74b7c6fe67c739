"""Always-valid tests of a difference, stratified by interval: exact for proportions, asymptotic for means.

Proportions. For the null hypothesis `p_second - p_first <= bound` in every interval, each interval contributes the
e-variable of Turner & Grünwald, "Exact anytime-valid confidence intervals for contingency tables and beyond" (2023):
the likelihood ratio of an alternative, chosen before the interval is seen, to the point of the null nearest to it in
Kullback-Leibler divergence. Its mean under the null is at most 1 whatever the interval's sample sizes and base rate, so
the running product is a test supermartingale, and by Ville's inequality it ever reaches 1/alpha with probability
at most alpha. No normal approximation is involved, and looking at each interval costs nothing.

Means and estimates. Weighted by their information, the differences of the intervals add up to a score that is, in the
limit, a Brownian motion with the difference as its drift, in information time (Jennison & Turnbull, 1997). Robbins'
(1970) mixture of likelihood ratios over half-normal drifts beyond the bound is an e-process for it; Waudby-Smith,
Arbour, Sinha, Kennedy & Ramdas, "Time-uniform central limit theory and asymptotic confidence sequences" (2024), and
Bibaut, Kallus & Lindon (2022) for the delayed start, show that estimated variances do no harm in the limit.
"""

from __future__ import annotations

import math

from tidegate_api.model_deployment import Tally

__all__ = ["log_e_value", "log_mixture", "log_threshold", "prior_scale", "radius"]

_EDGE = 1e-7
_SHRINKAGE = 20.0
# Of the first interval's bet this much goes on differences that are so much beyond the bound, at these rates.
_FIRST_BET = 0.2
_RATES, _GROSS = (0.001, 0.01, 0.05, 0.2, 0.5), (0.05, 0.2, 0.5, 0.9)
_MOST_STEPS, _CLOSE = 60, 1e-12
_ROOT_TWO_PI = math.sqrt(2 * math.pi)
# Robbins' mixture is narrowest at information v for a prior variance of about this over v (error level 0.05).
_NARROWEST = 8.8


def log_threshold(alpha: float) -> float:
    """The log e-value at which a null hypothesis falls with error probability alpha."""
    return -math.log(alpha)


def log_e_value(past: tuple[Tally, Tally], interval: tuple[Tally, Tally], bound: float) -> float:
    """Log e-value of one interval against `p_second - p_first <= bound`.

    past: totals of (first, second) before the interval; they alone choose the alternative. Without a past a small part
    of the bet goes evenly on gross differences, so that these need no second interval.
    interval: counts of (first, second) within it. Returns 0.0 where the past gives no reason to doubt the null.
    """
    first, second = interval
    if first.trials <= 0 or second.trials <= 0 or abs(bound) >= 1:
        return 0.0
    if not all(side.trials for side in past):
        return _log_first(interval, bound)
    alternative = _plug_in(*past)
    return _log_bet(interval, alternative, bound) if alternative[1] - alternative[0] > bound else 0.0


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


def _plug_in(first: Tally, second: Tally) -> tuple[float, float]:
    """Each side's rate so far, shrunk towards the pooled rate so that few samples make small bets."""
    pooled = (first.events + second.events + 0.5) / (first.trials + second.trials + 1.0)
    return _shrunk(first, pooled), _shrunk(second, pooled)


def _shrunk(side: Tally, pooled: float) -> float:
    rate = (side.events + _SHRINKAGE * pooled) / (side.trials + _SHRINKAGE)
    return min(max(rate, _EDGE), 1.0 - _EDGE)


def _nearest_null(alternative: tuple[float, float], trials: tuple[float, float], bound: float) -> tuple[float, float]:
    """The point (p, p + bound) with the least `sum of trials x KL(alternative | point)`, by bounded Newton steps."""
    low, high = max(0.0, -bound) + _EDGE / 2, min(1.0, 1.0 - bound) - _EDGE / 2
    point = min(
        max(sum(n * a for a, n in zip(_moved(alternative, bound), trials, strict=True)) / sum(trials), low), high
    )
    for _ in range(_MOST_STEPS):
        slope, curvature = _slope(alternative, trials, (point, point + bound))
        low, high = (low, point) if slope > 0 else (point, high)
        following = point - slope / curvature
        following = following if low < following < high else (low + high) / 2
        if abs(following - point) <= _CLOSE * point:
            return following, following + bound
        point = following
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


def prior_scale(information: float) -> float:
    """The scale of half-normal drifts with which the mixture is narrowest once there is this much information."""
    return math.sqrt(_NARROWEST / information)


def log_mixture(score: float, information: float, prior: float) -> float:
    """Log e-value against `drift <= 0` of a score with that much information, mixed over half-normal drifts above."""
    spread = 1.0 + prior * prior * information
    z = prior * score / math.sqrt(spread)
    return math.log(2.0) - math.log(spread) / 2 + z * z / 2 + _log_normal_below(z)


def radius(information: float, prior: float, alpha: float) -> float:
    """Half the width of the confidence sequence: how far from the estimate each end lies, at level alpha an end."""
    spread = 1.0 + prior * prior * information
    reached = log_threshold(alpha) - math.log(2.0) + math.log(spread) / 2
    z = math.sqrt(2 * max(reached, 0.0) + 1.0)
    for _ in range(_MOST_STEPS):
        below = _log_normal_below(z)
        step = (z * z / 2 + below - reached) / (z + math.exp(-z * z / 2 - below) / _ROOT_TWO_PI)
        z -= step
        if abs(step) <= _CLOSE:
            break
    return z * math.sqrt(spread) / (prior * information)


def _log_normal_below(z: float) -> float:
    """Log of the standard normal's distribution function; its tail by the leading term, where erfc underflows."""
    if z > -30.0:
        return math.log(math.erfc(-z / math.sqrt(2.0)) / 2)
    return -z * z / 2 - math.log(-z * _ROOT_TWO_PI)
