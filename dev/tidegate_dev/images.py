"""Building what has changed and bringing it to the cluster."""

from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from tidegate_dev import bases, binaries, content
from tidegate_dev.binaries import Programs
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
    wanted = sorted(images, key=lambda image: image.programs is not None)  # stable: stand-ins stay behind their models
    needed = {i.programs for i in wanted if i.programs and _REGISTRY + i.reference(bases_key()) not in present}
    with _compiling(needed, progress) as programs:
        for image in wanted:
            if image.programs:
                programs.result()
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
    job = _job(image)
    builder.build(job, progress)
    builder.deliver(job.reference, progress)


def _job(image: Image) -> Build:
    return Build(image.dockerfile, image.context, image.target, _REGISTRY + image.reference(bases_key()))


def prepare(images: Iterable[Image], builder: Builder, progress: Progress) -> None:
    """Where a cluster's programs must be compiled first, do so and build the images without programs meanwhile.

    Compiling keeps all cores busy, fetching packages for images keeps none: together they take hardly longer than the
    first alone. Needs no cluster.
    """
    needed = {binaries.KUBERNETES, binaries.NODE}
    if all(map(binaries.stand, needed)):
        return
    with _compiling(needed, progress):
        for image in images:
            if not image.programs and not image.same_as:
                builder.build(_job(image), progress)


@contextmanager
def _compiling(programs: Iterable[Programs], progress: Progress) -> Iterator[Future[list[Path]]]:
    """Compile what is missing in the background; the end of the `with` waits for it."""
    missing = [one for one in sorted(programs, key=lambda one: one.name) if not binaries.stand(one)]
    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(lambda: [binaries.build(one, progress) for one in missing])
        yield done
        done.result()


def bases_key() -> str:
    """Return the key of all base images together."""
    return content.key(bases.DEBIAN.key, bases.PYTHON.key)


def pretty(reference: str) -> str:
    """Return the name as people write it, without the default registry."""
    return reference.removeprefix(_REGISTRY)
