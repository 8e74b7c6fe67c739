"""Installing what stands beside Tidegate: Redis, MLflow, Prometheus with its adapter, and the gateway."""

import json
import re
from collections.abc import Iterable, Mapping

from tidegate_dev import catalogue, images, paths, volumes
from tidegate_dev.choice import Cluster
from tidegate_dev.kubectl import Kubectl
from tidegate_dev.progress import Progress

_CRDS = paths.MANIFESTS / "platform" / "gateway" / "crds"
_PLATFORM = paths.DEV / "manifests" / "platform"
_API_SERVICES = ("v1beta1.metrics.k8s.io", "v1beta1.custom.metrics.k8s.io")
_OURS = "app.kubernetes.io/part-of=tidegate,app.kubernetes.io/name!=tidegate-operator"
_SERVICES = {
    "redis": ("tidegate-system", "redis", "redis://{}:6379"),
    "mlflow": ("tidegate-system", "mlflow", "http://{}:5000"),
    "prometheus": ("tidegate-system", "prometheus", "http://{}:9090"),
    "gateway": ("gateways", "envoy", "http://{}:80"),
}


def platform(cluster: Cluster, progress: Progress) -> Mapping[str, str]:
    """Install everything, or what has changed, wait until it is available, and return name -> URL."""
    references = images.ensure(catalogue.PLATFORM, cluster.builder(), progress)
    kubectl = cluster.kubectl()
    with progress.part("install the platform"):
        kubectl.apply(kubectl.kustomize(_CRDS))
        kubectl.wait("condition=Established", "crd", "gateways.gateway.networking.k8s.io", timeout=60)
        kubectl.apply(with_images(kubectl.kustomize(_PLATFORM), references))
        if cluster.name == "local":
            _provide_volumes(kubectl)
    with progress.part("wait for the platform"):
        _wait(kubectl)
    return {name: url.format(_address(kubectl, *where)) for name, (*where, url) in _SERVICES.items()}


def with_images(manifest: str, references: Mapping[str, str]) -> str:
    """Return the manifest with every `NAME:dev` replaced by that image's name with its tag by content.

    >>> with_images("image: tidegate/redis:dev", {"tidegate/redis": "tidegate/redis:12ab"})
    'image: tidegate/redis:12ab'
    """
    return re.sub(r"(tidegate/[a-z-]+):dev\b", lambda found: references.get(found[1], found[0]), manifest)


def _provide_volumes(kubectl: Kubectl) -> None:
    lake, registry = volumes.lake(), volumes.registry()
    for volume in (lake, registry):
        volume.prepare()
    _apply(kubectl, [lake.manifest(), registry.manifest(), lake.claim_manifest()])


def _apply(kubectl: Kubectl, objects: Iterable[Mapping[str, object]]) -> None:
    kubectl.apply(json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)}))


def _wait(kubectl: Kubectl) -> None:
    for namespace in ("tidegate-system", "gateways"):
        for name in kubectl.run("get", "deployments", "-n", namespace, "-l", _OURS, "-o", "name").split():
            kubectl.watch("rollout", "status", "-n", namespace, name, "--timeout=300s")
    kubectl.wait("condition=Programmed", "-n", "gateways", "gateway/public", timeout=60)
    for service in _API_SERVICES:
        kubectl.wait("condition=Available", f"apiservice/{service}", timeout=60)


def _address(kubectl: Kubectl, namespace: str, service: str) -> str:
    return kubectl.run("get", "service", "-n", namespace, service, "-o", "jsonpath={.spec.clusterIP}")
