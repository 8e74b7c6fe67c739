"""The control group that all our processes live in: the one record of what is ours that a crash cannot lose.

Every process that `dev/cluster` starts joins the group before it runs, and its descendants cannot leave it unnoticed;
so `down` finds them all, also when the one who started them was killed before it could write anything down.
Version 1 (one tree for each controller), version 2 (one tree) and the mixture of both are handled alike.
"""

import contextlib
import os
import shlex
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tidegate_dev.errors import DevError

GROUP = "tidegate"
CLUSTER = f"{GROUP}/cluster"
BUILD = f"{GROUP}/build"


@dataclass(frozen=True)
class Hierarchy:
    """One mounted tree of control groups."""

    root: Path
    unified: bool


def hierarchies(mounts: str | None = None) -> list[Hierarchy]:
    """Return the trees named in the text of /proc/self/mounts, in its order."""
    text = Path("/proc/self/mounts").read_text() if mounts is None else mounts
    rows = [line.split() for line in text.splitlines()]
    return [Hierarchy(Path(row[1]), row[2] == "cgroup2") for row in rows if row[2] in {"cgroup", "cgroup2"}]


def create(group: str) -> None:
    """Make the group in every tree, with the controllers of version 2 and the CPU sets of version 1 handed down."""
    trees = hierarchies()
    for hierarchy in trees:
        path = hierarchy.root
        for part in Path(group).parts:
            if hierarchy.unified and len(trees) == 1:  # beside version 1, the unified tree only counts processes
                _hand_down_controllers(path)
            path = path / part
            path.mkdir(exist_ok=True)
            _inherit_cpuset(path)


def _hand_down_controllers(path: Path) -> None:
    for controller in (path / "cgroup.controllers").read_text().split():
        with contextlib.suppress(OSError):  # a controller may be busy or reserved for real-time; the rest matters
            (path / "cgroup.subtree_control").write_text(f"+{controller}")


def _inherit_cpuset(path: Path) -> None:
    for name in ("cpuset.cpus", "cpuset.mems"):
        setting, parents = path / name, path.parent / name
        if setting.exists() and parents.exists() and not setting.read_text().strip():
            with contextlib.suppress(OSError):
                setting.write_text(parents.read_text())


def within(group: str, command: list[str]) -> list[str]:
    """Return the command so wrapped that it joins the group before it becomes itself.

    A shell does it rather than a function between fork and exec, which is not safe beside our progress thread.
    """
    files = [str(hierarchy.root / group / "cgroup.procs") for hierarchy in hierarchies()]
    joins = "".join(f"echo 0 > {shlex.quote(file)}; " for file in files)
    return ["sh", "-c", joins + 'exec "$@"', "sh", *command]


def members(group: str = GROUP) -> set[int]:
    """Return the process ids in the group and below it, in any tree."""
    found: set[int] = set()
    for file in _process_lists(group):
        with contextlib.suppress(OSError):
            found.update(int(word) for word in file.read_text().split() if word != "0")
    return found


def _process_lists(group: str) -> Iterator[Path]:
    for hierarchy in hierarchies():
        for folder, _, _ in os.walk(hierarchy.root / group):
            yield Path(folder) / "cgroup.procs"


def kill(group: str = GROUP, patience: float = 20.0) -> None:
    """Kill every process in the group; raise DevError when some still live after `patience` seconds."""
    deadline = time.monotonic() + patience
    while pids := members(group):
        for pid in pids:
            _kill_member(pid, group)
        if time.monotonic() > deadline:
            raise DevError(f"processes {sorted(pids)} of control group {group} do not end; look at them with ps")
        time.sleep(0.05)


def _kill_member(pid: int, group: str) -> None:
    """Kill by a handle that was taken before membership was checked, so that a reused id is never hit."""
    try:
        handle = os.pidfd_open(pid)
    except OSError:
        return
    try:
        if f"/{group}" in Path(f"/proc/{pid}/cgroup").read_text():
            signal.pidfd_send_signal(handle, signal.SIGKILL)
    except OSError:
        pass
    finally:
        os.close(handle)


def remove(group: str = GROUP, patience: float = 10.0) -> None:
    """Remove the group and all below it from every tree; the kernel may need a moment after the last process."""
    deadline = time.monotonic() + patience
    while left := [folder for folder in _folders(group) if not _removed(folder)]:
        if time.monotonic() > deadline:
            raise DevError(f"control groups {[str(folder) for folder in left]} cannot be removed; try down again")
        time.sleep(0.1)


def _folders(group: str) -> list[Path]:
    walks = [os.walk(hierarchy.root / group, topdown=False) for hierarchy in hierarchies()]
    return [Path(folder) for walk in walks for folder, _, _ in walk]


def _removed(folder: Path) -> bool:
    try:
        folder.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True
