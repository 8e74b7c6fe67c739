"""Routes that are to stand elsewhere: make before break, for a gateway may refuse the place that a spec names.

The main routes stay while one of their own, NAME-moving, asks the gateway for the hostnames or the Gateway that are
new. Once it is accepted, the main routes take its place. What they stay with is read off them: nothing is remembered.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tidegate_api.model_deployment import GatewayRef, ModelDeployment, Routing

__all__ = ["MOVING", "as_they_stand", "hosts_of", "hosts_to_prove", "leads_to"]

MOVING = "moving"
"""What is added to the name of a route that asks."""

Route = Mapping[str, Any]


def hosts_of(routing: Routing, kind: str) -> list[str]:
    """The hostnames of the routes of a kind; none: every host."""
    return routing.hostnames if kind == "HTTPRoute" else routing.grpc_hostnames


def hosts_to_prove(asked: Routing, stays: Routing, kind: str) -> list[str] | None:
    """The hostnames (none: every host) that the gateway must take before a route moves; None where nothing is new."""
    new, old = hosts_of(asked, kind), hosts_of(stays, kind)
    if asked.gateway_ref != stays.gateway_ref:
        return new
    if new == old or (new and set(new) <= set(old)):
        return None
    return [host for host in new if host not in old]


def as_they_stand(deployment: ModelDeployment, main: Mapping[str, Route | None]) -> Routing | None:
    """The spec's routing with the Gateway and hostnames that the main routes have; None before all of them are there.

    main: the main route by kind.
    """
    bodies = {kind: body for kind, body in main.items() if body is not None}
    if len(bodies) < len(main):
        return None
    asked = deployment.spec.routing
    found = {kind: body["spec"].get("hostnames", []) for kind, body in bodies.items()}
    return asked.model_copy(
        update={
            "gateway_ref": _parent(deployment, next(iter(bodies.values()))),
            "hostnames": found.get("HTTPRoute", asked.hostnames),
            "grpc_hostnames": found.get("GRPCRoute", asked.grpc_hostnames),
        }
    )


def leads_to(deployment: ModelDeployment, body: Route, hosts: list[str]) -> bool:
    """Whether a route asks the spec's Gateway for just these hostnames, and not for what a spec before named."""
    same_gateway = _parent(deployment, body) == deployment.spec.routing.gateway_ref
    return same_gateway and body["spec"].get("hostnames", []) == hosts


def _parent(deployment: ModelDeployment, body: Route) -> GatewayRef:
    """The Gateway that a route of ours has, in the spec's own words where it is the same."""
    asked, parent = deployment.spec.routing.gateway_ref, body["spec"]["parentRefs"][0]
    same = (parent["name"], parent["namespace"]) == (asked.name, asked.namespace or deployment.metadata.namespace)
    return asked if same else GatewayRef(name=parent["name"], namespace=parent["namespace"])
