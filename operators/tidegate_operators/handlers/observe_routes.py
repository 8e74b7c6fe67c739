"""The routes of a deployment as the gateway sees them, and which counters that gateway keeps."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from tidegate_api.model_deployment import GatewayRef, ModelDeployment, Routing
from tidegate_operators.adapters.cluster import Cluster
from tidegate_operators.handlers.apply import Body, Name
from tidegate_operators.resources.metadata import DEPLOYMENT_LABEL
from tidegate_operators.resources.route_moves import MOVING, as_they_stand, hosts_to_prove, leads_to
from tidegate_operators.resources.routes import ROUTE_KINDS, route_name, route_weights
from tidegate_operators.rollout.observed import Failure, Routes
from tidegate_operators.rollout.profiles import Profile, profile_of

__all__ = ["observe_routes"]


def observe_routes(
    deployment: ModelDeployment, present: Mapping[Name, Body], cluster: Cluster
) -> tuple[Routes, Profile]:
    """The routes as the gateway sees them, and which counters that gateway keeps.

    While the gateway has not taken what the spec names, routes that stand stay where they are: neither a slip of the
    pen nor a hostname that somebody else has takes anybody off the air.
    """
    kinds = [ROUTE_KINDS[protocol] for protocol in deployment.spec.routing.protocols]
    bodies = {name: body for (kind, name), body in present.items() if kind in kinds}
    asking = {kind: bodies.pop(route_name(deployment, kind, MOVING), None) for kind in kinds}
    main = {kind: bodies.get(route_name(deployment, kind)) for kind in kinds}
    stays, refused = _where_they_stay(deployment, main, asking)
    asked = _gateway(deployment, deployment.spec.routing.gateway_ref, cluster)
    gateway = _gateway(deployment, stays.gateway_ref, cluster) if stays else asked
    missing = None if asked else _not_found(deployment)
    if gateway is None:
        return Routes(failure=missing, stays=stays), profile_of(None)
    routes = Routes() if None in main.values() else _accepted_routes(list(bodies.values()))
    if stays is not None:
        routes = replace(routes, stays=stays, failure=refused or missing or _NOT_YET)
    return replace(routes, failure=_told(deployment, routes, cluster)), profile_of(_controller(cluster, gateway))


_NOT_YET = Failure("Waiting", "The gateway has not yet taken what spec.routing names.")


def _where_they_stay(
    deployment: ModelDeployment, main: Mapping[str, Body | None], asking: Mapping[str, Body | None]
) -> tuple[Routing | None, Failure | None]:
    """Where the routes stand, while the gateway has not taken what the spec asks instead; and why, where it refused.

    Routes that are refused where they stand have nothing to lose, and move at once.
    """
    had = as_they_stand(deployment, main)
    if had is None or _refusals(main.values()):
        return None, None
    awaited = list(_awaited(deployment, had, asking))
    taken = all(body is not None and _is_accepted(body) for body in awaited)
    return (None, None) if taken else (had, _refusals(awaited))


def _awaited(deployment: ModelDeployment, had: Routing, asking: Mapping[str, Body | None]) -> Iterator[Body | None]:
    """What must be accepted before the routes move: the route that asks for what is new, None before it does."""
    for kind, body in asking.items():
        hosts = hosts_to_prove(deployment.spec.routing, had, kind)
        if hosts is not None:
            yield body if body and leads_to(deployment, body, hosts) else None


def _gateway(deployment: ModelDeployment, reference: GatewayRef, cluster: Cluster) -> dict[str, Any] | None:
    return cluster.get("Gateway", reference.namespace or deployment.metadata.namespace, reference.name)


def _not_found(deployment: ModelDeployment) -> Failure:
    asked = deployment.spec.routing.gateway_ref
    where = asked.namespace or deployment.metadata.namespace
    message = f"Gateway {where}/{asked.name} does not exist: create it or correct spec.routing.gatewayRef."
    return Failure("GatewayNotFound", message)


def _controller(cluster: Cluster, gateway: Mapping[str, Any]) -> str | None:
    found = cluster.get("GatewayClass", "", gateway["spec"]["gatewayClassName"])
    return found["spec"]["controllerName"] if found else None


def _accepted_routes(bodies: list[Body]) -> Routes:
    """What the routes give: all of one deployment must say the same."""
    weights = [route_weights(body) for body in bodies]
    refused = _refusals(bodies)
    same = all(found == weights[0] for found in weights)
    return Routes(weights[0], same and refused is None and all(map(_is_accepted, bodies)), refused)


def _refusals(bodies: Iterable[Body | None]) -> Failure | None:
    """Of the first that the gateway refused."""
    return next(filter(None, (_refusal(body) for body in bodies if body)), None)


def _parent_conditions(body: Body) -> list[Mapping[str, Any]]:
    parents = body.get("status", {}).get("parents", [])
    return [condition for parent in parents for condition in parent.get("conditions", [])]


def _is_accepted(body: Body) -> bool:
    """Accepted and ResolvedRefs, both said of the present generation."""
    generation = body["metadata"]["generation"]
    current = {c["type"]: c["status"] for c in _parent_conditions(body) if c.get("observedGeneration") == generation}
    return current.get("Accepted") == "True" and current.get("ResolvedRefs") == "True"


def _refusal(body: Body) -> Failure | None:
    generation = body["metadata"]["generation"]
    for item in _parent_conditions(body):
        current = item.get("observedGeneration") == generation
        if current and item["type"] in ("Accepted", "ResolvedRefs") and item["status"] == "False":
            said = str(item.get("message", "")).rstrip(".")
            message = f"The gateway refused {body['kind']} {body['metadata']['name']} ({_hosts(body)}): {said}."
            return Failure(item["reason"], message)
    return None


def _hosts(body: Body) -> str:
    return ", ".join(body["spec"].get("hostnames", [])) or "any host"


def _told(deployment: ModelDeployment, routes: Routes, cluster: Cluster) -> Failure | None:
    """A failure, who of the namespace has the same hostname, for two routes cannot both have one, and what stays."""
    failure = routes.failure
    if failure is None or failure is _NOT_YET:
        return failure
    said = [failure.message]
    rivals = list(dict.fromkeys(_same_hosts(deployment, cluster))) if failure.reason != "GatewayNotFound" else []
    if rivals:
        said.append(f"{', '.join(rivals)} has a hostname of these too: change spec.routing of one of them.")
    if routes.stays is not None:
        said.append(f"Until then the routes stay {_place(routes.stays)}.")
    return Failure(failure.reason, " ".join(said))


def _place(routing: Routing) -> str:
    hosts = ", ".join([*routing.hostnames, *routing.grpc_hostnames]) or "every host"
    return f"with Gateway {routing.gateway_ref.namespace}/{routing.gateway_ref.name}, for {hosts}"


def _same_hosts(deployment: ModelDeployment, cluster: Cluster) -> Iterator[str]:
    routing, own = deployment.spec.routing, deployment.metadata
    for protocol, hosts in (("HTTP", routing.hostnames), ("GRPC", routing.grpc_hostnames)):
        for body in cluster.list(ROUTE_KINDS[protocol], own.namespace, {}):
            owner = body["metadata"].get("labels", {}).get(DEPLOYMENT_LABEL)
            if owner != own.name and set(hosts) & set(body["spec"].get("hostnames", [])):
                yield f"ModelDeployment {owner}" if owner else f"{body['kind']} {body['metadata']['name']}"
