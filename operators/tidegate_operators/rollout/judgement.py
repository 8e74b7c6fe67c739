"""From evidence to harm, proof or neither."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from tidegate_api.model_deployment import Analysis, Evidence, Metric
from tidegate_operators.rollout.sequential import log_threshold

__all__ = [
    "burn_in",
    "few_readings",
    "harm",
    "lacking_samples",
    "level_of",
    "shows_harm",
    "shows_proof",
    "unproven",
    "unread",
]

_BURN_IN = 100


def burn_in(analysis: Analysis) -> int:
    """A variance is trusted once each side has so many trials; the difference is taken from then on."""
    return max(_BURN_IN, analysis.min_samples)


def level_of(analysis: Analysis, metric: Metric) -> float:
    """The metric's error level: errorLevel, split among the sequential guards; an objective has it whole."""
    if metric.role == "objective":
        return analysis.error_level
    guards = sum(1 for each in analysis.metrics if each.role == "guard" and each.compares)
    return analysis.error_level / max(1, guards)


def shows_harm(analysis: Analysis, metric: Metric, item: Evidence) -> bool:
    """Whether a guard's evidence lies beyond its margin, or too many readings of a threshold failed."""
    if metric.role != "guard":
        return False
    if metric.threshold:
        return item.failures > metric.threshold.failure_limit
    return item.max_log_harm >= log_threshold(level_of(analysis, metric))


def shows_proof(analysis: Analysis, metric: Metric, item: Evidence) -> bool:
    """Whether an objective is shown to lie on the good side of its margin; a guard has nothing to prove."""
    return metric.role != "objective" or item.max_log_good >= log_threshold(analysis.error_level)


def harm(analysis: Analysis, evidence: Iterable[Evidence]) -> Evidence | None:
    """The first guard that shows harm beyond its margin, if any does."""
    return next((item for metric, item in _pairs(analysis, evidence) if shows_harm(analysis, metric, item)), None)


def unproven(analysis: Analysis, evidence: Iterable[Evidence], names: Collection[str] = ()) -> list[Evidence]:
    """Objectives, of these names or all, that are not yet shown to lie on the good side of their margin."""
    pairs = (pair for pair in _pairs(analysis, evidence) if not names or pair[0].name in names)
    return [item for metric, item in pairs if not shows_proof(analysis, metric, item)]


def lacking_samples(analysis: Analysis, evidence: Iterable[Evidence], least: int) -> Evidence | None:
    """The comparing metric that has least samples at this weight, if that is fewer than `least`."""
    items = [item for metric, item in _pairs(analysis, evidence) if metric.compares]
    poorest = min(items, key=_samples, default=None)
    return poorest if poorest is not None and _samples(poorest) < least else None


def unread(analysis: Analysis, evidence: Iterable[Evidence]) -> Evidence | None:
    """The first threshold metric that has never had a reading: missing data is no success."""
    pairs = _pairs(analysis, evidence)
    return next((e for m, e in pairs if m.threshold is not None and e.value is None and not e.failures), None)


def few_readings(analysis: Analysis, evidence: Iterable[Evidence]) -> str | None:
    """Which threshold has had too few readings at this step to fail it, in words; none where each has had enough."""
    for metric, item in _pairs(analysis, evidence):
        least = metric.threshold.failure_limit + 1 if metric.threshold else 0
        if item.step_samples.canary < least:
            return f"{metric.name} needs {least} readings here, has {item.step_samples.canary:.0f}"
    return None


def _samples(item: Evidence) -> float:
    """Trials of the poorer side at this weight."""
    return min(item.step_samples.stable, item.step_samples.canary)


def _pairs(analysis: Analysis, evidence: Iterable[Evidence]) -> Iterator[tuple[Metric, Evidence]]:
    known = {item.metric: item for item in evidence}
    for metric in analysis.metrics:
        yield metric, known.get(metric.name, Evidence(metric=metric.name))
