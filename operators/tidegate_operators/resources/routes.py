"""HTTPRoutes and GRPCRoutes, always built together from the same weights."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from tidegate_api.model_deployment import AbTest, ModelDeployment, ModelDeploymentStatus, Routing
from tidegate_operators.resources.metadata import DEPLOYMENT_LABEL, metadata
from tidegate_operators.resources.route_moves import MOVING, hosts_of, hosts_to_prove
from tidegate_operators.resources.server import GRPC_PORT, HTTP_PORT, unjudged_name

__all__ = ["ROUTE_KINDS", "route_name", "route_objects", "route_weights"]

ROUTE_KINDS = {"HTTP": "HTTPRoute", "GRPC": "GRPCRoute"}
_WEIGHTS = "tidegate.dev/weights"
_GRPC_SERVICE = "inference.GRPCInferenceService"
_GRPC_METHODS = ("ModelMetadata", "ModelReady", "ServerReady", "ServerLive")
_PORTS = {"HTTPRoute": HTTP_PORT, "GRPCRoute": GRPC_PORT}
# Gateway API takes so many matches a rule, and 128 a route: 100 buckets fit once, not for two paths.
_MATCHES = 64
_BUCKETS = 100

Match = dict[str, Any]


def route_name(deployment: ModelDeployment, kind: str, part: str = "") -> str:
    """The name of a route. No two may be the same: Contour 1.33 keeps the status of routes by name, without kind."""
    return deployment.metadata.name + (f"-{part}" if part else "") + ("-grpc" if kind == "GRPCRoute" else "")


def route_weights(body: Mapping[str, Any]) -> dict[str, int]:
    """Percent by revision hash that a route was made for; nothing for one of somebody else."""
    text = body["metadata"].get("annotations", {}).get(_WEIGHTS, "{}")
    found: dict[str, int] = json.loads(text)
    return found


def route_objects(
    deployment: ModelDeployment, status: ModelDeploymentStatus, weights: Mapping[str, int], stays: Routing | None = None
) -> list[Match]:
    """The routes of a deployment; none while nobody has a weight.

    weights: percent by revision hash; a revision with 0 is known to the gateway and gets no traffic.
    stays: where they stay until the gateway has taken what the spec asks, which routes of their own ask of it.
    What takes a path or a host over stands before what gives it up, so that in between both lead there.
    """
    if not any(weights.values()):
        return []
    plan = _Plan(deployment if stays is None else _placed(deployment, stays), status, weights)
    kinds = [ROUTE_KINDS[protocol] for protocol in deployment.spec.routing.protocols]
    routes = [route for kind in kinds for route in (*_beside(plan, kind), _main(plan, kind))]
    asking = _Plan(deployment, status, weights)
    return routes + [route for kind in kinds if stays for route in _moving(asking, kind, stays)]


def _placed(deployment: ModelDeployment, routing: Routing) -> ModelDeployment:
    return deployment.model_copy(update={"spec": deployment.spec.model_copy(update={"routing": routing})})


class _Plan:
    """Who gets which requests, for whatever kind of route."""

    def __init__(self, deployment: ModelDeployment, status: ModelDeploymentStatus, weights: Mapping[str, int]) -> None:
        self.deployment, self.weights = deployment, weights
        self.test = deployment.spec.strategy.ab_test
        self.models = _models(deployment, status)
        self.stable = status.stable.hash if status.stable else None
        self.canary = status.canary.revision.hash if status.canary else None
        self.splits = bool(self.test and self.stable and self.canary and 0 < status.weight < sum(weights.values()))

    def rules(self, kind: str, inference: list[Match], others: list[Match]) -> list[Match]:
        """The rules of a route: by weight, or by header while a test runs."""
        if self.splits and self.test is not None:
            return self._split(kind, self.test, inference, others)
        return list(_in_rules([*inference, *others], *self._weighted(kind), *self._spare(kind)))

    def preview(self, kind: str, matches: list[Match]) -> list[Match]:
        """All to the newest revision."""
        newest = self.canary or self.stable or ""
        return list(_in_rules(matches, self._revision(newest, kind)))

    def _split(self, kind: str, test: AbTest, inference: list[Match], others: list[Match]) -> list[Match]:
        canary, stable = self._revision(self.canary or "", kind), self._revision(self.stable or "", kind)
        idle = [self._revision(revision, kind, 0) for revision, weight in self.weights.items() if not weight]
        if test.percent is None:
            chosen = _by_header(inference, test.header, test.values or [])
            unchosen = [stable, *idle, *self._spare(kind)]
            return [*_in_rules(chosen, canary), {"matches": [*inference, *others], "backendRefs": unchosen}]
        first, second = ([str(b) for b in part] for part in (range(test.percent), range(test.percent, _BUCKETS)))
        rest = self._backend(unjudged_name(self.deployment), kind, 1)
        return [
            *_in_rules(_by_header(inference, test.header, first), canary),
            *_in_rules(_by_header(inference, test.header, second), stable),
            {"matches": [*inference, *others], "backendRefs": [rest, *idle]},
        ]

    def _spare(self, kind: str) -> list[Match]:
        """The Service beside stable, without traffic: an edit to a test, or away from one, finds it at the gateway."""
        return [self._backend(unjudged_name(self.deployment), kind, 0)] if self.stable else []

    def _weighted(self, kind: str) -> list[Match]:
        return [self._revision(revision, kind, weight) for revision, weight in sorted(self.weights.items())]

    def _revision(self, revision: str, kind: str, weight: int = 1) -> Match:
        """The backend of a revision, which tells its name in the answer's header where that is asked for."""
        backend = self._backend(f"{self.deployment.metadata.name}-{revision}", kind, weight)
        header = self.deployment.spec.routing.revision_header
        if header is None:
            return backend
        told = {"set": [{"name": header, "value": revision}]}
        return backend | {"filters": [{"type": "ResponseHeaderModifier", "responseHeaderModifier": told}]}

    def _backend(self, name: str, kind: str, weight: int) -> Match:
        return {"group": "", "kind": "Service", "name": name, "port": _PORTS[kind], "weight": weight}


def _by_header(matches: Iterable[Match], header: str, values: Iterable[str]) -> list[Match]:
    found = [{"type": "Exact", "name": header, "value": value} for value in values]
    return [match | {"headers": [each]} for match in matches for each in found]


def _in_rules(matches: list[Match], *backends: Match) -> Iterator[Match]:
    """As many rules as the matches need."""
    for start in range(0, len(matches), _MATCHES):
        yield {"matches": matches[start : start + _MATCHES], "backendRefs": list(backends)}


def _main(plan: _Plan, kind: str) -> Match:
    inference, others = _matches(plan, kind)
    return _route(plan, kind, "", _hostnames(plan, kind), plan.rules(kind, inference, others))


def _moving(plan: _Plan, kind: str, stays: Routing) -> Iterator[Match]:
    """A route to what is new in the spec, which already leads where the main one does."""
    hosts = hosts_to_prove(plan.deployment.spec.routing, stays, kind)
    if hosts is not None:
        inference, others = _matches(plan, kind)
        yield _route(plan, kind, MOVING, hosts, plan.rules(kind, inference, others))


def _beside(plan: _Plan, kind: str) -> Iterator[Match]:
    """Routes beside the main one: a test's second path, and the way to a preview."""
    if plan.test is not None and kind == "HTTPRoute":
        versioned = _versioned(plan)
        yield _route(plan, kind, "versioned", _hostnames(plan, kind), plan.rules(kind, versioned, []))
    hostnames = _preview_hostnames(plan, kind)
    if hostnames:
        inference, others = _matches(plan, kind)
        yield _route(plan, kind, "preview", hostnames, plan.preview(kind, [*inference, *others]))


def _matches(plan: _Plan, kind: str) -> tuple[list[Match], list[Match]]:
    """What asks the model, and what a client needs around it: Triton's repository and trace controls stay inside."""
    if kind == "GRPCRoute":
        return [_method("ModelInfer")], [_method(name) for name in _GRPC_METHODS]
    models = [f"/v2/models/{name}" for name in plan.models]
    versioned = [] if plan.test is not None else _versioned(plan)
    reads = [f"{model}{part}" for model in models for part in ("", "/ready", "/versions/1", "/versions/1/ready")]
    asked = [_path("POST", f"{model}/infer") for model in models]
    return [*asked, *versioned], [_path("GET", path) for path in (*reads, "/v2/health/ready")]


def _versioned(plan: _Plan) -> list[Match]:
    return [_path("POST", f"/v2/models/{name}/versions/1/infer") for name in plan.models]


def _models(deployment: ModelDeployment, status: ModelDeploymentStatus) -> list[str]:
    """The model and all that are served beside it, now or soon."""
    runtimes = [deployment.spec.runtime, *(revision.runtime for revision in status.live if revision.runtime)]
    also = [model.name for runtime in runtimes for model in runtime.further]
    own = [deployment.name_of(revision) for revision in status.live]
    return list(dict.fromkeys([*own, *also]))


def _path(method: str, path: str) -> Match:
    return {"method": method, "path": {"type": "Exact", "value": path}}


def _method(name: str) -> Match:
    return {"method": {"type": "Exact", "service": _GRPC_SERVICE, "method": name}}


def _hostnames(plan: _Plan, kind: str) -> list[str]:
    return hosts_of(plan.deployment.spec.routing, kind)


def _preview_hostnames(plan: _Plan, kind: str) -> list[str]:
    switch = plan.deployment.spec.strategy.blue_green
    if switch is None:
        return []
    return switch.preview_hostnames if kind == "HTTPRoute" else switch.preview_grpc_hostnames


def _route(plan: _Plan, kind: str, part: str, hostnames: list[str], rules: list[Match]) -> Match:
    deployment = plan.deployment
    gateway = deployment.spec.routing.gateway_ref
    parent = {
        "group": "gateway.networking.k8s.io",
        "kind": "Gateway",
        "name": gateway.name,
        "namespace": gateway.namespace or deployment.metadata.namespace,
    }
    labels = {DEPLOYMENT_LABEL: deployment.metadata.name}
    annotations = {_WEIGHTS: json.dumps(dict(plan.weights), sort_keys=True)}
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": kind,
        "metadata": metadata(deployment, route_name(deployment, kind, part), labels) | {"annotations": annotations},
        "spec": {"parentRefs": [parent], "rules": rules} | ({"hostnames": hostnames} if hostnames else {}),
    }
