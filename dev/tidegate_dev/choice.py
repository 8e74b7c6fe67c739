"""Which cluster to use: one that is given, kind where Docker is, else our own."""

import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Protocol

from tidegate_dev import commands, paths
from tidegate_dev.errors import UnsupportedError
from tidegate_dev.external import ExternalCluster
from tidegate_dev.image import Image
from tidegate_dev.images import Builder
from tidegate_dev.kind import KindCluster
from tidegate_dev.kubectl import Kubectl
from tidegate_dev.local import LocalCluster
from tidegate_dev.progress import Progress


class Cluster(Protocol):
    """What the verbs need of a cluster."""

    name: str

    def prepare(self, wanted: Iterable[Image], progress: Progress) -> None:
        """Make ready what takes long and needs no cluster: programs and images."""

    def up(self, progress: Progress) -> None:
        """Bring it up and wait until pods can run."""

    def kubectl(self) -> Kubectl:
        """Return kubectl for it."""

    def builder(self) -> Builder:
        """Return who builds images for it."""

    def status(self) -> Mapping[str, object]:
        """Return facts about it."""

    def down(self, progress: Progress) -> None:
        """Take it down."""


_BY_NAME: dict[str, Callable[[], Cluster]] = {"local": LocalCluster, "kind": KindCluster, "external": ExternalCluster}


def choose() -> Cluster:
    """Return the cluster that TIDEGATE_CLUSTER names, or the first that fits; raises UnsupportedError if none does."""
    wanted = os.environ.get("TIDEGATE_CLUSTER", "")
    if wanted and wanted not in _BY_NAME:
        raise UnsupportedError(
            f"TIDEGATE_CLUSTER={wanted} names no cluster: use one of {', '.join(_BY_NAME)}, or unset it"
        )
    return _BY_NAME[wanted or _fitting()]()


def _fitting() -> str:
    if _given() and ExternalCluster().kubectl().answers():
        return "external"
    if not paths.RECORD.exists() and shutil.which("docker") and commands.succeeds(["docker", "info"]):
        return "kind"
    return "local"


def _given() -> bool:
    """Tell whether KUBECONFIG names a cluster that is not our own."""
    given = os.environ.get("KUBECONFIG")
    return bool(given) and Path(given or "") != paths.KUBECONFIG
