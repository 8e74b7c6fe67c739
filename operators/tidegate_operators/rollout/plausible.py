"""Numbers that no metric can have: told in the condition MetricsAvailable, for a test is blind to them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from tidegate_api.model_deployment import Metric, Tally
from tidegate_operators.rollout.observed import Failure

__all__ = ["is_an_estimate", "no_events", "not_an_estimate", "not_readings", "not_squares", "too_many_events"]

# What rounding may make of sums.
_SLACK = 1e-6


def not_readings(metric: Metric, query: str, values: Iterable[float | None]) -> Failure | None:
    """No reading at all, or one that is NaN or infinite: NaN is no reading, and infinity is beyond any bound."""
    known = [value for value in values if value is not None]
    if not known:
        said = f"the query {query} yields nothing; correct it in spec.analysis, or see that somebody exports it"
        return Failure("MetricNotSeen", f"Metric {metric.name}: {said}")
    strange = [value for value in known if not math.isfinite(value)]
    if not strange:
        return None
    what = "NaN, which is no reading" if math.isnan(strange[-1]) else f"{strange[-1]:+}".replace("inf", "Inf")
    message = (
        f"Metric {metric.name}: the query {query} yields {what}; correct it in spec.analysis, e.g. a division by 0"
    )
    return Failure("NotANumber", message)


def is_an_estimate(value: float, error: float, size: float) -> bool:
    """Whether a test can go by them."""
    return math.isfinite(value) and 0 < error < math.inf and 0 < size < math.inf


def not_an_estimate(
    metric: Metric, side: str, rows: Sequence[tuple[float | None, float | None, float | None]]
) -> Failure | None:
    """An estimate whose standard error or sample size is not above 0, or a number that is none."""
    for value, error, size in reversed(rows):
        if value is None or error is None or size is None:
            continue
        if is_an_estimate(value, error, size):
            return None
        said = f"value {value:g}, standardError {error:g}, sampleSize {size:g}"
        expected = "a finite value, and a standardError and sampleSize above 0; correct external in spec.analysis"
        return Failure("NotANumber", f"Metric {metric.name}: {side} has {said}, but a test needs {expected}")
    return None


def no_events(metric: Metric, selectors: Iterable[str]) -> Failure:
    """No counter of events on either side, which may be a slip of the pen.

    Of what should be high nothing can be proven by it; of what should be low it is taken for no event, and told.
    """
    field = "mean.sum" if metric.mean else "ratio.events"
    asked = f"Metric {metric.name}: Prometheus has no series {' or '.join(selectors)} of either side"
    remedy = f"correct {field} in spec.analysis, or export the counter with 0 before the first event"
    if metric.higher_is_better:
        return Failure("MetricNotSeen", f"{asked}, and nothing is proven by what nobody counts; {remedy}")
    return Failure("EventsNotSeen", f"{asked}, which is taken for no event so far; {remedy}")


def too_many_events(metric: Metric, side: str, counted: Tally) -> Failure | None:
    """More events than trials: the share is taken for 1 on both sides, which nobody tells apart."""
    if counted.events <= counted.trials * (1 + _SLACK):
        return None
    said = f"{side} has {counted.events:.0f} events in {counted.trials:.0f} trials"
    remedy = "an event is counted once, and its trial too: correct ratio in spec.analysis (are the two swapped?)"
    return Failure("ImpossibleCounts", f"Metric {metric.name}: {said}; {remedy}")


def not_squares(metric: Metric, side: str, counted: Tally) -> Failure | None:
    """A sum of squares below what the sum alone asks for (the variance would be negative)."""
    squares = counted.squares or 0.0
    if not counted.trials or squares * counted.trials >= counted.events * counted.events * (1 - _SLACK):
        return None
    said = f"{side} has sum {counted.events:g}, sumOfSquares {squares:g} and count {counted.trials:g}"
    remedy = "which no numbers have: correct mean in spec.analysis"
    return Failure("ImpossibleCounts", f"Metric {metric.name}: {said}, {remedy}")
