"""What `decide` is told and what it answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from tidegate_api.model_deployment import (
    ModelDeploymentStatus,
    ResolvedModel,
    RevisionImages,
    RevisionStatus,
    Routing,
    Tally,
)

__all__ = [
    "NO_SERVER",
    "Announcement",
    "Decision",
    "Estimate",
    "Failure",
    "Observed",
    "Plan",
    "Routes",
    "Server",
    "View",
    "Window",
]


@dataclass(frozen=True)
class Failure:
    """Something that did not work: a CamelCase reason and a sentence."""

    reason: str
    message: str


@dataclass(frozen=True)
class Server:
    """The Deployment of one revision, as seen. `replicas` is what its HPA asks for."""

    replicas: int
    ready: int
    failure: Failure | None = None

    @property
    def stuck(self) -> Failure | None:
        """Why pods that are asked for are not ready; one that failed once and came back is."""
        return self.failure if self.ready < self.replicas else None


NO_SERVER = Server(replicas=0, ready=0)
"""A revision whose Deployment is not there."""


@dataclass(frozen=True)
class Routes:
    """The routes as seen: percent by revision hash (0 too), and whether the gateway has accepted this generation.

    stays: the Gateway and hostnames that they have, while the gateway has not taken those that the spec names.
    """

    weights: Mapping[str, int] = field(default_factory=dict)
    accepted: bool = False
    failure: Failure | None = None
    stays: Routing | None = None

    @property
    def broken(self) -> Failure | None:
        """What keeps requests away; routes that stay where they were accepted serve, whatever the spec asks."""
        return None if self.accepted else self.failure


@dataclass(frozen=True)
class Estimate:
    """What somebody else estimates of one side, from so many trials."""

    value: float
    standard_error: float
    sample_size: float


@dataclass(frozen=True)
class Window:
    """Counts of one metric in one interval of the grid; of a threshold or external metric, its reading at the end."""

    metric: str
    start: datetime
    end: datetime
    stable: Tally = Tally()
    canary: Tally = Tally()
    value: float | None = None
    estimates: tuple[Estimate, Estimate] | None = None
    """Of an external metric: stable's and the canary's."""


@dataclass(frozen=True)
class View:
    """A FeatureView that a model reads, as it stands; `schemas` are those that its values can be read under."""

    name: str
    ready: bool
    schemas: frozenset[str]
    message: str = ""


@dataclass(frozen=True)
class Observed:
    """Everything that was observed in one look."""

    model: ResolvedModel | None
    servers: Mapping[str, Server]
    routes: Routes
    windows: tuple[Window, ...] = ()
    judged_until: datetime | None = None
    images: RevisionImages | None = None
    """What pods of a new revision would be made of."""
    views: tuple[View, ...] = ()
    """The FeatureViews of the namespace that the model reads."""
    free_gpus: tuple[int, ...] | None = None
    """GPUs that nobody has, node by node; none where it is not known or does not matter."""
    refusal: Failure | None = None
    """What the API server said where it would not have an object of this deployment."""
    model_failure: Failure | None = None
    metrics_failure: Failure | None = None
    scaling_failure: Failure | None = None
    """Why stable's autoscaler does not scale."""


@dataclass(frozen=True)
class Announcement:
    """An Event and a line of the log to be: Normal or Warning, a reason and the sentence that the status shows too.

    revision, weight: whom it is about, by hash, and the percent of the traffic that it gets; none where not known.
    """

    type: str
    reason: str
    message: str
    revision: str | None = None
    weight: int | None = None


@dataclass(frozen=True)
class Plan:
    """A revision that should run, and the least number of its pods; `most` where its HPA may not go beyond.

    revived: its Deployment was scaled to 0, from where no HPA brings it back: it is to be scaled to the least.
    """

    revision: RevisionStatus
    min_replicas: int
    most: int | None = None
    revived: bool = False


@dataclass(frozen=True)
class Decision:
    """What should be: the next status, who runs, who gets how much, what to announce, when to look again."""

    status: ModelDeploymentStatus
    plans: tuple[Plan, ...]
    weights: Mapping[str, int]
    announcements: tuple[Announcement, ...]
    requeue: timedelta
    blocked: Failure | None = None
    """What keeps a rollout from beginning, if anything does."""
