"""The same learner over the ranks of Horovod: every rank holds all of the tables and makes the same update to them.

Each rank looks up the rows of the whole batch and goes on with its share of the answer. Backward, the shares of the
gradient are gathered, so that the fused optimizer sees the whole batch on every rank: no dense gradient of a table is
ever made, and the tables stay equal. What is not tables is averaged by Horovod's DistributedOptimizer.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import horovod.torch as hvd
import torch
from torch import Tensor, nn
from torchrec.sparse.jagged_tensor import KeyedJaggedTensor, KeyedTensor

from tidegate_components.models.config import Config
from tidegate_components.models.inputs import Inputs
from tidegate_components.models.tables import TrainedModel, jagged
from tidegate_components.models.taste import Taste
from tidegate_components.training.batches import Part
from tidegate_components.training.learner import Learner, alone

__all__ = ["replicated"]


def replicated(inputs: Inputs, config: Config, taste: Taste | None) -> Learner:
    """Joins the ranks that horovodrun started (Gloo, or NCCL where it was built with it)."""
    hvd.init()
    learner = alone(inputs, config, taste)
    model = learner.model
    assert isinstance(model, TrainedModel)  # noqa: S101 - alone made it
    model.tables = _WholeBatch(model.tables)
    hvd.broadcast_parameters(learner.ranker.state_dict(), root_rank=0)
    dense = hvd.DistributedOptimizer(learner.dense, named_parameters=learner.ranker.named_parameters())
    part = Part(hvd.rank(), hvd.size())
    return replace(learner, dense=dense, part=part, gathered=_gathered, barrier=_wait, replicated=True)


class _WholeBatch(nn.Module):
    """Tables that see the batch of all ranks and answer for this rank's share."""

    def __init__(self, tables: nn.Module) -> None:
        super().__init__()
        self.tables = tables

    def forward(self, features: KeyedJaggedTensor) -> KeyedTensor:
        """Values of this rank's rows."""
        keys = features.keys()
        mine = features.values().reshape(len(keys), -1)
        if not self.training:
            return self.tables(features)
        whole = hvd.allgather(mine.T.contiguous()).T
        found = self.tables(jagged(keys, whole))
        values = _Share.apply(found.values(), hvd.rank() * mine.shape[1], mine.shape[1])
        return KeyedTensor(keys=found.keys(), length_per_key=found.length_per_key(), values=values)


class _Share(torch.autograd.Function):
    """This rank's rows [n, W] of all ranks' [N, W]; backward the ranks' gradients, one behind the other, averaged."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, first: int, rows: int) -> Tensor:
        return values[first : first + rows].clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        whole = hvd.allgather(gradients[0].contiguous())
        return whole / hvd.size(), None, None


def _gathered(tensor: Tensor) -> Tensor:
    found: Tensor = hvd.allgather(tensor)
    return found


def _wait() -> None:
    hvd.barrier()
