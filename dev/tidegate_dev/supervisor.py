"""The first process of the cluster's own namespaces: it prepares them, starts the components, and keeps them running.

Run as `python -m tidegate_dev.supervisor PLAN`, where PLAN is a file with the `Plan` as JSON. It is process 1 of its
process namespace: when it dies, by whatever cause, the kernel kills everything else in there.
"""

import json
import os
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from tidegate_dev.component import Component

_RESTART_AFTER = 1.0
_LOOK_EVERY = 0.1
_ENVIRONMENT = {"GOGC": "400"}
"""Go's collector runs a quarter as often: memory is there, and cores are few."""


@dataclass(frozen=True)
class Plan:
    """What to do, in this order: bind mounts (place, stand-in), commands, components to keep running."""

    mounts: tuple[tuple[str, str], ...]
    setup: tuple[tuple[str, ...], ...]
    components: tuple[Component, ...]
    logs: str
    pids: str

    def to_json(self) -> str:
        """Return the plan as JSON."""
        return json.dumps(asdict(self), indent=2)

    @classmethod
    def from_json(cls, text: str) -> "Plan":
        """Return the plan that `to_json` wrote."""
        raw = json.loads(text)
        return cls(
            mounts=tuple((place, stand_in) for place, stand_in in raw["mounts"]),
            setup=tuple(tuple(command) for command in raw["setup"]),
            components=tuple(Component(c["name"], tuple(c["command"])) for c in raw["components"]),
            logs=raw["logs"],
            pids=raw["pids"],
        )


def prepare(plan: Plan) -> None:
    """Mount the stand-ins and run the set-up commands; raises CalledProcessError."""
    for place, stand_in in plan.mounts:
        Path(place).mkdir(parents=True, exist_ok=True)
        Path(stand_in).mkdir(parents=True, exist_ok=True)
        subprocess.run(["mount", "--bind", stand_in, place], check=True)
    for command in plan.setup:
        subprocess.run(command, check=True)
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")


def keep_running(plan: Plan) -> None:
    """Start every component, start it again when it ends, and reap whatever else becomes our child. Never returns."""
    due = dict.fromkeys(plan.components, 0.0)
    running: dict[int, Component] = {}
    while True:
        for component in [component for component, when in due.items() if when <= time.monotonic()]:
            del due[component]
            running[_start(component, Path(plan.logs))] = component
            _write_pids(running, Path(plan.pids))
        for pid in _ended():
            if ended := running.pop(pid, None):
                due[ended] = time.monotonic() + _RESTART_AFTER
        time.sleep(_LOOK_EVERY)


def _start(component: Component, logs: Path) -> int:
    log = str(logs / f"{component.name}.log")
    files = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600),
        (os.POSIX_SPAWN_DUP2, 1, 2),
    ]
    return os.posix_spawn(component.command[0], component.command, {**_ENVIRONMENT, **os.environ}, file_actions=files)


def _ended() -> list[int]:
    pids: list[int] = []
    while True:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return pids
        if pid == 0:
            return pids
        pids.append(pid)


def _write_pids(running: dict[int, Component], file: Path) -> None:
    scratch = file.with_suffix(".new")
    scratch.write_text(json.dumps({component.name: pid for pid, component in running.items()}))
    scratch.rename(file)


def main() -> None:
    """Carry out the plan in the file that the first argument names."""
    plan = Plan.from_json(Path(sys.argv[1]).read_text())
    prepare(plan)
    keep_running(plan)


if __name__ == "__main__":
    main()
