"""What a person says of traffic on the command line: `ctr=0.03`, `reward=0.12:0.5`, `1h`."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Annotated

import typer

from tidegate_api.durations import parse_duration
from tidegate_api.errors import TidegateError
from tidegate_api.model_deployment import Metric, ModelDeployment
from tidegate_operators.rollout.simulation import Rate

__all__ = ["RATES", "Json", "Rps", "both_sides", "is_share", "parse_length", "parse_rates"]

_USUAL = "errors 0.1 %, slow requests 1 %, other shares 3 %, means and estimates 1 with deviation 1"
"""What a metric that nobody names is taken to be."""
RATES = (
    "METRIC=RATE, or METRIC=MEAN:DEVIATION of a mean or of an estimate (whose standard error is DEVIATION / root of "
    f"trials); may be repeated. Unnamed metrics: {_USUAL}."
)
_MOST_RPS = 1e9

Rps = Annotated[
    float, typer.Option("--rps", min=0.001, max=_MOST_RPS, help="Requests a second, of both sides together.")
]
Json = Annotated[bool, typer.Option("--json", help="Print numbers for machines.")]


def parse_rates(
    words: Iterable[str], deployment: ModelDeployment, option: str, of_stable: bool = False
) -> dict[str, Rate]:
    """Rates by metric; raises TidegateError for a metric that spec.analysis does not have, or a rate that is none.

    of_stable: thresholds, which look at the canary alone, are refused too.
    """
    metrics = {metric.name: metric for metric in deployment.spec.analysis.metrics if metric.compares or not of_stable}
    found: dict[str, Rate] = {}
    for word in words:
        name, rate = _parsed(word, metrics, option)
        if name in found:
            raise _wrong(option, word, f"each metric once ({name} is there before)")
        found[name] = rate
    return found


def _parsed(word: str, metrics: Mapping[str, Metric], option: str) -> tuple[str, Rate]:
    name, _, text = word.partition("=")
    metric = metrics.get(name)
    if metric is None:
        known = ", ".join(metrics) or "there is none"
        raise _wrong(option, word, f"NAME=RATE with a metric of spec.analysis that this option is about ({known})")
    mean, _, deviation = text.partition(":")
    try:
        rate = Rate(float(mean), float(deviation) if deviation else abs(float(mean)))
    except ValueError:
        raise _wrong(option, word, "a number, or MEAN:DEVIATION of a mean") from None
    if deviation and is_share(metric):
        raise _wrong(option, word, f"NAME=RATE, for {name} is a share: a deviation is of means and estimates only")
    if not math.isfinite(rate.mean) or not 0 <= rate.deviation < math.inf:
        raise _wrong(option, word, "a finite number, and a deviation of 0 or more")
    if is_share(metric) and not 0 <= rate.mean <= 1:
        raise _wrong(option, word, "a share between 0 and 1")
    return name, rate


def parse_length(word: str, option: str) -> timedelta:
    """A length of time as the resource writes it: 90s, 1h; raises TidegateError."""
    try:
        return parse_duration(word)
    except ValueError:
        raise _wrong(option, word, "a whole number and a unit of s, m, h or d, e.g. 1h") from None


def _wrong(option: str, word: str, expected: str) -> TidegateError:
    return TidegateError(
        resource="kubectl tidegate", field=option, value=word, expected=expected, remedy="see --help for examples"
    )


def is_share(metric: Metric) -> bool:
    """Whether the metric is a share of requests or trials, between 0 and 1."""
    return not (metric.mean or metric.external or metric.threshold)


def both_sides(
    deployment: ModelDeployment, stable: Mapping[str, Rate], canary: Mapping[str, Rate]
) -> dict[str, tuple[Rate, Rate]]:
    """Rates of both sides for every metric; a canary that is not named is like stable, and stable as usual."""
    found = {}
    for metric in deployment.spec.analysis.metrics:
        usual = _usual(metric)
        first = stable.get(metric.name, usual)
        found[metric.name] = (first, canary.get(metric.name, first))
    return found


def _usual(metric: Metric) -> Rate:
    if metric.threshold is not None:
        bounds = [bound for bound in (metric.threshold.min, metric.threshold.max) if bound is not None]
        return Rate(sum(bounds) / len(bounds))
    if metric.error_rate:
        return Rate(0.001)
    if metric.slow_requests:
        return Rate(0.01)
    return Rate(0.03) if metric.ratio else Rate(1.0, 1.0)
