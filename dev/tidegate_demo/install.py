"""Bring up what the demo stands on: cluster, images, platform, CRDs and operator, each only where it lacks."""

from __future__ import annotations

from dataclasses import dataclass

from tidegate_demo.cluster import Cluster
from tidegate_demo.facts import Addresses
from tidegate_dev import catalogue, choice, images, install, lock, paths
from tidegate_dev.progress import Progress

__all__ = ["Installed", "everything"]

_OPERATOR_TIMEOUT = 180


@dataclass(frozen=True)
class Installed:
    """A cluster with everything on it."""

    cluster: Cluster
    addresses: Addresses


def everything(progress: Progress) -> Installed:
    """Install, or find installed, all of it; idempotent."""
    chosen = choice.choose()
    with lock.held(progress):
        chosen.prepare(catalogue.EVERYTHING, progress)
        chosen.up(progress)
        references = images.ensure(catalogue.EVERYTHING, chosen.builder(), progress)
        urls = install.platform(chosen, progress)
        kubectl = chosen.kubectl()
        with progress.part("install CRDs and operator"):
            kubectl.apply(kubectl.kustomize(paths.MANIFESTS / "crds"))
            kubectl.wait("condition=Established", "crd", "modeldeployments.tidegate.dev", timeout=60)
            kubectl.apply(install.with_images(kubectl.kustomize(paths.MANIFESTS / "operator"), references))
            where = ("-n", "tidegate-system", "deployment/tidegate-operator")
            kubectl.run("rollout", "status", *where, f"--timeout={_OPERATOR_TIMEOUT}s")
    return Installed(
        Cluster(kubectl), Addresses(**{name: urls[name] for name in ("redis", "mlflow", "prometheus", "gateway")})
    )
