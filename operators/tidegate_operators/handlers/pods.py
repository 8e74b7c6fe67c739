"""What the status of a pod says, as the API server gives it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from tidegate_operators.rollout.observed import Failure

__all__ = ["free_gpus", "is_stuck", "unscheduled"]

_GPU = "nvidia.com/gpu"

_STUCK = ("ErrImage", "ImagePull", "CreateContainer", "InvalidImage")
_MISSING_CLAIM = re.compile(r'persistentvolumeclaim "([^"]+)" not found')


def free_gpus(nodes: Iterable[Mapping[str, Any]], pods: Iterable[Mapping[str, Any]]) -> tuple[int, ...]:
    """GPUs that no pod has asked for, node by node; a node that takes no pods has none."""
    taken: dict[str, int] = {}
    for pod in pods:
        node = pod["spec"].get("nodeName")
        if node and pod.get("status", {}).get("phase") not in ("Succeeded", "Failed"):
            taken[node] = taken.get(node, 0) + _gpus_of(pod)
    return tuple(_free_on(node, taken) for node in nodes)


def _gpus_of(pod: Mapping[str, Any]) -> int:
    containers = pod["spec"].get("containers", [])
    return sum(int(c.get("resources", {}).get("requests", {}).get(_GPU, 0)) for c in containers)


def _free_on(node: Mapping[str, Any], taken: Mapping[str, int]) -> int:
    if node["spec"].get("unschedulable"):
        return 0
    has = int(node.get("status", {}).get("allocatable", {}).get(_GPU, 0))
    return max(0, has - taken.get(node["metadata"]["name"], 0))


def is_stuck(waiting: Mapping[str, Any]) -> bool:
    """Whether a container that waits will not start by itself: its image or its configuration is wrong."""
    return str(waiting.get("reason", "")).startswith(_STUCK)


def unscheduled(pod: Mapping[str, Any], addresses: Mapping[str, str]) -> Failure | None:
    """Why no node takes a pod, if none does.

    addresses: by the words for where they stand (spec.source.parquet.uri), so that a missing claim is told by field.
    """
    found = {item["type"]: item for item in pod.get("status", {}).get("conditions", [])}
    scheduled = found.get("PodScheduled", {})
    if scheduled.get("status") != "False":
        return None
    said = str(scheduled.get("message", "")).rstrip(".")
    missing = _MISSING_CLAIM.search(said)
    if missing is None:
        return Failure("Unschedulable", f"No node takes the pod: {said or 'the scheduler has not said why'}.")
    return Failure("Unschedulable", _claim_sentence(missing[1], pod["metadata"].get("namespace", ""), addresses))


def _claim_sentence(claim: str, namespace: str, addresses: Mapping[str, str]) -> str:
    where = next((field for field, uri in addresses.items() if f"{uri}/".startswith(f"pvc://{claim}/")), "the pod")
    return (
        f"{where} names the PersistentVolumeClaim {claim}, which namespace {namespace} does not have: "
        f"create the claim or correct {where}."
    )
