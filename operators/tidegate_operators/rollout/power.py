"""How long each step of a rollout must last to see a given harm, or to prove that there is none: no simulation."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from tidegate_api.model_deployment import Metric, ModelDeployment
from tidegate_operators.rollout.expected import YEAR, Leg, Traffic, first_time
from tidegate_operators.rollout.simulation import Rate
from tidegate_operators.rollout.steps import FULL, Stage, leads_to_all, stages, time_allowed

__all__ = ["Sight", "StepPlan", "plan_steps"]

_BISECTIONS = 20

Rates = Mapping[str, tuple[Rate, Rate]]


@dataclass(frozen=True)
class Sight:
    """One metric at one weight. Seconds are from when the weight holds, at about the median of rollouts.

    harm: canary less stable; of a threshold, the reading. samples_seconds: until minSamples; thresholds have none.
    harm_seconds: until the harm is seen, by this step alone; none: not within a year, or never since it is `tolerated`.
    least_harm: the smallest difference that the step, left as soon as it may be, can be expected to show; none where no
    difference is as great. proven_seconds: of an objective that must be proven before the step is left, until it is
    where both sides are alike, with all that the steps before have shown; none: not within a year.
    """

    metric: str
    harm: float
    samples_seconds: float | None
    harm_seconds: float | None
    least_harm: float | None
    tolerated: bool = False
    must_be_proven: bool = False
    proven_seconds: float | None = None


@dataclass(frozen=True)
class StepPlan:
    """One step: its weight, its own pauses, the least it takes, the most it may, and what it can see."""

    weight: int
    pause_seconds: float
    least_seconds: float
    deadline_seconds: float
    sights: tuple[Sight, ...]
    until_promoted: bool = False


def plan_steps(deployment: ModelDeployment, rates: Rates, requests_per_second: float) -> list[StepPlan]:
    """Each stage that is stayed at. rates: of every metric, stable's and the harmful canary's."""
    plan = stages(deployment, at_once=False)
    found: list[StepPlan] = []
    for number, stage in enumerate(plan):
        if stage.weight < FULL or stage.keep or stage.pause or stage.until_promoted:
            before = [Leg(step.weight, step.least_seconds) for step in found]
            last = leads_to_all(plan[number + 1 :])
            proves = _to_be_proven(deployment, stage, last=last)
            found.append(_Step(deployment, stage, rates, requests_per_second, before, proves, last).planned())
    return found


def _to_be_proven(deployment: ModelDeployment, stage: Stage, last: bool) -> frozenset[str]:
    """Objectives without which the stage is not left: all before the step to all of the traffic, else those named."""
    if last:
        return frozenset(metric.name for metric in deployment.spec.analysis.metrics if metric.role == "objective")
    return frozenset(stage.objectives)


@dataclass(frozen=True)
class _Step:
    """One stage, what went before it, and the objectives that must be proven at it."""

    deployment: ModelDeployment
    stage: Stage
    rates: Rates
    per_second: float
    before: Sequence[Leg]
    proves: frozenset[str]
    last: bool

    def planned(self) -> StepPlan:
        """A step whose shares have traffic on both sides compares; thresholds are read at every one that has pods."""
        metrics, stage = self.deployment.spec.analysis.metrics, self.stage
        deadline = (stage.limit or time_allowed(self.deployment, stage)).total_seconds()
        compared = [metric for metric in metrics if metric.compares and 0 < stage.weight < FULL]
        tests = [self._test(metric) for metric in compared]
        sights = [test.sight() for test in tests]
        read = [metric for metric in metrics if metric.threshold and stage.capacity]
        sights += [self._reading(metric) for metric in read]
        pause = (stage.pause + stage.keep).total_seconds()
        least = max([pause, *(self._until(sight, deadline) for sight in sights)])
        shown = [test.least_harm(least) for test in tests] + [None] * len(read)
        found = tuple(replace(sight, least_harm=harm) for sight, harm in zip(sights, shown, strict=True))
        return StepPlan(stage.weight, pause, least, deadline, found, stage.until_promoted)

    def _test(self, metric: Metric) -> _Test:
        legs = self.before if metric.name in self.proves else None
        return _Test(self.deployment, self.stage, metric, self.rates[metric.name], self.per_second, legs)

    def _until(self, sight: Sight, deadline: float) -> float:
        """The end of the interval in which the step has what it needs of a metric; proof counts if it comes in time."""
        interval, proven = self.deployment.spec.analysis.interval.total_seconds(), sight.proven_seconds or 0.0
        needed = max(sight.samples_seconds or 0.0, proven if proven <= deadline else 0.0)
        return max(1, math.ceil(needed / interval)) * interval

    def _reading(self, metric: Metric) -> Sight:
        """A threshold: how long until more readings failed than are tolerated; the last step below 100 waits for it."""
        value, bounds = self.rates[metric.name][1].mean, metric.threshold
        low = -math.inf if bounds is None or bounds.min is None else bounds.min
        high = math.inf if bounds is None or bounds.max is None else bounds.max
        within = low <= value <= high
        failing = ((bounds.failure_limit if bounds else 0) + 1) * self.deployment.spec.analysis.interval.total_seconds()
        waited = failing if self.last and self.stage.weight < FULL else None
        return Sight(metric.name, value, waited, None if within else failing, None, tolerated=within)


@dataclass(frozen=True)
class _Test:
    """One metric that compares, at one stage; `before` are the legs before it where it must be proven here."""

    deployment: ModelDeployment
    stage: Stage
    metric: Metric
    rates: tuple[Rate, Rate]
    per_second: float
    before: Sequence[Leg] | None

    def sight(self) -> Sight:
        """What the stage sees of the metric; its least harm depends on how long the stage lasts."""
        proven = None if self.before is None else self._until_proven(self.before)
        return Sight(
            self.metric.name,
            self.rates[1].mean - self.rates[0].mean,
            self._until_samples(),
            self._until_seen(self.rates, YEAR),
            None,
            tolerated=self.metric.harmful_way * (self.rates[1].mean - self.rates[0].mean) <= self._margin,
            must_be_proven=self.before is not None,
            proven_seconds=proven,
        )

    def least_harm(self, seconds: float) -> float | None:
        """The least difference beyond the margin that is shown after so long."""

        def seen(harm: float) -> bool:
            canary = Rate(self.rates[0].mean + self.metric.harmful_way * harm, self.rates[1].deviation)
            return self._until_seen((self.rates[0], canary), seconds) is not None

        worst = self._worst if math.isfinite(self._worst) else _beyond(seen, self._margin + self.rates[0].deviation)
        if worst <= self._margin or not seen(worst):
            return None
        return self.metric.harmful_way * _least(seen, self._margin, worst)

    def _until_samples(self) -> float:
        poorer = self.per_second * min(self.stage.weight, FULL - self.stage.weight) / FULL
        least = self.stage.min_samples or self.deployment.spec.analysis.min_samples
        return least / poorer + self._delay

    def _until_seen(self, rates: tuple[Rate, Rate], longest: float) -> float | None:
        """Seconds until harm is shown by this stage's traffic alone, outcomes being known only after labelDelay."""
        legs = [Leg(self.stage.weight, max(0.0, longest - self._delay))]
        traffic = Traffic(rates, self.per_second)
        found = first_time(self.deployment.spec.analysis, self.metric, traffic, legs, "harm")
        return None if found is None else found + self._delay

    def _until_proven(self, before: Sequence[Leg]) -> float | None:
        """Seconds of this stage until an objective is proven; 0 where the stages before have done it."""
        legs, alike = [*before, Leg(self.stage.weight, YEAR)], (self.rates[0], self.rates[0])
        traffic = Traffic(alike, self.per_second)
        found = first_time(self.deployment.spec.analysis, self.metric, traffic, legs, "proof")
        return None if found is None else max(0.0, found + self._delay - sum(leg.seconds for leg in before))

    @property
    def _margin(self) -> float:
        return self.metric.margin or 0.0

    @property
    def _delay(self) -> float:
        return self.metric.label_delay.total_seconds()

    @property
    def _worst(self) -> float:
        """The greatest harm that there can be: a share ends at 0 and at 1."""
        if self.metric.mean or self.metric.external:
            return math.inf
        return self.rates[0].mean if self.metric.harmful_way < 0 else 1 - self.rates[0].mean


def _beyond(holds: Callable[[float], bool], start: float) -> float:
    """A value for which a monotone condition holds, by doubling; 0 where none of many does."""
    value = start or 1.0
    for _ in range(_BISECTIONS):
        if holds(value):
            return value
        value *= 2
    return 0.0


def _least(holds: Callable[[float], bool], low: float, high: float) -> float:
    """The least value for which a monotone condition holds; it holds for `high`."""
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high
