"""Stand-ins for the public base images that the Dockerfiles name, made from Debian packages where no registry is."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

from tidegate_dev import commands, content
from tidegate_dev.buildah import BUILDAH, has
from tidegate_dev.progress import Progress

_SUITE = "bookworm"


@dataclass(frozen=True)
class Base:
    """A base image: its public name, the packages that make it up, and commands that finish it inside."""

    name: str
    packages: tuple[str, ...]
    finish: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """The key of what it is made from."""
        return content.key(_SUITE, self.name, *self.packages, *self.finish)

    @property
    def mark(self) -> str:
        """A second name with the key, by which a base made earlier is known again."""
        return f"localhost/tidegate-base:{self.key}"


DEBIAN = Base("docker.io/library/debian:bookworm-slim", ("ca-certificates",))
PYTHON = Base(
    "docker.io/library/python:3.11-slim",
    ("ca-certificates", "python3", "python3-pip"),
    # the public image has its own Python: `python` and `pip`, free to install into
    ("ln -sf /usr/bin/python3 /usr/local/bin/python", "rm -f /usr/lib/python3*/EXTERNALLY-MANAGED"),
)


def ensure(base: Base, progress: Progress) -> None:
    """Make the base image unless it stands."""
    if has(base.mark):
        commands.run([*BUILDAH, "tag", base.mark, base.name])
        return
    with progress.part(f"make a stand-in for {base.name} from Debian packages"), tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "base.tar"
        include = f"--include={','.join(base.packages)}"
        commands.run_apart(["mmdebstrap", "--variant=minbase", include, _SUITE, str(tree)])
        _commit(base, tree)


def _commit(base: Base, tree: Path) -> None:
    container = commands.run([*BUILDAH, "from", "scratch"]).split()[-1]
    commands.run_apart([*BUILDAH, "add", "--quiet", container, str(tree)])
    for command in base.finish:
        commands.run_apart([*BUILDAH, "run", "--isolation", "chroot", container, "--", "sh", "-c", command])
    commands.run_apart([*BUILDAH, "commit", "--quiet", "--rm", container, base.name])
    commands.run([*BUILDAH, "tag", base.name, base.mark])
