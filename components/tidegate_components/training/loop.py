"""The training loop: mini-batches, fused sparse and dense AdamW updates.

The validation set chooses the number of epochs; the model is then trained anew for as many on both sets together, since
the newest rows are the ones most like tomorrow's.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tidegate_components.models.inputs import Arrays, Inputs, read_set, read_sets
from tidegate_components.storage import replacing

if TYPE_CHECKING:
    from torch import Tensor

    from tidegate_components.models.scoring import Scorer
    from tidegate_components.models.taste import Taste
    from tidegate_components.models.wide_deep import WideDeep

__all__ = ["Epoch", "Settings", "train"]


@dataclass(frozen=True)
class Settings:
    """What a run may turn. Rates are per step; `patience` counts epochs without a better validation LogLoss."""

    embedding_dim: int = 4
    hidden: tuple[int, ...] = (64, 32)
    epochs: int = 4
    batch_size: int = 1024
    learning_rate: float = 2e-3
    sparse_learning_rate: float = 0.002
    weight_decay: float = 1e-4
    dropout: float = 0.2
    patience: int = 2
    seed: int = 7
    threads: int = 1


@dataclass(frozen=True)
class Epoch:
    """One pass: mean training LogLoss, LogLoss and AUC on the validation set, seconds."""

    number: int
    train_logloss: float
    validation_logloss: float
    validation_auc: float
    seconds: float


@dataclass(frozen=True)
class _Rows:
    """What an epoch passes over: ids, raw numbers, taste without the row's own user, labels."""

    ids: Tensor
    dense: Tensor
    taste: Tensor
    labels: Tensor


def train(train_set: Path, validation_set: Path, into: Path, settings: Settings) -> list[Epoch]:
    """Train Wide & Deep and save its serving twin (`Scorer.save`) to the folder `into`; returns the epochs tried.

    The same seed gives the same weights on the same machine. Raises TrainingSetError for a set one cannot learn from.
    """
    import torch

    torch.set_num_threads(settings.threads)
    data, inputs = read_set(train_set)
    epochs = _try(data, read_set(validation_set, inputs)[0], inputs, settings)
    scorer = _refit(*read_sets(train_set, validation_set), _best(epochs).number, settings)
    with replacing(into) as beside:
        scorer.save(beside)
        _write_history(beside / "history.json", settings, epochs)
    return epochs


def _write_history(path: Path, settings: Settings, epochs: list[Epoch]) -> None:
    import json

    path.write_text(json.dumps({"settings": asdict(settings), "epochs": [asdict(e) for e in epochs]}, indent=1))


def _new_model(inputs: Inputs, settings: Settings, taste: Taste) -> WideDeep:
    from tidegate_components.models.wide_deep import WideDeep, WideDeepConfig

    rate = settings.sparse_learning_rate
    config = WideDeepConfig(settings.embedding_dim, settings.hidden, settings.dropout, rate, rate)
    return WideDeep(inputs, config, taste)


def _try(data: Arrays, held_out: Arrays, inputs: Inputs, settings: Settings) -> list[Epoch]:
    """Epochs until patience ends, each judged on the rows held out."""
    epochs, start = list[Epoch](), time.monotonic()
    for loss, scorer in _passes(data, inputs, settings):
        epochs.append(Epoch(len(epochs) + 1, loss, *_judged(scorer(), held_out), time.monotonic() - start))
        if len(epochs) in {settings.epochs, _best(epochs).number + settings.patience}:
            break
        start = time.monotonic()
    return epochs


def _refit(data: Arrays, inputs: Inputs, epochs: int, settings: Settings) -> Scorer:
    """The serving twin after a number of epochs."""
    *_, (_, scorer) = islice(_passes(data, inputs, settings), epochs)
    return scorer()


def _passes(data: Arrays, inputs: Inputs, settings: Settings) -> Iterator[tuple[float, Callable[[], Scorer]]]:
    """A new model, passed over the data for as long as asked: training LogLoss, and the twin as it then stands."""
    import torch

    from tidegate_components.models.taste import fit_taste

    torch.manual_seed(settings.seed)
    taste, tastes = fit_taste(data, inputs)
    model = _new_model(inputs, settings, taste)
    rows = _Rows(torch.from_numpy(data.ids), torch.from_numpy(data.dense), tastes, torch.from_numpy(data.labels))
    optimizer = torch.optim.AdamW(model.parameters(), settings.learning_rate, weight_decay=settings.weight_decay)
    while True:
        yield _one_pass(model, optimizer, rows, settings.batch_size), partial(_twin, model, rows.ids)


def _twin(model: WideDeep, ids: Tensor) -> Scorer:
    """The serving twin; rows that `ids` never touched are those of unknown ids."""
    scorer = model.scorer()
    scorer.cover_untrained(_rows_seen(model.inputs, ids))
    return scorer


def _best(epochs: list[Epoch]) -> Epoch:
    return min(epochs, key=lambda epoch: epoch.validation_logloss)


def _one_pass(model: WideDeep, optimizer: Any, data: _Rows, batch_size: int) -> float:
    import torch
    from torch.nn.functional import binary_cross_entropy_with_logits

    model.train()
    total = 0.0
    for batch in torch.split(torch.randperm(len(data.labels)), batch_size):
        rows = _with_unknowns(model.inputs, data.ids[batch])
        loss = binary_cross_entropy_with_logits(model(rows, data.dense[batch], data.taste[batch]), data.labels[batch])
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        total += float(loss.detach()) * len(batch)
    return total / len(data.labels)


def _with_unknowns(inputs: Inputs, ids: Tensor) -> list[Tensor]:
    """Embedding rows in which a share of the known ids shows as unknown, so that the bucket rows are learned."""
    import torch

    from tidegate_components.models.scoring import rows_of

    shown = []
    for bag, rows in zip(inputs.tabled, rows_of(inputs, ids), strict=True):
        hidden = (torch.rand(rows.shape) < bag.unknown_share) & (rows >= 0)
        shown.append(torch.where(hidden, bag.rows + torch.randint(bag.buckets, rows.shape), rows))
    return shown


def _rows_seen(inputs: Inputs, ids: Tensor) -> list[Tensor]:
    from tidegate_components.models.scoring import rows_of

    return [
        rows[rows >= 0].bincount(minlength=bag.rows + bag.buckets)
        for bag, rows in zip(inputs.tabled, rows_of(inputs, ids), strict=True)
    ]


def _judged(scorer: Scorer, data: Arrays) -> tuple[float, float]:
    """LogLoss and AUC."""
    from tidegate_components.evaluation.metrics import auc, logloss

    scores = scorer.scores(data.ids, data.dense)
    return logloss(data.labels, scores), auc(data.labels, scores)
