"""What comes from Debian: found by the program that the package brings, installed only where that is missing."""

import shutil
from pathlib import Path

from tidegate_dev import commands
from tidegate_dev.errors import CommandError, DevError, UnsupportedError
from tidegate_dev.progress import Progress

PROGRAMS = {
    "containerd": "containerd",
    "runc": "runc",
    "iptables": "iptables",
    "conntrack": "conntrack",
    "buildah": "buildah",
    "mmdebstrap": "mmdebstrap",
    "openssl": "openssl",
    "ip": "iproute2",
    "unshare": "util-linux",
    "mount": "mount",
}
CNI_PLUGINS = Path("/usr/lib/cni")
CNI_PACKAGE = "containernetworking-plugins"


def missing() -> list[str]:
    """Return the Debian packages whose programs are not on this machine."""
    absent = [package for program, package in PROGRAMS.items() if shutil.which(program) is None]
    return absent if (CNI_PLUGINS / "ptp").exists() else [*absent, CNI_PACKAGE]


def install(progress: Progress) -> None:
    """Install what is missing; raises UnsupportedError where there is no apt-get to do it."""
    packages = missing()
    if not packages:
        return
    if shutil.which("apt-get") is None:
        raise UnsupportedError(
            f"{', '.join(packages)} missing and no apt-get to install them: install them by your package manager, "
            "start Docker so that kind can be used, or set KUBECONFIG to a cluster"
        )
    with progress.part(f"install Debian packages {' '.join(packages)}"):
        _apt(packages)


def _apt(packages: list[str]) -> None:
    quiet = {"DEBIAN_FRONTEND": "noninteractive"}
    try:
        commands.run_long(["dpkg", "--configure", "-a"], env=quiet)  # an earlier run may have been killed half-way
        commands.run_long(["apt-get", "update"], env=quiet)
        commands.run_long(["apt-get", "install", "-y", "--no-install-recommends", *packages], env=quiet)
    except CommandError as failure:
        raise DevError(f"apt-get could not install {', '.join(packages)}: {failure}") from failure
