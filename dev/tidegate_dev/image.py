"""An image and one build of it, as values."""

from dataclasses import dataclass
from pathlib import Path

from tidegate_dev import content, paths
from tidegate_dev.binaries import Programs


@dataclass(frozen=True)
class Image:
    """An image of ours, its Dockerfile and what goes in; folders and files are relative to the repository.

    Exactly one of `programs` (the context is the folder of those), `sources` (the context is the repository,
    of which only these count) or neither (the context is the Dockerfile's own folder). `same_as` names another image
    that stands in for this one here.
    """

    name: str
    folder: str
    programs: Programs | None = None
    sources: tuple[str, ...] = ()
    target: str = ""
    same_as: str = ""

    @property
    def dockerfile(self) -> Path:
        """The file that says how it is made."""
        return paths.REPOSITORY / self.folder / "Dockerfile"

    @property
    def context(self) -> Path:
        """The folder that the Dockerfile copies from."""
        if self.programs:
            return self.programs.built
        return paths.REPOSITORY if self.sources else self.dockerfile.parent

    def reference(self, bases: str) -> str:
        """Return the name with a tag by content; `bases` is the key of the base images."""
        files = [self.dockerfile.parent, *(paths.REPOSITORY / source for source in self.sources)]
        binary = self.programs.built.name if self.programs else ""
        return f"{self.name}:{content.key(self.target, bases, binary, files=files, root=paths.REPOSITORY)}"


@dataclass(frozen=True)
class Build:
    """One build: which Dockerfile and stage, from which context, under which full name."""

    dockerfile: Path
    context: Path
    target: str
    reference: str

    @property
    def ignore_file(self) -> Path:
        """The file beside the Dockerfile that says what of the context to leave out, as Docker names it."""
        return self.dockerfile.with_name(f"{self.dockerfile.name}.dockerignore")
