"""The cluster's private namespaces: starting the supervisor in them, finding it, and ending all that is in them."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from tidegate_dev import cable, cgroups, commands, kernel, node, paths, wait
from tidegate_dev.errors import UnsupportedError
from tidegate_dev.supervisor import Plan

_UNSHARE = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
_OTHERWISE = "start Docker so that kind can be used, or set KUBECONFIG to a cluster"


def check() -> None:
    """Raise UnsupportedError with one sentence when this machine cannot hold the cluster."""
    if sys.platform != "linux":
        raise UnsupportedError(f"the cluster of its own needs Linux, this is {sys.platform}: {_OTHERWISE}")
    if os.geteuid() != 0:
        raise UnsupportedError(
            f"the cluster of its own needs root (network and mount namespaces): use sudo, {_OTHERWISE}"
        )
    if not cgroups.hierarchies():
        raise UnsupportedError(f"no control groups are mounted on /sys/fs/cgroup: mount them, {_OTHERWISE}")
    if shutil.which("unshare") is None or not commands.succeeds([*_UNSHARE, "true"]):
        raise UnsupportedError(f"`{' '.join(_UNSHARE)} true` fails, so no namespaces can be made here: {_OTHERWISE}")


def start(plan: Plan) -> None:
    """Start the supervisor in new namespaces, in our control group and apart from our terminal; lay the cable."""
    kernel.note()
    file = paths.RUN / "plan.json"
    file.write_text(plan.to_json())
    cgroups.create(cgroups.CLUSTER)
    Path(plan.logs).mkdir(parents=True, exist_ok=True)
    command = [*_UNSHARE, sys.executable, "-m", "tidegate_dev.supervisor", str(file)]
    with (Path(plan.logs) / "supervisor.log").open("ab") as log:
        subprocess.Popen(
            cgroups.within(cgroups.CLUSTER, command),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            cwd="/",
            env={**os.environ, "PYTHONPATH": str(paths.DEV)},
        )
    wait.until("the first process in the cluster's namespaces", lambda: supervisor() is not None, 20, _see(plan))
    cable.plug_in(supervisor() or 0)


def _see(plan: Plan) -> str:
    return f"see {plan.logs}/supervisor.log"


def supervisor() -> int | None:
    """Return the supervisor's process id as the machine sees it, or None when it does not run."""
    return next((pid for pid in cgroups.members(cgroups.CLUSTER) if _inner_pids(pid) == [1]), None)


def component_pids() -> dict[str, int]:
    """Return the process id, as the machine sees it, of every component that runs now."""
    if not paths.PIDS.exists():
        return {}
    inner = {tuple(_inner_pids(pid)): pid for pid in cgroups.members(cgroups.CLUSTER)}
    noted = json.loads(paths.PIDS.read_text())
    return {name: inner[(pid,)] for name, pid in noted.items() if (pid,) in inner}


def _inner_pids(pid: int) -> list[int]:
    """Return the ids that the process has inside the namespaces below ours, outermost first."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("NSpid:"):
                return [int(word) for word in line.split()[2:]]
    return []


def end() -> None:
    """End every process of ours and take away cable, control groups, settings and state; fine if there is nothing."""
    cgroups.kill()
    cable.unplug()
    cgroups.remove()
    kernel.restore()
    for folder in _state_folders():
        shutil.rmtree(folder, ignore_errors=True)
    for place in node.hidden_folders():
        with contextlib.suppress(OSError):  # only where it is empty: it may have been there before us
            place.rmdir()


def _state_folders() -> list[Path]:
    """Return the folders to remove; the state that is noted may be in another cache than ours."""
    noted = [Path(json.loads(paths.RECORD.read_text())["state"])] if paths.RECORD.exists() else []
    return [*noted, paths.state(), paths.SCRATCH, paths.BUILDAH_RUN, paths.RUN]
