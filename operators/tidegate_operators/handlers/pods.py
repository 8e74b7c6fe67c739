"""What the status of a pod says, as the API server gives it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from tidegate_operators.rollout.observed import Failure

__all__ = ["is_stuck", "unscheduled"]

_STUCK = ("ErrImage", "ImagePull", "CreateContainer", "InvalidImage")
_MISSING_CLAIM = re.compile(r'persistentvolumeclaim "([^"]+)" not found')


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
