"""Go on from a trained model: old ids keep their rows, new ids get some, everything else starts where it stood."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from tidegate_components.models.config import Config
from tidegate_components.models.inputs import Bag, Inputs, TrainingSetError

if TYPE_CHECKING:
    import torch

    from tidegate_components.models.scoring import Scorer
    from tidegate_components.training.learner import Learner

__all__ = ["check_memory", "going_on", "grown"]


def going_on(
    start: Path, config: Config, train_sets: Sequence[Path]
) -> tuple[Inputs, Callable[[Learner, Inputs], None]]:
    """The inputs of a saved model, grown by what the new sets hold, and what puts its weights into a learner.

    `start` is the folder of a run or of its model. Raises TrainingSetError where it is of another form.
    """
    from tidegate_components.models.fitting import fit_inputs
    from tidegate_components.models.scoring import Scorer

    folder = start / "model" if (start / "model").is_dir() else start
    if not (folder / "config.json").is_file():
        raise _unlike(start, "folder", str(start), "the folder of a run, or of its model")
    before = Scorer.load(folder)
    if before.said.model_dump(exclude={"dropout"}) != config.model.model_dump(exclude={"dropout"}):
        raise _unlike(start, "model", before.said.model_dump(), f"the configuration's, {config.model.model_dump()}")
    inputs = grown(before.inputs, fit_inputs(config, train_sets), start)
    return inputs, lambda learner, now: _fill(learner, before, now)


def grown(before: Inputs, now: Inputs, origin: Path = Path()) -> Inputs:
    """The old inputs with room for new ids; old ids and all about numbers stay. Raises TrainingSetError."""
    read, wanted = (one.id_columns + one.numeric_columns for one in (now, before))
    if read != wanted:
        raise _unlike(origin, "inputs", read, str(wanted))
    return Inputs(tuple(_larger(old, now.bag(old.name)) for old in before.bags), before.numerics)


def _larger(old: Bag, new: Bag) -> Bag:
    if old.lookup == "vocabulary":
        known = set(old.vocabulary)
        vocabulary = (*old.vocabulary, *(one for one in new.vocabulary if one not in known))
        return replace(old, vocabulary=vocabulary, rows=max(len(vocabulary), 1))
    return replace(old, rows=max(old.rows, new.rows)) if old.lookup == "identity" else old


def _fill(learner: Learner, before: Scorer, now: Inputs) -> None:
    """Old rows as they were, new ones as the mean of the old rows of unknown ids, the layers as they were."""
    import torch

    with torch.no_grad():
        for shard in learner.shards:
            old, bag = before.inputs.bag(shard.table), now.bag(shard.table)
            shard.weights.copy_(_rows(before.tables[shard.table], old, bag)[shard.rows.start : shard.rows.stop])
        learner.ranker.net.load_state_dict(before.ranker.net.state_dict())
        learner.ranker.scale.load_state_dict(before.ranker.scale.state_dict())


def _rows(table: torch.Tensor, old: Bag, bag: Bag) -> torch.Tensor:
    import torch

    known, unknown = table[: old.rows], table[old.rows :]
    fresh = unknown[: old.buckets].mean(dim=0).expand(bag.rows - old.rows, -1)
    return torch.cat([known, fresh, unknown])


def check_memory(start: Path, after: Scorer, config: Config) -> float | None:
    """How much the LogLoss on rows that the model before was judged by has risen; None where its run kept none.

    Raises TrainingSetError where that is more than `training.max_forgetting`.
    """
    from tidegate_components.evaluation.metrics import logloss
    from tidegate_components.models.arrays import read_set
    from tidegate_components.models.scoring import Scorer

    sample = start / "sample.parquet"
    if not sample.is_file():
        return None
    before = Scorer.load(start / "model")
    rows, _ = read_set(sample, before.inputs)
    then, now = (logloss(rows.labels, one.scores(rows.ids, rows.dense)) for one in (before, after))
    if now - then > config.training.max_forgetting:
        raise _unlike(
            start, "forgetting", f"a LogLoss of {now:.4f} on its own rows, {then:.4f} before the update",
            f"a rise of at most training.max_forgetting {config.training.max_forgetting}",
            "lower training.sparse.learning_rate or the epochs, or train anew on all rows",
        )  # fmt: skip
    return now - then


_REMEDY = "go on from a model of the same configuration, or train anew"


def _unlike(start: Path, field: str, value: object, expected: str, remedy: str = _REMEDY) -> TrainingSetError:
    return TrainingSetError(resource=f"model {start}", field=field, value=value, expected=expected, remedy=remedy)
