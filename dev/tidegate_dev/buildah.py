"""Building images without a daemon and without a registry, by buildah with storage of our own."""

import os
from collections.abc import Iterable
from pathlib import Path

from tidegate_dev import commands, paths
from tidegate_dev.errors import CommandError
from tidegate_dev.image import Build

BUILDAH = [
    "buildah",
    "--root",
    str(paths.cache() / "buildah"),
    "--runroot",
    str(paths.BUILDAH_RUN),
    "--storage-driver",
    "overlay",
]
_REGISTRY_SETTINGS = (
    "PIP_CERT",
    "PIP_INDEX_URL",
    "PIP_EXTRA_INDEX_URL",
    "PIP_FIND_LINKS",
    "PIP_DEFAULT_TIMEOUT",
    "SSL_CERT_FILE",
    "UV_DEFAULT_INDEX",
    "UV_INDEX",
    "http_proxy",
    "https_proxy",
    "no_proxy",
)


def has(reference: str) -> bool:
    """Tell whether the image stands in our storage."""
    try:
        commands.run([*BUILDAH, "inspect", "--type", "image", "--format", "{{.FromImageID}}", reference])
    except CommandError:
        return False
    return True


def build(job: Build) -> None:
    """Build the image that the Dockerfile describes, with the machine's settings for package registries."""
    commands.run([*BUILDAH, "rm", "--all"])  # what a build that was killed left
    mounts = [f"--volume={folder}:{folder}:ro" for folder in machine_folders()]
    command = [*BUILDAH, "bud", "--quiet", "--isolation=chroot", "--pull-never", "--layers", "--network=host", *mounts]
    ignore = [f"--ignorefile={job.ignore_file}"] if job.ignore_file.exists() else []
    target = [f"--target={job.target}"] if job.target else []
    command += [*registry_arguments(), *ignore, *target, "-f", str(job.dockerfile), "-t", job.reference]
    commands.run_apart([*command, str(job.context)])


def registry_arguments() -> list[str]:
    """Return build arguments for the settings that are in our environment; the Dockerfiles declare them."""
    return [f"--build-arg={name}={os.environ[name]}" for name in _REGISTRY_SETTINGS if os.environ.get(name)]


def machine_folders() -> Iterable[Path]:
    """Return folders of this machine that builds read: certificate authorities, and wheels kept on it."""
    named = [Path(word) for word in os.environ.get("PIP_FIND_LINKS", "").split()]
    return [folder for folder in (Path("/etc/ssl/certs"), *named) if folder.is_dir()]


def save(reference: str, folder: Path) -> None:
    """Write the image's manifest, configuration and uncompressed layers into the folder."""
    plain = ["--quiet", "--disable-compression", "--format=oci"]
    commands.run_apart([*BUILDAH, "push", *plain, reference, f"dir:{folder}"])


def tag(existing: str, new: str) -> None:
    """Give the image a second name."""
    commands.run([*BUILDAH, "tag", existing, new])
