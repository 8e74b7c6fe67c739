"""From interval counts to evidence, and from evidence to harm, proof or neither."""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import datetime

from tidegate_api.model_deployment import Analysis, Evidence, Metric, StepSamples, Tally
from tidegate_operators.rollout.observed import Window
from tidegate_operators.rollout.sequential import log_e_value, log_threshold

__all__ = ["accumulate", "harm", "lacking_samples", "start_step", "unproven"]


def accumulate(
    analysis: Analysis, evidence: Iterable[Evidence], windows: Iterable[Window], weight_since: datetime | None
) -> list[Evidence]:
    """Evidence with new windows added, in the order of the metrics; metrics no longer listed are dropped."""
    known = {item.metric: item for item in evidence}
    for metric in analysis.metrics:
        item = known.get(metric.name, Evidence(metric=metric.name))
        for window in sorted((w for w in windows if w.metric == metric.name), key=lambda w: w.start):
            item = _add(analysis, metric, item, window, weight_since)
        known[metric.name] = item.model_copy(update={"message": _sentence(analysis, metric, item)})
    return [known[metric.name] for metric in analysis.metrics]


def _add(analysis: Analysis, metric: Metric, item: Evidence, window: Window, since: datetime | None) -> Evidence:
    if metric.threshold:
        return _add_reading(metric, item, window)
    log_harm = item.log_harm + _log_e_harm(metric, item, window)
    log_good = item.log_good + _log_e_good(metric, item, window)
    counted = since is not None and window.start >= since
    return item.model_copy(
        update={
            "stable": item.stable.plus(window.stable),
            "canary": item.canary.plus(window.canary),
            "step_samples": _step_samples(item.step_samples, window) if counted else item.step_samples,
            "log_harm": log_harm,
            "max_log_harm": max(item.max_log_harm, log_harm),
            "log_good": log_good,
            "max_log_good": max(item.max_log_good, log_good),
        }
    )


def _step_samples(samples: StepSamples, window: Window) -> StepSamples:
    return StepSamples(stable=samples.stable + window.stable.trials, canary=samples.canary + window.canary.trials)


def _add_reading(metric: Metric, item: Evidence, window: Window) -> Evidence:
    bounds = metric.threshold
    if bounds is None or window.value is None or math.isnan(window.value):
        return item
    low = -math.inf if bounds.min is None else bounds.min
    high = math.inf if bounds.max is None else bounds.max
    failed = not low <= window.value <= high
    return item.model_copy(update={"value": window.value, "failures": item.failures + failed})


def _sides(metric: Metric, stable: Tally, canary: Tally) -> tuple[Tally, Tally]:
    """The sides ordered so that `second - first` is the harm."""
    return (canary, stable) if metric.higher_is_better else (stable, canary)


def _log_e_harm(metric: Metric, item: Evidence, window: Window) -> float:
    past, now = _sides(metric, item.stable, item.canary), _sides(metric, window.stable, window.canary)
    return log_e_value(past, now, metric.margin or 0.0)


def _log_e_good(metric: Metric, item: Evidence, window: Window) -> float:
    """The mirror: `harm >= margin` is `first - second <= -margin`."""
    past, now = _sides(metric, item.stable, item.canary), _sides(metric, window.stable, window.canary)
    return log_e_value(past[::-1], now[::-1], -(metric.margin or 0.0))


def _guard_level(analysis: Analysis) -> float:
    """errorLevel, split among the sequential guards."""
    guards = sum(1 for metric in analysis.metrics if metric.role == "guard" and not metric.threshold)
    return analysis.error_level / max(1, guards)


def _harmful(analysis: Analysis, metric: Metric, item: Evidence) -> bool:
    if metric.role != "guard":
        return False
    if metric.threshold:
        return item.failures > metric.threshold.failure_limit
    return item.max_log_harm >= log_threshold(_guard_level(analysis))


def _proven(analysis: Analysis, metric: Metric, item: Evidence) -> bool:
    return metric.role != "objective" or item.max_log_good >= log_threshold(analysis.error_level)


def harm(analysis: Analysis, evidence: Iterable[Evidence]) -> Evidence | None:
    """The first guard that shows harm beyond its margin, if any does."""
    known = {item.metric: item for item in evidence}
    return next(
        (known[m.name] for m in analysis.metrics if m.name in known and _harmful(analysis, m, known[m.name])), None
    )


def unproven(analysis: Analysis, evidence: Iterable[Evidence]) -> list[Evidence]:
    """Objectives that are not yet shown to lie on the good side of their margin."""
    known = {item.metric: item for item in evidence}
    items = ((m, known.get(m.name, Evidence(metric=m.name))) for m in analysis.metrics)
    return [item for metric, item in items if not _proven(analysis, metric, item)]


def lacking_samples(analysis: Analysis, evidence: Iterable[Evidence], both_sides: bool) -> Evidence | None:
    """The comparing metric that has least of minSamples at this weight, if one lacks any.

    both_sides: False at full weight, where stable has no traffic to compare with.
    """
    known = {item.metric: item for item in evidence}
    items = [known.get(m.name, Evidence(metric=m.name)) for m in analysis.metrics if not m.threshold]
    least = min(items, key=lambda item: samples(item, both_sides), default=None)
    return least if least is not None and samples(least, both_sides) < analysis.min_samples else None


def samples(item: Evidence, both_sides: bool) -> float:
    """Trials of the poorer side at this weight."""
    return min(item.step_samples.stable, item.step_samples.canary) if both_sides else item.step_samples.canary


def start_step(evidence: Iterable[Evidence]) -> list[Evidence]:
    """The same evidence at the start of a new weight: totals stay, the step's samples begin anew."""
    return [item.model_copy(update={"step_samples": StepSamples()}) for item in evidence]


def _sentence(analysis: Analysis, metric: Metric, item: Evidence) -> str:
    if metric.threshold:
        return _threshold_sentence(metric, item)
    if item.canary.rate is None or item.stable.rate is None:
        return f"{metric.name}: no samples of {'the canary' if item.canary.rate is None else 'stable'} yet."
    counts = (
        f"{metric.name}: canary {_percent(item.canary.rate)} ({item.canary.events:.0f} of {item.canary.trials:.0f}), "
        f"stable {_percent(item.stable.rate)} ({item.stable.events:.0f} of {item.stable.trials:.0f})"
    )
    return f"{counts}; {_standing(analysis, metric, item)}."


def _standing(analysis: Analysis, metric: Metric, item: Evidence) -> str:
    margin = _percent(metric.margin or 0.0)
    if metric.role == "objective":
        verb = "is proven to keep" if _proven(analysis, metric, item) else "is not yet proven to keep"
        return f"it {verb} within {margin} (error level {analysis.error_level:g})"
    verb = "lies beyond" if _harmful(analysis, metric, item) else "is not shown to lie beyond"
    return f"the harm {verb} the margin of {margin} (error level {_guard_level(analysis):g})"


def _threshold_sentence(metric: Metric, item: Evidence) -> str:
    bounds = metric.threshold
    if bounds is None or item.value is None:
        return f"{metric.name}: no reading yet."
    return f"{metric.name}: {item.value:g} with {item.failures} failed readings of {bounds.failure_limit} tolerated."


def _percent(rate: float) -> str:
    return f"{100 * rate:.2f} %"
