"""Deployment, Service, HPA and PodDisruptionBudget of one revision: Triton with a verified package."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from tidegate_api.annotations import RESTART
from tidegate_api.model_deployment import (
    KeyPlace,
    ModelDeployment,
    RevisionImages,
    RevisionStatus,
    Runtime,
)
from tidegate_api.quantities import amount
from tidegate_operators.resources.autoscaler import autoscaler
from tidegate_operators.resources.metadata import (
    DEPLOYMENT_LABEL,
    REVISION_LABEL,
    claims,
    metadata,
    restricted_container,
    restricted_pod,
)
from tidegate_operators.resources.platform import Platform

__all__ = [
    "FETCH_CONTAINER",
    "GRPC_PORT",
    "HTTP_PORT",
    "server_name",
    "server_objects",
    "unjudged_name",
    "unjudged_service",
]

HTTP_PORT, GRPC_PORT, METRICS_PORT = 8000, 8001, 8002
FETCH_CONTAINER = "fetch-package"
_DRAIN_SECONDS = 10
_GRACE_SECONDS = 45
_GOLDEN_TRIES = 120
_KEYS, _KEY_FILE = "/keys", "public-key.pem"
_REQUESTS, _MEMORY_LIMIT = {"cpu": "100m", "memory": "384Mi"}, "2Gi"
_MODELS, _ALSO = "/models", "/models/also"


def server_name(deployment: ModelDeployment, revision: RevisionStatus) -> str:
    """The name that Deployment, Service and HPA of a revision share."""
    return f"{deployment.metadata.name}-{revision.hash}"


def server_objects(
    deployment: ModelDeployment,
    revision: RevisionStatus,
    min_replicas: int,
    platform: Platform,
    max_replicas: int | None = None,
) -> list[dict[str, Any]]:
    """Everything one revision runs on. The Deployment states no replicas: they are the HPA's."""
    most = max_replicas or max(deployment.spec.scaling.max_replicas, min_replicas)
    return [
        _service(deployment, revision, server_name(deployment, revision)),
        _deployment(deployment, revision, platform),
        autoscaler(deployment, server_name(deployment, revision), _labels(deployment, revision), min_replicas, most),
        _disruption_budget(deployment, revision),
    ]


def unjudged_service(deployment: ModelDeployment, stable: RevisionStatus) -> dict[str, Any]:
    """A second way to stable, for requests that take no part in a test: its counters carry no revision.

    It stands under every strategy, so that no route leads to it before it is there or after it is gone.
    """
    return _service(deployment, stable, unjudged_name(deployment))


def unjudged_name(deployment: ModelDeployment) -> str:
    """The name of that Service."""
    return f"{deployment.metadata.name}-unjudged"


def _labels(deployment: ModelDeployment, revision: RevisionStatus) -> dict[str, str]:
    return {
        "app.kubernetes.io/name": "triton",
        DEPLOYMENT_LABEL: deployment.metadata.name,
        REVISION_LABEL: revision.hash,
    }


def _selector(deployment: ModelDeployment, revision: RevisionStatus) -> dict[str, str]:
    return {DEPLOYMENT_LABEL: deployment.metadata.name, REVISION_LABEL: revision.hash}


def _service(deployment: ModelDeployment, revision: RevisionStatus, name: str) -> dict[str, Any]:
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
        "metadata": metadata(deployment, name, _labels(deployment, revision)),
        "spec": {"selector": _selector(deployment, revision), "ports": ports},
    }


def _deployment(deployment: ModelDeployment, revision: RevisionStatus, platform: Platform) -> dict[str, Any]:
    template = {
        "metadata": {
            "labels": _labels(deployment, revision) | {"app.kubernetes.io/instance": deployment.metadata.name},
            "annotations": {"prometheus.io/scrape": "true", "prometheus.io/port": str(METRICS_PORT)}
            | ({RESTART: revision.restart} if revision.restart else {}),
        },
        "spec": _pod(deployment, revision, platform),
    }
    rolling = {"maxUnavailable": _spare(deployment, revision), "maxSurge": 1}
    spec = {
        "selector": {"matchLabels": _selector(deployment, revision)},
        "strategy": {"type": "RollingUpdate", "rollingUpdate": rolling},
        "template": template,
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata(deployment, server_name(deployment, revision), _labels(deployment, revision)),
        "spec": spec,
    }


def _spare(deployment: ModelDeployment, revision: RevisionStatus) -> int:
    """Pods that may be away while others are made anew: none, unless they need GPUs of which none may be free."""
    if not _runtime(deployment, revision).gpus:
        return 0
    return min(deployment.spec.strategy.max_unavailable, deployment.spec.scaling.min_replicas - 1)


def _pod(deployment: ModelDeployment, revision: RevisionStatus, platform: Platform) -> dict[str, Any]:
    further = _runtime(deployment, revision).further
    volumes, mounts = claims(revision.uri, *(model.uri for model in further))
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
        "initContainers": [
            _fetching(name, command, deployment, revision, platform, [*mounts, *key_mounts])
            for name, command in _fetches(deployment, revision)
        ],
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


def _fetches(deployment: ModelDeployment, revision: RevisionStatus) -> Iterator[tuple[str, list[str]]]:
    """Init containers by name, with their commands: the model's package, then each further one's.

    Each must be called as the spec calls it. A further model keeps its package's settings.
    """
    runtime = _runtime(deployment, revision)
    key = ["--key", f"{_KEYS}/{_KEY_FILE}"] if revision.public_key else []
    named = ["--name", deployment.name_of(revision)]
    yield FETCH_CONTAINER, [*_fetch(revision.uri, revision.digest, _MODELS), *named, *_serving_settings(runtime), *key]
    for number, model in enumerate(runtime.further, 1):
        command = [*_fetch(model.uri, model.digest, f"{_ALSO}/{model.name}"), "--name", model.name, *key]
        yield f"{FETCH_CONTAINER}-{number}", command


def _fetch(uri: str, digest: str, into: str) -> list[str]:
    return ["tidegate", "model", "fetch", "--uri", uri, "--digest", digest, "--into", into]


def _fetching(
    name: str,
    command: list[str],
    deployment: ModelDeployment,
    revision: RevisionStatus,
    platform: Platform,
    mounts: list[dict[str, Any]],
) -> dict[str, Any]:
    """Gets a package, refuses it unless every digest fits, and only then lays it where Triton looks."""
    return {
        "name": name,
        "image": _images(deployment, revision, platform).fetch,
        "imagePullPolicy": platform.image_pull_policy,
        "command": command,
        "env": [{"name": "MLFLOW_TRACKING_URI", "value": platform.mlflow_uri}, {"name": "HOME", "value": "/tmp"}],
        "resources": {"requests": {"cpu": "10m", "memory": "128Mi"}, "limits": {"memory": "1Gi"}},
        "securityContext": restricted_container(),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [
            {"name": "models", "mountPath": _MODELS},
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
    found += ["--rate-limited"] if runtime.rate_limit else []
    found += ["--response-cache"] if runtime.response_cache else []
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
        "args": _triton_arguments(deployment.name_of(revision), runtime),
        "ports": [
            {"name": "http", "containerPort": HTTP_PORT, "protocol": "TCP"},
            {"name": "grpc", "containerPort": GRPC_PORT, "protocol": "TCP"},
            {"name": "metrics", "containerPort": METRICS_PORT, "protocol": "TCP"},
        ],
        **_probes(deployment.name_of(revision), runtime),
        "lifecycle": {"preStop": {"sleep": {"seconds": _DRAIN_SECONDS}}},
        "resources": _resources(runtime),
        "securityContext": restricted_container(),
        "volumeMounts": [
            {"name": "models", "mountPath": _MODELS, "readOnly": True},
            {"name": "tmp", "mountPath": "/tmp"},
            {"name": "shm", "mountPath": "/dev/shm"},
        ],
    }


def _probes(model: str, runtime: Runtime) -> dict[str, Any]:
    """Started means that the golden requests were answered; ready, that this model's version is. /v2/health/ready
    would fail while any model loads and stay 200 after an unload.
    """
    url = f"http://127.0.0.1:{HTTP_PORT}"
    golden = ["python3", f"{_MODELS}/golden_probe.py", "--package", f"{_MODELS}/package", "--url", url]
    golden += [word for also in runtime.further for word in ("--package", f"{_ALSO}/{also.name}/package")]
    ready = {"path": f"/v2/models/{model}/versions/1/ready", "port": "http"}
    live = {"path": "/v2/health/live", "port": "http"}
    tries = {"periodSeconds": 1, "timeoutSeconds": 10, "failureThreshold": _GOLDEN_TRIES}
    return {
        "startupProbe": {"exec": {"command": golden}} | tries,
        "readinessProbe": {"httpGet": ready, "periodSeconds": 2, "failureThreshold": 3},
        "livenessProbe": {"httpGet": live, "periodSeconds": 10, "failureThreshold": 6},
    }


def _triton_arguments(model: str, runtime: Runtime) -> list[str]:
    """Explicit loading of the models by name, as the production advice has it; never poll mode."""
    cache, limit = runtime.response_cache, runtime.rate_limit
    also = [model.name for model in runtime.further]
    limited = ["--rate-limit=execution_count", f"--rate-limit-resource=runs:{limit.max_concurrency}"] if limit else []
    return [
        f"--model-repository={_MODELS}/repository",
        *(f"--model-repository={_ALSO}/{name}/repository" for name in also),
        "--model-control-mode=explicit",
        *(f"--load-model={name}" for name in (model, *also)),
        f"--http-port={HTTP_PORT}",
        f"--grpc-port={GRPC_PORT}",
        f"--metrics-port={METRICS_PORT}",
        "--exit-timeout-secs=30",
        *limited,
        *([f"--cache-config=local,size={int(amount(cache))}"] if cache else []),
    ]


def _resources(runtime: Runtime) -> dict[str, Any]:
    """What the spec states, over defaults, which give way: no request exceeds a limit that somebody stated."""
    asked, bounds = (runtime.resources.requests, runtime.resources.limits) if runtime.resources else ({}, {})
    gpus = {"nvidia.com/gpu": str(runtime.gpus)} if runtime.gpus else {}
    usual = {name: min(least, bounds.get(name, least), key=amount) for name, least in _REQUESTS.items()}
    requests = usual | asked | gpus
    most = max(_MEMORY_LIMIT, requests["memory"], key=amount)
    return {"requests": requests, "limits": {"memory": most} | bounds | gpus}


def _disruption_budget(deployment: ModelDeployment, revision: RevisionStatus) -> dict[str, Any]:
    """A drained node takes one pod of a revision at a time."""
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": metadata(deployment, server_name(deployment, revision), _labels(deployment, revision)),
        "spec": {"maxUnavailable": 1, "selector": {"matchLabels": _selector(deployment, revision)}},
    }
