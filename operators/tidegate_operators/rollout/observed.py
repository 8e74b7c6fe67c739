"""What `decide` is told and what it answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from tidegate_api.model_deployment import ModelDeploymentStatus, ResolvedModel, RevisionImages, RevisionStatus, Tally

__all__ = ["NO_SERVER", "Announcement", "Decision", "Failure", "Observed", "Plan", "Routes", "Server", "Window"]


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


NO_SERVER = Server(replicas=0, ready=0)
"""A revision whose Deployment is not there."""


@dataclass(frozen=True)
class Routes:
    """The routes as seen: percent by revision hash (0 too), and whether the gateway has accepted this generation."""

    weights: Mapping[str, int] = field(default_factory=dict)
    accepted: bool = False
    failure: Failure | None = None


@dataclass(frozen=True)
class Window:
    """Counts of one metric in one interval of the grid; of a threshold metric, its reading at the end."""

    metric: str
    start: datetime
    end: datetime
    stable: Tally = Tally()
    canary: Tally = Tally()
    value: float | None = None


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
    refusal: Failure | None = None
    """What the API server said where it would not have an object of this deployment."""
    model_failure: Failure | None = None
    metrics_failure: Failure | None = None


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
    """A revision that should run, and the least number of its pods."""

    revision: RevisionStatus
    min_replicas: int


@dataclass(frozen=True)
class Decision:
    """What should be: the next status, who runs, who gets how much, what to announce, when to look again."""

    status: ModelDeploymentStatus
    plans: tuple[Plan, ...]
    weights: Mapping[str, int]
    announcements: tuple[Announcement, ...]
    requeue: timedelta
