"""What must be so before a rollout touches anything: features that the model can read, and room for its pods."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tidegate_api.model_deployment import ModelDeployment, ResolvedModel
from tidegate_operators.rollout.observed import Failure, Observed, View

__all__ = ["Room", "feature_gate", "name_gate", "room_for"]


def name_gate(target: ResolvedModel, stable: ResolvedModel | None) -> Failure | None:
    """Clients ask for the model by its name: one of another name cannot share their requests."""
    if stable is None or None in (stable.name, target.name) or stable.name == target.name:
        return None
    said = f"clients ask for model {stable.name}, and this one is called {target.name}"
    return Failure("OtherModel", f"{said}: correct spec.model, or serve it by a ModelDeployment of its own.")


def feature_gate(model: ResolvedModel, views: Iterable[View]) -> Failure | None:
    """The FeatureViews that the model could not read, if any: missing, not Ready, or of another schema.

    The reason is the first one's; the sentence tells of all.
    """
    known = {view.name: view for view in views}
    tried = (_unreadable(name, schema, known.get(name)) for name, schema in sorted(model.feature_views.items()))
    found = [failure for failure in tried if failure is not None]
    return Failure(found[0].reason, " ".join(failure.message for failure in found)) if found else None


def _unreadable(name: str, schema: str, view: View | None) -> Failure | None:
    if view is None:
        said = f"The model reads FeatureView {name}, which does not exist in this namespace: apply it"
        return Failure("FeatureViewMissing", f"{said}, or name a model that does not read it.")
    if schema not in view.schemas:
        has = ", ".join(sorted(each[:15] for each in view.schemas))
        said = f"The model was trained on schema {schema[:15]} of FeatureView {name}, which has {has}"
        return Failure("SchemaMismatch", f"{said}: train on the present schema, or restore the old one.")
    if not view.ready:
        why = f" ({view.message.rstrip('.')})" if view.message else ""
        return Failure("FeatureViewNotReady", f"FeatureView {name}, which the model reads, is not Ready{why}.")
    return None


@dataclass(frozen=True)
class Room:
    """Whether a rollout fits: beside stable, by taking the place of its pods one by one, or not at all."""

    failure: Failure | None = None
    pod_by_pod: bool = False


def room_for(deployment: ModelDeployment, observed: Observed, stable_replicas: int) -> Room:
    """Room on GPUs for a revision beside `stable_replicas` pods of stable (0: there is none).

    Nothing is asked where pods need no GPU, free GPUs are not known, or nodes come on demand.
    """
    gpus = deployment.spec.runtime.gpus
    if not gpus or observed.free_gpus is None or deployment.spec.scaling.nodes_on_demand:
        return Room()
    wanted = stable_replicas or deployment.spec.scaling.min_replicas
    fits = sum(free // gpus for free in observed.free_gpus)
    if fits >= wanted:
        return Room()
    spare = deployment.spec.strategy.max_unavailable
    if 0 < spare < stable_replicas:
        return Room(pod_by_pod=True)
    return Room(_no_room(gpus, wanted, fits, sum(observed.free_gpus), bool(stable_replicas)))


def _no_room(gpus: int, wanted: int, fits: int, free: int, beside: bool) -> Failure:
    what = f"{wanted} pods with {gpus} nvidia.com/gpu each are wanted{' beside stable' if beside else ''}"
    remedy = "free or add GPUs, set scaling.nodesOnDemand where nodes are added for pods that wait"
    if beside:
        remedy += ", or let stable give up pods by strategy.canary.maxUnavailable (fewer than it has)"
    message = f"Nothing was started: {what}, but {fits} fit ({free} GPUs are free): {remedy}."
    return Failure("InsufficientCapacity", message)
