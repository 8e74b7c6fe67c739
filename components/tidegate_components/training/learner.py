"""A model with its optimizers, on tables that lie in this process. `sharded` and `replicated` spread it over ranks."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torchrec.modules.fused_embedding_modules import FusedEmbeddingBagCollection
from torchrec.optim import RowWiseAdagrad

from tidegate_components.models.config import Config
from tidegate_components.models.inputs import Inputs
from tidegate_components.models.ranker import Ranker
from tidegate_components.models.tables import TrainedModel, check_memory, slot_tables, table_configs
from tidegate_components.models.taste import Taste
from tidegate_components.training.batches import Part
from tidegate_components.training.shards import Shard, initialize

__all__ = ["SPARSE", "Learner", "alone", "dense_optimizer", "shards_of_kernel", "sparse_arguments"]

SPARSE = {"rowwise_adagrad": RowWiseAdagrad, "adagrad": torch.optim.Adagrad, "sgd": torch.optim.SGD}
_DENSE: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adamw": torch.optim.AdamW, "adam": torch.optim.Adam, "sgd": torch.optim.SGD,
}  # fmt: skip


@dataclass(frozen=True)
class Learner:
    """What a training step needs.

    `model` gives logits of (features, ids, dense, taste); `ranker` is the part of it that is not tables, `shards` are
    the table rows that lie here. `summed` adds a tensor up over ranks, `gathered` puts the ranks' rows one behind the
    other.
    """

    model: nn.Module
    ranker: Ranker
    dense: torch.optim.Optimizer
    sparse: Any
    shards: list[Shard]
    slots: list[str]
    part: Part
    summed: Callable[[Tensor], Tensor]
    gathered: Callable[[Tensor], Tensor]
    barrier: Callable[[], None]
    replicated: bool = False
    """Whether every rank holds all of the tables."""


def alone(inputs: Inputs, config: Config, taste: Taste | None) -> Learner:
    """Everything in this process. Raises TrainingSetError where it has no room for the tables."""
    check_memory(inputs, config.model)
    tables = FusedEmbeddingBagCollection(
        table_configs(inputs, config.model), SPARSE[config.training.sparse.optimizer], sparse_arguments(config),
        device=torch.device("cpu"),
    )  # fmt: skip
    torch.manual_seed(config.training.seed)
    model = TrainedModel(inputs, config.model, tables, taste)
    shards = [
        shard
        for kernel in tables._emb_modules
        for shard in shards_of_kernel(kernel._embedding_tables, kernel._emb_module)
    ]
    initialize(shards, inputs, config.model, config.training.seed)
    return Learner(
        model, model.ranker, dense_optimizer(model.ranker.parameters(), config), tables.fused_optimizer(), shards,
        list(slot_tables(inputs)), Part(), _same, _same, lambda: None,
    )  # fmt: skip


def _same(tensor: Tensor) -> Tensor:
    return tensor


def sparse_arguments(config: Config) -> dict[str, float]:
    """What the fused optimizer is told."""
    return {"lr": config.training.sparse.learning_rate}


def dense_optimizer(parameters: Iterable[nn.Parameter], config: Config) -> torch.optim.Optimizer:
    """The optimizer of all that is not tables."""
    said = config.training
    return _DENSE[said.optimizer](list(parameters), lr=said.learning_rate, weight_decay=said.weight_decay)


def shards_of_kernel(tables: Iterable[Any], kernel: Any) -> list[Shard]:
    """The rows in one fbgemm kernel: `tables` name them in order, with their first row where they are sharded."""
    weights, states = kernel.split_embedding_weights(), kernel.split_optimizer_states()
    return [
        Shard(table.name, _first_row(table), weight, state[0] if state else None)
        for table, weight, state in zip(tables, weights, states or [()] * len(weights), strict=True)
    ]


def _first_row(table: Any) -> int:
    place = getattr(table, "local_metadata", None)
    return int(place.shard_offsets[0]) if place is not None else 0
