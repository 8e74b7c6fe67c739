"""Ask Prometheus what each metric showed in each interval since the last look."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from tidegate_api.durations import format_duration
from tidegate_api.model_deployment import CanaryStatus, External, Metric, ModelDeployment, Tally
from tidegate_operators.adapters.errors import NeighbourError
from tidegate_operators.adapters.prometheus import UNREACHABLE, Prometheus
from tidegate_operators.rollout.counting import Series, mean_windows, totals, windows
from tidegate_operators.rollout.observed import Estimate, Failure, Window
from tidegate_operators.rollout.plausible import (
    is_an_estimate,
    no_events,
    not_an_estimate,
    not_readings,
    not_squares,
    too_many_events,
)
from tidegate_operators.rollout.profiles import Profile, Question, question, track, unseen
from tidegate_operators.rollout.steps import SETTLE, grid_floor

__all__ = ["read_evidence"]

# Catching up after an outage goes by this many intervals a look.
_MOST_INTERVALS = 500
# Counters are looked up from so long before, so that one whose last scrape failed is not taken for a new one.
_LOOKBACK = timedelta(minutes=5)
# Counters are there with the first request, and known with the scrape after it.
_FIRST_SCRAPE = timedelta(minutes=1)
_SIDES = ("stable", "the canary")

_Row = tuple[float | None, float | None, float | None]


@dataclass(frozen=True)
class _Look:
    """One look at Prometheus: whom to compare over which grid."""

    prometheus: Prometheus
    profile: Profile
    deployment: ModelDeployment
    stable: str
    canary: str
    grid: tuple[datetime, ...]


def read_evidence(
    deployment: ModelDeployment, prometheus: Prometheus, profile: Profile, now: datetime
) -> tuple[list[Window], datetime | None, Failure | None]:
    """The windows since the last judged interval, to where they reach, and what could not be read.

    A metric that cannot be answered blinds no other: it has no samples, which holds the rollout. While Prometheus is
    away nothing is judged, and all of it later.
    """
    canary, stable = deployment.status.canary, deployment.status.stable
    if canary is None or stable is None or not deployment.spec.analysis.metrics:
        return [], None, None
    grid = _grid(deployment, canary, now)
    if len(grid) < 2:
        return [], None, _lasting_failure(deployment)
    look = _Look(prometheus, profile, deployment, stable.hash, canary.revision.hash, grid)
    found, failures = [], []
    for metric in deployment.spec.analysis.metrics:
        try:
            read, strange = _read(look, metric)
            found += read
            failures += [strange] if strange else []
        except NeighbourError as error:
            failures.append(error.failure)
    if any(failure.reason == UNREACHABLE for failure in failures):
        return [], None, failures[0]
    return found, grid[-1], next(iter(failures), None)


def _lasting_failure(deployment: ModelDeployment) -> Failure | None:
    """Between grid points nothing is asked: what could not be read at the last one still holds."""
    for condition in deployment.status.conditions:
        if condition.type == "MetricsAvailable" and condition.status == "False":
            return Failure(condition.reason, condition.message)
    return None


def _grid(deployment: ModelDeployment, canary: CanaryStatus, now: datetime) -> tuple[datetime, ...]:
    interval = deployment.spec.analysis.interval
    if canary.judged_until is None:
        return ()
    last = grid_floor(now - SETTLE, interval)
    count = min(max(0, (last - canary.judged_until) // interval), _MOST_INTERVALS)
    return tuple(canary.judged_until + k * interval for k in range(count + 1))


def _read(look: _Look, metric: Metric) -> tuple[list[Window], Failure | None]:
    """The windows of a metric, and what about its numbers cannot be."""
    if metric.threshold is not None:
        return _readings(look, metric, metric.threshold.query)
    if metric.external is not None:
        return _estimated(look, metric, metric.external)
    asked = question(metric, look.profile, _track(look, look.stable, look.canary))
    if asked is None:
        raise NeighbourError("MetricNotSeen", unseen(metric, look.profile))
    return _answer(look, metric, asked)


def _readings(look: _Look, metric: Metric, query: str) -> tuple[list[Window], Failure | None]:
    values = _numbers(look, query, look.canary)
    found = [Window(metric.name, a, b, value=value) for (a, b), value in zip(_pairs(look), values, strict=True)]
    return found, not_readings(metric, query, values)


def _estimated(look: _Look, metric: Metric, external: External) -> tuple[list[Window], Failure | None]:
    """Both sides' estimates; an interval in which one of them is none has none."""
    rows = [_estimates(look, external, side) for side in (look.stable, look.canary)]
    sides = zip(*([_estimate(*row) for row in side] for side in rows), strict=True)
    found = [Window(metric.name, a, b, estimates=_both(*e)) for (a, b), e in zip(_pairs(look), sides, strict=True)]
    strange = (not_an_estimate(metric, name, side) for name, side in zip(_SIDES, rows, strict=True))
    return found, next(filter(None, strange), None)


def _pairs(look: _Look) -> list[tuple[datetime, datetime]]:
    return list(zip(look.grid, look.grid[1:], strict=False))


def _numbers(look: _Look, query: str, revision: str) -> list[float | None]:
    """What a query says of a revision at the end of each interval."""
    asked = query.replace("$track", _track(look, revision))
    return look.prometheus.numbers(asked, look.grid[1:])


def _track(look: _Look, *revisions: str) -> str:
    where = look.deployment.metadata
    return track(where.name, revisions, where.namespace)


def _both(stable: Estimate | None, canary: Estimate | None) -> tuple[Estimate, Estimate] | None:
    """What somebody else estimates of stable and canary; none unless all of it is there."""
    return (stable, canary) if stable and canary else None


def _estimates(look: _Look, external: External, revision: str) -> list[_Row]:
    """Value, standard error and sample size of one side at the end of each interval, as somebody else says."""
    queries = (external.value, external.standard_error, external.sample_size)
    return list(zip(*(_numbers(look, query, revision) for query in queries), strict=True))


def _estimate(value: float | None, error: float | None, size: float | None) -> Estimate | None:
    """The estimate, where it is one (`not_an_estimate` says why it is not)."""
    if value is None or error is None or size is None or not is_an_estimate(value, error, size):
        return None
    return Estimate(value, error, size)


def _answer(look: _Look, metric: Metric, asked: Question) -> tuple[list[Window], Failure | None]:
    events = [series for selector in asked.events for series in _counters(look, selector)]
    trials = [series for selector in asked.trials for series in _counters(look, selector)]
    unseen = no_events(metric, asked.events) if (metric.ratio or metric.mean) and not events else None
    missing = unseen if trials and metric.higher_is_better else None if trials else _nothing_there(look, asked)
    if missing is not None and _has_just_begun(look):
        return [], None
    if missing is not None:
        raise NeighbourError(missing.reason, missing.message)
    if asked.complement and not events:
        raise NeighbourError("BucketNotFound", _no_such_edge(look, asked))
    grid, stable, canary = _with_past(look.grid), look.stable, look.canary
    squares = [series for selector in asked.squares for series in _counters(look, selector)]
    if asked.squares:
        found = mean_windows(asked.metric, grid, stable, canary, sums=events, squares=squares, counts=trials)
    else:
        found = windows(asked.metric, grid, stable, canary, events=events, trials=trials, complement=asked.complement)
    strange = _strange(look, metric, events, squares, trials) or (None if _has_just_begun(look) else unseen)
    return [window for window in found if window.start >= look.grid[0]], strange


def _has_just_begun(look: _Look) -> bool:
    """Whether the first request of the rollout may still be on its way to Prometheus: nothing is wrong yet."""
    canary = look.deployment.status.canary
    if canary is None or canary.step or canary.weight_since is None:
        return False
    return look.grid[-1] - canary.weight_since < _FIRST_SCRAPE


def _strange(
    look: _Look, metric: Metric, events: Sequence[Series], squares: Sequence[Series], trials: Sequence[Series]
) -> Failure | None:
    """What cannot be about the user's own counters, over all that was asked for."""
    points = len(_with_past(look.grid))
    for name, revision in zip(_SIDES, (look.stable, look.canary), strict=True):
        first, second, count = (totals(part, revision, points) for part in (events, squares, trials))
        counted = Tally(events=first, squares=second, trials=count)
        failure = too_many_events(metric, name, counted) if metric.ratio else None
        failure = not_squares(metric, name, counted) if metric.mean else failure
        if failure is not None:
            return failure
    return None


def _nothing_there(look: _Look, asked: Question) -> Failure:
    since = look.grid[0] - _with_past(look.grid)[0]
    selectors = " or ".join(asked.trials)
    message = (
        f"Metric {asked.metric} has no samples: Prometheus had no series {selectors} in the last "
        f"{format_duration(since)}; correct the metric in spec.analysis, or see that whoever counts exports both labels"
    )
    return Failure("MetricNotSeen", message)


def _no_such_edge(look: _Look, asked: Question) -> str:
    edges = look.prometheus.label_values("le", asked.buckets, look.grid[0], look.grid[-1])
    known = sorted(float(edge) for edge in edges if math.isfinite(float(edge)))
    return (
        f"Metric {asked.metric}: the gateway's latency histogram has no such bucket edge (query {asked.events[0]}); "
        f"state slowRequests.above as one of its edges: {', '.join(format(edge, 'g') for edge in known)} ms"
    )


def _counters(look: _Look, selector: str) -> list[Series]:
    return look.prometheus.counters(selector, _with_past(look.grid))


def _with_past(grid: Sequence[datetime]) -> list[datetime]:
    """The grid, begun earlier by the lookback: at least one interval, and 60 at the most."""
    interval = grid[1] - grid[0]
    before = min(60, max(1, _LOOKBACK // interval))
    return [grid[0] - k * interval for k in range(before, 0, -1)] + list(grid)
