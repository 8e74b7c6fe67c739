"""The API server: read, server-side apply under one field manager, delete, status, Events."""

from __future__ import annotations

import hashlib
import json
import logging
from datetime import datetime
from typing import Any

from kubernetes.client import ApiClient
from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import HTTPError

from tidegate_api.resource import Resource
from tidegate_operators.adapters.errors import NeighbourError, RefusedError
from tidegate_operators.rollout.observed import Announcement

__all__ = ["KINDS", "Cluster", "NamespaceGoneError"]

FIELD_MANAGER = "tidegate"
_log = logging.getLogger("tidegate")
_FORBIDDEN, _NOT_FOUND, _CONFLICT, _BUSY, _BROKEN = 403, 404, 409, 429, 500
# What the API server says of a body that it will not have, whoever asks and however often.
_REFUSALS = (400, _FORBIDDEN, _NOT_FOUND, 405, 413, 415, 422)
_REMEDIES = {
    _FORBIDDEN: ("Forbidden", "allow it in this namespace, or correct the spec of"),
    _NOT_FOUND: ("KindNotFound", "install this kind in the cluster, or correct the spec of"),
}
_ROOTS = {"v1": "/api/v1"}
KINDS = {
    "Service": ("v1", "services"),
    "ConfigMap": ("v1", "configmaps"),
    "Pod": ("v1", "pods"),
    "Event": ("v1", "events"),
    "Deployment": ("apps/v1", "deployments"),
    "ControllerRevision": ("apps/v1", "controllerrevisions"),
    "HorizontalPodAutoscaler": ("autoscaling/v2", "horizontalpodautoscalers"),
    "PodDisruptionBudget": ("policy/v1", "poddisruptionbudgets"),
    "Node": ("v1", "nodes"),
    "Lease": ("coordination.k8s.io/v1", "leases"),
    "Job": ("batch/v1", "jobs"),
    "CronJob": ("batch/v1", "cronjobs"),
    "HTTPRoute": ("gateway.networking.k8s.io/v1", "httproutes"),
    "GRPCRoute": ("gateway.networking.k8s.io/v1", "grpcroutes"),
    "Gateway": ("gateway.networking.k8s.io/v1", "gateways"),
    "GatewayClass": ("gateway.networking.k8s.io/v1", "gatewayclasses"),
    "ModelDeployment": ("tidegate.dev/v1alpha1", "modeldeployments"),
    "FeatureView": ("tidegate.dev/v1alpha1", "featureviews"),
}


class NamespaceGoneError(Exception):
    """The namespace is being deleted: nothing can be made in it any more."""


class Cluster:
    """One API server. Objects go in and out as plain dictionaries, as the API writes them."""

    def __init__(self, client: ApiClient) -> None:
        self._client = client

    def get(self, kind: str, namespace: str, name: str) -> dict[str, Any] | None:
        """The object, or none where there is none. An empty namespace stands for a cluster-wide kind."""
        try:
            return self._call("GET", f"{_path(kind, namespace)}/{name}")
        except ApiException as error:
            if error.status == _NOT_FOUND:
                return None
            raise

    def list(self, kind: str, namespace: str, labels: dict[str, str]) -> list[dict[str, Any]]:
        """The objects that carry all of the labels; none where the cluster does not know the kind.

        Raises RefusedError where the operator may not look.
        """
        selector = ",".join(f"{key}={value}" for key, value in labels.items())
        try:
            found = self._call("GET", _path(kind, namespace), query=[("labelSelector", selector)])
        except ApiException as error:
            if error.status == _NOT_FOUND:
                return []
            if error.status == _FORBIDDEN:
                raise RefusedError("Forbidden", f"The operator may not list {kind}: {_message(error)}") from error
            raise
        items: list[dict[str, Any]] = found["items"]
        return items

    def apply(self, body: dict[str, Any], subresource: str = "") -> dict[str, Any]:
        """Server-side apply: what the body states is so afterwards, what it does not state is left to others.

        Raises NamespaceGoneError where the namespace is being deleted, and RefusedError where the API server will not
        have the body.
        """
        metadata = body["metadata"]
        path = f"{_path(body['kind'], metadata.get('namespace', ''))}/{metadata['name']}{subresource}"
        query = [("fieldManager", FIELD_MANAGER), ("force", "true")]
        try:
            return self._call("PATCH", path, query=query, body=body, content_type="application/apply-patch+yaml")
        except ApiException as error:
            if error.status == _FORBIDDEN and "NamespaceTerminating" in str(error.body):
                raise NamespaceGoneError(metadata.get("namespace", "")) from error
            if error.status in _REFUSALS:
                raise _refusal(body, error) from error
            raise

    def write(self, body: dict[str, Any]) -> bool:
        """Compare and set: create a body without resourceVersion, replace one with it.

        False where somebody was faster.
        """
        metadata = body["metadata"]
        path = _path(body["kind"], metadata["namespace"])
        exists = "resourceVersion" in metadata
        try:
            self._call("PUT" if exists else "POST", f"{path}/{metadata['name']}" if exists else path, body=body)
        except ApiException as error:
            if error.status in (_CONFLICT, _NOT_FOUND):
                return False
            raise
        return True

    def scale(self, kind: str, namespace: str, name: str, replicas: int) -> None:
        """Set the number of pods through the scale subresource, as autoscalers do: the count stays theirs."""
        path = f"{_path(kind, namespace)}/{name}/scale"
        body = {"spec": {"replicas": replicas}}
        try:
            self._call("PATCH", path, body=body, content_type="application/merge-patch+json")
        except ApiException as error:
            if error.status != _NOT_FOUND:
                raise

    def delete(self, kind: str, namespace: str, name: str) -> None:
        """Delete the object and, in the background, what it owns. Absent is as good as deleted."""
        try:
            self._call("DELETE", f"{_path(kind, namespace)}/{name}", query=[("propagationPolicy", "Background")])
        except ApiException as error:
            if error.status != _NOT_FOUND:
                raise

    def apply_status(self, resource: Resource, status: dict[str, Any]) -> None:
        """Set the status; fields that it no longer has are removed."""
        body = {
            "apiVersion": resource.api_version,
            "kind": resource.kind,
            "metadata": {"name": resource.metadata.name, "namespace": resource.metadata.namespace},
            "status": status,
        }
        self.apply(body, subresource="/status")

    def announce(self, resource: Resource, announcement: Announcement, now: datetime) -> None:
        """Create an Event and log it. A look that is taken again, its status not yet written, makes the same one.

        Its name is made of what it says and of the state that was looked at: what happens again later is said again.

        A namespace that is going takes no Events; what else is to be done there is done all the same.
        """
        body = _event(resource, announcement, now)
        try:
            self._call("POST", _path("Event", resource.metadata.namespace), body=body)
        except ApiException as error:
            if error.status != _CONFLICT and "NamespaceTerminating" not in str(error.body):
                raise
        _log.info(announcement.message, extra={"fields": _fields(resource, announcement)})

    def _call(
        self, method: str, path: str, *, query: Any = None, body: Any = None, content_type: str = "application/json"
    ) -> dict[str, Any]:
        headers = {"Accept": "application/json", "Content-Type": content_type}
        try:
            answer = self._client.call_api(
                path, method, query_params=query or [], header_params=headers, body=body,
                auth_settings=["BearerToken"], _preload_content=False, _request_timeout=(3, 15),
            )[0]  # fmt: skip
        except HTTPError as error:
            raise _unreachable(f"does not answer ({type(error).__name__})") from error
        except ApiException as error:
            if error.status == _BUSY or (error.status or 0) >= _BROKEN:
                raise _unreachable(f"answers with {error.status}") from error
            raise
        found: dict[str, Any] = json.loads(answer.data)
        return found


def _refusal(body: dict[str, Any], error: ApiException) -> RefusedError:
    owner = next(iter(body["metadata"].get("ownerReferences", [])), body)
    whose = f"{owner['kind']} {owner.get('name', body['metadata']['name'])}"
    reason, remedy = _REMEDIES.get(error.status, ("InvalidSpec", "correct the spec of"))
    said = _message(error).rstrip(".")
    message = f"The API server refused {body['kind']} {body['metadata']['name']}: {said}; {remedy} {whose}."
    return RefusedError(reason, message)


def _message(error: ApiException) -> str:
    """The API server's own sentence."""
    try:
        return str(json.loads(error.body)["message"])
    except (TypeError, ValueError, KeyError):
        return f"{error.status} {error.reason}"


def _unreachable(how: str) -> NeighbourError:
    return NeighbourError("ApiServerUnreachable", f"The API server {how}: nothing changes until it does.")


def _fields(resource: Resource, announcement: Announcement) -> dict[str, Any]:
    """What a line of the log can be searched by."""
    found = {
        "kind": resource.kind,
        "namespace": resource.metadata.namespace,
        "name": resource.metadata.name,
        "type": announcement.type,
        "reason": announcement.reason,
        "revision": announcement.revision,
        "weight": announcement.weight,
    }
    return {key: value for key, value in found.items() if value is not None}


def _path(kind: str, namespace: str) -> str:
    version, plural = KINDS[kind]
    root = _ROOTS.get(version, f"/apis/{version}")
    return f"{root}/namespaces/{namespace}/{plural}" if namespace else f"{root}/{plural}"


def _event(resource: Resource, announcement: Announcement, now: datetime) -> dict[str, Any]:
    seen = f"{resource.metadata.uid}/{resource.metadata.resource_version}"
    said = f"{seen}/{announcement.reason}/{announcement.message}"
    at = now.isoformat(timespec="seconds").replace("+00:00", "Z")
    reference = {
        "apiVersion": resource.api_version,
        "kind": resource.kind,
        "name": resource.metadata.name,
        "namespace": resource.metadata.namespace,
        "uid": resource.metadata.uid,
    }
    name = f"{resource.metadata.name}.{hashlib.sha256(said.encode()).hexdigest()[:16]}"
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": name, "namespace": resource.metadata.namespace},
        "involvedObject": reference,
        "type": announcement.type,
        "reason": announcement.reason,
        "message": announcement.message[:1024],
        "source": {"component": FIELD_MANAGER},
        "firstTimestamp": at,
        "lastTimestamp": at,
        "count": 1,
    }
