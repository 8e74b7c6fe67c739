"""The HPA of a revision: up at once, down after a while."""

from __future__ import annotations

from typing import Any

from tidegate_api.model_deployment import ModelDeployment, ScalingTarget
from tidegate_operators.resources.metadata import metadata

__all__ = ["autoscaler"]


def autoscaler(
    deployment: ModelDeployment, name: str, labels: dict[str, str], min_replicas: int, max_replicas: int
) -> dict[str, Any]:
    """It holds the Deployment of that name between the bounds, near the targets of spec.scaling."""
    scaling = deployment.spec.scaling
    behavior = {
        "scaleUp": {
            "stabilizationWindowSeconds": 0,
            "policies": [{"type": "Percent", "value": 100, "periodSeconds": 15}],
        },
        "scaleDown": {"stabilizationWindowSeconds": int(scaling.scale_down_delay.total_seconds())},
    }
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": metadata(deployment, name, labels),
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name},
            "minReplicas": min_replicas,
            "maxReplicas": max_replicas,
            "metrics": [_metric(target) for target in scaling.targets],
            "behavior": behavior,
        },
    }


def _metric(target: ScalingTarget) -> dict[str, Any]:
    if target.cpu_utilization is not None:
        goal = {"type": "Utilization", "averageUtilization": target.cpu_utilization}
        return {"type": "Resource", "resource": {"name": "cpu", "target": goal}}
    if target.queue_time is not None:
        return _pods_metric("tidegate_queue_time_seconds", f"{int(target.queue_time.total_seconds() * 1e6)}u")
    if target.gpu_utilization is not None:
        return _pods_metric("tidegate_gpu_utilization_ratio", f"{10 * target.gpu_utilization}m")
    return _pods_metric("tidegate_requests_per_second", str(target.requests_per_second))


def _pods_metric(name: str, value: str) -> dict[str, Any]:
    return {
        "type": "Pods",
        "pods": {"metric": {"name": name}, "target": {"type": "AverageValue", "averageValue": value}},
    }
