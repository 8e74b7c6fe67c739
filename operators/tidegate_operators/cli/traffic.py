"""What a person says of traffic on the command line: `ctr=0.03`, `reward=0.12:0.5`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from tidegate_api.errors import TidegateError
from tidegate_api.model_deployment import Metric, ModelDeployment
from tidegate_operators.rollout.simulation import Rate

__all__ = ["USUAL", "both_sides", "parse_rates"]

USUAL = "errors 0.1 %, slow requests 1 %, other shares 3 %, means 1 with deviation 1"
"""What a metric that nobody names is taken to be."""


def parse_rates(words: Iterable[str], deployment: ModelDeployment, option: str) -> dict[str, Rate]:
    """Rates by metric; raises TidegateError for a metric that spec.analysis does not have, or a rate that is none."""
    metrics = {metric.name: metric for metric in deployment.spec.analysis.metrics}
    return dict(_parsed(word, metrics, option) for word in words)


def _parsed(word: str, metrics: Mapping[str, Metric], option: str) -> tuple[str, Rate]:
    name, _, text = word.partition("=")
    metric = metrics.get(name)
    if metric is None:
        raise _wrong(option, word, f"NAME=RATE with a metric of spec.analysis ({', '.join(metrics) or 'it has none'})")
    mean, _, deviation = text.partition(":")
    try:
        rate = Rate(float(mean), float(deviation) if deviation else abs(float(mean)))
    except ValueError:
        raise _wrong(option, word, "a number, or MEAN:DEVIATION of a mean") from None
    if _is_share(metric) and not 0 <= rate.mean <= 1:
        raise _wrong(option, word, "a share between 0 and 1")
    return name, rate


def _wrong(option: str, word: str, expected: str) -> TidegateError:
    return TidegateError(
        resource="kubectl tidegate", field=option, value=word, expected=expected, remedy="see --help for examples"
    )


def _is_share(metric: Metric) -> bool:
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
