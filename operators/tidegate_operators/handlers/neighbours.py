"""The operator's neighbours, made once from the environment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from kubernetes import client, config

from tidegate_api.errors import TidegateError
from tidegate_operators.adapters.cluster import Cluster
from tidegate_operators.adapters.prometheus import Prometheus
from tidegate_operators.adapters.registry import Registry
from tidegate_operators.handlers.apply import Applied
from tidegate_operators.handlers.keeper import WORKERS
from tidegate_operators.resources.platform import Platform

__all__ = ["Neighbours", "connect", "connect_cluster"]

_POOL = WORKERS + 4
"""Connections: one for each look, and some for the Lease and what else goes on meanwhile."""


@dataclass(frozen=True)
class Neighbours:
    """Everything outside that a reconciliation talks to, and what pods are made with."""

    cluster: Cluster
    prometheus: Prometheus
    registry: Registry
    platform: Platform
    applied: Applied = field(default_factory=Applied)


def connect(environment: Mapping[str, str]) -> Neighbours:
    """Read addresses and images from the environment; raises TidegateError naming the variable that lacks."""
    mlflow_uri = _required(environment, "MLFLOW_TRACKING_URI")
    platform = Platform(
        components_image=_required(environment, "TIDEGATE_COMPONENTS_IMAGE"),
        triton_image=_required(environment, "TIDEGATE_TRITON_IMAGE"),
        triton_gpu_image=_required(environment, "TIDEGATE_TRITON_GPU_IMAGE"),
        mlflow_uri=mlflow_uri,
        image_pull_policy=environment.get("TIDEGATE_IMAGE_PULL_POLICY", "IfNotPresent"),
    )
    prometheus = Prometheus(_required(environment, "PROMETHEUS_URL"))
    return Neighbours(connect_cluster(), prometheus, Registry(mlflow_uri), platform)


def connect_cluster() -> Cluster:
    """The API server of the pod's service account, or of KUBECONFIG."""
    if os.environ.get("KUBERNETES_SERVICE_HOST"):
        config.load_incluster_config()
    else:
        config.load_kube_config()
    settings = client.Configuration.get_default_copy()
    settings.connection_pool_maxsize = _POOL
    return Cluster(client.ApiClient(settings))


def _required(environment: Mapping[str, str], name: str) -> str:
    value = environment.get(name)
    if not value:
        raise TidegateError(
            resource="the operator's Deployment",
            field=f"env {name}",
            value=value,
            expected="a value",
            remedy="set it, as manifests/operator/deployment.yaml does",
        )
    return value
