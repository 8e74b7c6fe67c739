"""The servers of a deployment's revisions, as they stand: how many pods are ready, and why one does not start."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from tidegate_api.model_deployment import ModelDeployment
from tidegate_api.model_package import PACKAGE_TAG
from tidegate_operators.adapters.cluster import Cluster
from tidegate_operators.handlers.apply import Body, Name
from tidegate_operators.handlers.pods import is_stuck, unscheduled
from tidegate_operators.resources.metadata import DEPLOYMENT_LABEL, REVISION_LABEL
from tidegate_operators.resources.server import FETCH_CONTAINER
from tidegate_operators.rollout.observed import Failure, Server

__all__ = ["observe_servers"]

_BAD_INPUT = 2


def observe_servers(deployment: ModelDeployment, present: Mapping[Name, Body], cluster: Cluster) -> dict[str, Server]:
    """The servers by revision; their Deployments are among the objects that are `present`."""
    labels = {DEPLOYMENT_LABEL: deployment.metadata.name}
    pods = cluster.list("Pod", deployment.metadata.namespace, labels)
    servers = [body for (kind, _), body in present.items() if kind == "Deployment"]
    return {body["metadata"]["labels"][REVISION_LABEL]: _server(deployment, body, pods) for body in servers}


def _server(deployment: ModelDeployment, body: Mapping[str, Any], pods: Iterable[Mapping[str, Any]]) -> Server:
    revision = body["metadata"]["labels"][REVISION_LABEL]
    own = [pod for pod in pods if pod["metadata"]["labels"].get(REVISION_LABEL) == revision]
    newest_first = sorted(own, key=lambda pod: str(pod["metadata"]["creationTimestamp"]), reverse=True)
    failure = next((found for pod in newest_first if (found := _pod_failure(deployment, pod))), None)
    failure = failure or _refused_pods(body)
    status = body.get("status", {})
    return Server(replicas=body["spec"].get("replicas", 1), ready=status.get("readyReplicas", 0), failure=failure)


def _refused_pods(body: Mapping[str, Any]) -> Failure | None:
    """What the API server says where it lets no pod be made: a quota, an admission policy, a name that is none."""
    said = next((c for c in body.get("status", {}).get("conditions", []) if c["type"] == "ReplicaFailure"), None)
    if said is None or said["status"] != "True":
        return None
    message = f"No pod of {body['metadata']['name']} is let in: {str(said.get('message', '')).rstrip('.')}."
    return Failure("PodRefused", message)


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
