"""Whether stable's autoscaler reads what it scales by."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

from tidegate_api.model_deployment import ModelDeployment
from tidegate_operators.handlers.apply import Body, Name
from tidegate_operators.resources.server import server_name
from tidegate_operators.rollout.observed import Failure

__all__ = ["observe_scaling"]

# A new pod's first samples come with the scrapes after its start, and an autoscaler looks every 15 s.
_PATIENCE = timedelta(minutes=3)
# It was scaled to 0, which is told of itself.
_DISABLED = "ScalingDisabled"


def observe_scaling(deployment: ModelDeployment, present: Mapping[Name, Body], now: datetime) -> Failure | None:
    """Why it does not, where it has not for a while: it then keeps as many pods as it has, whatever the load."""
    stable = deployment.status.stable
    name = server_name(deployment, stable) if stable else ""
    body = present.get(("HorizontalPodAutoscaler", name), {})
    for said in body.get("status", {}).get("conditions", []):
        if said["type"] != "ScalingActive" or said["status"] != "False" or said.get("reason") == _DISABLED:
            continue
        if now - datetime.fromisoformat(said["lastTransitionTime"]) >= _PATIENCE:
            why = str(said.get("message", "")).rstrip(".")
            message = (
                f"The HorizontalPodAutoscaler {name} keeps the pods that there are, for it reads no target: {why}."
            )
            return Failure(said.get("reason", "FailedGetMetrics"), message)
    return None
