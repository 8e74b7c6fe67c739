"""The arithmetic of a rollout's steps: stages of each strategy, replicas, the fixed grid of intervals."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from tidegate_api.model_deployment import AbTest, BlueGreen, Canary, ModelDeployment, Step

__all__ = ["FULL", "Stage", "canary_replicas", "given_up", "grid_floor", "stages"]

FULL = 100
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
    found: list[Stage] = []
    for step in plan.steps:
        found = _with_step(found, step)
    return tuple(found) if found[-1].weight == FULL else (*found, Stage(FULL, FULL))


def _with_step(found: list[Stage], step: Step) -> list[Stage]:
    if step.set_weight is not None:
        return [*found, Stage(step.set_weight, step.set_weight)]
    last = found[-1] if found else Stage(0, 0)
    return [*found[:-1], _gated(last, step)]


def _gated(stage: Stage, step: Step) -> Stage:
    """The stage with one more pause or analysis after its weight."""
    if step.analysis is not None:
        names = (*stage.objectives, *step.analysis.objectives)
        return replace(stage, min_samples=step.analysis.min_samples or stage.min_samples, objectives=names)
    duration = step.pause.duration if step.pause else None
    return replace(
        stage, pause=stage.pause + (duration or _NONE), until_promoted=duration is None or stage.until_promoted
    )


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
