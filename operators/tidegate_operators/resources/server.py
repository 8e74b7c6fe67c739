"""Deployment, Service and HPA of one revision: Triton with a verified package."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from tidegate_api.model_deployment import (
    KeyPlace,
    ModelDeployment,
    RevisionImages,
    RevisionStatus,
    Runtime,
    ScalingTarget,
)
from tidegate_operators.resources.metadata import (
    DEPLOYMENT_LABEL,
    REVISION_LABEL,
    claims,
    metadata,
    restricted_container,
    restricted_pod,
)
from tidegate_operators.resources.platform import Platform

__all__ = ["FETCH_CONTAINER", "GRPC_PORT", "HTTP_PORT", "server_name", "server_objects"]

HTTP_PORT, GRPC_PORT, METRICS_PORT = 8000, 8001, 8002
FETCH_CONTAINER = "fetch-package"
_DRAIN_SECONDS = 10
_GRACE_SECONDS = 45
_GOLDEN_TRIES = 60
_KEYS, _KEY_FILE = "/keys", "public-key.pem"


def server_name(deployment: ModelDeployment, revision: RevisionStatus) -> str:
    """The name that Deployment, Service and HPA of a revision share."""
    return f"{deployment.metadata.name}-{revision.hash}"


def server_objects(
    deployment: ModelDeployment, revision: RevisionStatus, min_replicas: int, platform: Platform
) -> list[dict[str, Any]]:
    """Everything one revision runs on. The Deployment states no replicas: they are the HPA's."""
    return [
        _service(deployment, revision),
        _deployment(deployment, revision, platform),
        _autoscaler(deployment, revision, min_replicas),
    ]


def _labels(deployment: ModelDeployment, revision: RevisionStatus) -> dict[str, str]:
    return {
        "app.kubernetes.io/name": "triton",
        DEPLOYMENT_LABEL: deployment.metadata.name,
        REVISION_LABEL: revision.hash,
    }


def _selector(deployment: ModelDeployment, revision: RevisionStatus) -> dict[str, str]:
    return {DEPLOYMENT_LABEL: deployment.metadata.name, REVISION_LABEL: revision.hash}


def _service(deployment: ModelDeployment, revision: RevisionStatus) -> dict[str, Any]:
    ports = [
        {"name": "http", "port": HTTP_PORT, "targetPort": "http", "protocol": "TCP"},
        {
            "name": "grpc",
            "port": GRPC_PORT,
            "targetPort": "grpc",
            "protocol": "TCP",
            "appProtocol": "kubernetes.io/h2c",
        },
    ]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(deployment, server_name(deployment, revision), _labels(deployment, revision)),
        "spec": {"selector": _selector(deployment, revision), "ports": ports},
    }


def _deployment(deployment: ModelDeployment, revision: RevisionStatus, platform: Platform) -> dict[str, Any]:
    template = {
        "metadata": {
            "labels": _labels(deployment, revision) | {"app.kubernetes.io/instance": deployment.metadata.name},
            "annotations": {"prometheus.io/scrape": "true", "prometheus.io/port": str(METRICS_PORT)},
        },
        "spec": _pod(deployment, revision, platform),
    }
    spec = {
        "selector": {"matchLabels": _selector(deployment, revision)},
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
        "template": template,
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata(deployment, server_name(deployment, revision), _labels(deployment, revision)),
        "spec": spec,
    }


def _pod(deployment: ModelDeployment, revision: RevisionStatus, platform: Platform) -> dict[str, Any]:
    volumes, mounts = claims(revision.uri)
    key_volumes, key_mounts = _public_key(revision.public_key)
    scratch = [
        {"name": "models", "emptyDir": {}},
        {"name": "tmp", "emptyDir": {}},
        {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": "256Mi"}},
    ]
    spread = {
        "maxSkew": 1,
        "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": _selector(deployment, revision)},
    }
    return restricted_pod() | {
        "terminationGracePeriodSeconds": _GRACE_SECONDS,
        "topologySpreadConstraints": [spread],
        "initContainers": [_fetch(deployment, revision, platform, [*mounts, *key_mounts])],
        "containers": [_triton(deployment, revision, platform)],
        "volumes": [*scratch, *volumes, *key_volumes],
    }


def _public_key(key: KeyPlace | None) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Volume and mount of the public key. Optional to kubelet, so that the fetch itself says that it is not there."""
    if key is None:
        return [], []
    items = {"items": [{"key": key.key, "path": _KEY_FILE}], "optional": True}
    secret, config_map = {"secret": {"secretName": key.name} | items}, {"configMap": {"name": key.name} | items}
    volume = {"name": "public-key"} | (secret if key.kind == "Secret" else config_map)
    return [volume], [{"name": "public-key", "mountPath": _KEYS}]


def _fetch(
    deployment: ModelDeployment, revision: RevisionStatus, platform: Platform, mounts: list[dict[str, Any]]
) -> dict[str, Any]:
    """Gets the package, refuses it unless every digest fits, and only then lays it where Triton looks."""
    command = ["tidegate", "model", "fetch", "--uri", revision.uri, "--digest", revision.digest, "--into", "/models"]
    command += _serving_settings(_runtime(deployment, revision))
    command += ["--key", f"{_KEYS}/{_KEY_FILE}"] if revision.public_key else []
    return {
        "name": FETCH_CONTAINER,
        "image": _images(deployment, revision, platform).fetch,
        "imagePullPolicy": platform.image_pull_policy,
        "command": command,
        "env": [{"name": "MLFLOW_TRACKING_URI", "value": platform.mlflow_uri}, {"name": "HOME", "value": "/tmp"}],
        "resources": {"requests": {"cpu": "10m", "memory": "128Mi"}, "limits": {"memory": "1Gi"}},
        "securityContext": restricted_container(),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [
            {"name": "models", "mountPath": "/models"},
            {"name": "tmp", "mountPath": "/tmp"},
            *[mount | {"readOnly": True} for mount in mounts],
        ],
    }


def _runtime(deployment: ModelDeployment, revision: RevisionStatus) -> Runtime:
    return revision.runtime or deployment.spec.runtime


def _images(deployment: ModelDeployment, revision: RevisionStatus, platform: Platform) -> RevisionImages:
    return revision.images or platform.images(_runtime(deployment, revision))


def _serving_settings(runtime: Runtime) -> list[str]:
    """What spec.runtime changes in the served configuration."""
    found = [f"--instances={runtime.instances}"] if runtime.instances else []
    if runtime.batching is None:
        return found
    found.append(f"--max-batch-size={runtime.batching.max_batch_size}")
    if runtime.batching.max_queue_delay is not None:
        found.append(f"--max-queue-delay-us={runtime.batching.max_queue_delay // timedelta(microseconds=1)}")
    return found


def _triton(deployment: ModelDeployment, revision: RevisionStatus, platform: Platform) -> dict[str, Any]:
    runtime = _runtime(deployment, revision)
    return {
        "name": "triton",
        "image": _images(deployment, revision, platform).server,
        "imagePullPolicy": platform.image_pull_policy,
        "args": _triton_arguments(deployment.model_name, runtime),
        "ports": [
            {"name": "http", "containerPort": HTTP_PORT, "protocol": "TCP"},
            {"name": "grpc", "containerPort": GRPC_PORT, "protocol": "TCP"},
            {"name": "metrics", "containerPort": METRICS_PORT, "protocol": "TCP"},
        ],
        **_probes(deployment),
        "lifecycle": {"preStop": {"sleep": {"seconds": _DRAIN_SECONDS}}},
        "resources": _resources(runtime),
        "securityContext": restricted_container(),
        "volumeMounts": [
            {"name": "models", "mountPath": "/models", "readOnly": True},
            {"name": "tmp", "mountPath": "/tmp"},
            {"name": "shm", "mountPath": "/dev/shm"},
        ],
    }


def _probes(deployment: ModelDeployment) -> dict[str, Any]:
    """Started means that the golden requests were answered; ready, that this model's version is. /v2/health/ready
    would fail while any model loads and stay 200 after an unload.
    """
    url = f"http://127.0.0.1:{HTTP_PORT}"
    golden = ["python3", "/models/golden_probe.py", "--package", "/models/package", "--url", url]
    ready = {"path": f"/v2/models/{deployment.model_name}/versions/1/ready", "port": "http"}
    live = {"path": "/v2/health/live", "port": "http"}
    tries = {"periodSeconds": 2, "timeoutSeconds": 10, "failureThreshold": _GOLDEN_TRIES}
    return {
        "startupProbe": {"exec": {"command": golden}} | tries,
        "readinessProbe": {"httpGet": ready, "periodSeconds": 2, "failureThreshold": 3},
        "livenessProbe": {"httpGet": live, "periodSeconds": 10, "failureThreshold": 6},
    }


def _triton_arguments(model: str, runtime: Runtime) -> list[str]:
    """Explicit loading of one model, as the production advice has it; never poll mode."""
    cache = runtime.response_cache
    return [
        "--model-repository=/models/repository",
        "--model-control-mode=explicit",
        f"--load-model={model}",
        f"--http-port={HTTP_PORT}",
        f"--grpc-port={GRPC_PORT}",
        f"--metrics-port={METRICS_PORT}",
        "--exit-timeout-secs=30",
        *([f"--cache-config=local,size={_bytes(cache)}"] if cache else []),
    ]


def _bytes(quantity: str) -> int:
    units = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "k": 10**3, "M": 10**6, "G": 10**9}
    unit = next((name for name in units if quantity.endswith(name)), "")
    return int(float(quantity.removesuffix(unit)) * units.get(unit, 1))


def _resources(runtime: Runtime) -> dict[str, Any]:
    stated = runtime.resources.to_dict() if runtime.resources else {}
    gpus = {"nvidia.com/gpu": str(runtime.gpus)} if runtime.gpus else {}
    requests = {"cpu": "100m", "memory": "384Mi"} | stated.get("requests", {}) | gpus
    return {"requests": requests, "limits": {"memory": "2Gi"} | stated.get("limits", {}) | gpus}


def _autoscaler(deployment: ModelDeployment, revision: RevisionStatus, min_replicas: int) -> dict[str, Any]:
    scaling = deployment.spec.scaling
    name = server_name(deployment, revision)
    behavior = {
        "scaleUp": {
            "stabilizationWindowSeconds": 0,
            "policies": [{"type": "Percent", "value": 100, "periodSeconds": 15}],
        },
        "scaleDown": {"stabilizationWindowSeconds": 300},
    }
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": metadata(deployment, name, _labels(deployment, revision)),
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name},
            "minReplicas": min_replicas,
            "maxReplicas": max(scaling.max_replicas, min_replicas),
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
    return _pods_metric("tidegate_requests_per_second", str(target.requests_per_second))


def _pods_metric(name: str, value: str) -> dict[str, Any]:
    return {
        "type": "Pods",
        "pods": {"metric": {"name": name}, "target": {"type": "AverageValue", "averageValue": value}},
    }
