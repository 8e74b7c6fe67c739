"""A training run and the folder that it leaves: model, figures, history, configuration, a sample of real rows.

DIR/model/            the serving twin (Scorer.save)
DIR/metrics.json      what it scores on the validation set, examples per second, CPU and memory
DIR/history.json      epochs tried        DIR/config.yaml   the configuration, every default filled in
DIR/run.json          name, run, code version, digest of the training data
DIR/sample.parquet    up to 10,000 rows of the validation set, for packaging
DIR/predictions.parquet   label and score of every validation row, in their order, and the columns that were to be kept
DIR/checkpoints/      while it runs, and for --resume
"""

from __future__ import annotations

import json
import logging
import os
import resource
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from tidegate_api.hashes import content_hash
from tidegate_components.code_version import code_version
from tidegate_components.json_values import plain
from tidegate_components.models.arrays import columns_read, read_tables
from tidegate_components.models.config import Config
from tidegate_components.models.inputs import Inputs
from tidegate_components.storage import content_digest, parquet_files, replacing

if TYPE_CHECKING:
    from tidegate_components.training.learner import Learner
    from tidegate_components.training.loop import Build, Epoch, Fitted
    from tidegate_components.training.steps import Passed, Scores

__all__ = ["Order", "prepare_process", "run"]

_SAMPLED = 10_000
_EVERY_S = 5.0


@dataclass(frozen=True)
class Order:
    """What to train on what, and where to: sets are Parquet files, folders or globs, `start` a model to go on from.

    keep: columns of the validation rows that stand beside their scores.
    """

    config: Config
    train: Path
    valid: Path
    out: Path
    start: Path | None = None
    resume: bool = False
    restarts: int = 0
    keep: tuple[str, ...] = ()


def prepare_process(threads: int | None = None) -> None:
    """Let OpenMP's threads sleep while they wait: spinning ones starve each other where a core is busy.

    Also keeps torch's notes to its own developers from the run's reader. Must come before torch is imported.
    """
    warnings.filterwarnings("ignore", category=FutureWarning, module="torchrec")
    for name in ("torchrec", "torch.fx"):
        logging.getLogger(name).setLevel(logging.ERROR)
    for name, value in {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0", "KMP_BLOCKTIME": "0"}.items():
        os.environ.setdefault(name, value)
    if threads:
        os.environ.setdefault("OMP_NUM_THREADS", str(threads))


def run(order: Order, build: Build, say: Callable[[str], None]) -> dict[str, Any]:
    """Train, and write the run's folder (on rank 0); returns what `metrics.json` holds. Every rank calls it."""
    from tidegate_components.training import checkpoint
    from tidegate_components.training.incremental import check_memory, going_on
    from tidegate_components.training.loop import Hooks, fit

    keeper = _Keeper(build, say)
    folder = order.out / "checkpoints"
    if not order.resume and int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) == 0 and _is_first():
        checkpoint.clear(folder)
    inputs, start = going_on(order.start, order.config, [order.train]) if order.start else (None, None)
    hooks = Hooks(passed=keeper.passed, epoch=keeper.epoch, checkpoints=folder, inputs=inputs)
    if start:
        hooks = replace(hooks, start=start)
    fitted = fit([order.train], [order.valid], order.config, keeper.build, hooks)
    figures = _figures(fitted, keeper.learner)
    if fitted.scorer is not None and order.start:
        figures["forgetting_logloss"] = check_memory(order.start, fitted.scorer, order.config)
    if fitted.scorer is not None:
        _write(order, fitted, figures)
    return figures


def _is_first() -> bool:
    return int(os.environ.get("RANK", os.environ.get("HOROVOD_RANK", "0"))) == 0


class _Keeper:
    """Keeps the learner of the run, and tells rank 0's reader how it goes."""

    learner: Learner

    def __init__(self, build: Build, say: Callable[[str], None]) -> None:
        self._build, self._say = build, say
        self._last, self._rows = time.monotonic(), 0

    def build(self, inputs: Inputs, config: Config, taste: Any) -> Learner:
        """The learner, kept."""
        self.learner = self._build(inputs, config, taste)
        return self.learner

    def passed(self, phase: str, epoch: int, passed: Passed, steps: int) -> None:
        """A line every few seconds and at the end of an epoch."""
        now = time.monotonic()
        if self.learner.part.rank or (now - self._last < _EVERY_S and passed.step < steps):
            return
        rows = passed.rows * self.learner.part.world
        rate = (rows - self._rows if rows > self._rows else rows) / max(now - self._last, 1e-9)
        self._last, self._rows = now, rows
        where = f"{phase} epoch {epoch + 1}: batch {passed.step:,} of {steps:,}"
        self._say(f"{where}, LogLoss {passed.loss:.4f}, {rate:,.0f} rows/s")

    def epoch(self, epoch: Epoch) -> None:
        """The figures of an epoch."""
        self._rows, self._last = 0, time.monotonic()
        if not self.learner.part.rank:
            found = f"LogLoss {epoch.validation_logloss:.5f}, AUC {epoch.validation_auc:.5f}"
            self._say(f"epoch {epoch.number} on the validation set: {found}")


def _figures(fitted: Fitted, learner: Learner) -> dict[str, Any]:
    import torch

    from tidegate_components.evaluation.metrics import auc, calibration, logloss

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    ranks = learner.gathered(torch.tensor([[float(peak), fitted.cpu_seconds]], dtype=torch.float64))
    judged = fitted.held_out.labels, fitted.held_out.scores, fitted.held_out.weighing
    figures: dict[str, Any] = plain({
        "examples_per_second": fitted.rows / fitted.seconds if fitted.seconds else 0.0,
        "cpu_seconds_per_million_examples": 1e6 * float(ranks[:, 1].sum()) / max(fitted.rows, 1),
        "peak_memory_bytes": int(ranks[:, 0].max()),
        "peak_memory_bytes_by_rank": [int(value) for value in ranks[:, 0]],
        "ranks": learner.part.world,
        "rows": fitted.rows,
        "seconds": fitted.seconds,
        "epochs": len(fitted.epochs),
        "auc": auc(*judged),
        "logloss": logloss(*judged),
        "calibration": calibration(*judged),
    })  # fmt: skip
    return figures


def _write(order: Order, fitted: Fitted, figures: dict[str, Any]) -> None:
    """Every file beside its place, then renamed; metrics.json last, so that a folder with it is whole."""
    from tidegate_components.training.loop import write_history

    assert fitted.scorer is not None  # noqa: S101 - only rank 0 writes
    out = order.out
    with replacing(out / "model") as beside:
        fitted.scorer.save(beside)
    with replacing(out / "config.yaml") as beside:
        beside.write_text(yaml.safe_dump(order.config.model_dump(mode="json"), sort_keys=False))
    with replacing(out / "history.json") as beside:
        write_history(beside, order.config, fitted.epochs)
    with replacing(out / "run.json") as beside:
        beside.write_text(json.dumps(_facts(order), indent=1))
    _write_sample(order.valid, fitted.inputs, order.config, out / "sample.parquet")
    _write_predictions(fitted.held_out, order, out / "predictions.parquet")
    with replacing(out / "metrics.json") as beside:
        beside.write_text(json.dumps(figures, indent=1))


def _facts(order: Order) -> dict[str, Any]:
    """Names the run by what went in, so that the same inputs make the same package."""
    settings = order.config.model_dump(mode="json")
    digest = content_digest(order.train)
    identity = content_hash([settings, digest, code_version(), str(order.start or "")])
    return {
        "name": order.config.name, "run": f"run-{identity[:12]}", "code_version": code_version(),
        "data_digest": digest, "settings": settings, "started_from": str(order.start or ""),
    }  # fmt: skip


def _write_sample(valid: Path, inputs: Inputs, config: Config, into: Path) -> None:
    """Rows at even distances over the whole set, with the columns that the model reads."""
    import numpy as np
    import pyarrow.parquet as pq

    columns = [*columns_read(inputs), config.label]
    parts = [read_tables([file], columns) for file in parquet_files(valid)]
    total = sum(part.num_rows for part in parts)
    wanted = np.unique(np.linspace(0, total - 1, min(total, _SAMPLED)).astype(np.int64))
    taken, first = [], 0
    for part in parts:
        here = wanted[(wanted >= first) & (wanted < first + part.num_rows)] - first
        taken.append(part.take(here))
        first += part.num_rows
    import pyarrow as pa

    with replacing(into) as beside:
        pq.write_table(pa.concat_tables(taken).rename_columns([*columns[:-1], "label"]), beside)


def _write_predictions(scores: Scores, order: Order, into: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    found = pa.table({"label": scores.labels.astype("int8"), "score": scores.scores})
    if order.keep:
        rows = read_tables(parquet_files(order.valid), list(order.keep))
        for name in order.keep:
            found = found.append_column(name, rows[name])
    with replacing(into) as beside:
        pq.write_table(found, beside)
