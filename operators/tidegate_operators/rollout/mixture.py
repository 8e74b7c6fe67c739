"""What is looked for before anything is seen: drifts beyond a bound, of a few scales, and what a score says of them.

Robbins' (1970) mixture of likelihood ratios over half-normal drifts above zero is an e-process for a score that is, in
the limit, a Brownian motion in information time (Jennison & Turnbull, 1997) with a drift of at most zero. One scale
shows drifts of its own size soonest and others late; a few of them, a factor of fifteen in information from one to the
next, lose little on any. Waudby-Smith, Arbour, Sinha, Kennedy & Ramdas, "Time-uniform central limit theory and
asymptotic confidence sequences" (2024), and Bibaut, Kallus & Lindon (2022) for the delayed start, show that estimated
variances do no harm in the limit.
"""

from __future__ import annotations

import math

__all__ = ["expected_drift", "log_mixture", "log_price", "prior_scale", "radius"]

# Differences of these scales are looked for: the noise of so many trials. And the belief in each scale.
_TRIALS, _BELIEFS = (20, 300, 4000), (0.2, 0.4, 0.4)
_SCALES = tuple((math.sqrt(_TRIALS[0] / trials), belief) for trials, belief in zip(_TRIALS, _BELIEFS, strict=True))
"""Scales as parts of the greatest."""
_MOST_STEPS, _CLOSE = 60, 1e-10
_FAR_BELOW = -30.0
_ROOT_TWO_PI = math.sqrt(2 * math.pi)


def prior_scale(variance: float) -> float:
    """The greatest scale of differences looked for. variance: of one trial, in the metric's unit squared."""
    return math.sqrt(variance / _TRIALS[0])


def log_mixture(score: float, information: float, prior: float) -> float:
    """Log e-value against `drift <= 0` of a score with that much information; prior: the greatest scale of drifts."""
    return _mixed(score, information, prior)[0]


def expected_drift(score: float, information: float, prior: float) -> float:
    """The mean of the drift above zero, given the score: the slope of the mixture's logarithm."""
    _, scales = _mixed(score, information, prior)
    return sum(belief * _drift(score, information, scale) for scale, belief in scales)


def log_price(score: float, information: float, prior: float) -> float:
    """What a bet on the expected drift, interval by interval, has lost on the way by noise, about.

    Half the logarithm of one plus the information over the prior's, as for any code that learns a mean on the way.
    """
    _, scales = _mixed(score, information, prior)
    return sum(belief * math.log1p(scale * scale * information) / 2 for scale, belief in scales)


def radius(information: float, prior: float, alpha: float) -> float:
    """Half the width of the confidence sequence: how far from the estimate each end lies, at level alpha an end.

    By Newton's method on the mixture's logarithm, which is convex in the score.
    """
    reached = -math.log(alpha)
    score = math.sqrt(information * (2 * reached + math.log1p(prior * prior * information) + 1))
    for _ in range(_MOST_STEPS):
        log, scales = _mixed(score, information, prior)
        step = (log - reached) / sum(belief * _drift(score, information, scale) for scale, belief in scales)
        score -= step
        if abs(step) <= _CLOSE * abs(score):
            break
    return score / information


def _mixed(score: float, information: float, prior: float) -> tuple[float, list[tuple[float, float]]]:
    """Log of the mixture, and each scale with the belief in it after the score."""
    scales = [prior * part for part, _ in _SCALES]
    logs = [
        math.log(belief) + _log_half_normal(score, information, scale)
        for scale, (_, belief) in zip(scales, _SCALES, strict=True)
    ]
    greatest = max(logs)
    weights = [math.exp(log - greatest) for log in logs]
    whole = sum(weights)
    return greatest + math.log(whole), [(scale, w / whole) for scale, w in zip(scales, weights, strict=True)]


def _log_half_normal(score: float, information: float, scale: float) -> float:
    """Log likelihood ratio of half-normal drifts of one scale to no drift."""
    spread = 1.0 + scale * scale * information
    z = scale * score / math.sqrt(spread)
    return math.log(2.0) - math.log(spread) / 2 + z * z / 2 + _log_normal_below(z)


def _drift(score: float, information: float, scale: float) -> float:
    """The mean of a half-normal drift given the score: a truncated normal's."""
    deviation = scale / math.sqrt(1.0 + scale * scale * information)
    z = deviation * score
    if z <= _FAR_BELOW:
        return deviation / -z
    return deviation * (z + math.exp(-z * z / 2 - _log_normal_below(z)) / _ROOT_TWO_PI)


def _log_normal_below(z: float) -> float:
    """Log of the standard normal's distribution function; its tail by the leading term, where erfc underflows."""
    if z > _FAR_BELOW:
        return math.log(math.erfc(-z / math.sqrt(2.0)) / 2)
    return -z * z / 2 - math.log(-z * _ROOT_TWO_PI)
