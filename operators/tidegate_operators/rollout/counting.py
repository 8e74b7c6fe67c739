"""From counter series to counts by interval: per series, with resets per series, on a fixed grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from tidegate_api.model_deployment import Tally
from tidegate_operators.rollout.observed import Window

__all__ = ["Series", "increases", "windows"]


@dataclass(frozen=True)
class Series:
    """One counter of one revision: its value at each point of the grid, none where it had no sample."""

    revision: str
    values: tuple[float | None, ...]


def increases(series: Sequence[Series], revision: str, points: int) -> list[float | None]:
    """How much a revision's counters grew in each of the `points - 1` intervals; none where nothing was scraped.

    A counter that falls was reset and counts from zero. A counter that appears counts from zero too, provided that
    other series were being scraped at the interval's start; else its history is unknown and the interval is missing.
    """
    scraped = [any(item.values[k] is not None for item in series) for k in range(points)]
    own = [item for item in series if item.revision == revision]
    return [
        sum(_growth(item.values[k], item.values[k + 1]) for item in own) if scraped[k] and own else None
        for k in range(points - 1)
    ]


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
    sides = {side: _tallies(side, len(grid), events, trials, complement) for side in (stable, canary)}
    return [
        Window(metric, grid[k], grid[k + 1], stable=sides[stable][k], canary=sides[canary][k])
        for k in range(len(grid) - 1)
    ]


def _tallies(
    revision: str, points: int, events: Sequence[Series], trials: Sequence[Series], complement: bool
) -> list[Tally]:
    pairs = zip(_known(events, trials, revision, points), increases(trials, revision, points), strict=True)
    return [_tally(event, trial, complement) for event, trial in pairs]


def _known(events: Sequence[Series], trials: Sequence[Series], revision: str, points: int) -> list[float | None]:
    """Growth of the events; whether an interval was scraped is read off the trials, which every request grows."""
    marks = [Series("", item.values) for item in trials]
    return increases([*events, *marks], revision, points)


def _tally(event: float | None, trial: float | None, complement: bool) -> Tally:
    if trial is None:
        return Tally()
    count = min(event or 0.0, trial)
    return Tally(events=trial - count if complement else count, trials=trial)
