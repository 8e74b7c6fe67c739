"""kind (Kubernetes in Docker), for machines where a Docker daemon answers."""

import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from tidegate_dev import binaries, commands, paths
from tidegate_dev.errors import CommandError, UnsupportedError
from tidegate_dev.image import Build, Image
from tidegate_dev.kubectl import Kubectl
from tidegate_dev.progress import Progress

_NAME = "tidegate"


class KindCluster:
    """One kind cluster, named tidegate."""

    name = "kind"

    def prepare(self, wanted: Iterable[Image], progress: Progress) -> None:
        """Nothing: Docker builds when asked, and its layer cache knows what stands."""

    def up(self, progress: Progress) -> None:
        """Create it unless it is there; raises UnsupportedError where kind is missing."""
        if shutil.which("kind") is None:
            raise UnsupportedError(
                "kind is missing: install kind and start Docker, or set TIDEGATE_CLUSTER=local as root"
            )
        self._kubeconfig().parent.mkdir(parents=True, exist_ok=True)
        if _NAME not in commands.run(["kind", "get", "clusters"]).split():
            with progress.part("create the kind cluster"):
                commands.run_long(["kind", "create", "cluster", "--name", _NAME, "--wait", "180s"])
        commands.run(["kind", "export", "kubeconfig", "--name", _NAME, "--kubeconfig", str(self._kubeconfig())])

    def kubectl(self) -> Kubectl:
        """Return the machine's own kubectl, or the one that we built."""
        program = shutil.which("kubectl") or str(binaries.KUBERNETES.built / "kubectl")
        return Kubectl(program, str(self._kubeconfig()))

    def builder(self) -> "DockerToKind":
        """Return who builds by Docker and loads into kind."""
        return DockerToKind()

    def status(self) -> Mapping[str, object]:
        """Return the nodes' containers."""
        return {"containers": commands.run(["kind", "get", "nodes", "--name", _NAME]).split()}

    def down(self, progress: Progress) -> None:
        """Delete it."""
        with progress.part("delete the kind cluster"):
            commands.run(["kind", "delete", "cluster", "--name", _NAME])

    def _kubeconfig(self) -> Path:
        return paths.cache() / "kind.kubeconfig"


class DockerToKind:
    """Builds by Docker and loads into kind's nodes."""

    def present(self) -> set[str]:
        """Return the full names that the node has."""
        node = f"{_NAME}-control-plane"
        return set(commands.run(["docker", "exec", node, "ctr", "-n", "k8s.io", "images", "list", "-q"]).split())

    def build(self, job: Build, progress: Progress) -> None:
        """Build by Docker, whose own layer cache knows what has changed."""
        target = ["--target", job.target] if job.target else []
        with progress.part(f"build image {job.reference}"):
            commands.run_long(
                ["docker", "build", *target, "-f", str(job.dockerfile), "-t", job.reference, str(job.context)]
            )

    def deliver(self, reference: str, progress: Progress) -> None:
        """Load into the nodes."""
        with progress.part(f"load image {reference}"):
            commands.run_long(["kind", "load", "docker-image", reference, "--name", _NAME])

    def alias(self, existing: str, new: str) -> None:
        """Give the image a second name and load that as well."""
        commands.run(["docker", "tag", existing, new])
        commands.run_long(["kind", "load", "docker-image", new, "--name", _NAME])

    def load(self, archive: Path) -> None:
        """Load an archive into the nodes."""
        try:
            commands.run_long(["kind", "load", "image-archive", str(archive), "--name", _NAME])
        except CommandError as failure:
            raise UnsupportedError(f"kind could not load {archive}: {failure}") from failure
