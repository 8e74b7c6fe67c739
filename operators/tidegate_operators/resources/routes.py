"""HTTPRoute and GRPCRoute, always built together from the same weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tidegate_api.model_deployment import ModelDeployment
from tidegate_operators.resources.metadata import DEPLOYMENT_LABEL, metadata
from tidegate_operators.resources.server import GRPC_PORT, HTTP_PORT

__all__ = ["ROUTE_KINDS", "route_name", "route_objects"]

ROUTE_KINDS = {"HTTP": "HTTPRoute", "GRPC": "GRPCRoute"}
_GRPC_SERVICE = "inference.GRPCInferenceService"
_GRPC_METHODS = ("ModelInfer", "ModelMetadata", "ModelReady", "ServerReady", "ServerLive")


def route_name(deployment: ModelDeployment, kind: str) -> str:
    """The name of a route. The two must differ: Contour 1.33 keeps the status of routes by name alone, without kind."""
    return deployment.metadata.name + ("-grpc" if kind == "GRPCRoute" else "")


def route_objects(deployment: ModelDeployment, weights: Mapping[str, int]) -> list[dict[str, Any]]:
    """The routes of a deployment, one for each protocol; none while nobody has a weight.

    weights: percent by revision hash; a revision with 0 is known to the gateway and gets no traffic.
    """
    if not any(weights.values()):
        return []
    builders = {"HTTP": _http_route, "GRPC": _grpc_route}
    return [builders[protocol](deployment, weights) for protocol in deployment.spec.routing.protocols]


def _http_route(deployment: ModelDeployment, weights: Mapping[str, int]) -> dict[str, Any]:
    """Only inference and what a client needs around it: Triton's repository and trace controls stay inside."""
    model = f"/v2/models/{deployment.model_name}"
    reads = (model, f"{model}/ready", f"{model}/versions/1", f"{model}/versions/1/ready", "/v2/health/ready")
    matches = [_path("POST", f"{model}{part}/infer") for part in ("", "/versions/1")]
    matches += [_path("GET", path) for path in reads]
    return _route(
        deployment, "HTTPRoute", deployment.spec.routing.hostnames, matches, _backends(deployment, weights, HTTP_PORT)
    )


def _path(method: str, path: str) -> dict[str, Any]:
    return {"method": method, "path": {"type": "Exact", "value": path}}


def _grpc_route(deployment: ModelDeployment, weights: Mapping[str, int]) -> dict[str, Any]:
    matches = [{"method": {"type": "Exact", "service": _GRPC_SERVICE, "method": name}} for name in _GRPC_METHODS]
    names = deployment.spec.routing.grpc_hostnames
    return _route(deployment, "GRPCRoute", names, matches, _backends(deployment, weights, GRPC_PORT))


def _route(
    deployment: ModelDeployment, kind: str, hostnames: list[str], matches: list[Any], backends: list[Any]
) -> dict[str, Any]:
    gateway = deployment.spec.routing.gateway_ref
    parent = {
        "group": "gateway.networking.k8s.io",
        "kind": "Gateway",
        "name": gateway.name,
        "namespace": gateway.namespace or deployment.metadata.namespace,
    }
    spec = {"parentRefs": [parent], "rules": [{"matches": matches, "backendRefs": backends}]}
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": kind,
        "metadata": metadata(deployment, route_name(deployment, kind), {DEPLOYMENT_LABEL: deployment.metadata.name}),
        "spec": spec | ({"hostnames": hostnames} if hostnames else {}),
    }


def _backends(deployment: ModelDeployment, weights: Mapping[str, int], port: int) -> list[dict[str, Any]]:
    return [
        {
            "group": "",
            "kind": "Service",
            "name": f"{deployment.metadata.name}-{revision}",
            "port": port,
            "weight": weight,
        }
        for revision, weight in sorted(weights.items())
    ]
