"""How long each step of a rollout must last to see a given harm: arithmetic of the sequential test, no simulation."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tidegate_api.model_deployment import Metric, ModelDeployment
from tidegate_operators.rollout.judgement import level_of
from tidegate_operators.rollout.sequential import prior_scale, radius
from tidegate_operators.rollout.simulation import Rate
from tidegate_operators.rollout.steps import FULL, Stage, stages, time_allowed

__all__ = ["Sight", "StepPlan", "plan_steps"]

_BISECTIONS = 60
_LONGEST = 365 * 86400.0


@dataclass(frozen=True)
class Sight:
    """One metric at one weight: seconds until minSamples, and until the harm is seen (none: never, it is tolerated).

    harm: canary less stable; of a threshold, the reading. least_harm: the smallest difference that the step, left as
    soon as it may be, can be expected to show; none where no difference is as great. Thresholds have no samples.
    """

    metric: str
    harm: float
    samples_seconds: float | None
    harm_seconds: float | None
    least_harm: float | None


@dataclass(frozen=True)
class StepPlan:
    """One step: its weight, its own pauses, the least it takes, the most it may, and what it can see."""

    weight: int
    pause_seconds: float
    least_seconds: float
    deadline_seconds: float
    sights: tuple[Sight, ...]
    until_promoted: bool = False


def plan_steps(
    deployment: ModelDeployment, rates: Mapping[str, tuple[Rate, Rate]], requests_per_second: float
) -> list[StepPlan]:
    """Each stage that is stayed at. rates: of every metric, stable's and the harmful canary's."""
    found = [stage for stage in stages(deployment, at_once=False) if stage.weight < FULL or stage.keep]
    return [_planned(deployment, stage, rates, requests_per_second) for stage in found]


def _planned(
    deployment: ModelDeployment, stage: Stage, rates: Mapping[str, tuple[Rate, Rate]], per_second: float
) -> StepPlan:
    """A step whose shares have traffic on both sides compares; thresholds are read at every one that has pods."""
    metrics, analysis = deployment.spec.analysis.metrics, deployment.spec.analysis
    pause = (stage.pause + stage.keep).total_seconds()
    compared = [metric for metric in metrics if metric.compares and 0 < stage.weight < FULL]
    samples = [_samples_seconds(deployment, stage, metric, per_second) for metric in compared]
    interval = analysis.interval.total_seconds()
    read = [metric for metric in metrics if metric.threshold and stage.capacity]
    rounds = [math.ceil(seconds / interval) * interval for seconds in samples] + [interval] * bool(read)
    least = max([pause, *rounds])
    tests = [_Test(deployment, metric, rates[metric.name], stage.weight, per_second) for metric in compared]
    sights = [
        Sight(test.metric.name, test.harm, seconds, test.seconds_to_see(), test.least_harm(least))
        for test, seconds in zip(tests, samples, strict=True)
    ]
    sights += [_reading(metric, rates[metric.name][1].mean, interval) for metric in read]
    deadline = (stage.limit or time_allowed(deployment, stage)).total_seconds()
    return StepPlan(stage.weight, pause, least, deadline, tuple(sights), stage.until_promoted)


def _reading(metric: Metric, value: float, interval: float) -> Sight:
    """A threshold: how long until more readings failed than are tolerated."""
    bounds = metric.threshold
    low = -math.inf if bounds is None or bounds.min is None else bounds.min
    high = math.inf if bounds is None or bounds.max is None else bounds.max
    failures = bounds.failure_limit + 1 if bounds else 1
    return Sight(metric.name, value, None, None if low <= value <= high else failures * interval, None)


def _samples_seconds(deployment: ModelDeployment, stage: Stage, metric: Metric, per_second: float) -> float:
    poorer = per_second * min(stage.weight, FULL - stage.weight) / FULL
    least = stage.min_samples or deployment.spec.analysis.min_samples
    return least / poorer + metric.label_delay.total_seconds()


@dataclass(frozen=True)
class _Test:
    """The sequential test of one metric at one weight, in expectation."""

    deployment: ModelDeployment
    metric: Metric
    rates: tuple[Rate, Rate]
    weight: int
    per_second: float

    @property
    def harm(self) -> float:
        return self.rates[1].mean - self.rates[0].mean

    @property
    def _sign(self) -> float:
        return -1.0 if self.metric.higher_is_better else 1.0

    @property
    def _spread(self) -> float:
        """Variance of the difference after one second."""
        shares = (FULL - self.weight, self.weight)
        pairs = zip(self._variances, shares, strict=True)
        return sum(variance * FULL / (self.per_second * share) for variance, share in pairs)

    @property
    def _variances(self) -> list[float]:
        return [_variance(self.metric, rate) for rate in self.rates]

    def _radius(self, seconds: float) -> float:
        """Half the width of the confidence sequence after so long."""
        analysis = self.deployment.spec.analysis
        prior = prior_scale(4 * max(100, analysis.min_samples) / sum(self._variances))
        return radius(seconds / self._spread, prior, level_of(analysis, self.metric))

    def seconds_to_see(self) -> float | None:
        """About when the expected difference leaves the margin behind; none where it never does, or not in a year."""
        beyond = self._sign * self.harm - (self.metric.margin or 0.0)
        if beyond <= 0 or not self._spread:
            return None
        return _first(lambda seconds: self._radius(seconds) <= beyond)

    def least_harm(self, seconds: float) -> float | None:
        """The difference that is just beyond the margin after so long; none where no rate is as bad."""
        harm = (self.metric.margin or 0.0) + (self._radius(seconds) if seconds and self._spread else 0.0)
        return self._sign * harm if harm <= self._worst else None

    @property
    def _worst(self) -> float:
        """The greatest harm that there can be: a share ends at 0 and at 1."""
        if self.metric.mean or self.metric.external:
            return math.inf
        return self.rates[0].mean if self.metric.higher_is_better else 1 - self.rates[0].mean


def _variance(metric: Metric, rate: Rate) -> float:
    return rate.deviation**2 if metric.mean or metric.external else rate.mean * (1 - rate.mean)


def _first(holds: Callable[[float], bool]) -> float | None:
    """The least number of seconds for which a monotone condition holds; none within a year."""
    low, high = 0.0, _LONGEST
    if not holds(high):
        return None
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high
