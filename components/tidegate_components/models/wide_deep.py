"""Wide & Deep (Cheng et al. 2016, "Wide & Deep Learning for Recommender Systems") on TorchRec.

    P(click | x) = sigmoid(w_wide . [x, phi(x)] + w_deep . a(l_f) + b)          (equation 3 of the paper)

Both parts are trained jointly. The wide part is linear in the ids and the numbers; there are no cross products phi
(docs/training.md says why). The deep part embeds every bag of ids, appends the numbers and runs ReLU layers. Both keep
their tables in TorchRec embedding bag collections whose sparse optimizer is fused into the backward pass.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torchrec.modules.embedding_configs import EmbeddingBagConfig
from torchrec.modules.fused_embedding_modules import FusedEmbeddingBagCollection
from torchrec.optim import RowWiseAdagrad
from torchrec.sparse.jagged_tensor import KeyedJaggedTensor

from tidegate_components.models.inputs import Inputs
from tidegate_components.models.scoring import Scale, Scorer, deep_layers
from tidegate_components.models.taste import Taste

__all__ = ["WideDeep", "WideDeepConfig"]

_LANES = 4
"""fbgemm wants embedding dimensions in multiples of four: a wide weight is the sum of a row's four lanes."""


@dataclass(frozen=True)
class WideDeepConfig:
    """Width of embeddings (a multiple of four) and ReLU layers, dropout, and the learning rates of the tables."""

    embedding_dim: int = 4
    hidden: tuple[int, ...] = (64, 32)
    dropout: float = 0.2
    deep_sparse_lr: float = 0.002
    wide_sparse_lr: float = 0.002


class WideDeep(nn.Module):
    """The model as it is trained. `forward` takes embedding rows, not ids: see `rows_of`."""

    def __init__(self, inputs: Inputs, config: WideDeepConfig, taste: Taste | None = None) -> None:
        super().__init__()
        self.inputs = inputs
        self.config = config
        self.scale = Scale(inputs)
        self.taste = taste or Taste(inputs)
        sizes = {bag.name: bag.rows + bag.buckets for bag in inputs.tabled}
        self.deep_embeddings = _tables(sizes, config.embedding_dim, config.deep_sparse_lr)
        self.wide_weights = _tables(sizes, _LANES, config.wide_sparse_lr)
        numbers = len(inputs.read) + self.taste.width
        self.wide_numbers = nn.Linear(numbers, 1)
        self.deep = deep_layers(inputs, numbers, config.embedding_dim, config.hidden, config.dropout)
        _initialize(self)

    def forward(self, rows: list[Tensor], dense: Tensor, taste: Tensor) -> Tensor:
        """Logits [N] from rows of each table ([N, columns] Int64, -1: no id), raw numbers [N, D] and taste [N, 3]."""
        numbers = torch.cat([self.scale(dense), taste], dim=1)
        names = [bag.name for bag in self.inputs.tabled]
        bags = _jagged(dict(zip(names, rows, strict=True)))
        deep = self.deep(torch.cat([self.deep_embeddings(bags).values(), numbers], dim=1))
        weights = self.wide_weights(bags).values()
        wide = weights.sum(dim=1, keepdim=True) + self.wide_numbers(numbers)
        logits: Tensor = (wide + deep).squeeze(1)
        return logits

    def scorer(self) -> Scorer:
        """The same model in plain torch: ids in, probabilities out."""
        twin = Scorer(self.inputs, self.config.embedding_dim, self.config.hidden)
        state = {f"deep_tables.{name}": weight for name, weight in _weights(self.deep_embeddings).items()}
        state |= {
            f"wide_tables.{name}": weight.sum(dim=1, keepdim=True)
            for name, weight in _weights(self.wide_weights).items()
        }
        state |= {f"scale.{name}": value for name, value in self.scale.state_dict().items()}
        state |= {f"taste.{name}": value for name, value in self.taste.state_dict().items()}
        state |= {f"wide_numbers.{name}": value for name, value in self.wide_numbers.state_dict().items()}
        state |= {f"deep.{name}": value for name, value in self.deep.state_dict().items()}
        twin.load_state_dict({name: value.detach().clone() for name, value in state.items()})
        return twin.eval()


def _tables(sizes: dict[str, int], dim: int, lr: float) -> FusedEmbeddingBagCollection:
    configs = [
        EmbeddingBagConfig(name=name, feature_names=[name], num_embeddings=rows, embedding_dim=dim)
        for name, rows in sizes.items()
    ]
    return FusedEmbeddingBagCollection(
        tables=configs, optimizer_type=RowWiseAdagrad, optimizer_kwargs={"lr": lr}, device=torch.device("cpu")
    )


def _weights(tables: FusedEmbeddingBagCollection) -> dict[str, Tensor]:
    """Table name -> its weights [rows, dim], the ones that the fused optimizer updates."""
    return {key.split(".")[1]: value for key, value in tables.state_dict().items()}


def _jagged(rows: dict[str, Tensor]) -> KeyedJaggedTensor:
    """One key per bag, values laid out key by key; entries of -1 are left out."""
    there = {name: ids >= 0 for name, ids in rows.items()}
    return KeyedJaggedTensor(
        keys=list(rows),
        values=torch.cat([ids[there[name]] for name, ids in rows.items()]),
        lengths=torch.cat([mask.sum(dim=1) for mask in there.values()]),
    )


@torch.no_grad()
def _initialize(model: WideDeep) -> None:
    """Small embeddings and wide weights of zero: an id says nothing until it was seen."""
    for weight in _weights(model.deep_embeddings).values():
        weight.uniform_(-0.05, 0.05)
    for weight in _weights(model.wide_weights).values():
        weight.zero_()
    model.wide_numbers.weight.zero_()
