"""containerd's images, on the cluster of our own."""

from collections.abc import Callable
from pathlib import Path
from typing import IO

from tidegate_dev import commands, paths

_CTR = ["ctr", "--address", str(paths.CONTAINERD_SOCKET), "--namespace", "k8s.io"]


def answers() -> bool:
    """Tell whether containerd is there."""
    return paths.CONTAINERD_SOCKET.exists() and commands.succeeds([*_CTR, "version"])


def images() -> set[str]:
    """Return the full names of all imported images."""
    return set(commands.run([*_CTR, "images", "list", "--quiet"]).split())


def blobs() -> set[str]:
    """Return the digests of all content, layers among it."""
    return set(commands.run([*_CTR, "content", "list", "--quiet"]).split())


def load(archive: Path) -> None:
    """Import the images in the archive."""
    commands.run_long([*_CTR, "images", "import", str(archive)])


def load_from(write: Callable[[IO[bytes]], None]) -> None:
    """Import the images in the archive that `write` writes."""
    commands.feed([*_CTR, "images", "import", "-"], write)


def tag(existing: str, new: str) -> None:
    """Give an image a second name."""
    commands.run([*_CTR, "images", "tag", "--force", existing, new])
