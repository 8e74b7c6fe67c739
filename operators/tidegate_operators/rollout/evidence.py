"""From interval counts to evidence: running totals, e-processes and the confidence sequence of each metric."""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import datetime
from typing import Any, Literal

from tidegate_api.hashes import short_hash
from tidegate_api.model_deployment import Analysis, Evidence, Metric, StepSamples, Tally
from tidegate_operators.rollout.judgement import burn_in, level_of, shows_harm, shows_proof
from tidegate_operators.rollout.mixture import log_mixture, prior_scale, radius
from tidegate_operators.rollout.observed import Estimate, Window
from tidegate_operators.rollout.sequential import log_e_value
from tidegate_operators.rollout.wording import metric_sentence

__all__ = ["Shown", "accumulate", "add_window", "against", "redefined", "start_step"]

Shown = Literal["harm", "proof"]

# Of an estimate: beyond these bounds somebody divided by nothing.
_LEAST_VARIANCE = 1e-30


def accumulate(
    analysis: Analysis, evidence: Iterable[Evidence], windows: Iterable[Window], weight_since: datetime | None
) -> list[Evidence]:
    """Evidence with new windows added, in the order of the metrics; metrics no longer listed are dropped."""
    known = {item.metric: item for item in evidence}
    fresh = list(windows)
    for metric in analysis.metrics:
        item = _of_this_definition(metric, known.get(metric.name))
        for window in sorted((w for w in fresh if w.metric == metric.name), key=lambda w: w.start):
            item = add_window(analysis, metric, item, window, weight_since)
        known[metric.name] = _told(analysis, metric, item)
    return [known[metric.name] for metric in analysis.metrics]


def redefined(analysis: Analysis, evidence: Iterable[Evidence]) -> list[str]:
    """Metrics that were edited since their evidence was gathered: it begins anew, and so does their error level."""
    known = {item.metric: item.definition for item in evidence}
    now = {metric.name: short_hash(metric.to_dict()) for metric in analysis.metrics}
    return [name for name, definition in now.items() if known.get(name) not in (None, definition)]


def _of_this_definition(metric: Metric, known: Evidence | None) -> Evidence:
    """What is known of the metric as it stands; of another by that name nothing is taken over."""
    definition = short_hash(metric.to_dict())
    if known is None or known.definition not in (None, definition):
        return Evidence(metric=metric.name, definition=definition)
    return known.model_copy(update={"definition": definition})


def start_step(evidence: Iterable[Evidence]) -> list[Evidence]:
    """The same evidence at the start of a new weight: totals stay, the step's samples begin anew."""
    return [item.model_copy(update={"step_samples": StepSamples()}) for item in evidence]


def add_window(analysis: Analysis, metric: Metric, item: Evidence, window: Window, since: datetime | None) -> Evidence:
    """A metric's evidence after one more window; samples of the step count from `since` on, when it got its weight."""
    counted = since is not None and window.start >= since + metric.label_delay
    if metric.threshold:
        return _add_reading(metric, item, window, counted)
    if metric.external:
        window = _as_counts(item, window)
    samples = _step_samples(item.step_samples, window) if counted else item.step_samples
    totals = {"stable": item.stable.plus(window.stable), "canary": item.canary.plus(window.canary)}
    return _tested(metric, item, window, _compared(analysis, metric, item, window) | totals | {"step_samples": samples})


def _step_samples(samples: StepSamples, window: Window) -> StepSamples:
    return StepSamples(stable=samples.stable + window.stable.trials, canary=samples.canary + window.canary.trials)


def _add_reading(metric: Metric, item: Evidence, window: Window, counted: bool) -> Evidence:
    bounds = metric.threshold
    if bounds is None or window.value is None or math.isnan(window.value):
        return item
    low = -math.inf if bounds.min is None else bounds.min
    high = math.inf if bounds.max is None else bounds.max
    failed = not low <= window.value <= high
    value = window.value if math.isfinite(window.value) else item.value
    samples = item.step_samples.model_copy(update={"canary": item.step_samples.canary + counted})
    return item.model_copy(update={"value": value, "failures": item.failures + failed, "step_samples": samples})


def _as_counts(item: Evidence, window: Window) -> Window:
    """A cumulative estimate as what it adds to the totals, so that their rate is the estimate."""
    if window.estimates is None:
        return Window(window.metric, window.start, window.end)
    stable, canary = (
        Tally(events=e.value * e.sample_size - total.events, trials=e.sample_size - total.trials)
        for e, total in zip(window.estimates, (item.stable, item.canary), strict=True)
    )
    return Window(window.metric, window.start, window.end, stable, canary, estimates=window.estimates)


def _compared(analysis: Analysis, metric: Metric, item: Evidence, window: Window) -> dict[str, Any]:
    """The score and its information after this window; before the burn-in is over, nothing but the prior."""
    if metric.external:
        return _of_estimates(item, window.estimates)
    if not window.stable.trials or not window.canary.trials:
        return {}
    sides = item.stable.plus(window.stable), item.canary.plus(window.canary)
    if item.prior is None:
        return _prior(analysis, sides)
    variance = sum(s2 / now.trials for s2, now in zip(_variances(*sides), (window.stable, window.canary), strict=True))
    difference = _rate(window.canary) - _rate(window.stable)
    return _with_difference(item.score + difference / variance, item.information + 1 / variance) if variance else {}


def _of_estimates(item: Evidence, estimates: tuple[Estimate, Estimate] | None) -> dict[str, Any]:
    """The newest estimates stand for all before them; the first ones only say what scale to look for."""
    variance = sum(each.standard_error * each.standard_error for each in estimates) if estimates else 0.0
    if estimates is None or not _LEAST_VARIANCE < variance < 1 / _LEAST_VARIANCE:
        return {}
    information = 1 / variance
    if item.prior is None:
        return {"prior": prior_scale(max(e.standard_error * e.standard_error * e.sample_size for e in estimates))}
    return _with_difference((estimates[1].value - estimates[0].value) * information, information)


def _with_difference(score: float, information: float) -> dict[str, Any]:
    return {"score": score, "information": information, "difference": score / information}


def _prior(analysis: Analysis, sides: tuple[Tally, Tally]) -> dict[str, Any]:
    variance = max(_variances(*sides))
    if min(side.trials for side in sides) < burn_in(analysis) or not variance:
        return {}
    return {"prior": prior_scale(variance)}


def _variances(stable: Tally, canary: Tally) -> tuple[float, float]:
    """Variance of one trial on each side, never below that of both together: few trials may show none at all."""
    pooled = _variance(stable.plus(canary))
    return max(pooled, _variance(stable)), max(pooled, _variance(canary))


def _variance(side: Tally) -> float:
    mean = _rate(side)
    squares = side.events if side.squares is None else side.squares
    return max(0.0, squares / side.trials - mean * mean)


def _rate(side: Tally) -> float:
    return side.rate or 0.0


def _tested(metric: Metric, item: Evidence, window: Window, update: dict[str, Any]) -> Evidence:
    """Both e-processes after this window, with their running maxima."""
    found = item.model_copy(update=update)
    if metric.mean or metric.external:
        log_harm, log_good = _mixtures(metric, found)
    else:
        log_harm = item.log_harm + _log_e(metric, item, window, "harm")
        log_good = item.log_good + _log_e(metric, item, window, "proof")
    maxima = {"max_log_harm": max(item.max_log_harm, log_harm), "max_log_good": max(item.max_log_good, log_good)}
    return found.model_copy(update={"log_harm": log_harm, "log_good": log_good} | maxima)


def _mixtures(metric: Metric, item: Evidence) -> tuple[float, float]:
    if item.prior is None or not item.information:
        return 0.0, 0.0
    beyond = metric.harmful_way * item.score - (metric.margin or 0.0) * item.information
    first, second = (log_mixture(score, item.information, item.prior) for score in (beyond, -beyond))
    return first, second


def against(metric: Metric, stable: Tally, canary: Tally, shows: Shown) -> tuple[tuple[Tally, Tally], float]:
    """The sides in that order, and the bound, with which `second - first > bound` is what is to be shown.

    The null hypothesis of proof, `harm >= margin`, is `first - second <= -margin` of those of harm.
    """
    sides = (canary, stable) if metric.harmful_way < 0 else (stable, canary)
    margin = metric.margin or 0.0
    return (sides, margin) if shows == "harm" else (sides[::-1], -margin)


def _log_e(metric: Metric, item: Evidence, window: Window, shows: Shown) -> float:
    past, bound = against(metric, item.stable, item.canary, shows)
    now, _ = against(metric, window.stable, window.canary, shows)
    return log_e_value(past, now, bound)


def _told(analysis: Analysis, metric: Metric, item: Evidence) -> Evidence:
    """What follows from the totals, for a reader: interval, error spent, and the sentence."""
    if metric.compares:
        item = item.model_copy(update=_interval(analysis, metric, item) | _error(analysis, metric, item))
    return item.model_copy(update={"message": metric_sentence(analysis, metric, item)})


def _error(analysis: Analysis, metric: Metric, item: Evidence) -> dict[str, Any]:
    against = item.max_log_harm if metric.role == "guard" else item.max_log_good
    return {"error_level": level_of(analysis, metric), "error_spent": round(math.exp(-max(0.0, against)), 6)}


def _interval(analysis: Analysis, metric: Metric, item: Evidence) -> dict[str, Any]:
    """The confidence sequence of the difference, narrowed by what it was before, and at one with the verdict."""
    if item.prior is None or not item.information or item.difference is None:
        return {}
    half = radius(item.information, item.prior, level_of(analysis, metric))
    low, high = item.difference - half, item.difference + half
    kept_low, kept_high = max(low, _or(item.low, low)), min(high, _or(item.high, high))
    low, high = (kept_low, kept_high) if kept_low <= kept_high else (low, high)
    low, high = _at_one_with_verdict(analysis, metric, item, low, high)
    return {"low": low, "high": high}


def _or(value: float | None, otherwise: float) -> float:
    return otherwise if value is None else value


def _at_one_with_verdict(
    analysis: Analysis, metric: Metric, item: Evidence, low: float, high: float
) -> tuple[float, float]:
    """The e-process decides: where it has (not) fallen, the interval does not (does) hold the margin."""
    margin, way = metric.margin or 0.0, metric.harmful_way
    harm = sorted((way * low, way * high))
    if metric.role == "guard":
        harm[0] = max(harm[0], margin) if shows_harm(analysis, metric, item) else min(harm[0], margin)
    else:
        harm[1] = min(harm[1], margin) if shows_proof(analysis, metric, item) else max(harm[1], margin)
    ends = sorted(way * end for end in (harm[0], max(harm)))
    return ends[0], ends[1]
