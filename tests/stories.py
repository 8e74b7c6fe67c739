"""A rollout told look by look to the pure decide, for the tests that are written as stories."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from rollouts import GOOD, NEXT, START, deployment, obeyed, windows
from tidegate_api.model_deployment import ModelDeployment, ModelDeploymentStatus, ResolvedModel
from tidegate_operators.rollout.decide import decide
from tidegate_operators.rollout.observed import Decision, Observed


class Story:
    """A deployment over time, on a cluster that does what it is told unless a test says otherwise."""

    def __init__(self, **spec: Any) -> None:
        self.spec = spec
        self.now = START
        self.status = ModelDeploymentStatus()
        self.decision: Decision | None = None
        self.model: ResolvedModel | None = GOOD
        self.annotations: dict[str, str] = {}
        self.said: list[str] = []

    def look(self, seconds: float = 10, observed: Observed | None = None, **more: Any) -> Decision:
        self.now += timedelta(seconds=seconds)
        seen = observed or obeyed(self.decision, self.model, judged_until=self.now, **more)
        self.decision = decide(self.deployment(), seen, self.now)
        self.status = self.kept(self.decision)
        self.said += [item.reason for item in self.decision.announcements]
        return self.decision

    def kept(self, decision: Decision) -> ModelDeploymentStatus:
        """The status as the next look finds it. The integration tests have a real API server keep it."""
        return decision.status

    def deployment(self) -> ModelDeployment:
        return deployment(self.status, self.annotations, **self.spec)

    def looks(self, count: int, **more: Any) -> Story:
        for _ in range(count):
            self.look(**more)
        return self

    def judged(
        self, stable: tuple[int, int], canary: tuple[int, int], count: int = 1, metric: str = "errors", **more: Any
    ) -> Story:
        """Looks that each show one more interval."""
        for _ in range(count):
            at: datetime = self.now + timedelta(seconds=10)
            self.look(windows=windows(at, stable, canary, metric), **more)
        return self


def serving(**spec: Any) -> Story:
    """Version 1 serves all traffic."""
    story = Story(**spec).looks(4)
    assert story.status.stable is not None
    return story


def canarying(**spec: Any) -> Story:
    """Version 2 has its first weight."""
    story = serving(**spec)
    story.model = NEXT
    story.looks(3)
    assert story.status.weight == 5
    return story
