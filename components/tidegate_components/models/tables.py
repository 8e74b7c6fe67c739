"""Embedding tables as they are trained: TorchRec collections whose optimizer is fused into the backward pass."""

from __future__ import annotations

import os

import torch
from torch import Tensor, nn
from torchrec.modules.embedding_configs import EmbeddingBagConfig
from torchrec.sparse.jagged_tensor import KeyedJaggedTensor, KeyedTensor

from tidegate_components.models.config import Architecture
from tidegate_components.models.inputs import Inputs, TrainingSetError
from tidegate_components.models.ranker import Ranker, table_widths
from tidegate_components.models.taste import Taste

__all__ = ["TrainedModel", "check_memory", "jagged", "slot_tables", "table_configs"]


class TrainedModel(nn.Module):
    """A ranker on its tables. `tables` may be any collection: fused in one process, or sharded over ranks."""

    def __init__(self, inputs: Inputs, said: Architecture, tables: nn.Module, taste: Taste | None = None) -> None:
        super().__init__()
        self.tables = tables
        self.slots = list(slot_tables(inputs))
        self.ranker = Ranker(inputs, said, taste)

    def forward(self, features: KeyedJaggedTensor, ids: Tensor, dense: Tensor, taste: Tensor) -> Tensor:
        """Logits [N] of rows (see `jagged`), ids [C, N], raw numbers [N, D], taste [N, T]."""
        found = self.tables(features)
        # sharded tables come in the order of the ranks that hold them
        straight = found.keys() == self.slots
        values = found.values() if straight else KeyedTensor.regroup([found], [self.slots])[0]
        logits: Tensor = self.ranker(values, ids, dense, taste)
        return logits


def table_configs(inputs: Inputs, said: Architecture) -> list[EmbeddingBagConfig]:
    """One table for each bag that shares none; its features are the slots that read it, in the order of the slots."""
    widths = table_widths(inputs, said)
    features: dict[str, list[str]] = {bag.name: [] for bag in inputs.tables}
    for name, table in slot_tables(inputs).items():
        features[table].append(name)
    return [
        EmbeddingBagConfig(
            name=bag.name, feature_names=features[bag.name], num_embeddings=bag.size, embedding_dim=widths[bag.name]
        )
        for bag in inputs.tables
    ]


def check_memory(inputs: Inputs, said: Architecture, machines: int = 1) -> None:
    """Raise TrainingSetError where the tables (Float32) are larger than the memory of so many machines like this."""
    widths, memory = table_widths(inputs, said), machines * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    size = {bag.name: 4 * bag.size * widths[bag.name] for bag in inputs.tables}
    if sum(size.values()) > memory:
        largest = max(size, key=lambda name: size[name])
        raise TrainingSetError(
            resource=f"input {largest}", field="table", value=f"{size[largest] / 2**30:,.1f} GiB",
            expected=f"tables that fit into {memory / 2**30:,.1f} GiB of memory",
            remedy="say lookup: hash with fewer rows, or vocabulary; or a smaller embedding_dim; or spread them: more "
            "machines with --launcher trainjob",
        )  # fmt: skip


def slot_tables(inputs: Inputs) -> dict[str, str]:
    """Feature name -> table, slot by slot as `Lookup` gives them."""
    slots = {
        f"{bag.name}.{place}": bag.shares or bag.name for bag in inputs.tabled for place in range(len(bag.columns))
    }
    return slots | {f"{bag.name}.0": bag.name for bag in inputs.crosses}


def jagged(keys: list[str], rows: Tensor) -> KeyedJaggedTensor:
    """Rows [S, N] as TorchRec takes them: one key for each slot, one row in each bag."""
    return KeyedJaggedTensor(
        keys=keys, values=rows.reshape(-1), lengths=torch.ones(rows.numel(), dtype=torch.int32, device=rows.device)
    )
