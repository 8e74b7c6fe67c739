"""The arithmetic of a rollout's steps: stages of each strategy, replicas, the fixed grid of intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from tidegate_api.model_deployment import AbTest, BlueGreen, Canary, ModelDeployment, Step

__all__ = [
    "FULL",
    "SETTLE",
    "Stage",
    "canary_replicas",
    "given_up",
    "grid_floor",
    "leads_to_all",
    "stages",
    "time_allowed",
]

FULL = 100
SETTLE = timedelta(seconds=2)
"""A sample stamped before a grid point may reach Prometheus a moment after it."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NONE = timedelta(0)
# What users who choose the new revision by a header's value are taken to be, where pods are counted.
_CHOSEN_SHARE = 10


@dataclass(frozen=True)
class Stage:
    """A weight in percent, and what must be before the next one.

    pause: waits added up; until_promoted: a pause without duration. min_samples, objectives: what an analysis step
    asks. keep: how long stable stays beside it, which no promotion shortens. limit: longest stay, from when the weight
    holds.
    capacity: the percent of stable's pods that must be ready.
    """

    weight: int
    capacity: int
    pause: timedelta = _NONE
    until_promoted: bool = False
    min_samples: int | None = None
    objectives: tuple[str, ...] = ()
    keep: timedelta = _NONE
    limit: timedelta | None = None


def stages(deployment: ModelDeployment, at_once: bool) -> tuple[Stage, ...]:
    """The stages of a rollout; it always ends with all of the traffic.

    at_once: the first revision, and one that a person went back to, are not judged.
    """
    strategy = deployment.spec.strategy
    last = Stage(FULL, FULL)
    if at_once:
        return (last,)
    if strategy.blue_green is not None:
        return _switched(strategy.blue_green)
    if strategy.ab_test is not None:
        return (_tested(deployment, strategy.ab_test), last)
    return _stepped(strategy.canary) if strategy.canary is not None else (last,)


def _switched(plan: BlueGreen) -> tuple[Stage, ...]:
    preview = Stage(0, FULL, until_promoted=not plan.auto_promotion_enabled)
    return (preview, Stage(FULL, FULL, keep=plan.scale_down_delay))


def _tested(deployment: ModelDeployment, plan: AbTest) -> Stage:
    """A test runs for minDuration at the least; where there is nothing to prove, maxDuration is as good a length."""
    share = plan.percent or _CHOSEN_SHARE
    proves = any(metric.role == "objective" for metric in deployment.spec.analysis.metrics)
    stated = None if proves else plan.max_duration
    shortest = plan.min_duration or stated or _NONE
    return Stage(share, share, pause=shortest, limit=plan.max_duration if proves else None)


def _stepped(plan: Canary) -> tuple[Stage, ...]:
    """One stage for each weight, with what follows it; pauses before the first weight are at weight 0."""
    groups: list[tuple[int, list[Step]]] = []
    for step in plan.steps:
        if step.set_weight is not None:
            groups.append((step.set_weight, []))
        elif groups:
            groups[-1][1].append(step)
        else:
            groups.append((0, [step]))
    found = tuple(_stage(weight, steps) for weight, steps in groups)
    return found if found[-1].weight == FULL else (*found, Stage(FULL, FULL))


def _stage(weight: int, steps: list[Step]) -> Stage:
    pauses = [step.pause.duration for step in steps if step.pause]
    asked = [step.analysis for step in steps if step.analysis]
    return Stage(
        weight,
        capacity=weight,
        pause=sum((pause for pause in pauses if pause is not None), _NONE),
        until_promoted=None in pauses,
        min_samples=max((each.min_samples for each in asked if each.min_samples), default=None),
        objectives=tuple(name for each in asked for name in each.objectives),
    )


def leads_to_all(following: Sequence[Stage]) -> bool:
    """Whether the stage before these is the last one that does not have all of the traffic, or has it already."""
    return not following or following[0].weight == FULL


def canary_replicas(weight: int, stable_replicas: int) -> int:
    """Pods that a weight needs: ceil(weight x stable replicas), and one at the least."""
    return max(1, math.ceil(weight * stable_replicas / FULL))


def given_up(stage: Stage, replicas: int, max_unavailable: int) -> int:
    """Pods that stable gives up to the canary, of `replicas` in all, where nodes have room for no more.

    Both sides together always have `replicas - max_unavailable` pods at work.
    """
    return min(replicas, canary_replicas(stage.capacity, max(1, replicas - max_unavailable)))


def grid_floor(moment: datetime, interval: timedelta) -> datetime:
    """The last point of the fixed grid at or before a moment; the grid starts at the epoch, for everybody."""
    return _EPOCH + ((moment - _EPOCH) // interval) * interval


def time_allowed(deployment: ModelDeployment, stage: Stage) -> timedelta:
    """How long a stage may take: progressDeadline, beside its own waits and that for the slowest outcome."""
    late = max((metric.label_delay for metric in deployment.spec.analysis.metrics), default=_NONE)
    return deployment.spec.progress_deadline + stage.pause + stage.keep + late
