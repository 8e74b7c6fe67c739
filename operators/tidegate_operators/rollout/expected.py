"""When traffic would show harm, or its absence, where each interval holds just what is to be expected.

The tests are the judge's own. The time is about the median of rollouts: noise makes some sooner and some later. The
bets of the test of proportions go by the rates so far, and what these err has its price, as for any code that learns a
parameter on the way (Rissanen, "Stochastic complexity and modeling", 1986); the mixture for means has it in it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from tidegate_api.model_deployment import Analysis, Evidence, Metric, Tally
from tidegate_operators.rollout.evidence import Shown, add_window, against
from tidegate_operators.rollout.judgement import level_of
from tidegate_operators.rollout.observed import Window
from tidegate_operators.rollout.sequential import log_threshold, price
from tidegate_operators.rollout.simulation import Rate, window_of
from tidegate_operators.rollout.steps import FULL

__all__ = ["YEAR", "Leg", "Traffic", "first_time"]

YEAR = 365 * 86400.0
_GROWTH = 0.02
"""Later intervals are taken together, each so much of the time so far: what they add hardly changes any more."""
_START = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Leg:
    """A time with one weight: the canary's percent, and seconds."""

    weight: float
    seconds: float


@dataclass(frozen=True)
class Traffic:
    """Rates of stable and canary in one metric, and requests a second of both together; a request is a trial."""

    rates: tuple[Rate, Rate]
    per_second: float


def first_time(analysis: Analysis, metric: Metric, traffic: Traffic, legs: Sequence[Leg], shows: Shown) -> float | None:
    """Seconds along the legs until harm beyond the margin, or proof of none, is shown; none where it is not."""
    item, level = Evidence(metric=metric.name), log_threshold(level_of(analysis, metric))
    for weight, start, span in _spans(analysis, legs):
        item = add_window(analysis, metric, item, _window(metric, traffic, weight, span, item), None)
        if (item.max_log_harm if shows == "harm" else item.max_log_good) - _price(metric, item, shows) >= level:
            return start + span
    return None


def _price(metric: Metric, item: Evidence, shows: Shown) -> float:
    """What noise costs the bets on proportions; the mixture for means has that in it."""
    if metric.mean or metric.external or not (item.stable.trials and item.canary.trials):
        return 0.0
    totals, bound = against(metric, item.stable, item.canary, shows)
    return price(totals, bound)


def _spans(analysis: Analysis, legs: Sequence[Leg]) -> Iterator[tuple[float, float, float]]:
    """Weight, start and length in seconds of each interval."""
    interval, start = analysis.interval.total_seconds(), 0.0
    for leg in legs:
        end = start + leg.seconds
        while start < end:
            span = min(max(interval, _GROWTH * start), end - start)
            yield leg.weight, start, span
            start += span


def _window(metric: Metric, traffic: Traffic, weight: float, seconds: float, before: Evidence) -> Window:
    """What an interval is expected to hold, after what was `before`."""
    requests = traffic.per_second * seconds
    trials = (requests * (FULL - weight) / FULL, requests * weight / FULL)
    first, second = (_expected(metric, rate, n) for rate, n in zip(traffic.rates, trials, strict=True))
    totals = (before.stable.plus(first), before.canary.plus(second))
    return window_of(metric, (_START, _START + timedelta(seconds=1)), (first, second), totals, traffic.rates)


def _expected(metric: Metric, rate: Rate, trials: float) -> Tally:
    squares = trials * (rate.deviation**2 + rate.mean**2) if metric.mean or metric.external else None
    return Tally(events=trials * rate.mean, trials=trials, squares=squares)
