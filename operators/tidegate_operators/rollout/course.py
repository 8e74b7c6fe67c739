"""What the steps of a decision hand on: the status so far, what to announce, and the sentence for a reader."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from tidegate_api.model_deployment import CanaryStatus, ModelDeployment, ModelDeploymentStatus
from tidegate_operators.rollout.observed import NO_SERVER, Announcement, Failure, Observed, Server
from tidegate_operators.rollout.steps import FULL, Stage, canary_replicas, given_up, stages

__all__ = [
    "Course",
    "asked",
    "ends_a_wait",
    "needed",
    "plan_of",
    "server_of",
    "spent",
    "stage_of",
    "still_spent",
    "weights_of",
]


@dataclass(frozen=True)
class Course:
    """The status so far, what to announce, and the sentence for a reader: why it is where it is."""

    status: ModelDeploymentStatus
    announcements: tuple[Announcement, ...] = ()
    sentence: str = ""
    blocked: Failure | None = None
    """What keeps a rollout from beginning."""

    def with_status(self, **changes: Any) -> Course:
        """The same course with some of the status changed."""
        return replace(self, status=self.status.model_copy(update=changes))

    def with_canary(self, canary: CanaryStatus, **changes: Any) -> Course:
        """The same course with some of the canary's status changed."""
        return self.with_status(canary=canary.model_copy(update=changes))

    def saying(self, sentence: str) -> Course:
        """The same course with another sentence."""
        return replace(self, sentence=sentence)

    def announcing(self, said: Announcement) -> Course:
        """The same course with one more Event, which is the sentence too."""
        return replace(self, announcements=(*self.announcements, said), sentence=said.message)


def asked(deployment: ModelDeployment, annotation: str, canary: CanaryStatus) -> bool:
    """Whether an annotation names the revision under way; one that names another, or did so before, is old."""
    return annotation not in canary.spent and _names(deployment, annotation, canary)


def spent(deployment: ModelDeployment, canary: CanaryStatus, annotations: Iterable[str]) -> CanaryStatus:
    """The canary, with those annotations spent that name it already now, before it has started."""
    return canary.model_copy(update={"spent": [each for each in annotations if _names(deployment, each, canary)]})


def still_spent(deployment: ModelDeployment, canary: CanaryStatus) -> CanaryStatus:
    """One that was taken away acts when it is set again."""
    kept = [each for each in canary.spent if _names(deployment, each, canary)]
    return canary if kept == canary.spent else canary.model_copy(update={"spent": kept})


def _names(deployment: ModelDeployment, annotation: str, canary: CanaryStatus) -> bool:
    return deployment.metadata.annotations.get(annotation) == canary.revision.hash


def plan_of(deployment: ModelDeployment, status: ModelDeploymentStatus, canary: CanaryStatus) -> tuple[Stage, ...]:
    """The stages of the rollout under way."""
    return stages(deployment, at_once=status.stable is None or canary.undo)


def stage_of(deployment: ModelDeployment, status: ModelDeploymentStatus, canary: CanaryStatus) -> Stage:
    """The stage that the rollout is at; the last one, where an edit took away the one it was at."""
    plan = plan_of(deployment, status, canary)
    return plan[min(canary.step, len(plan) - 1)]


def ends_a_wait(deployment: ModelDeployment, status: ModelDeploymentStatus, canary: CanaryStatus) -> bool:
    """Whether a person's promotion ends the wait of this step only, with steps after it that are judged as ever.

    Anywhere else it skips all that is left.
    """
    last = len(plan_of(deployment, status, canary)) - 1
    return stage_of(deployment, status, canary).until_promoted and canary.step + 1 < last


def server_of(observed: Observed, revision: str | None) -> Server:
    """The server of a revision, as seen."""
    return observed.servers.get(revision or "", NO_SERVER)


def needed(deployment: ModelDeployment, observed: Observed, status: ModelDeploymentStatus, canary: CanaryStatus) -> int:
    """Pods that the stage needs: its share of stable's, or of what there is room for; a first revision needs one."""
    if status.stable is None:
        return 1
    stage = stage_of(deployment, status, canary)
    if canary.baseline_replicas is not None:
        return given_up(stage, canary.baseline_replicas, deployment.spec.strategy.max_unavailable)
    return canary_replicas(stage.capacity, server_of(observed, status.stable.hash).replicas)


def weights_of(status: ModelDeploymentStatus) -> dict[str, int]:
    """Percent by revision hash. A canary without traffic yet, and what is retiring, stand in the routes with 0."""
    found = {item.revision.hash: 0 for item in status.retiring}
    if status.stable is not None:
        found[status.stable.hash] = FULL - status.weight
    if status.canary is not None:
        found[status.canary.revision.hash] = status.weight
    return found
