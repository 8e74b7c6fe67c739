"""The arithmetic of canary steps: stages, replicas, the fixed grid of intervals."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from tidegate_api.model_deployment import ModelDeployment, Step

__all__ = ["FULL", "Stage", "canary_replicas", "grid_floor", "stages"]

FULL = 100
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Stage:
    """A weight in percent, with the pauses that follow it added up; `until_promoted` for a pause without duration."""

    weight: int
    pause: timedelta = timedelta(0)
    until_promoted: bool = False


def stages(deployment: ModelDeployment, first: bool) -> tuple[Stage, ...]:
    """The stages of a rollout; it always ends with all of the traffic. The first revision goes there at once."""
    canary = deployment.spec.strategy.canary
    if first or canary is None:
        return (Stage(FULL),)
    found: list[Stage] = []
    for step in canary.steps:
        found = _with_step(found, step)
    return tuple(found) if found[-1].weight == FULL else (*found, Stage(FULL))


def _with_step(found: list[Stage], step: Step) -> list[Stage]:
    if step.set_weight is not None:
        return [*found, Stage(step.set_weight)]
    last = found[-1] if found else Stage(0)
    duration = step.pause.duration if step.pause else None
    longer = Stage(last.weight, last.pause + (duration or timedelta(0)), last.until_promoted or duration is None)
    return [*found[:-1], longer]


def canary_replicas(weight: int, stable_replicas: int) -> int:
    """Pods that a weight needs: ceil(weight x stable replicas), and one at the least."""
    return max(1, math.ceil(weight * stable_replicas / FULL))


def grid_floor(moment: datetime, interval: timedelta) -> datetime:
    """The last point of the fixed grid at or before a moment; the grid starts at the epoch, for everybody."""
    return _EPOCH + ((moment - _EPOCH) // interval) * interval
