"""Start a run where it is to run: in this process, as ranks of torchrun or Horovod, or as a Kubeflow TrainJob."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tidegate_api.errors import TidegateError
from tidegate_components.models.fitting import check_sets
from tidegate_components.training.batches import check_even
from tidegate_components.training.run import Order, prepare_process, run
from tidegate_components.training.worker import write_order

__all__ = ["LAUNCHERS", "LaunchError", "RunFailedError", "Site", "launch", "parse_resources"]


class LaunchError(TidegateError):
    """A launcher that is not there, or what it cannot start."""


class RunFailedError(LaunchError):
    """Ranks or a job that did not end well; going on from the newest checkpoint may mend it."""

    transient = True


@dataclass(frozen=True)
class Site:
    """Where a TrainJob runs: pods of `processes` ranks each, what each pod asks for, how long all of it may take.

    An empty namespace is that of the kubeconfig's context, or of the pod that this runs in.
    """

    nodes: int = 1
    namespace: str = ""
    resources: Mapping[str, str] = field(default_factory=dict)
    deadline_s: int = 86_400


_HERE = Site()


def parse_resources(text: str) -> dict[str, str]:
    """`cpu=8,memory=32Gi,nvidia.com/gpu=1` by name. Raises LaunchError for what is no NAME=QUANTITY."""
    parts = [part.strip().partition("=") for part in text.split(",") if part.strip()]
    for name, _, quantity in parts:
        if not name or not quantity:
            raise LaunchError(
                resource="tidegate train", field="resources", value=text,
                expected="NAME=QUANTITY such as cpu=8,memory=32Gi", remedy="correct --resources",
            )  # fmt: skip
    return {name: quantity for name, _, quantity in parts}


def launch(
    order: Order, launcher: str, processes: int, say: Callable[[str], None], site: Site = _HERE
) -> dict[str, Any]:
    """Train as `order` says; returns what DIR/metrics.json holds. Raises LaunchError where a rank failed.

    `site` is for the launcher trainjob alone.
    """
    if launcher not in LAUNCHERS:
        raise LaunchError(
            resource="tidegate train", field="launcher", value=launcher, expected=f"one of {', '.join(LAUNCHERS)}",
            remedy="correct --launcher",
        )  # fmt: skip
    LAUNCHERS[launcher](order, processes, say, site)
    found: dict[str, Any] = json.loads((order.out / "metrics.json").read_text())
    return found


def _look(order: Order, say: Callable[[str], None]) -> None:
    """What files alone show to be wrong, before torch is loaded."""
    model, whole = order.out / "model", order.out / "metrics.json"
    foreign = model.is_file() or (model.is_dir() and any(model.iterdir()) and not (order.out / "run.json").is_file())
    if order.out.is_file() or foreign:
        raise LaunchError(
            resource="tidegate train", field="out", value=str(model if foreign else order.out),
            expected="a folder, or nothing there yet; in it what an earlier run wrote", remedy="name another place",
        )  # fmt: skip
    for data in (path.resolve() for path in (order.train, order.valid) if path.is_dir()):
        if data in (order.out.resolve(), *order.out.resolve().parents):
            raise LaunchError(
                resource="tidegate train", field="out", value=str(order.out), expected=f"a folder outside of {data}",
                remedy="name another place: the run's Parquet would be rows of the next training",
            )  # fmt: skip
    if order.resume and not (order.out / "checkpoints").is_dir():
        say(f"{order.out} holds no checkpoint to go on from: this run starts anew")
    if whole.is_file() and not order.resume:
        say(f"{order.out} holds a finished run, which this one replaces")
    say(f"reading {order.train} and {order.valid}")
    check_sets(order.config, [order.train], order.valid, order.keep)


def _local(order: Order, processes: int, say: Callable[[str], None], site: Site) -> None:
    _look(order, say)
    prepare_process(order.config.training.threads)
    from tidegate_components.training.learner import alone

    with _leaving_nothing(order.out):
        run(order, alone, say)


@contextmanager
def _leaving_nothing(out: Path) -> Iterator[None]:
    """A run that was refused before its first checkpoint leaves no folder where there was none."""
    fresh = not out.exists()
    out.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except TidegateError:
        if fresh and not any(path.is_file() for path in out.rglob("*")):
            shutil.rmtree(out)
        raise


def _torchrun(order: Order, processes: int, say: Callable[[str], None], site: Site) -> None:
    """Elastic: a rank that dies takes the others with it, and all go on from the newest checkpoint."""
    command = [
        "-m",
        "torch.distributed.run",
        "--standalone",
        f"--nproc-per-node={processes}",
        f"--max-restarts={order.restarts}",
    ]
    _ranks([sys.executable, *command, "-m", "tidegate_components.training.worker"], "sharded", order, processes, say)


def _horovod(order: Order, processes: int, say: Callable[[str], None], site: Site) -> None:
    try:
        import horovod.torch  # noqa: F401
    except ImportError as error:
        raise LaunchError(
            resource="tidegate train", field="launcher", value="horovod", expected="Horovod, built for this torch",
            remedy="make horovod builds it, or use --launcher torchrun",
        ) from error  # fmt: skip
    command = ["-m", "horovod.runner.launch", "--gloo", "-np", str(processes), sys.executable]
    _ranks([sys.executable, *command, "-m", "tidegate_components.training.worker"], "replicated", order, processes, say)


def _ranks(command: list[str], engine: str, order: Order, processes: int, say: Callable[[str], None]) -> None:
    check_even(order.config.training.batch_size, processes)
    _look(order, say)
    threads = order.config.training.threads or max(len(os.sched_getaffinity(0)) // processes, 1)
    with _leaving_nothing(order.out), tempfile.TemporaryDirectory(prefix="tidegate-order-") as folder:
        file = Path(folder) / "order.json"
        write_order(file, order)
        ranks = [*command, "--engine", engine, "--order", str(file)]
        ended = subprocess.run(ranks, env={"OMP_NUM_THREADS": str(threads)} | os.environ, check=False)
        if ended.returncode:
            raise RunFailedError(
                resource="tidegate train", field=f"{processes} ranks", value=f"exit code {ended.returncode}",
                expected="0 from each", remedy="read what they said above; --resume goes on from the newest checkpoint",
            )  # fmt: skip


def _trainjob(order: Order, processes: int, say: Callable[[str], None], site: Site) -> None:
    from tidegate_components.training.trainjob_launch import run_train_job

    run_train_job(order, processes, say, site)


LAUNCHERS: dict[str, Callable[[Order, int, Callable[[str], None], Site], None]] = {
    "local": _local,
    "torchrun": _torchrun,
    "horovod": _horovod,
    "trainjob": _trainjob,
}
