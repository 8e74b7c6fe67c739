"""Start a run where it is to run: in this process, as ranks of torchrun or Horovod, or as a Kubeflow TrainJob."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tidegate_api.errors import TidegateError
from tidegate_components.training.run import Order, prepare_process, run
from tidegate_components.training.worker import write_order

__all__ = ["LAUNCHERS", "LaunchError", "launch"]


class LaunchError(TidegateError):
    """Ranks that did not end well, or a launcher that is not there."""


def launch(order: Order, launcher: str, processes: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Train as `order` says; returns what DIR/metrics.json holds. Raises LaunchError where a rank failed."""
    if launcher not in LAUNCHERS:
        raise LaunchError(
            resource="tidegate train", field="launcher", value=launcher, expected=f"one of {', '.join(LAUNCHERS)}",
            remedy="correct --launcher",
        )  # fmt: skip
    order.out.mkdir(parents=True, exist_ok=True)
    LAUNCHERS[launcher](order, processes, say)
    found: dict[str, Any] = json.loads((order.out / "metrics.json").read_text())
    return found


def _local(order: Order, processes: int, say: Callable[[str], None]) -> None:
    prepare_process(order.config.training.threads)
    from tidegate_components.training.learner import alone

    run(order, alone, say)


def _torchrun(order: Order, processes: int, say: Callable[[str], None]) -> None:
    """Elastic: a rank that dies takes the others with it, and all go on from the newest checkpoint."""
    command = [
        "-m",
        "torch.distributed.run",
        "--standalone",
        f"--nproc-per-node={processes}",
        f"--max-restarts={order.restarts}",
    ]
    _ranks([sys.executable, *command, "-m", "tidegate_components.training.worker"], "sharded", order, processes)


def _horovod(order: Order, processes: int, say: Callable[[str], None]) -> None:
    try:
        import horovod.torch  # noqa: F401
    except ImportError as error:
        raise LaunchError(
            resource="tidegate train", field="launcher", value="horovod", expected="Horovod, built for this torch",
            remedy="make horovod builds it, or use --launcher torchrun",
        ) from error  # fmt: skip
    command = ["-m", "horovod.runner.launch", "--gloo", "-np", str(processes), sys.executable]
    _ranks([sys.executable, *command, "-m", "tidegate_components.training.worker"], "replicated", order, processes)


def _ranks(command: list[str], engine: str, order: Order, processes: int) -> None:
    threads = order.config.training.threads or max(len(os.sched_getaffinity(0)) // processes, 1)
    waiting = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0", "OMP_NUM_THREADS": str(threads)}
    with tempfile.TemporaryDirectory(prefix="tidegate-order-") as folder:
        file = Path(folder) / "order.json"
        write_order(file, order)
        ranks = [*command, "--engine", engine, "--order", str(file)]
        ended = subprocess.run(ranks, env=waiting | os.environ, check=False)
    if ended.returncode:
        raise LaunchError(
            resource="tidegate train", field=f"{processes} ranks", value=f"exit code {ended.returncode}",
            expected="0 from each", remedy="read what they said above; --resume goes on from the newest checkpoint",
        )  # fmt: skip


LAUNCHERS: dict[str, Callable[[Order, int, Callable[[str], None]], None]] = {
    "local": _local,
    "torchrun": _torchrun,
    "horovod": _horovod,
}
