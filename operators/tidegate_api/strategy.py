"""How a new revision takes over: canary, blueGreen, abTest, shadow."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, ClassVar

from pydantic import Field, model_validator

from tidegate_api.durations import Duration
from tidegate_api.fields import Hostname, Name, Percent
from tidegate_api.resource import Value, rule

__all__ = ["AbTest", "BlueGreen", "Canary", "Pause", "Shadow", "Step", "Strategy"]


class Pause(Value):
    """A wait: of a stated time, or until a person promotes."""

    duration: Duration | None = None
    """How long; without it, until a person promotes."""


class Step(Value):
    """Give the canary a weight, or pause."""

    rules: ClassVar = [rule("has(self.setWeight) != has(self.pause)", "a step has exactly one of setWeight and pause")]

    set_weight: Annotated[Percent | None, Field(description="Percent of the traffic.")] = None
    pause: Pause | None = None


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
    """Weights and pauses, in order. After the last the canary becomes stable. Default: weights 1, 5, 20 and 100."""

    @model_validator(mode="after")
    def _weights_rise(self) -> Canary:
        weights = [step.set_weight for step in self.steps if step.set_weight is not None]
        if any(later <= earlier for earlier, later in pairwise(weights)):
            raise ValueError(f"steps whose weights rise from one setWeight to the next (they are {weights})")
        return self


class BlueGreen(Value):
    """Preview, then switch at once. This release refuses it: set canary."""

    preview_hostnames: Annotated[list[Hostname], Field(max_length=16)] = []
    """Hosts that reach the new revision first."""
    preview_grpc_hostnames: Annotated[list[Hostname], Field(max_length=16)] = []
    """The same for gRPC."""
    scale_down_delay: Duration | None = None
    """How long the old revision is kept."""


class AbTest(Value):
    """Sticky shares by a bucket header. This release refuses it: set canary."""

    header: Name
    """Header with the bucket of the user, 0 to 99."""
    percent: Percent
    """Share of buckets for the new revision."""
    min_duration: Duration | None = None
    """Shortest run."""
    max_duration: Duration | None = None
    """Longest run."""


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
        rule("has(self.canary)", "this release of Tidegate rolls out by strategy canary only: set canary"),
    ]

    canary: Canary | None = None
    blue_green: BlueGreen | None = None
    ab_test: AbTest | None = None
    shadow: Shadow | None = None
