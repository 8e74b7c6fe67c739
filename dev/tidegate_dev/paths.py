"""Where things lie on this machine.

The run directory is one fixed place, because addresses and cgroup are fixed as well: a machine has one such cluster,
whichever checkout asks for it. The cache may lie elsewhere for each user.
"""

import os
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
DEV = REPOSITORY / "dev"
MANIFESTS = REPOSITORY / "manifests"

RUN = Path("/run/tidegate")
KUBECONFIG = RUN / "kubeconfig"
CONTAINERD_SOCKET = RUN / "containerd" / "containerd.sock"
PKI = RUN / "pki"
SCRATCH = Path("/var/tmp/tidegate")  # noqa: S108 - ours alone, made by root; `down` empties it
BUILDAH_RUN = Path("/run/tidegate-buildah")
RECORD = RUN / "cluster.json"
PIDS = RUN / "pids.json"


def cache() -> Path:
    """Return the folder of everything that is kept between runs: ${XDG_CACHE_HOME:-~/.cache}/tidegate."""
    root = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(root) / "tidegate"


def state() -> Path:
    """Return the folder of the running cluster's own data (etcd, volumes, logs); `down` removes it."""
    return cache() / "cluster"


def logs() -> Path:
    """Return the folder with one log file for each component; it outlives `down`, to be read after a failure."""
    return cache() / "logs"


def lake() -> Path:
    """Return the folder behind the claim `lake`, shared by the machine and the pods; it outlives `down`."""
    return Path(os.environ.get("TIDEGATE_LAKE") or cache() / "lake")
