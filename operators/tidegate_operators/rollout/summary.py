"""Derived last, never set along the way: the phase and the conditions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime

from tidegate_api.model_deployment import ModelDeployment, ModelDeploymentStatus, ResolvedModel, RevisionStatus
from tidegate_api.resource import Condition
from tidegate_operators.rollout.course import server_of
from tidegate_operators.rollout.gates import feature_gate
from tidegate_operators.rollout.observed import Announcement, Decision, Failure, Observed

__all__ = ["announce_changes", "summarize", "with_transition_times"]

_SHORT_DIGEST = len("sha256:") + 8
_UNREMARKABLE = {
    "Waiting",
    "NoEvents",
    "NoRollout",
    "RolloutUnderWay",
    "NoStableRevision",
    "Read",
    "Serving",
    "Compatible",
    "Readable",
}
_PASSING = ("MetricNotSeen", "EventsNotSeen", "NotANumber", "Waiting")
# Said by Progressing and the verdict already.
_FOR_TOOLS = {"Reconciling", "Stalled"}


def summarize(
    deployment: ModelDeployment, observed: Observed, decision: Decision, now: datetime
) -> ModelDeploymentStatus:
    """The status with its phase and conditions; a condition that says the same keeps its transition time."""
    generation = deployment.metadata.generation
    status = decision.status
    if observed.refusal is not None:
        status = status.model_copy(update={"message": observed.refusal.message})
    found = [
        _model(deployment, observed, now),
        _routes(deployment, observed, now),
        _features(observed, now),
        _metrics(observed, status, now),
        _scaling(observed, status, now),
        _progressing(observed, decision, now),
        _ready(observed, status, now),
        _reconciling(status, now),
        _stalled(deployment, observed, decision, now),
    ]
    conditions = with_transition_times(deployment.status.conditions, found, generation)
    update = {
        "phase": _phase(deployment, observed, status),
        "conditions": conditions,
        "stable_version": _label(status.stable),
        "canary_version": _label(status.canary.revision if status.canary else None),
        "observed_generation": generation,
    }
    return status.model_copy(update=update)


def _label(revision: RevisionStatus | None) -> str | None:
    return revision.label if revision else None


def with_transition_times(old: Iterable[Condition], new: Iterable[Condition], generation: int) -> list[Condition]:
    """New conditions, each with the time at which its status last changed."""
    known: Mapping[str, Condition] = {item.type: item for item in old}
    return [_timed(known.get(item.type), item, generation) for item in new]


def announce_changes(old: Iterable[Condition], new: Iterable[Condition]) -> tuple[Announcement, ...]:
    """An Event for each condition whose reason changed, with its own sentence, and for each other model that the
    source names; waiting is not worth one.
    """
    before = {condition.type: _remarkable(condition) for condition in old}
    told = (condition for condition in new if condition.type not in _FOR_TOOLS)
    changed = [c for c in told if before.get(c.type) != _remarkable(c) and c.reason not in _UNREMARKABLE and c.message]
    said = (Announcement("Warning" if c.status == "False" else "Normal", c.reason, c.message) for c in changed)
    return tuple(dict.fromkeys(said))


def _remarkable(condition: Condition) -> str:
    return condition.message if condition.reason == "Resolved" else condition.reason


def _timed(old: Condition | None, new: Condition, generation: int) -> Condition:
    since = old.last_transition_time if old is not None and old.status == new.status else new.last_transition_time
    return new.model_copy(update={"last_transition_time": since, "observed_generation": generation})


def _condition(kind: str, holds: bool, failure: Failure | None, reason: str, message: str, now: datetime) -> Condition:
    if holds:
        return Condition(type=kind, status="True", reason=reason, message=message, last_transition_time=now)
    why = failure or Failure("Waiting", "")
    return Condition(type=kind, status="False", reason=why.reason, message=why.message, last_transition_time=now)


def _model(deployment: ModelDeployment, observed: Observed, now: datetime) -> Condition:
    resolved = observed.model is not None and observed.model_failure is None
    message = _names(deployment, observed.model) if observed.model else ""
    return _condition("ModelResolved", resolved, observed.model_failure, "Resolved", message, now)


def _names(deployment: ModelDeployment, model: ResolvedModel) -> str:
    """Which package the source names, by the first of its digest."""
    registry, digest = deployment.spec.model.registry, model.digest[:_SHORT_DIGEST]
    if registry is None:
        return f"spec.model.package names {digest}."
    return f"{registry.alias} of {registry.name} names version {model.version} ({digest})."


def _routes(deployment: ModelDeployment, observed: Observed, now: datetime) -> Condition:
    routes = observed.routes
    waiting = Failure("Waiting", "The routes are made once pods are ready, and wait for the gateway to accept them.")
    accepted = routes.accepted and routes.failure is None
    routing = deployment.spec.routing
    every = "" if routing.hostnames or routing.grpc_hostnames else ", for every host: spec.routing names none"
    message = f"The gateway took the routes{every}."
    return _condition("RoutesAccepted", accepted, routes.failure or waiting, "Accepted", message, now)


def _metrics(observed: Observed, status: ModelDeploymentStatus, now: datetime) -> Condition:
    message = "Evidence is read." if status.canary else "No rollout to judge."
    return _condition(
        "MetricsAvailable", observed.metrics_failure is None, observed.metrics_failure, "Read", message, now
    )


def _scaling(observed: Observed, status: ModelDeploymentStatus, now: datetime) -> Condition:
    message = "The autoscaler reads what it scales by." if status.stable else "Nothing to scale yet."
    return _condition("ScalingActive", observed.scaling_failure is None, observed.scaling_failure, "Read", message, now)


def _features(observed: Observed, now: datetime) -> Condition:
    failure = feature_gate(observed.model, observed.views) if observed.model else None
    read = len(observed.model.feature_views) if observed.model else 0
    message = f"The model's {read} FeatureViews can be read." if read else "The model names no FeatureView."
    return _condition("FeaturesReady", failure is None, failure, "Readable", message, now)


def _reconciling(status: ModelDeploymentStatus, now: datetime) -> Condition:
    """For kstatus (Flux, kubectl wait), which knows this type: True while a rollout is under way."""
    idle = Failure("NoRollout", "No rollout is under way.")
    under_way = status.canary is not None
    return _condition("Reconciling", under_way, idle, "RolloutUnderWay", status.message or "", now)


def _stalled(deployment: ModelDeployment, observed: Observed, decision: Decision, now: datetime) -> Condition:
    """For kstatus too: True where what is asked for will not come without somebody doing something."""
    status = decision.status
    rejected = Failure("Rejected", status.message or "") if _is_turned_away(status) and not status.canary else None
    neighbours = (observed.routes.failure, observed.model_failure, observed.metrics_failure)
    neighbour = next(filter(None, map(_lasting, neighbours)), None)
    stable = server_of(observed, status.stable.hash).stuck if status.stable else None
    failure = (
        observed.refusal
        or decision.blocked
        or rejected
        or neighbour
        or stable
        or _overdue(deployment, observed, status, now)
    )
    going = Failure("NotStalled", _meanwhile(observed, status))
    reason, message = (failure.reason, failure.message) if failure else ("", "")
    return _condition("Stalled", failure is not None, going, reason, message, now)


def _meanwhile(observed: Observed, status: ModelDeploymentStatus) -> str:
    """Of a rollout whose pods do not start: it has time until its deadline, and then it is drained."""
    canary = server_of(observed, status.canary.revision.hash).stuck if status.canary else None
    return f"Until progressDeadline it may still come: {canary.message}" if canary else "Nothing stands in the way."


def _is_turned_away(status: ModelDeploymentStatus) -> bool:
    """Whether what the source names was rejected; not where a person asked for another: that is what serves."""
    undone = status.verdict is not None and status.verdict.reason == "Undone"
    return status.rejected is not None and not undone


def _lasting(failure: Failure | None) -> Failure | None:
    """What does not pass by itself: a neighbour that is away comes back, and so may traffic, without which 0 / 0."""
    passes = failure is None or failure.reason.endswith("Unreachable") or failure.reason in _PASSING
    return None if passes else failure


def _overdue(
    deployment: ModelDeployment, observed: Observed, status: ModelDeploymentStatus, now: datetime
) -> Failure | None:
    """A first revision whose pods do not start in time: it has nothing to give way to, so it is not ended."""
    canary = status.canary
    if canary is None or status.stable is not None or now - canary.started_at <= deployment.spec.progress_deadline:
        return None
    failure = server_of(observed, canary.revision.hash).failure
    return failure or Failure("InsufficientEvidence", status.message or "")


def _progressing(observed: Observed, decision: Decision, now: datetime) -> Condition:
    """Whether a rollout gets on; one whose objects are refused, or whose pods do not start, says why."""
    status = decision.status
    stopped = observed.refusal or decision.blocked
    if stopped is not None:
        return _condition("Progressing", False, stopped, "", "", now)
    if status.canary is None:
        idle = Failure("NoRollout", status.verdict.message if status.verdict else "No rollout is under way.")
        return _condition("Progressing", False, idle, "", "", now)
    failure = server_of(observed, status.canary.revision.hash).failure or observed.routes.broken
    return _condition("Progressing", failure is None, failure, "RolloutUnderWay", status.message or "", now)


def _ready(observed: Observed, status: ModelDeploymentStatus, now: datetime) -> Condition:
    if status.stable is None:
        return _condition(
            "Ready", False, Failure("NoStableRevision", status.message or "Nothing serves yet."), "", "", now
        )
    server = server_of(observed, status.stable.hash)
    stuck = server.stuck
    why = f" One does not start: {stuck.message}" if stuck else ""
    message = f"{server.ready} pods of {status.stable.title} are ready.{why}"
    failure = observed.routes.broken if server.ready else Failure("StableNotReady", message)
    return _condition("Ready", failure is None, failure, "Serving", message, now)


def _is_cut_off(observed: Observed, stable: RevisionStatus) -> bool:
    """Whether requests do not reach stable: it has no pod, or the gateway will not have its routes."""
    return server_of(observed, stable.hash).ready == 0 or observed.routes.broken is not None


def _phase(deployment: ModelDeployment, observed: Observed, status: ModelDeploymentStatus) -> str:
    if status.stable is not None and _is_cut_off(observed, status.stable):
        return "Degraded"
    if status.canary is not None:
        paused = status.canary.paused_at is not None
        return "Paused" if paused else ("Progressing" if status.stable else "Pending")
    if _is_turned_away(status):
        return "RolledBack"
    return "Healthy" if status.stable is not None else "Pending"
