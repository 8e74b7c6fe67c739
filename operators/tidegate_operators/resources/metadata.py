"""Names, labels and owners: the same for every object that Tidegate makes."""

from __future__ import annotations

from typing import Any

from tidegate_api.resource import Resource

__all__ = [
    "DEFINITION_LABEL",
    "DEPLOYMENT_LABEL",
    "FEATURE_VIEW_LABEL",
    "MANAGED_BY",
    "PVC_ROOT",
    "REVISION_LABEL",
    "claims",
    "metadata",
    "restricted_container",
    "restricted_pod",
]

DEPLOYMENT_LABEL = "tidegate.dev/deployment"
REVISION_LABEL = "tidegate.dev/revision"
FEATURE_VIEW_LABEL = "tidegate.dev/feature-view"
DEFINITION_LABEL = "tidegate.dev/definition"
MANAGED_BY = "tidegate"
PVC_ROOT = "/mnt/pvc"


def metadata(owner: Resource, name: str, labels: dict[str, str]) -> dict[str, Any]:
    """metadata of an owned object: it goes when its owner goes."""
    reference = {
        "apiVersion": owner.api_version,
        "kind": owner.kind,
        "name": owner.metadata.name,
        "uid": owner.metadata.uid,
        "controller": True,
    }
    shared = {"app.kubernetes.io/managed-by": MANAGED_BY, "app.kubernetes.io/part-of": "tidegate"}
    return {
        "name": name,
        "namespace": owner.metadata.namespace,
        "labels": shared | {"app.kubernetes.io/instance": owner.metadata.name} | labels,
        "ownerReferences": [reference],
    }


def restricted_pod() -> dict[str, Any]:
    """The pod half of the Pod Security Standard `restricted`."""
    return {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 65532,
            "runAsGroup": 65532,
            "fsGroup": 65532,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    }


def restricted_container() -> dict[str, Any]:
    """The container half of the Pod Security Standard `restricted`, and a root that cannot be written."""
    return {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def claims(*uris: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Volumes and mounts for the PersistentVolumeClaims that `pvc://CLAIM/PATH` addresses name."""
    names = sorted({uri.removeprefix("pvc://").split("/", 1)[0] for uri in uris if uri.startswith("pvc://")})
    volumes = [{"name": f"pvc-{name}", "persistentVolumeClaim": {"claimName": name}} for name in names]
    mounts = [{"name": f"pvc-{name}", "mountPath": f"{PVC_ROOT}/{name}"} for name in names]
    return volumes, mounts
