"""The routes of a deployment as the gateway sees them, and which counters that gateway keeps."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import Any

from tidegate_api.model_deployment import ModelDeployment
from tidegate_operators.adapters.cluster import Cluster
from tidegate_operators.handlers.apply import Body, Name
from tidegate_operators.resources.routes import ROUTE_KINDS, route_name, route_weights
from tidegate_operators.rollout.observed import Failure, Routes
from tidegate_operators.rollout.profiles import Profile, profile_of

__all__ = ["observe_routes"]


def observe_routes(
    deployment: ModelDeployment, present: Mapping[Name, Body], cluster: Cluster
) -> tuple[Routes, Profile]:
    """The routes as the gateway sees them, and which counters that gateway keeps."""
    reference = deployment.spec.routing.gateway_ref
    where = reference.namespace or deployment.metadata.namespace
    gateway = cluster.get("Gateway", where, reference.name)
    if gateway is None:
        message = f"Gateway {where}/{reference.name} does not exist: create it or correct spec.routing.gatewayRef"
        return Routes(failure=Failure("GatewayNotFound", message)), profile_of(None)
    kinds = [ROUTE_KINDS[protocol] for protocol in deployment.spec.routing.protocols]
    bodies = [body for (kind, _), body in present.items() if kind in kinds]
    main = {route_name(deployment, kind) for kind in kinds}
    return _accepted_routes(bodies, main), profile_of(_controller(cluster, gateway))


def _controller(cluster: Cluster, gateway: Mapping[str, Any]) -> str | None:
    found = cluster.get("GatewayClass", "", gateway["spec"]["gatewayClassName"])
    return found["spec"]["controllerName"] if found else None


def _accepted_routes(bodies: list[dict[str, Any]], main: AbstractSet[str]) -> Routes:
    """What the routes give: all of one deployment must say the same, and the main ones must be there."""
    if not main <= {body["metadata"]["name"] for body in bodies}:
        return Routes()
    weights = [route_weights(body) for body in bodies]
    refusals = [failure for failure in map(_refusal, bodies) if failure is not None]
    same = all(found == weights[0] for found in weights)
    return Routes(weights[0], same and not refusals and all(map(_is_accepted, bodies)), next(iter(refusals), None))


def _parent_conditions(body: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    parents = body.get("status", {}).get("parents", [])
    return [condition for parent in parents for condition in parent.get("conditions", [])]


def _is_accepted(body: Mapping[str, Any]) -> bool:
    """Accepted and ResolvedRefs, both said of the present generation."""
    generation = body["metadata"]["generation"]
    current = {c["type"]: c["status"] for c in _parent_conditions(body) if c.get("observedGeneration") == generation}
    return current.get("Accepted") == "True" and current.get("ResolvedRefs") == "True"


def _refusal(body: Mapping[str, Any]) -> Failure | None:
    generation = body["metadata"]["generation"]
    for item in _parent_conditions(body):
        current = item.get("observedGeneration") == generation
        if current and item["type"] in ("Accepted", "ResolvedRefs") and item["status"] == "False":
            return Failure(item["reason"], f"The gateway refused the {body['kind']}: {item.get('message', '')}")
    return None
