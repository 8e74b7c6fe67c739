"""A cluster that KUBECONFIG names: used as it is, never started or stopped by us."""

import os
import shutil
from collections.abc import Iterable, Mapping

from tidegate_dev import binaries
from tidegate_dev.errors import DevError, UnsupportedError
from tidegate_dev.image import Image
from tidegate_dev.images import Builder
from tidegate_dev.kubectl import Kubectl
from tidegate_dev.progress import Progress


class ExternalCluster:
    """Somebody else's cluster."""

    name = "external"

    def prepare(self, wanted: Iterable[Image], progress: Progress) -> None:
        """Nothing: it is somebody else's."""

    def up(self, progress: Progress) -> None:
        """Check that it answers."""
        kubectl = self.kubectl()
        if not kubectl.answers():
            raise DevError(f"no cluster answers at KUBECONFIG={kubectl.kubeconfig}: start it, or unset KUBECONFIG")

    def kubectl(self) -> Kubectl:
        """Return the machine's own kubectl, or the one that we built."""
        program = shutil.which("kubectl") or str(binaries.KUBERNETES.built / "kubectl")
        return Kubectl(program, os.environ.get("KUBECONFIG", ""))

    def builder(self) -> Builder:
        """Raise UnsupportedError: only the cluster's owner knows which registry its nodes pull from."""
        raise UnsupportedError("images for a cluster given by KUBECONFIG go through its registry: use skaffold run")

    def status(self) -> Mapping[str, object]:
        """Return nothing beyond what its API server tells."""
        return {}

    def down(self, progress: Progress) -> None:
        """Leave it alone."""
        progress.note("the cluster was given by KUBECONFIG and is left as it is")
