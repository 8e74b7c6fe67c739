"""Look at everything once: the source, the servers, the routes and the evidence."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from datetime import datetime
from typing import Any

from tidegate_api.annotations import UNDO_TO
from tidegate_api.model_deployment import ModelDeployment, ResolvedModel
from tidegate_api.model_package import PACKAGE_TAG
from tidegate_operators.adapters.errors import NeighbourError, RefusedError
from tidegate_operators.handlers.apply import Body, Name
from tidegate_operators.handlers.evidence import read_evidence
from tidegate_operators.handlers.neighbours import Neighbours
from tidegate_operators.handlers.observe_views import observe_views
from tidegate_operators.handlers.pods import free_gpus, is_stuck, unscheduled
from tidegate_operators.resources.metadata import DEPLOYMENT_LABEL, REVISION_LABEL
from tidegate_operators.resources.routes import ROUTE_KINDS, route_name, route_weights
from tidegate_operators.resources.server import FETCH_CONTAINER
from tidegate_operators.rollout.observed import Failure, Observed, Routes, Server
from tidegate_operators.rollout.profiles import Profile, profile_of
from tidegate_operators.rollout.source import revision_of

__all__ = ["observe"]

_BAD_INPUT = 2


def observe(
    deployment: ModelDeployment, present: Mapping[Name, Body], neighbours: Neighbours, now: datetime
) -> Observed:
    """Everything that `decide` needs, in one look. Neighbours that do not answer become failures, not exceptions.

    present: the deployment's own objects, as they stand.
    """
    model, model_failure = _model(deployment, neighbours)
    routes, profile = _routes(deployment, present, neighbours)
    images = neighbours.platform.images(deployment.spec.runtime)
    found, until, metrics_failure = read_evidence(deployment, neighbours.prometheus, profile, now)
    return Observed(
        model=model,
        model_failure=model_failure,
        servers=_servers(deployment, present, neighbours),
        routes=routes,
        windows=tuple(found),
        judged_until=until,
        images=images,
        views=observe_views(model, deployment.metadata.namespace, neighbours.cluster),
        free_gpus=_free_gpus(deployment, model, neighbours),
        metrics_failure=metrics_failure,
    )


def _model(deployment: ModelDeployment, neighbours: Neighbours) -> tuple[ResolvedModel | None, Failure | None]:
    """What the source names; while the registry is away, what it last named stays in force."""
    package, registry = deployment.spec.model.package, deployment.spec.model.registry
    if package is not None:
        return ResolvedModel(digest=package.digest, uri=package.uri, feature_views=package.feature_views), None
    if registry is None:
        return None, None
    try:
        return _known_version(deployment, neighbours.registry.resolve(registry)), None
    except NeighbourError as error:
        return deployment.status.source, error.failure


def _known_version(deployment: ModelDeployment, found: ResolvedModel) -> ResolvedModel:
    """A version is resolved to a digest once: tags that change later change nothing."""
    known = deployment.status.source
    same = known is not None and (known.name, known.version) == (found.name, found.version)
    return known if known is not None and same else found


def _free_gpus(
    deployment: ModelDeployment, model: ResolvedModel | None, neighbours: Neighbours
) -> tuple[int, ...] | None:
    """GPUs that nobody has, where a rollout that needs some is about to start."""
    status = deployment.status
    if not deployment.spec.runtime.gpus or model is None or status.canary is not None:
        return None
    stable, rejected = status.stable, status.rejected
    target = revision_of(deployment, model).hash
    undo = deployment.metadata.annotations.get(UNDO_TO)
    stays = target in (stable.hash if stable else None, rejected.hash if rejected else None)
    if stays and undo in (None, status.undone_to):
        return None
    try:
        return free_gpus(neighbours.cluster.list("Node", "", {}), neighbours.cluster.list("Pod", "", {}))
    except RefusedError:
        return None


def _servers(deployment: ModelDeployment, present: Mapping[Name, Body], neighbours: Neighbours) -> dict[str, Server]:
    labels = {DEPLOYMENT_LABEL: deployment.metadata.name}
    pods = neighbours.cluster.list("Pod", deployment.metadata.namespace, labels)
    servers = [body for (kind, _), body in present.items() if kind == "Deployment"]
    return {body["metadata"]["labels"][REVISION_LABEL]: _server(deployment, body, pods) for body in servers}


def _server(deployment: ModelDeployment, body: Mapping[str, Any], pods: Iterable[Mapping[str, Any]]) -> Server:
    revision = body["metadata"]["labels"][REVISION_LABEL]
    own = [pod for pod in pods if pod["metadata"]["labels"].get(REVISION_LABEL) == revision]
    newest_first = sorted(own, key=lambda pod: str(pod["metadata"]["creationTimestamp"]), reverse=True)
    failure = next((found for pod in newest_first if (found := _pod_failure(deployment, pod))), None)
    status = body.get("status", {})
    return Server(replicas=body["spec"].get("replicas", 1), ready=status.get("readyReplicas", 0), failure=failure)


def _pod_failure(deployment: ModelDeployment, pod: Mapping[str, Any]) -> Failure | None:
    """Why a pod does not start, if it says so."""
    status = pod.get("status", {})
    containers = [*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])]
    failed = next((found for found in map(_container_failure, containers) if found), None)
    if failed is not None:
        return failed
    return unscheduled(pod, _addresses(deployment))


def _addresses(deployment: ModelDeployment) -> dict[str, str]:
    """Where packages lie, by where that is said."""
    package, source = deployment.spec.model.package, deployment.status.source
    found = {f"tag {PACKAGE_TAG} of version {source.version} in the registry": source.uri} if source else {}
    if package:
        found = {"spec.model.package.uri": package.uri}
    further = enumerate(deployment.spec.runtime.further)
    return found | {f"spec.runtime.alsoServe[{i}].uri": model.uri for i, model in further}


def _container_failure(container: Mapping[str, Any]) -> Failure | None:
    ended = container.get("state", {}).get("terminated") or container.get("lastState", {}).get("terminated")
    if ended and ended.get("exitCode"):
        message = (ended.get("message") or f"container {container['name']} ended with {ended['exitCode']}").strip()
        refused = container["name"].startswith(FETCH_CONTAINER) and ended["exitCode"] == _BAD_INPUT
        return Failure("PackageRefused" if refused else "ContainerFailed", message)
    waiting = container.get("state", {}).get("waiting") or {}
    if is_stuck(waiting):
        return Failure(waiting["reason"], f"{container['name']}: {waiting.get('message', waiting['reason'])}")
    return None


def _routes(
    deployment: ModelDeployment, present: Mapping[Name, Body], neighbours: Neighbours
) -> tuple[Routes, Profile]:
    """The routes as the gateway sees them, and which counters that gateway keeps."""
    namespace, cluster = deployment.metadata.namespace, neighbours.cluster
    reference = deployment.spec.routing.gateway_ref
    where = reference.namespace or namespace
    gateway = cluster.get("Gateway", where, reference.name)
    if gateway is None:
        message = f"Gateway {where}/{reference.name} does not exist: create it or correct spec.routing.gatewayRef"
        return Routes(failure=Failure("GatewayNotFound", message)), profile_of(None)
    kinds = [ROUTE_KINDS[protocol] for protocol in deployment.spec.routing.protocols]
    bodies = [body for (kind, _), body in present.items() if kind in kinds]
    main = {route_name(deployment, kind) for kind in kinds}
    return _accepted_routes(bodies, main), profile_of(_controller(neighbours, gateway))


def _controller(neighbours: Neighbours, gateway: Mapping[str, Any]) -> str | None:
    found = neighbours.cluster.get("GatewayClass", "", gateway["spec"]["gatewayClassName"])
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
