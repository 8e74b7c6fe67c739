"""A rollout on simulated traffic, moved by the operator's own `decide`: what would happen, and when.

One request is one trial of each metric, and is counted labelDelay later. Pods and gateway do at once what they are
told; the clock goes from one grid interval to the next. Pure but for the random generator that the caller hands over.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Literal, Protocol

from tidegate_api.annotations import PROMOTE
from tidegate_api.model_deployment import (
    CanaryStatus,
    Metric,
    ModelDeployment,
    ModelDeploymentStatus,
    ResolvedModel,
    RevisionStatus,
    Tally,
)
from tidegate_operators.rollout.course import stage_of
from tidegate_operators.rollout.decide import decide
from tidegate_operators.rollout.observed import Decision, Estimate, Observed, Routes, Server, Window
from tidegate_operators.rollout.steps import grid_floor

__all__ = ["Behaviour", "Draws", "Ending", "Outcome", "Rate", "simulate", "window_of"]

START = datetime(2026, 1, 1, tzinfo=UTC)
_SETTLING = timedelta(seconds=2)
_DAY = timedelta(days=1)
_PATIENCE = timedelta(hours=1)
"""A simulated rollout that waits for a person whom nobody sends is followed for so long."""
_REPLICAS = 10
_OLD, _NEW = (
    ResolvedModel(digest="sha256:" + letter * 64, uri="simulated://", version=version)
    for letter, version in (("a", "1"), ("b", "2"))
)

Outcome = Literal["promoted", "rolledBackForHarm", "timedOut", "held"]
_OUTCOMES: dict[str, Outcome] = {"promoted": "promoted", "rolledBack": "rolledBackForHarm", "timedOut": "timedOut"}


class Draws(Protocol):
    """What is drawn with: the methods of `numpy.random.Generator` that are used."""

    def poisson(self, lam: float) -> float:
        """How often something happened that is expected `lam` times."""

    def binomial(self, n: int, p: float) -> float:
        """How many of `n` trials had an event."""

    def normal(self, loc: float, scale: float) -> float:
        """A normal number."""


@dataclass(frozen=True)
class Rate:
    """How one side behaves in one metric: events per trial, or the mean of a number with its deviation."""

    mean: float
    deviation: float = 0.0


@dataclass(frozen=True)
class Behaviour:
    """How both sides behave, by metric: (stable, canary), and how long it is looked at.

    swing: over each day the rates of both sides go to so many times what is given, and back.
    person: how long it takes until somebody promotes a rollout that waits for a person; none: nobody does.
    """

    rates: Mapping[str, tuple[Rate, Rate]]
    requests_per_second: float
    longest: timedelta
    swing: float = 1.0
    person: timedelta | None = None

    def at(self, metric: Metric, moment: datetime) -> tuple[Rate, Rate]:
        """Rates of stable and canary at a time of the day; a threshold's reading does not swing."""
        stable, canary = self.rates[metric.name]
        if metric.threshold or self.swing == 1:
            return stable, canary
        times = 1 + (self.swing - 1) * (1 - math.cos(math.tau * ((moment - START) / _DAY))) / 2
        highest = math.inf if metric.mean or metric.external else 1.0
        first, second = (Rate(min(each.mean * times, highest), each.deviation * times) for each in (stable, canary))
        return first, second


@dataclass(frozen=True)
class Ending:
    """How a simulated rollout ended: after how long, at what weight, and the sentence of its verdict."""

    outcome: Outcome
    seconds: float
    weight: int
    message: str


@dataclass
class _Traffic:
    """What was sent, by interval, and what has been counted of it. Before the rollout stable had all of it."""

    deployment: ModelDeployment
    behaviour: Behaviour
    draws: Draws
    sent: list[tuple[int, int]] = field(default_factory=list)
    totals: dict[str, tuple[Tally, Tally]] = field(default_factory=dict)

    def windows(self, weight: int, span: tuple[datetime, datetime]) -> tuple[Window, ...]:
        """What each metric shows of one interval, in which the canary has this weight."""
        self.sent.append(self._trials(weight))
        return tuple(self._window(metric, span) for metric in self.deployment.spec.analysis.metrics)

    def _trials(self, weight: int) -> tuple[int, int]:
        expected = self.behaviour.requests_per_second * self.deployment.spec.analysis.interval.total_seconds()
        stable, canary = (int(self.draws.poisson(expected * share / 100)) for share in (100 - weight, weight))
        return stable, canary

    def _window(self, metric: Metric, span: tuple[datetime, datetime]) -> Window:
        late = -(-metric.label_delay // self.deployment.spec.analysis.interval)
        rates = self.behaviour.at(metric, span[0] - late * self.deployment.spec.analysis.interval)
        if metric.threshold:
            return Window(metric.name, *span, value=rates[1].mean)
        trials = self.sent[-1 - late] if late < len(self.sent) else self._trials(0)
        stable, canary = (_drawn(metric, rate, n, self.draws) for rate, n in zip(rates, trials, strict=True))
        before = self.totals.get(metric.name, (Tally(), Tally()))
        totals = self.totals[metric.name] = (before[0].plus(stable), before[1].plus(canary))
        return window_of(metric, span, (stable, canary), totals, rates)


@dataclass
class _World:
    """A cluster that has done whatever the last decision said."""

    deployment: ModelDeployment
    decision: Decision
    now: datetime

    def look(self, windows: tuple[Window, ...] = (), until: datetime | None = None) -> None:
        status = self.decision.status
        plans = self.decision.plans
        servers = {p.revision.hash: Server(max(_REPLICAS, p.min_replicas), _REPLICAS * 100) for p in plans}
        routes = Routes(self.decision.weights, accepted=True)
        observed = Observed(_NEW, servers, routes, windows=windows, judged_until=until)
        self.deployment = self.deployment.model_copy(update={"status": status})
        self.decision = decide(self.deployment, observed, self.now)


def simulate(deployment: ModelDeployment, behaviour: Behaviour, draws: Draws) -> Ending:
    """Run one rollout to its end, or to `behaviour.longest`."""
    world = _beginning(deployment)
    interval, weight = deployment.spec.analysis.interval, 0
    traffic = _Traffic(deployment, behaviour, draws)
    while world.decision.status.canary is not None and world.now - START <= behaviour.longest:
        _settle(world)
        canary = world.decision.status.canary
        if canary is None:
            break
        if _waited_in_vain(world, canary, behaviour):
            break
        _promote_if_due(world, canary, behaviour)
        weight = world.decision.status.weight
        end = grid_floor(world.now, interval) + interval
        windows = traffic.windows(weight, (end - interval, end))
        world.now = end
        world.look(windows, end if canary.judged_until is not None else None)
    return _ending(world, weight)


def _beginning(deployment: ModelDeployment) -> _World:
    """Version 1 serves all traffic, and the source has just named version 2."""
    stable = RevisionStatus(hash="00000000", **_OLD.model_dump())
    status = ModelDeploymentStatus(stable=stable)
    fresh = deployment.model_copy(
        update={
            "status": status,
            "metadata": deployment.metadata.model_copy(update={"annotations": {}}),
            "spec": deployment.spec.model_copy(update={"paused": False}),
        }
    )
    resting = Decision(status, (), {stable.hash: 100}, (), _SETTLING)
    world = _World(fresh, resting, START)
    world.look()
    return world


def _settle(world: _World) -> None:
    """Pods come up and the gateway takes the weights, until the present weight holds."""
    for _ in range(4):
        canary = world.decision.status.canary
        if canary is None or canary.effective_since is not None:
            return
        world.now += _SETTLING
        world.look()


def _waiting_since(world: _World, canary: CanaryStatus) -> datetime | None:
    """Since when the rollout is at a weight that waits for somebody's promotion; none where it is not."""
    waits = stage_of(world.deployment, world.decision.status, canary).until_promoted
    return canary.effective_since if waits else None


def _waited_in_vain(world: _World, canary: CanaryStatus, behaviour: Behaviour) -> bool:
    """Whether nobody comes, and guards have had their time: to go on to the horizon would tell nothing more."""
    since = _waiting_since(world, canary)
    patience = max(_PATIENCE, 10 * world.deployment.spec.analysis.interval)
    return behaviour.person is None and since is not None and world.now - since >= patience


def _promote_if_due(world: _World, canary: CanaryStatus, behaviour: Behaviour) -> None:
    """Have somebody promote it once the time has come; the annotation is taken away where it has acted."""
    since = _waiting_since(world, canary)
    due = behaviour.person is not None and since is not None and world.now - since >= behaviour.person
    annotations = {PROMOTE: canary.revision.hash} if due and PROMOTE not in canary.spent else {}
    metadata = world.deployment.metadata.model_copy(update={"annotations": annotations})
    world.deployment = world.deployment.model_copy(update={"metadata": metadata})


def window_of(
    metric: Metric,
    span: tuple[datetime, datetime],
    sides: tuple[Tally, Tally],
    totals: tuple[Tally, Tally],
    rates: tuple[Rate, Rate],
) -> Window:
    """What a comparing metric shows of an interval: its counts, or estimates of all until then (`totals`)."""
    if not metric.external:
        return Window(metric.name, *span, stable=sides[0], canary=sides[1])
    first, second = (_estimate(total, rate) for total, rate in zip(totals, rates, strict=True))
    return Window(metric.name, *span, estimates=(first, second) if all(total.trials for total in totals) else None)


def _estimate(total: Tally, rate: Rate) -> Estimate:
    n = max(1.0, total.trials)
    return Estimate(total.rate or 0.0, rate.deviation / n**0.5, total.trials)


def _drawn(metric: Metric, rate: Rate, trials: int, draws: Draws) -> Tally:
    """Events of so many trials; of a number, its sum by the central limit theorem."""
    if not trials or metric.threshold:
        return Tally()
    if not (metric.mean or metric.external):
        return Tally(events=float(draws.binomial(trials, rate.mean)), trials=trials)
    total = draws.normal(trials * rate.mean, rate.deviation * trials**0.5)
    return Tally(events=total, trials=trials, squares=trials * (rate.deviation**2 + rate.mean**2))


def _ending(world: _World, weight: int) -> Ending:
    status = world.decision.status
    seconds = (world.now - START).total_seconds()
    if status.canary is not None or status.verdict is None:
        return Ending("held", seconds, weight, status.message or "")
    return Ending(_OUTCOMES[status.verdict.outcome], seconds, weight, status.verdict.message)
