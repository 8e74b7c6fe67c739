"""The routes of a deployment as the gateway sees them, and which counters that gateway keeps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import replace
from typing import Any

from tidegate_api.model_deployment import GatewayRef, ModelDeployment
from tidegate_operators.adapters.cluster import Cluster
from tidegate_operators.handlers.apply import Body, Name
from tidegate_operators.resources.metadata import DEPLOYMENT_LABEL
from tidegate_operators.resources.routes import ROUTE_KINDS, route_name, route_weights
from tidegate_operators.rollout.observed import Failure, Routes
from tidegate_operators.rollout.profiles import Profile, profile_of

__all__ = ["observe_routes"]


def observe_routes(
    deployment: ModelDeployment, present: Mapping[Name, Body], cluster: Cluster
) -> tuple[Routes, Profile]:
    """The routes as the gateway sees them, and which counters that gateway keeps.

    While the spec names a Gateway that is not there, routes that stand keep the one they have: a slip of the pen takes
    nobody off the air.
    """
    kinds = [ROUTE_KINDS[protocol] for protocol in deployment.spec.routing.protocols]
    bodies = [body for (kind, _), body in present.items() if kind in kinds]
    asked = deployment.spec.routing.gateway_ref
    gateway, kept = _gateway(deployment, asked, cluster), None
    if gateway is None:
        kept = next((found for body in bodies if (found := _parent(body)) and found != asked), None)
        gateway = _gateway(deployment, kept, cluster) if kept else None
    if gateway is None:
        return Routes(failure=_not_found(deployment, None)), profile_of(None)
    main = {route_name(deployment, kind) for kind in kinds}
    routes = _accepted_routes(bodies, main)
    if kept is not None:
        routes = replace(routes, failure=_not_found(deployment, kept), stays_with=kept)
    return _with_rivals(deployment, routes, cluster), profile_of(_controller(cluster, gateway))


def _gateway(deployment: ModelDeployment, reference: GatewayRef, cluster: Cluster) -> dict[str, Any] | None:
    return cluster.get("Gateway", reference.namespace or deployment.metadata.namespace, reference.name)


def _parent(body: Mapping[str, Any]) -> GatewayRef | None:
    """The Gateway that a route has."""
    parents = body["spec"].get("parentRefs", [])
    return GatewayRef(name=parents[0]["name"], namespace=parents[0].get("namespace")) if parents else None


def _not_found(deployment: ModelDeployment, kept: GatewayRef | None) -> Failure:
    asked = deployment.spec.routing.gateway_ref
    where = asked.namespace or deployment.metadata.namespace
    message = f"Gateway {where}/{asked.name} does not exist: create it or correct spec.routing.gatewayRef"
    stays = f"; until then the routes stay with Gateway {kept.namespace}/{kept.name}" if kept else ""
    return Failure("GatewayNotFound", message + stays)


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
            said = str(item.get("message", "")).rstrip(".")
            message = f"The gateway refused {body['kind']} {body['metadata']['name']} ({_hosts(body)}): {said}."
            return Failure(item["reason"], message)
    return None


def _hosts(body: Mapping[str, Any]) -> str:
    return ", ".join(body["spec"].get("hostnames", [])) or "any host"


def _with_rivals(deployment: ModelDeployment, routes: Routes, cluster: Cluster) -> Routes:
    """A refusal, and who of the namespace has the same hostname: two routes cannot both have one."""
    failure = routes.broken
    if failure is None:
        return routes
    rivals = list(dict.fromkeys(_same_hosts(deployment, cluster)))
    if not rivals:
        return routes
    said = f" {', '.join(rivals)} has a hostname of these too: change spec.routing of one of them."
    return replace(routes, failure=Failure(failure.reason, failure.message + said))


def _same_hosts(deployment: ModelDeployment, cluster: Cluster) -> Iterator[str]:
    routing, own = deployment.spec.routing, deployment.metadata
    for protocol, hosts in (("HTTP", routing.hostnames), ("GRPC", routing.grpc_hostnames)):
        for body in cluster.list(ROUTE_KINDS[protocol], own.namespace, {}):
            owner = body["metadata"].get("labels", {}).get(DEPLOYMENT_LABEL)
            if owner != own.name and set(hosts) & set(body["spec"].get("hostnames", [])):
                yield f"ModelDeployment {owner}" if owner else f"{body['kind']} {body['metadata']['name']}"
