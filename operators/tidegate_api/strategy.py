"""How a new revision takes over: canary, blueGreen, abTest, shadow."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, ClassVar

from pydantic import Field, model_validator

from tidegate_api.durations import Duration, PositiveDuration
from tidegate_api.fields import HeaderName, Hostname, MetricName, Percent
from tidegate_api.resource import Value
from tidegate_api.rules import rule

__all__ = ["AbTest", "BlueGreen", "Canary", "Pause", "Shadow", "Step", "StepAnalysis", "Strategy"]


def _hours(field: str) -> str:
    """CEL for the whole hours of a duration; CEL itself knows no days."""
    return f"(self.{field}.endsWith('d') ? int(self.{field}.replace('d', '')) * 24 : duration(self.{field}).getHours())"


class Pause(Value):
    """A wait: of a stated time, or until a person promotes."""

    duration: Duration | None = None
    """How long; without it, until a person promotes."""


class StepAnalysis(Value):
    """A gate between two weights: more samples than usual, or objectives that must be proven already here."""

    min_samples: Annotated[
        int | None, Field(ge=1, description="Per side and metric at this weight; default: analysis.minSamples.")
    ] = None
    objectives: Annotated[list[MetricName], Field(max_length=16)] = []
    """Objectives that must be proven before the next weight; the others must be before the end."""


class Step(Value):
    """Give the canary a weight, pause, or wait for evidence."""

    rules: ClassVar = [
        rule(
            "[has(self.setWeight), has(self.pause), has(self.analysis)].filter(x, x).size() == 1",
            "a step has exactly one of setWeight, pause and analysis",
        )
    ]

    set_weight: Annotated[Percent | None, Field(description="Percent of the traffic.")] = None
    pause: Pause | None = None
    analysis: StepAnalysis | None = None


class Canary(Value):
    """Traffic moves to the new revision step by step."""

    rules: ClassVar = [
        rule(
            "self.steps.filter(s, has(s.setWeight)).map(s, s.setWeight).isSorted()",
            "the weights of canary steps must not fall from one setWeight to the next",
        ),
        rule(
            "self.steps.filter(s, has(s.setWeight)).all(s, "
            "self.steps.exists_one(t, has(t.setWeight) && t.setWeight == s.setWeight))",
            "two canary steps must not set the same weight",
        ),
        rule("self.steps.exists(s, has(s.setWeight) && s.setWeight > 0)", "canary steps need a setWeight above 0"),
    ]

    steps: Annotated[list[Step], Field(min_length=1, max_length=64)] = [
        Step(set_weight=1),
        Step(set_weight=5),
        Step(set_weight=20),
        Step(set_weight=100),
    ]
    """Weights, pauses and gates, in order. After the last the canary becomes stable. Default: 1, 5, 20 and 100."""
    max_unavailable: Annotated[int, Field(ge=0, le=1000)] = 0
    """Where nodes lack room for a pod more: how many pods stable may give up for the canary, pod by pod."""

    @model_validator(mode="after")
    def _weights_rise(self) -> Canary:
        weights = [step.set_weight for step in self.steps if step.set_weight is not None]
        if any(later <= earlier for earlier, later in pairwise(weights)):
            raise ValueError(f"steps whose weights rise from one setWeight to the next (they are {weights})")
        return self


class BlueGreen(Value):
    """The new revision comes up beside the old one, then all traffic is switched at once."""

    preview_hostnames: Annotated[list[Hostname], Field(max_length=16)] = []
    """Hosts that reach the new revision before the switch, over HTTP."""
    preview_grpc_hostnames: Annotated[list[Hostname], Field(max_length=16)] = []
    """The same for gRPC."""
    auto_promotion_enabled: bool = True
    """False: the switch waits until a person promotes."""
    scale_down_delay: Duration = Field(default="30s", validate_default=True)
    """How long the old revision stays after the switch, ready to take all traffic back."""


class AbTest(Value):
    """Users are split by a header and stay where they are; the winner of the test takes all traffic."""

    rules: ClassVar = [
        rule(
            "has(self.percent) != has(self.values)",
            "abTest needs exactly one of percent (the header holds a bucket, 0 to 99) and values (of the header)",
        ),
        rule(
            "!has(self.minDuration) || !has(self.maxDuration) || "
            "(self.minDuration.endsWith('d') == self.maxDuration.endsWith('d') ? "
            "duration(self.minDuration.replace('d', 'h')) <= duration(self.maxDuration.replace('d', 'h')) : "
            f"{_hours('minDuration')} <= {_hours('maxDuration')})",
            "minDuration must not exceed maxDuration",
        ),
    ]

    header: HeaderName
    """Header that the client sends: the bucket of the user, 0 to 99, or a group's name."""
    percent: Annotated[
        int | None,
        Field(ge=1, le=99, description="Share of the buckets for the new revision: buckets 0 to percent - 1."),
    ] = None
    values: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=128)]] | None, Field(min_length=1, max_length=16)
    ] = None
    """Values of the header that reach the new revision; all other requests reach stable."""
    min_duration: Duration | None = None
    """Shortest run; without objectives, the run's length."""
    max_duration: PositiveDuration | None = None
    """Longest run: what is not proven by then has not won, and stable keeps all traffic."""

    @model_validator(mode="after")
    def _one_split(self) -> AbTest:
        if (self.percent is None) == (self.values is None):
            raise ValueError("exactly one of percent and values")
        return self


class Shadow(Value):
    """A copy of the traffic, answers thrown away. This release refuses it: set canary."""

    percent: Percent
    """Share of requests that are copied."""
    duration: Duration | None = None
    """How long."""


class Strategy(Value):
    """How a new revision takes over."""

    rules: ClassVar = [
        rule(
            "[has(self.canary), has(self.blueGreen), has(self.abTest), has(self.shadow)].filter(x, x).size() == 1",
            "exactly one strategy of canary, blueGreen, abTest and shadow must be set",
        ),
        rule("!has(self.shadow)", "this release of Tidegate has no strategy shadow: set canary, blueGreen or abTest"),
    ]

    canary: Canary | None = None
    blue_green: BlueGreen | None = None
    ab_test: AbTest | None = None
    shadow: Shadow | None = None

    @property
    def max_unavailable(self) -> int:
        """Pods that stable may give up where nodes lack room for one more."""
        return self.canary.max_unavailable if self.canary else 0

    @model_validator(mode="after")
    def _one_strategy(self) -> Strategy:
        found = [each for each in (self.canary, self.blue_green, self.ab_test) if each is not None]
        if len(found) != 1 or self.shadow is not None:
            raise ValueError("exactly one strategy of canary, blueGreen and abTest")
        return self
