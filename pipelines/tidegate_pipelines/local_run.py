"""Run a pipeline on this machine: the compiled DAG in a child process, its log in a file, one progress line a step."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tidegate_pipelines.catalogue import Compiled, PipelineError

__all__ = ["Progress", "RunResult", "run_local"]

_COLOR = re.compile(r"\x1b\[[0-9;]*m")
_STARTED = re.compile(r"Executing task '([\w-]+)'")
_ENDED = re.compile(r"Task '([\w-]+)' finished with status (\w+)")
_CACHED = re.compile(r"Task '?([\w-]+)'? cache hit")
_ERROR = re.compile(r"^\s*[\w.]*Error: (.+)$")


@dataclass(frozen=True)
class Progress:
    """One step has ended: done, cached or failed, after so many seconds."""

    title: str
    state: str
    seconds: float


@dataclass(frozen=True)
class RunResult:
    """What a run gave: its outputs, the steps in order, and where its log is."""

    outputs: dict[str, Any]
    steps: list[Progress]
    log: Path


def run_local(compiled: Compiled, arguments: dict[str, Any], root: Path, tell: Callable[[Progress], None]) -> RunResult:
    """Run under the folder `root` (steps' outputs, cache, log); `tell` hears of each step that ends.

    Raises PipelineError with the failed step's own sentence and the log's path.
    """
    root = root.absolute()
    root.mkdir(parents=True, exist_ok=True)
    given, outputs, log = root / "arguments.json", root / "outputs.json", root / "run.log"
    given.write_text(json.dumps(arguments))
    outputs.unlink(missing_ok=True)
    command = [sys.executable, "-m", "tidegate_pipelines.local_child", str(compiled.file), str(given), str(root)]
    lines: list[str] = []
    steps: list[Progress] = []
    child = subprocess.Popen(
        [*command, str(outputs)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=_environment(root)
    )
    try:
        for step in _steps(_logged(child, log, lines), compiled.titles):
            steps.append(step)
            tell(step)
    finally:
        child.terminate()
        child.wait()
    if not outputs.is_file():
        raise _failure(steps, lines, log)
    return RunResult(json.loads(outputs.read_text()), steps, log)


def _environment(root: Path) -> dict[str, str]:
    """Claims lie under the run's root unless told otherwise; a step says nothing but what it has to say."""
    quiet = {"PYTHONWARNINGS": "ignore", "PYTHONUNBUFFERED": "1", "COLUMNS": "80"}
    return {"TIDEGATE_PVC_ROOT": str(root / "pvc"), **os.environ, **quiet}


def _logged(child: subprocess.Popen[str], log: Path, lines: list[str]) -> Iterator[str]:
    with log.open("w") as file:
        for raw in child.stdout or ():
            line = _COLOR.sub("", raw.rstrip())
            lines.append(line)
            file.write(line + "\n")
            file.flush()
            yield line


def _steps(lines: Iterator[str], titles: dict[str, str]) -> Iterator[Progress]:
    started: dict[str, float] = {}
    for line in lines:
        if found := _STARTED.search(line):
            started[found[1]] = time.monotonic()
        elif found := _CACHED.search(line):
            yield Progress(titles.get(found[1], found[1]), "cached", 0.0)
        elif found := _ENDED.search(line):
            state = "done" if found[2] == "SUCCESS" else "failed"
            yield Progress(titles.get(found[1], found[1]), state, time.monotonic() - started.get(found[1], 0.0))


def _failure(steps: list[Progress], lines: list[str], log: Path) -> PipelineError:
    errors = [found[1] for line in lines if (found := _ERROR.match(line)) and "finished with status" not in line]
    failed = steps[-1].title if steps and steps[-1].state == "failed" else "the run"
    return PipelineError(
        resource=f"step {failed}",
        field="outcome",
        value=errors[-1] if errors else "no reason given",
        expected="a step that succeeds",
        remedy=f"the whole log is in {log}",
    )
