"""Stand-ins for the public base images that the Dockerfiles name, made from Debian packages where no registry is."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tidegate_dev import commands, content
from tidegate_dev.buildah import BUILDAH, has, machine_folders, tag
from tidegate_dev.progress import Progress

_SUITE = "bookworm"
_LEFT_OUT = ("/usr/share/man/*", "/usr/share/doc/*", "/usr/share/info/*", "/usr/share/locale/*")
"""As in the public slim images."""


@dataclass(frozen=True)
class Base:
    """A base image: its public name and the packages that it adds to the plainest Debian."""

    name: str
    packages: tuple[str, ...]
    finish: str = "true"

    @property
    def key(self) -> str:
        """The key of what it is made from."""
        return content.key(_SUITE, self.name, *self.packages, self.finish, *_LEFT_OUT)

    @property
    def mark(self) -> str:
        """A second name with the key, by which a base made earlier is known again."""
        return f"localhost/tidegate-base:{self.key}"


DEBIAN = Base("docker.io/library/debian:bookworm-slim", ("ca-certificates",))
PYTHON = Base(
    "docker.io/library/python:3.11-slim",
    ("python3", "python3-pip"),
    # the public image has its own Python: `python` and `pip`, free to install into
    "ln -sf /usr/bin/python3 /usr/local/bin/python && rm -f /usr/lib/python3*/EXTERNALLY-MANAGED",
)


def ensure(progress: Progress) -> None:
    """Make the base images that do not stand, the second on top of the first, so that they share layers."""
    _ensure(DEBIAN, _debian, progress)
    _ensure(PYTHON, _python, progress)


def _ensure(base: Base, make: Callable[[], None], progress: Progress) -> None:
    if not has(base.mark):
        with progress.part(f"make a stand-in for {base.name} from Debian packages"):
            make()
        tag(base.name, base.mark)
    tag(base.mark, base.name)


def _debian() -> None:
    with commands.scratch() as folder:
        tree = Path(folder) / "base.tar"
        excluded = [f"--dpkgopt=path-exclude={pattern}" for pattern in _LEFT_OUT]
        include = f"--include={','.join(DEBIAN.packages)}"
        commands.run_apart(["mmdebstrap", "--variant=minbase", include, *excluded, _SUITE, str(tree)])
        container = _container("scratch")
        commands.run_apart([*BUILDAH, "add", "--quiet", container, str(tree)])
    _commit(container, DEBIAN)


def _python() -> None:
    container = _container(DEBIAN.name)
    install = f"apt-get update && apt-get install -y --no-install-recommends {' '.join(PYTHON.packages)}"
    mounts = [f"--volume={folder}:{folder}:ro" for folder in machine_folders()]
    script = f"{install} && rm -rf /var/lib/apt/lists/* && {PYTHON.finish}"
    run = [*BUILDAH, "run", "--isolation=chroot", "--network=host", *mounts]
    commands.run_apart([*run, container, "--", "sh", "-c", script])
    _commit(container, PYTHON)


def _container(image: str) -> str:
    return commands.run([*BUILDAH, "from", "--pull-never", image]).split()[-1]


def _commit(container: str, base: Base) -> None:
    commands.run_apart([*BUILDAH, "commit", "--quiet", "--rm", container, base.name])
