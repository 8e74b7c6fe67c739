"""The training loop: mini-batches, fused sparse and dense AdamW updates, early stopping on validation AUC."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tidegate_components.models.inputs import Arrays, Inputs, read_set
from tidegate_components.storage import replacing

if TYPE_CHECKING:
    from torch import Tensor

    from tidegate_components.models.scoring import Scorer
    from tidegate_components.models.wide_deep import WideDeep

__all__ = ["Epoch", "Settings", "train"]


@dataclass(frozen=True)
class Settings:
    """What a run may turn. Rates are per step; `patience` counts epochs without a better validation AUC."""

    embedding_dim: int = 8
    hidden: tuple[int, ...] = (128, 64)
    epochs: int = 6
    batch_size: int = 1024
    learning_rate: float = 2e-3
    sparse_learning_rate: float = 0.005
    weight_decay: float = 1e-4
    dropout: float = 0.2
    patience: int = 2
    seed: int = 7
    threads: int = 1


@dataclass(frozen=True)
class Epoch:
    """One pass: mean training LogLoss, AUC on the validation set, seconds."""

    number: int
    train_logloss: float
    validation_auc: float
    seconds: float


def train(train_set: Path, validation_set: Path, into: Path, settings: Settings) -> list[Epoch]:
    """Train Wide & Deep and save its best epoch's serving twin (`Scorer.save`) to the folder `into`.

    The same seed gives the same weights on the same machine. Raises TrainingSetError for a set one cannot learn from.
    """
    import torch

    torch.set_num_threads(settings.threads)
    torch.manual_seed(settings.seed)
    data, inputs = read_set(train_set)
    held_out, _ = read_set(validation_set, inputs)
    scorer, epochs = _fit(_new_model(inputs, settings), data, held_out, settings)
    with replacing(into) as beside:
        scorer.save(beside)
        _write_history(beside / "history.json", settings, epochs)
    return epochs


def _write_history(path: Path, settings: Settings, epochs: list[Epoch]) -> None:
    import json

    path.write_text(json.dumps({"settings": asdict(settings), "epochs": [asdict(e) for e in epochs]}, indent=1))


def _new_model(inputs: Inputs, settings: Settings) -> WideDeep:
    from tidegate_components.models.wide_deep import WideDeep, WideDeepConfig

    rate = settings.sparse_learning_rate
    return WideDeep(inputs, WideDeepConfig(settings.embedding_dim, settings.hidden, settings.dropout, rate, rate))


def _fit(model: WideDeep, data: Arrays, held_out: Arrays, settings: Settings) -> tuple[Scorer, list[Epoch]]:
    """Epochs until patience ends; returns the twin of the best epoch."""
    import torch

    ids, dense, labels = (torch.from_numpy(part) for part in (data.ids, data.dense, data.labels))
    optimizer = torch.optim.AdamW(model.parameters(), settings.learning_rate, weight_decay=settings.weight_decay)
    seen = _rows_seen(model.inputs, ids)
    best, epochs = None, list[Epoch]()
    for number in range(1, settings.epochs + 1):
        start = time.monotonic()
        loss = _one_pass(model, optimizer, ids, dense, labels, settings.batch_size)
        scorer = model.scorer()
        scorer.cover_untrained(seen)
        epochs.append(Epoch(number, loss, _auc(scorer, held_out), time.monotonic() - start))
        if best is None or epochs[-1].validation_auc >= max(epoch.validation_auc for epoch in epochs):
            best = scorer
        if number - _best(epochs).number >= settings.patience:
            break
    assert best is not None  # noqa: S101 - at least one epoch ran
    return best, epochs


def _best(epochs: list[Epoch]) -> Epoch:
    return max(epochs, key=lambda epoch: epoch.validation_auc)


def _one_pass(model: WideDeep, optimizer: Any, ids: Tensor, dense: Tensor, labels: Tensor, batch_size: int) -> float:
    import torch
    from torch.nn.functional import binary_cross_entropy_with_logits

    model.train()
    total = 0.0
    for batch in torch.split(torch.randperm(len(labels)), batch_size):
        rows = _with_unknowns(model.inputs, ids[batch])
        loss = binary_cross_entropy_with_logits(model(rows, dense[batch]), labels[batch])
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        total += float(loss.detach()) * len(batch)
    return total / len(labels)


def _with_unknowns(inputs: Inputs, ids: Tensor) -> list[Tensor]:
    """Embedding rows in which a share of the known ids shows as unknown, so that the bucket rows are learned."""
    import torch

    from tidegate_components.models.scoring import rows_of

    shown = []
    for bag, rows in zip(inputs.bags, rows_of(inputs, ids), strict=True):
        hidden = (torch.rand(rows.shape) < bag.unknown_share) & (rows >= 0)
        shown.append(torch.where(hidden, bag.rows + torch.randint(bag.buckets, rows.shape), rows))
    return shown


def _rows_seen(inputs: Inputs, ids: Tensor) -> list[Tensor]:
    from tidegate_components.models.scoring import rows_of

    return [
        rows[rows >= 0].bincount(minlength=bag.rows + bag.buckets)
        for bag, rows in zip(inputs.bags, rows_of(inputs, ids), strict=True)
    ]


def _auc(scorer: Scorer, data: Arrays) -> float:
    from tidegate_components.evaluation.metrics import auc

    return auc(data.labels, scorer.scores(data.ids, data.dense))
