"""Look at everything once: the source, the servers, the routes and the evidence."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from tidegate_api.model_deployment import CanaryStatus, Metric, ModelDeployment, ResolvedModel
from tidegate_api.model_package import PACKAGE_TAG
from tidegate_operators.adapters.errors import NeighbourError
from tidegate_operators.adapters.prometheus import Prometheus
from tidegate_operators.handlers.neighbours import Neighbours
from tidegate_operators.handlers.pods import is_stuck, unscheduled
from tidegate_operators.resources.metadata import DEPLOYMENT_LABEL, REVISION_LABEL
from tidegate_operators.resources.routes import ROUTE_KINDS, route_name
from tidegate_operators.resources.server import FETCH_CONTAINER
from tidegate_operators.rollout.counting import Series, windows
from tidegate_operators.rollout.observed import Failure, Observed, Routes, Server, Window
from tidegate_operators.rollout.profiles import Profile, Question, profile_of, question, track, unseen
from tidegate_operators.rollout.steps import grid_floor

__all__ = ["observe"]

# A sample stamped before a grid point may reach Prometheus a moment after it.
_SETTLE = timedelta(seconds=2)
# Catching up after an outage goes by this many intervals a look.
_MOST_INTERVALS = 500
_BAD_INPUT = 2


def observe(deployment: ModelDeployment, neighbours: Neighbours, now: datetime) -> Observed:
    """Everything that `decide` needs, in one look. Neighbours that do not answer become failures, not exceptions."""
    model, model_failure = _model(deployment, neighbours)
    routes, profile = _routes(deployment, neighbours)
    found, until, metrics_failure = _evidence(deployment, neighbours.prometheus, profile, now)
    return Observed(
        model=model,
        model_failure=model_failure,
        servers=_servers(deployment, neighbours),
        routes=routes,
        windows=tuple(found),
        judged_until=until,
        images=neighbours.platform.images(deployment.spec.runtime),
        metrics_failure=metrics_failure,
    )


def _model(deployment: ModelDeployment, neighbours: Neighbours) -> tuple[ResolvedModel | None, Failure | None]:
    """What the source names; while the registry is away, what it last named stays in force."""
    package, registry = deployment.spec.model.package, deployment.spec.model.registry
    if package is not None:
        return ResolvedModel(digest=package.digest, uri=package.uri), None
    if registry is None:
        return None, None
    try:
        return _known_version(deployment, neighbours.registry.resolve(registry)), None
    except NeighbourError as error:
        return deployment.status.source, error.failure


def _known_version(deployment: ModelDeployment, found: ResolvedModel) -> ResolvedModel:
    """A version is resolved to a digest once: tags that change later change nothing."""
    known = deployment.status.source
    return known if known is not None and known.version == found.version else found


def _servers(deployment: ModelDeployment, neighbours: Neighbours) -> dict[str, Server]:
    labels = {DEPLOYMENT_LABEL: deployment.metadata.name}
    namespace = deployment.metadata.namespace
    deployments = neighbours.cluster.list("Deployment", namespace, labels)
    pods = neighbours.cluster.list("Pod", namespace, labels)
    return {body["metadata"]["labels"][REVISION_LABEL]: _server(deployment, body, pods) for body in deployments}


def _server(deployment: ModelDeployment, body: Mapping[str, Any], pods: Iterable[Mapping[str, Any]]) -> Server:
    revision = body["metadata"]["labels"][REVISION_LABEL]
    own = [pod for pod in pods if pod["metadata"]["labels"].get(REVISION_LABEL) == revision]
    newest_first = sorted(own, key=lambda pod: str(pod["metadata"]["creationTimestamp"]), reverse=True)
    failure = next((found for pod in newest_first if (found := _pod_failure(deployment, pod))), None)
    status = body.get("status", {})
    return Server(replicas=body["spec"].get("replicas", 1), ready=status.get("readyReplicas", 0), failure=failure)


def _pod_failure(deployment: ModelDeployment, pod: Mapping[str, Any]) -> Failure | None:
    """Why a pod does not start, if it says so."""
    package = deployment.spec.model.package
    status = pod.get("status", {})
    containers = [*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])]
    failed = next((found for found in map(_container_failure, containers) if found), None)
    if failed is not None:
        return failed
    addresses = {"spec.model.package.uri": package.uri} if package else _registered_address(deployment)
    return unscheduled(pod, addresses)


def _registered_address(deployment: ModelDeployment) -> dict[str, str]:
    source = deployment.status.source
    return {f"tag {PACKAGE_TAG} of version {source.version} in the registry": source.uri} if source else {}


def _container_failure(container: Mapping[str, Any]) -> Failure | None:
    ended = container.get("state", {}).get("terminated") or container.get("lastState", {}).get("terminated")
    if ended and ended.get("exitCode"):
        message = (ended.get("message") or f"container {container['name']} ended with {ended['exitCode']}").strip()
        refused = container["name"] == FETCH_CONTAINER and ended["exitCode"] == _BAD_INPUT
        return Failure("PackageRefused" if refused else "ContainerFailed", message)
    waiting = container.get("state", {}).get("waiting") or {}
    if is_stuck(waiting):
        return Failure(waiting["reason"], f"{container['name']}: {waiting.get('message', waiting['reason'])}")
    return None


def _routes(deployment: ModelDeployment, neighbours: Neighbours) -> tuple[Routes, Profile]:
    """The routes as the gateway sees them, and which counters that gateway keeps."""
    namespace, cluster = deployment.metadata.namespace, neighbours.cluster
    reference = deployment.spec.routing.gateway_ref
    where = reference.namespace or namespace
    gateway = cluster.get("Gateway", where, reference.name)
    if gateway is None:
        message = f"Gateway {where}/{reference.name} does not exist: create it or correct spec.routing.gatewayRef"
        return Routes(failure=Failure("GatewayNotFound", message)), profile_of(None)
    kinds = [ROUTE_KINDS[protocol] for protocol in deployment.spec.routing.protocols]
    bodies = [cluster.get(kind, namespace, route_name(deployment, kind)) for kind in kinds]
    return _accepted_routes(bodies, deployment.metadata.name), profile_of(_controller(neighbours, gateway))


def _controller(neighbours: Neighbours, gateway: Mapping[str, Any]) -> str | None:
    found = neighbours.cluster.get("GatewayClass", "", gateway["spec"]["gatewayClassName"])
    return found["spec"]["controllerName"] if found else None


def _accepted_routes(bodies: list[dict[str, Any] | None], name: str) -> Routes:
    present = [body for body in bodies if body is not None]
    if len(present) < len(bodies):
        return Routes()
    weights = [_route_weights(body, name) for body in present]
    refusals = [failure for failure in map(_refusal, present) if failure is not None]
    same = all(found == weights[0] for found in weights)
    return Routes(weights[0], same and not refusals and all(map(_is_accepted, present)), next(iter(refusals), None))


def _route_weights(body: Mapping[str, Any], name: str) -> dict[str, int]:
    backends = body["spec"]["rules"][0].get("backendRefs", [])
    return {item["name"].removeprefix(f"{name}-"): item.get("weight", 1) for item in backends}


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


@dataclass(frozen=True)
class _Look:
    """One look at Prometheus: whom to compare over which grid."""

    prometheus: Prometheus
    profile: Profile
    deployment: ModelDeployment
    stable: str
    canary: str
    grid: tuple[datetime, ...]


def _evidence(
    deployment: ModelDeployment, prometheus: Prometheus, profile: Profile, now: datetime
) -> tuple[list[Window], datetime | None, Failure | None]:
    """The windows since the last judged interval, to where they reach, and what could not be read."""
    canary, stable = deployment.status.canary, deployment.status.stable
    if canary is None or stable is None or not deployment.spec.analysis.metrics:
        return [], None, None
    grid = _grid(deployment, canary, now)
    if len(grid) < 2:
        return [], None, _lasting_failure(deployment)
    look = _Look(prometheus, profile, deployment, stable.hash, canary.revision.hash, grid)
    try:
        return [window for metric in deployment.spec.analysis.metrics for window in _read(look, metric)], grid[-1], None
    except NeighbourError as error:
        return [], None, error.failure


def _lasting_failure(deployment: ModelDeployment) -> Failure | None:
    """Between grid points nothing is asked: what could not be read at the last one still holds."""
    for condition in deployment.status.conditions:
        if condition.type == "MetricsAvailable" and condition.status == "False":
            return Failure(condition.reason, condition.message)
    return None


def _grid(deployment: ModelDeployment, canary: CanaryStatus, now: datetime) -> tuple[datetime, ...]:
    interval = deployment.spec.analysis.interval
    if canary.judged_until is None:
        return ()
    last = grid_floor(now - _SETTLE, interval)
    count = min(max(0, (last - canary.judged_until) // interval), _MOST_INTERVALS)
    return tuple(canary.judged_until + k * interval for k in range(count + 1))


def _read(look: _Look, metric: Metric) -> list[Window]:
    if metric.threshold is not None:
        query = metric.threshold.query.replace("$track", track(look.deployment.metadata.name, [look.canary]))
        pairs = zip(look.grid, look.grid[1:], strict=False)
        return [Window(metric.name, a, b, value=look.prometheus.scalar(query, b)) for a, b in pairs]
    asked = question(metric, look.profile, track(look.deployment.metadata.name, [look.stable, look.canary]))
    if asked is None:
        raise NeighbourError("MetricNotSeen", unseen(metric, look.profile))
    return _answer(look, asked)


def _answer(look: _Look, asked: Question) -> list[Window]:
    events = [series for selector in asked.events for series in _counters(look, selector)]
    trials = [series for selector in asked.trials for series in _counters(look, selector)]
    if asked.complement and trials and not events:
        message = (
            f"Metric {asked.metric}: the gateway has no such bucket edge (query {asked.events[0]}); "
            "state slowRequests.above as an edge of its latency histogram"
        )
        raise NeighbourError("BucketNotFound", message)
    return windows(
        asked.metric, look.grid, look.stable, look.canary, events=events, trials=trials, complement=asked.complement
    )


def _counters(look: _Look, selector: str) -> list[Series]:
    return look.prometheus.counters(selector, look.grid)
