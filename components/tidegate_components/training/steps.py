"""One pass over rows: batches to the learner, losses and figures back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from tidegate_components.models.config import Ranking, Training
from tidegate_components.models.inputs import Inputs
from tidegate_components.models.lookup import Lookup
from tidegate_components.models.tables import jagged
from tidegate_components.storage import replacing
from tidegate_components.training.batches import Part, ahead, batches, places_of, steps_of
from tidegate_components.training.learner import Learner
from tidegate_components.training.ranking import pairwise_loss
from tidegate_components.training.rows import Block, Rows
from tidegate_components.training.schedule import factor

__all__ = ["Passed", "Scores", "learn", "score"]

_SCORED = 8192


@dataclass(frozen=True)
class _Prepared:
    """A batch as tensors: rows [S, B] of the tables, ids [C, B], raw numbers [B, D], taste [B, T], labels, weights."""

    rows: Tensor
    ids: Tensor
    dense: Tensor
    taste: Tensor
    labels: Tensor
    weights: Tensor


@dataclass(frozen=True)
class Passed:
    """After `step` batches of a pass: rows this rank saw and the mean of their LogLoss since the pass began."""

    step: int
    rows: int
    loss: float


@dataclass(frozen=True)
class Scores:
    """What a model says of a set: scores, labels and weights [N] of all ranks."""

    scores: np.ndarray[Any, Any]
    labels: np.ndarray[Any, Any]
    weights: np.ndarray[Any, Any]

    @property
    def weighing(self) -> np.ndarray[Any, Any] | None:
        """The weights; none where every row weighs one."""
        return None if (self.weights == 1).all() else self.weights

    def write(self, path: Path) -> None:
        """Plain arrays, no pickle."""
        with replacing(path) as beside, beside.open("wb") as sink:
            np.savez(sink, allow_pickle=False, scores=self.scores, labels=self.labels, weights=self.weights)

    @staticmethod
    def read(path: Path) -> Scores:
        """The inverse of write."""
        with np.load(path, allow_pickle=False) as found:
            return Scores(found["scores"], found["labels"], found["weights"])


def learn(learner: Learner, rows: Rows, inputs: Inputs, said: Training, epoch: int, skip: int = 0) -> Iterator[Passed]:
    """One epoch, batch by batch, from the `skip`-th on."""
    steps = steps_of(rows.count, said.batch_size)
    loss, seen = torch.zeros(()), 0
    learner.model.train()
    blocks = batches(rows, said.batch_size, (said.seed, epoch), learner.part, skip)
    prepare = _preparing(learner.ranker.lookup, inputs, said, epoch, learner.part)
    prepared = ahead(prepare(step, block) for step, block in enumerate(blocks, start=skip))
    rates = _rates(learner, said)
    for step, batch in enumerate(prepared, start=skip):
        rates(epoch * steps + step, said.epochs * steps)
        torch.manual_seed(_seed(said.seed, epoch, step, learner.part.rank))
        found = _step(learner, batch, said)
        loss, seen = loss + found * len(batch.labels), seen + len(batch.labels)
        yield Passed(step + 1, seen, float(loss) / seen)


def _step(learner: Learner, batch: _Prepared, said: Training) -> Tensor:
    """Forward, backward with the tables' update in it, update of the rest; the LogLoss."""
    logits = _logits(learner, batch, said.precision)
    loss = binary_cross_entropy_with_logits(logits, batch.labels, batch.weights)
    learner.dense.zero_grad()
    (loss + _ranking(learner, batch, logits, said.ranking)).backward()  # type: ignore[no-untyped-call]
    learner.dense.step()
    return loss.detach()


def _ranking(learner: Learner, batch: _Prepared, logits: Tensor, said: Ranking | None) -> Tensor | float:
    if said is None:
        return 0.0
    groups = batch.ids[learner.ranker.inputs.columns_of(said.within)][0]
    return said.weight * pairwise_loss(logits, batch.labels, batch.weights, groups)


def _logits(learner: Learner, batch: _Prepared, precision: str) -> Tensor:
    features = jagged(learner.slots, batch.rows)
    with torch.autocast(batch.dense.device.type, torch.bfloat16, enabled=precision == "bf16"):
        logits: Tensor = learner.model(features, batch.ids, batch.dense, batch.taste)
    return logits.float()


def _rates(learner: Learner, said: Training) -> Callable[[int, int], None]:
    """Sets the learning rates of a step; does nothing where the schedule's factor stays."""
    last = 1.0

    def set_rates(step: int, steps: int) -> None:
        nonlocal last
        now = factor(said.schedule, step, steps)
        if now == last:
            return
        last = now
        for group in learner.dense.param_groups:
            group["lr"] = said.learning_rate * now
        for group in learner.sparse.param_groups:
            group["lr"] = said.sparse.learning_rate * now
        learner.sparse.step()

    return set_rates


def _seed(*parts: int) -> int:
    return int(np.random.SeedSequence(parts).generate_state(1)[0])


def _preparing(
    lookup: Lookup, inputs: Inputs, said: Training, epoch: int, part: Part
) -> Callable[[int, Block], _Prepared]:
    """Ids to rows, a share of the known ones shown as unknown so that the bucket rows are learned."""
    shares = torch.tensor([bag.unknown_share for bag in inputs.tabled for _ in bag.columns])[:, None]
    shows = bool((shares > 0).any())

    def prepare(step: int, block: Block) -> _Prepared:
        batch = _tensors(block, lookup)
        if not shows:
            return batch
        drawn = torch.Generator().manual_seed(_seed(said.seed, epoch, step, 1 << 20))
        size = batch.rows.shape[1] * part.world
        hidden = (torch.rand(len(shares), size, generator=drawn) < shares)[:, part.rank :: part.world]
        bucket = (torch.rand(len(shares), size, generator=drawn)[:, part.rank :: part.world] * lookup.buckets).long()
        known = batch.rows[: len(shares)] < lookup.rows
        batch.rows[: len(shares)] = torch.where(hidden & known, lookup.rows + bucket, batch.rows[: len(shares)])
        return batch

    return prepare


def _tensors(block: Block, lookup: Lookup) -> _Prepared:
    ids = torch.from_numpy(block.ids)
    others = (torch.from_numpy(part) for part in (block.dense, block.taste, block.labels, block.weights))
    return _Prepared(lookup(ids), ids, *others)


@torch.no_grad()
def score(learner: Learner, rows: Rows, inputs: Inputs, precision: str) -> Scores:
    """Probabilities of a set, on every rank, in the order of its rows."""
    learner.model.eval()
    lookup, world = learner.ranker.lookup, learner.part.world
    size = _SCORED - _SCORED % world
    found: list[tuple[Tensor, Tensor, Tensor]] = []
    for block in ahead(batches(rows, size, None, learner.part)):
        batch = _tensors(block, lookup)
        told = replace(batch, taste=learner.ranker.taste(batch.ids.T))
        found.append((torch.sigmoid(_logits(learner, told, precision)), batch.labels, batch.weights))
    starts = range(0, rows.count, size)
    places = [start + places_of(min(size, rows.count - start), learner.part) for start in starts]
    _, first = np.unique(learner.gathered(torch.from_numpy(np.concatenate(places))).numpy(), return_index=True)
    return Scores(*(learner.gathered(torch.cat(part)).numpy()[first] for part in zip(*found, strict=True)))
