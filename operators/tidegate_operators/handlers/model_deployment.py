"""One reconciliation of a ModelDeployment: observe, decide, apply, say, write."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from tidegate_api.model_deployment import HistoryEntry, ModelDeployment, ModelDeploymentStatus, Routing
from tidegate_operators.adapters.errors import NeighbourError, RefusedError
from tidegate_operators.handlers.apply import Body, Name, apply_all, standing
from tidegate_operators.handlers.metrics import count_verdict
from tidegate_operators.handlers.neighbours import Neighbours
from tidegate_operators.handlers.observe import observe
from tidegate_operators.handlers.state_metrics import state_metrics
from tidegate_operators.resources.metadata import DEPLOYMENT_LABEL, MANAGED_BY
from tidegate_operators.resources.routes import ROUTE_KINDS, route_objects
from tidegate_operators.resources.server import server_name, server_objects, unjudged_service
from tidegate_operators.rollout.decide import decide
from tidegate_operators.rollout.observed import Announcement, Decision
from tidegate_operators.rollout.summary import announce_changes, summarize

__all__ = ["apply_decision", "owned", "reconcile"]

_TELL_AGAIN = timedelta(seconds=15)
"""How soon the registry, which did not answer, is told again of a rollout that ended."""
_TRY_AGAIN = timedelta(seconds=5)
"""How soon an object is applied again that the API server would not have while a canary has traffic."""
_OWNED = ("Deployment", "Service", "HorizontalPodAutoscaler", "PodDisruptionBudget", *ROUTE_KINDS.values())


def reconcile(deployment: ModelDeployment, neighbours: Neighbours, now: datetime) -> timedelta:
    """Bring the cluster one look closer to what should be; returns when to look again.

    Level-triggered: nothing is remembered between calls but the status, and repeating a call changes nothing.
    Raises RefusedError, once the status says so, where the API server will not have an object; not while a canary has
    traffic, for then each interval must be judged in time.
    """
    present = owned(deployment, neighbours)
    observed = observe(deployment, present, neighbours, now)
    decision = decide(deployment, observed, now)
    refusal = apply_decision(deployment, decision, present, neighbours, observed.routes.stays)
    observed = replace(observed, refusal=refusal.failure if refusal else None)
    status = summarize(deployment, observed, decision, now)
    changes = announce_changes(deployment.status.conditions, status.conditions)
    for announcement in (*decision.announcements, *(_about(status, said) for said in changes)):
        neighbours.cluster.announce(deployment, announcement, now)
    status = _record(deployment, status, neighbours)
    _write(deployment, status, neighbours)
    state_metrics.show_rollout(deployment, status)
    count_verdict(deployment, status)
    if refusal is not None and not status.weight:
        raise refusal
    waits = [decision.requeue]
    waits += [_TRY_AGAIN] if refusal is not None else []
    waits += [] if all(entry.recorded for entry in status.history) else [_TELL_AGAIN]
    return min(waits)


def _about(status: ModelDeploymentStatus, said: Announcement) -> Announcement:
    """What a condition says is of the canary; without one, of stable."""
    revision = status.canary.revision if status.canary else status.stable
    return replace(said, revision=revision.hash if revision else None, weight=status.weight)


def owned(deployment: ModelDeployment, neighbours: Neighbours) -> dict[Name, Body]:
    """The objects of the deployment that are there."""
    labels = {DEPLOYMENT_LABEL: deployment.metadata.name, "app.kubernetes.io/managed-by": MANAGED_BY}
    return standing(neighbours.cluster, _OWNED, deployment.metadata.namespace, labels)


def apply_decision(
    deployment: ModelDeployment,
    decision: Decision,
    present: Mapping[Name, Body],
    neighbours: Neighbours,
    stays: Routing | None = None,
) -> RefusedError | None:
    """Make what should be, and remove what should not: whoever lost the last of the traffic is gone a look later.

    stays: where the routes stand while the gateway has not taken what the spec asks.
    Returns what the API server would not have.
    """
    objects = [
        body
        for plan in decision.plans
        for body in server_objects(deployment, plan.revision, plan.min_replicas, neighbours.platform, plan.most)
    ]
    stable = decision.status.stable
    objects += [unjudged_service(deployment, stable)] if stable else []
    objects += route_objects(deployment, decision.status, decision.weights, stays)
    refusal = apply_all(neighbours.cluster, objects, neighbours.applied, present)
    for plan in decision.plans:
        if plan.revived:
            name = server_name(deployment, plan.revision)
            neighbours.cluster.scale("Deployment", deployment.metadata.namespace, name, plan.min_replicas)
    _prune(deployment, objects, present, neighbours)
    return refusal


def _prune(
    deployment: ModelDeployment,
    wanted: Iterable[dict[str, Any]],
    present: Iterable[tuple[str, str]],
    neighbours: Neighbours,
) -> None:
    keep = {(body["kind"], body["metadata"]["name"]) for body in wanted}
    namespace = deployment.metadata.namespace
    for kind, name in present:
        if (kind, name) not in keep:
            neighbours.cluster.delete(kind, namespace, name)
            neighbours.applied.forget(namespace, kind, name)


def _record(
    deployment: ModelDeployment, status: ModelDeploymentStatus, neighbours: Neighbours
) -> ModelDeploymentStatus:
    """Tell the registry of every ended rollout that it has not heard of, in order: the last word on a version counts.

    What fails is told at the next look, soon, and all that came after it too.
    """
    if all(entry.recorded for entry in status.history):
        return status
    stable = status.stable.hash if status.stable else None
    entries: list[HistoryEntry] = []
    for entry in status.history:
        heard = all(before.recorded for before in entries)
        entries.append(_told(deployment, entry, stable, neighbours) if heard else entry)
    return status.model_copy(update={"history": entries})


def _told(deployment: ModelDeployment, entry: HistoryEntry, stable: str | None, neighbours: Neighbours) -> HistoryEntry:
    """The entry, recorded where the registry took it; of a version that is gone there is nobody to tell."""
    source = deployment.spec.model.registry
    if entry.recorded or source is None:
        return entry
    try:
        by = f"{deployment.metadata.namespace}/{deployment.metadata.name}"
        neighbours.registry.record(source, entry, serves=entry.revision.hash == stable, by=by)
    except NeighbourError as error:
        if error.failure.reason != "ModelNotFound":
            return entry
    return entry.model_copy(update={"recorded": True})


def _write(deployment: ModelDeployment, status: ModelDeploymentStatus, neighbours: Neighbours) -> None:
    if status != deployment.status:
        neighbours.cluster.apply_status(deployment, status.to_dict())
