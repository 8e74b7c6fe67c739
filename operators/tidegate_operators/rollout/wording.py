"""What a metric shows, in one sentence: the same in status, Events, log and registry."""

from __future__ import annotations

from datetime import datetime, timedelta

from tidegate_api.annotations import KNOWN
from tidegate_api.model_deployment import Analysis, Evidence, Metric, ModelDeployment, RevisionStatus, Tally
from tidegate_operators.rollout.judgement import burn_in, level_of, shows_harm, shows_proof
from tidegate_operators.rollout.steps import FULL

__all__ = ["capital", "clock", "ignored_sentence", "metric_sentence", "seconds", "share_of"]


def metric_sentence(analysis: Analysis, metric: Metric, item: Evidence) -> str:
    """Counts of both sides, their difference with its confidence sequence, and what follows."""
    if metric.threshold:
        return _threshold_sentence(metric, item)
    if item.canary.rate is None or item.stable.rate is None:
        return f"{metric.name}: no samples of {'the canary' if item.canary.rate is None else 'stable'} yet."
    sides = f"canary {_side(metric, item.canary)}, stable {_side(metric, item.stable)}"
    return f"{metric.name}: {sides}{_difference(analysis, metric, item)}; {_standing(analysis, metric, item)}."


def _side(metric: Metric, side: Tally) -> str:
    rate = side.rate or 0.0
    counts = f"{side.events:.0f} of {side.trials:.0f}" if _is_share(metric) else f"{side.trials:.0f} samples"
    return f"{_amount(metric, rate)} ({counts})"


def _difference(analysis: Analysis, metric: Metric, item: Evidence) -> str:
    if item.difference is None or item.low is None or item.high is None:
        return ""
    found, low, high = (_amount(metric, value, "+") for value in (item.difference, item.low, item.high))
    since = "" if metric.external else f" in the intervals after both sides had {burn_in(analysis)} samples"
    return f", difference {found} ({low} to {high}){since}"


def _standing(analysis: Analysis, metric: Metric, item: Evidence) -> str:
    margin, level = _amount(metric, metric.margin or 0.0), f"(error level {level_of(analysis, metric):g})"
    if metric.role == "objective":
        verb = "is proven to keep" if shows_proof(analysis, metric, item) else "is not yet proven to keep"
        return f"it {verb} within {margin} {level}"
    verb = "lies beyond" if shows_harm(analysis, metric, item) else "is not shown to lie beyond"
    return f"the harm {verb} the margin of {margin} {level}"


def _threshold_sentence(metric: Metric, item: Evidence) -> str:
    bounds = metric.threshold
    if bounds is None or (item.value is None and not item.failures):
        return f"{metric.name}: no reading yet."
    value = f"{item.value:g}" if item.value is not None else "no finite number"
    return f"{metric.name}: {value} with {item.failures} failed readings of {bounds.failure_limit} tolerated."


def _is_share(metric: Metric) -> bool:
    return not (metric.mean or metric.external)


def _amount(metric: Metric, value: float, sign: str = "") -> str:
    return f"{100 * value:{sign}z.2f} %" if _is_share(metric) else f"{value:{sign}z.4g}"


def share_of(deployment: ModelDeployment, weight: int) -> str:
    """What the canary has, in words: of a test by values nobody knows the share beforehand."""
    test = deployment.spec.strategy.ab_test
    if test is not None and test.values and 0 < weight < FULL:
        return f"the requests whose {test.header} is {' or '.join(test.values)}"
    return f"{weight} % of the traffic"


def ignored_sentence(annotation: str, value: str, canary: RevisionStatus | None) -> str:
    """An annotation that says nothing to anybody, and what it would have to say."""
    if annotation not in KNOWN:
        return f"The annotation {annotation} is none that Tidegate knows ({', '.join(KNOWN)}), so that nothing is done."
    remedy = f"set it to {canary.hash} for {canary.title}" if canary else "no rollout is under way: take it away"
    return f"The annotation {annotation} is {value}, which names no revision, so that nothing is done; {remedy}."


def seconds(duration: timedelta) -> str:
    """A duration in whole seconds."""
    return f"{duration.total_seconds():.0f} s"


def clock(moment: datetime) -> str:
    """A moment that a sentence names: it stays the same while time passes, as a countdown would not."""
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"


def capital(text: str) -> str:
    """A sentence begins with a capital."""
    return text[:1].upper() + text[1:]
