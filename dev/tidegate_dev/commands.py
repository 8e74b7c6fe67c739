"""Running other programs to their end; those that take long run in our control group, where `down` finds them."""

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO

from tidegate_dev import cgroups, paths
from tidegate_dev.errors import CommandError

_OWN_NAMESPACES = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]


def run(
    command: list[str], *, cwd: Path | None = None, env: Mapping[str, str] | None = None, text: str | None = None
) -> str:
    """Run to the end and return what it printed on standard output and error together.

    `env` is added to our own environment and `text` is its standard input. Raises CommandError on a status other
    than 0. For what ends by itself within seconds, also when we are killed meanwhile.
    """
    return _run(command, command, cwd, env, text)


def run_long(
    command: list[str], *, cwd: Path | None = None, env: Mapping[str, str] | None = None, text: str | None = None
) -> str:
    """Run as `run` does, in the group `tidegate/build`: if we are killed, `down` finds it and all it started."""
    return _run(command, _accounted(command), cwd, env, text)


def run_apart(command: list[str], *, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> str:
    """Run as `run_long` does, in mount and process namespaces of its own: what it mounts or starts ends with it."""
    return _run(command, _accounted([*_OWN_NAMESPACES, *command]), cwd, env, None)


def feed(command: list[str], write: Callable[[IO[bytes]], None]) -> None:
    """Run as `run_long` does, with what `write` writes as its standard input."""
    process = subprocess.Popen(
        _accounted(command), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    with process, contextlib.suppress(BrokenPipeError):  # it then ends with a status and says why
        if process.stdin is not None:
            write(process.stdin)
        output = process.communicate()[0]
    if process.returncode != 0:
        raise CommandError(command, process.returncode, output.decode(errors="replace"))


def scratch() -> tempfile.TemporaryDirectory[str]:
    """Return a folder for the time of a `with`, at a place that `down` empties when we are killed meanwhile."""
    return tempfile.TemporaryDirectory(dir=_scratch_place())


def _scratch_place() -> str | None:
    if os.geteuid() != 0:
        return None
    paths.SCRATCH.mkdir(parents=True, exist_ok=True)
    return str(paths.SCRATCH)


def succeeds(command: list[str]) -> bool:
    """Tell whether the command is there and ends with status 0."""
    if shutil.which(command[0]) is None:
        return False
    try:
        run(command)
    except CommandError:
        return False
    return True


def _run(
    command: list[str], wrapped: list[str], cwd: Path | None, env: Mapping[str, str] | None, text: str | None
) -> str:
    result = subprocess.run(
        wrapped,
        cwd=cwd,
        env={**os.environ, **_temporary(), **(env or {})},
        input=text or "",
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    if result.returncode != 0:
        raise CommandError(command, result.returncode, result.stdout)
    return result.stdout


def _temporary() -> dict[str, str]:
    place = _scratch_place()
    return {} if place is None else {"TMPDIR": place}


def _accounted(command: list[str]) -> list[str]:
    if os.geteuid() != 0 or not cgroups.hierarchies():
        return command
    cgroups.create(cgroups.BUILD)
    return cgroups.within(cgroups.BUILD, command)
