"""From buildah's storage into the containerd of the cluster of our own."""

import functools
from pathlib import Path

from tidegate_dev import bases, buildah, commands, ctr, oci
from tidegate_dev.image import Build
from tidegate_dev.images import pretty
from tidegate_dev.progress import Progress


class BuildahToContainerd:
    """Builds by buildah and imports into containerd."""

    def present(self) -> set[str]:
        """Return the full names that containerd has."""
        return ctr.images()

    def build(self, job: Build, progress: Progress) -> None:
        """Build the image unless it stands in buildah's storage."""
        if buildah.has(job.reference):
            return
        if any(base.name in job.dockerfile.read_text() for base in (bases.DEBIAN, bases.PYTHON)):
            bases.ensure(progress)
        with progress.part(f"build image {pretty(job.reference)}"):
            buildah.build(job)

    def deliver(self, reference: str, progress: Progress) -> None:
        """Import the image into containerd."""
        with progress.part(f"import image {pretty(reference)}"), commands.scratch() as name:
            folder = Path(name) / "image"
            buildah.save(reference, folder)
            ctr.load_from(functools.partial(oci.archive, folder, reference, ctr.blobs()))

    def alias(self, existing: str, new: str) -> None:
        """Give the image in containerd a second name."""
        ctr.tag(existing, new)

    def load(self, archive: Path) -> None:
        """Import the images in an archive."""
        ctr.load(archive)
