"""Running other programs: always in our control group, never with a shell."""

import os
import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

from tidegate_dev import cgroups
from tidegate_dev.errors import CommandFailed

_OWN_NAMESPACES = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]


def run(
    command: list[str], *, cwd: Path | None = None, env: Mapping[str, str] | None = None, text: str | None = None
) -> str:
    """Run to the end and return what it printed on standard output and error together.

    `env` is added to our own environment and `text` is its standard input. Raises CommandFailed on a status other
    than 0. A root's command joins the group `tidegate/build`, so that `down` finds it if we are killed meanwhile.
    """
    result = subprocess.run(
        command,
        cwd=cwd,
        env={**os.environ, **(env or {})},
        input="" if text is None else text,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        preexec_fn=_join_builds() if os.geteuid() == 0 else None,
        check=False,
    )
    if result.returncode != 0:
        raise CommandFailed(command, result.returncode, result.stdout)
    return result.stdout


def run_apart(command: list[str], *, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> str:
    """Run as `run` does, in mount and process namespaces of its own: what it mounts or starts dies with it."""
    return run([*_OWN_NAMESPACES, *command], cwd=cwd, env=env)


def succeeds(command: list[str]) -> bool:
    """Tell whether the command is there and ends with status 0."""
    if shutil.which(command[0]) is None:
        return False
    try:
        run(command)
    except CommandFailed:
        return False
    return True


def _join_builds() -> Callable[[], None]:
    cgroups.create(cgroups.BUILD)
    return cgroups.joiner(cgroups.BUILD)
