"""Building what has changed and bringing it to the cluster."""

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

from tidegate_dev import bases, binaries, content
from tidegate_dev.image import Build, Image
from tidegate_dev.progress import Progress

_REGISTRY = "docker.io/"


class Builder(Protocol):
    """One who builds images and brings them to the nodes, by full name."""

    def present(self) -> set[str]:
        """Return the full names that the nodes already have."""

    def build(self, job: Build, progress: Progress) -> None:
        """Build the image unless it stands from an earlier time, with its base images."""

    def deliver(self, reference: str, progress: Progress) -> None:
        """Bring a built image to the nodes."""

    def alias(self, existing: str, new: str) -> None:
        """Give an image on the nodes a second name."""

    def load(self, archive: Path) -> None:
        """Bring the images in an archive to the nodes."""


def ensure(images: Iterable[Image], builder: Builder, progress: Progress) -> Mapping[str, str]:
    """Build and deliver what is missing; return name -> name with the tag by content."""
    present = builder.present()
    references: dict[str, str] = {}
    for image in images:
        references[image.name] = _ensure(image, references, builder, present, progress)
    return references


def _ensure(
    image: Image, references: Mapping[str, str], builder: Builder, present: set[str], progress: Progress
) -> str:
    if image.same_as:
        stand_in = references[image.same_as]
        reference = f"{image.name}:{stand_in.partition(':')[2]}"
        if _REGISTRY + reference not in present:
            builder.alias(_REGISTRY + stand_in, _REGISTRY + reference)
        return reference
    reference = image.reference(bases_key())
    if _REGISTRY + reference not in present:
        _make(image, builder, progress)
    return reference


def _make(image: Image, builder: Builder, progress: Progress) -> None:
    if image.programs:
        binaries.build(image.programs, progress)
    job = _job(image)
    builder.build(job, progress)
    builder.deliver(job.reference, progress)


def _job(image: Image) -> Build:
    return Build(image.dockerfile, image.context, image.target, _REGISTRY + image.reference(bases_key()))


def prepare(images: Iterable[Image], builder: Builder, progress: Progress) -> None:
    """Where programs must be compiled first, do so and build the images without programs meanwhile.

    Compiling keeps all cores busy, fetching packages for images keeps none: together they take hardly longer than the
    first alone. Needs no cluster.
    """
    wanted = list(images)
    needed = dict.fromkeys([binaries.KUBERNETES, *(image.programs for image in wanted if image.programs)])
    missing = [programs for programs in needed if not binaries.stand(programs)]
    if not missing:
        return
    with ThreadPoolExecutor(1) as pool:
        compiling = pool.submit(lambda: [binaries.build(programs, progress) for programs in missing])
        for image in wanted:
            if not image.programs and not image.same_as:
                builder.build(_job(image), progress)
        compiling.result()


def bases_key() -> str:
    """Return the key of all base images together."""
    return content.key(bases.DEBIAN.key, bases.PYTHON.key)


def pretty(reference: str) -> str:
    """Return the name as people write it, without the default registry."""
    return reference.removeprefix(_REGISTRY)
