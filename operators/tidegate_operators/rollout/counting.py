"""From counter series to counts by interval: per series, with resets per series, on a fixed grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from tidegate_api.model_deployment import Tally
from tidegate_operators.rollout.observed import Window

__all__ = ["Series", "increases", "mean_windows", "totals", "windows"]


@dataclass(frozen=True)
class Series:
    """One counter of one revision: its value at each point of the grid, none where it had no sample."""

    revision: str
    values: tuple[float | None, ...]


def increases(series: Sequence[Series], revision: str, points: int) -> list[float | None]:
    """How much a revision's counters grew in each of the `points - 1` intervals; none where nothing was scraped.

    A counter that falls was reset and counts from zero. A sample that lacks is bridged: what grew meanwhile is counted
    when the next one comes. A counter that was never seen before counts from zero too, provided that other series were
    being scraped at the interval's start; else its history is unknown and the interval is missing.
    """
    scraped = [any(item.values[k] is not None for item in series) for k in range(points)]
    own = [_growths(item.values) for item in series if item.revision == revision]
    return [sum(each[k] for each in own) if scraped[k] and own else None for k in range(points - 1)]


def _growths(values: Sequence[float | None]) -> list[float]:
    """How much one counter grew in each interval, from the last value that was seen of it."""
    found, last = [], values[0]
    for value in values[1:]:
        found.append(_growth(last, value))
        last = last if value is None else value
    return found


def _growth(before: float | None, after: float | None) -> float:
    if after is None:
        return 0.0
    return after - before if before is not None and after >= before else after


def windows(
    metric: str,
    grid: Sequence[datetime],
    stable: str,
    canary: str,
    *,
    events: Sequence[Series],
    trials: Sequence[Series],
    complement: bool = False,
) -> list[Window]:
    """The windows of one metric over a grid. Absent events with trials present are zero; absent trials are missing."""
    sides = [_tallies(side, len(grid), events, trials, complement) for side in (stable, canary)]
    return _paired(metric, grid, *sides)


def totals(series: Sequence[Series], revision: str, points: int) -> float:
    """How much a revision's counters grew over all of the grid."""
    return sum(grown or 0.0 for grown in increases(series, revision, points))


def mean_windows(
    metric: str,
    grid: Sequence[datetime],
    stable: str,
    canary: str,
    *,
    sums: Sequence[Series],
    squares: Sequence[Series],
    counts: Sequence[Series],
) -> list[Window]:
    """The same for a mean: sums and sums of squares of a number, and how often it was counted."""
    sides = [_moments(side, len(grid), sums, squares, counts) for side in (stable, canary)]
    return _paired(metric, grid, *sides)


def _paired(metric: str, grid: Sequence[datetime], stable: Sequence[Tally], canary: Sequence[Tally]) -> list[Window]:
    pairs = zip(grid, grid[1:], stable, canary, strict=False)
    return [Window(metric, start, end, stable=first, canary=second) for start, end, first, second in pairs]


def _tallies(
    revision: str, points: int, events: Sequence[Series], trials: Sequence[Series], complement: bool
) -> list[Tally]:
    pairs = zip(_known(events, trials, revision, points), increases(trials, revision, points), strict=True)
    return [_tally(event, trial, complement) for event, trial in pairs]


def _moments(
    revision: str, points: int, sums: Sequence[Series], squares: Sequence[Series], counts: Sequence[Series]
) -> list[Tally]:
    """Sums and sums of squares by interval; where trials are missing, so is all."""
    grown = (_known(part, counts, revision, points) for part in (sums, squares))
    rows = zip(*grown, increases(counts, revision, points), strict=True)
    return [Tally() if n is None else Tally(events=s or 0.0, squares=q or 0.0, trials=n) for s, q, n in rows]


def _known(events: Sequence[Series], trials: Sequence[Series], revision: str, points: int) -> list[float | None]:
    """Growth of the events; whether an interval was scraped is read off the trials, which every request grows."""
    marks = [Series("", item.values) for item in trials]
    return increases([*events, *marks], revision, points)


def _tally(event: float | None, trial: float | None, complement: bool) -> Tally:
    if trial is None:
        return Tally()
    count = min(event or 0.0, trial)
    return Tally(events=trial - count if complement else count, trials=trial)
