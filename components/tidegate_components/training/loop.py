"""The training loop: epochs until patience ends, the best of them, and where told a last fit on all rows.

The validation set chooses the number of epochs. With `refit` the model is then trained anew for as many on both sets
together, since the newest rows are the ones most like tomorrow's.
"""

from __future__ import annotations

import json
import math
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tidegate_api.hashes import content_hash
from tidegate_components.models.config import Config, ConfigError, Training
from tidegate_components.models.inputs import Inputs
from tidegate_components.storage import replacing
from tidegate_components.training.batches import check_even, steps_of

if TYPE_CHECKING:
    from tidegate_components.models.scoring import Scorer
    from tidegate_components.models.taste import Taste
    from tidegate_components.training.learner import Learner
    from tidegate_components.training.rows import Rows
    from tidegate_components.training.steps import Passed, Scores

__all__ = ["Build", "Epoch", "Fitted", "Hooks", "best_epoch", "fit", "train", "write_history"]


@dataclass(frozen=True)
class Epoch:
    """One pass: mean training LogLoss, LogLoss and AUC on the validation set (by weight where it has one), seconds."""

    number: int
    train_logloss: float
    validation_logloss: float
    validation_auc: float
    seconds: float

    def figure(self, metric: str) -> float:
        """The `logloss` or `auc` of the validation set."""
        return self.validation_auc if metric == "auc" else self.validation_logloss


def best_epoch(epochs: Sequence[Epoch], metric: str) -> Epoch:
    """The first epoch with the least `logloss`, or the greatest `auc`."""
    return (max if metric == "auc" else min)(epochs, key=lambda epoch: epoch.figure(metric))


@dataclass(frozen=True)
class Fitted:
    """What a run ends with: rows, seconds and this rank's CPU seconds of learning; the best epoch's validation scores.

    `scorer` is None on ranks other than 0.
    """

    inputs: Inputs
    epochs: list[Epoch]
    scorer: Scorer | None
    held_out: Scores
    rows: int
    seconds: float
    cpu_seconds: float


Build = Callable[[Inputs, Config, "Taste | None"], "Learner"]


@dataclass(frozen=True)
class Hooks:
    """What a run calls on its way, and where it keeps its checkpoints (None: in a temporary folder).

    `passed(phase, epoch, passed, steps)` comes after every batch, `epoch` after every epoch of the trial: it may raise
    to end the run. `inputs` are read in place of those that the training set gives; `start` may change a fresh learner.
    """

    passed: Callable[[str, int, Passed, int], None] = lambda phase, epoch, passed, steps: None
    epoch: Callable[[Epoch], None] = lambda epoch: None
    start: Callable[[Learner, Inputs], None] = lambda learner, inputs: None
    inputs: Inputs | None = None
    checkpoints: Path | None = None


def train(train_set: Path, validation_set: Path, into: Path, config: Config) -> list[Epoch]:
    """Train in this process and save the serving twin (`Scorer.save`) to the folder `into`; returns the epochs tried.

    The same seed gives the same weights on the same machine. Raises TrainingSetError for a set one cannot learn from.
    """
    from tidegate_components.training.learner import alone

    fitted = fit([train_set], [validation_set], config, alone)
    assert fitted.scorer is not None  # noqa: S101 - one process is rank 0
    with replacing(into) as beside:
        fitted.scorer.save(beside)
        write_history(beside / "history.json", config, fitted.epochs)
    return fitted.epochs


def write_history(path: Path, config: Config, epochs: list[Epoch]) -> None:
    """The settings and the epochs tried, as JSON."""
    settings = config.model.model_dump(mode="json") | config.training.model_dump(mode="json")
    path.write_text(json.dumps({"settings": settings, "epochs": [asdict(e) for e in epochs]}, indent=1))


def fit(
    train_sets: Sequence[Path],
    validation_sets: Sequence[Path],
    config: Config,
    build: Build,
    hooks: Hooks | None = None,
) -> Fitted:
    """Fit a model; `build` says where it lies (`learner.alone`, `sharded.sharded`, `replicated.replicated`).

    Goes on from the newest checkpoint where `hooks.checkpoints` holds one of the same configuration and data.
    """
    import torch

    from tidegate_components.training.gathering import gather

    hooks = hooks or Hooks()
    if config.training.threads:
        torch.set_num_threads(config.training.threads)
    with _folder(hooks.checkpoints) as folder:
        run = _Run(config, build, hooks, folder, [*train_sets, *validation_sets])
        if run.phase == "trial":
            run.trial(train_sets, validation_sets)
        if config.training.refit:
            run.refit([*train_sets, *validation_sets])
        scorer = gather(run.learner, run.inputs, config.model)
        return Fitted(run.inputs, run.epochs, scorer, run.best_scores(), int(run.rows), run.seconds, run.cpu)


@contextmanager
def _folder(given: Path | None) -> Iterator[Path]:
    if given is not None:
        given.mkdir(parents=True, exist_ok=True)
        yield given
        return
    with tempfile.TemporaryDirectory(prefix="tidegate-train-") as folder:
        yield Path(folder)


class _Run:
    """A run with its state: the phase, the epochs so far, what was spent, the learner of the last phase."""

    learner: Learner
    inputs: Inputs

    def __init__(self, config: Config, build: Build, hooks: Hooks, folder: Path, sets: list[Path]) -> None:
        from tidegate_components.training.checkpoint import latest, position_of

        self.config, self.build, self.hooks, self.folder = config, build, hooks, folder
        self.kept = hooks.checkpoints is not None
        self.identity = content_hash([config.model_dump(mode="json"), [_described(path) for path in sets]])
        self.newest = latest(self.folder)
        at = position_of(self.newest, self.identity) if self.newest else None
        self.phase, self.epoch, self.step = (at.phase, at.epoch, at.step) if at else ("trial", 0, 0)
        self.epochs = [Epoch(**epoch) for epoch in at.epochs] if at else []
        spent = at.spent if at else {}
        self.rows, self.seconds, self.cpu = (spent.get(name, 0.0) for name in ("rows", "seconds", "cpu"))

    @property
    def best(self) -> Epoch:
        """By the figure that early stopping watches."""
        return best_epoch(self.epochs, self.config.training.early_stopping.metric)

    def trial(self, train_sets: Sequence[Path], validation_sets: Sequence[Path]) -> None:
        """Epochs until patience ends, each judged on the validation set; ends with the best one's learner."""
        from tidegate_components.training import checkpoint
        from tidegate_components.training.rows import ParquetRows

        said = self.config.training
        rows = self._begin(train_sets)
        held_out = ParquetRows(validation_sets, self.inputs, self.config.label, self.config.weight)
        for epoch in range(self.epoch, said.epochs):
            if self.epochs and len(self.epochs) == self.best.number + said.early_stopping.patience:
                break
            self._judge(held_out, self._learn(rows, epoch, said))
            self._save("trial", epoch + 1, 0)
        if not said.refit and self.best.number < len(self.epochs):
            checkpoint.load(self.folder / "best", self.learner)

    def refit(self, sets: Sequence[Path]) -> None:
        """As many epochs as were best, on all rows."""
        if self.phase == "trial":
            self.phase, self.epoch, self.step, self.newest = "refit", 0, 0, None
        rows = self._begin(sets)
        said = self.config.training.model_copy(update={"epochs": self.best.number})
        for epoch in range(self.epoch, said.epochs):
            self._learn(rows, epoch, said)
            self._cover()
            self._save("refit", epoch + 1, 0)

    def best_scores(self) -> Scores:
        """What the best epoch of the trial said of the validation set."""
        from tidegate_components.training.steps import Scores

        return Scores.read(self.folder / "best-scores.npz")

    def _begin(self, sets: Sequence[Path]) -> Rows:
        """A learner for these sets: fresh, or as the newest checkpoint of the phase left it."""
        from tidegate_components.training import checkpoint

        self.inputs, rows, taste = _data(self.config, sets, self.hooks.inputs)
        self.learner = self.build(self.inputs, self.config, taste)
        check_even(self.config.training.batch_size, self.learner.part.world)
        if self.newest:
            checkpoint.load(self.newest, self.learner)
        else:
            self.hooks.start(self.learner, self.inputs)
        return rows

    def _learn(self, rows: Rows, epoch: int, said: Training) -> Passed:
        from tidegate_components.training.steps import learn

        steps = steps_of(rows.count, said.batch_size)
        begun, cpu_begun = time.monotonic(), time.process_time()
        rows_before, seconds_before, cpu_before = self.rows, self.seconds, self.cpu
        skip, self.step = self.step, 0
        for passed in learn(self.learner, rows, self.inputs, said, epoch, skip):
            self.rows = rows_before + passed.rows * self.learner.part.world
            self.seconds = seconds_before + time.monotonic() - begun
            self.cpu = cpu_before + time.process_time() - cpu_begun
            self.hooks.passed(self.phase, epoch, passed, steps)
            if said.checkpoint_steps and passed.step % said.checkpoint_steps == 0 and passed.step < steps:
                self._save(self.phase, epoch, passed.step)
        if not math.isfinite(passed.loss):
            raise ConfigError(
                resource="training", field="LogLoss", value=passed.loss, expected="a finite number after an epoch",
                remedy="lower training.learning_rate or training.sparse.learning_rate",
            )  # fmt: skip
        return passed

    def _judge(self, held_out: Rows, passed: Passed) -> None:
        from tidegate_components.evaluation.metrics import auc, logloss
        from tidegate_components.training import checkpoint
        from tidegate_components.training.steps import score

        self._cover()
        begun = time.monotonic()
        found = score(self.learner, held_out, self.inputs, self.config.training.precision)
        judged = found.labels, found.scores, found.weighing
        figures = logloss(*judged), auc(*judged)
        epoch = Epoch(len(self.epochs) + 1, passed.loss, *figures, time.monotonic() - begun)
        self.epochs.append(epoch)
        if self.best is epoch and self.learner.part.rank == 0:
            found.write(self.folder / "best-scores.npz")
        if self.best is epoch and not self.config.training.refit and self.config.training.epochs > 1:
            checkpoint.keep(self.folder / "best", self.learner)
        self.hooks.epoch(epoch)

    def _cover(self) -> None:
        from tidegate_components.training.shards import cover_untrained

        cover_untrained(self.learner.shards, self.inputs, self.config.model, self.learner.summed)

    def _save(self, phase: str, epoch: int, step: int) -> None:
        """Only where somebody asked for checkpoints: one that ends with the run would be of no use."""
        from tidegate_components.training.checkpoint import Position, save

        if not self.kept:
            return
        spent = {"rows": self.rows, "seconds": self.seconds, "cpu": self.cpu}
        save(
            self.folder,
            self.learner,
            Position(phase, epoch, step, self.identity, [asdict(e) for e in self.epochs], spent),
        )


def _check_ranking(said: Training, inputs: Inputs) -> None:
    names = [bag.name for bag in inputs.bags if len(bag.columns) == 1]
    if said.ranking and said.ranking.within not in names:
        raise ConfigError(
            resource="training configuration", field="training.ranking.within", value=said.ranking.within,
            expected=f"an input with one id: {', '.join(names) or 'there is none'}", remedy="name one, or leave it out",
        )  # fmt: skip


def _data(config: Config, sets: Sequence[Path], inputs: Inputs | None) -> tuple[Inputs, Rows, Taste | None]:
    """Inputs, rows, and taste where there is a history: it is fitted in memory, the rest is read block by block."""
    from tidegate_components.models.arrays import read_tables, to_arrays
    from tidegate_components.models.fitting import fit_inputs
    from tidegate_components.models.taste import fit_taste
    from tidegate_components.training.rows import ArrayRows, ParquetRows

    inputs = inputs or fit_inputs(config, sets)
    _check_ranking(config.training, inputs)
    if not inputs.has_history:
        return inputs, ParquetRows(sets, inputs, config.label, config.weight), None
    arrays = to_arrays(read_tables(sets), inputs, sets[0], config.label, config.weight)
    taste, told = fit_taste(arrays, inputs)
    return inputs, ArrayRows(arrays, told.numpy()), taste


def _described(path: Path) -> list[str]:
    """What tells whether a set has changed: names, sizes and times of its files."""
    from tidegate_components.storage import parquet_files

    return [f"{file.name} {file.stat().st_size} {file.stat().st_mtime_ns}" for file in parquet_files(path)]
