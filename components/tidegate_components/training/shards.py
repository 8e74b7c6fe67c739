"""The rows of embedding tables that this process holds, wherever they lie: to fill them, and to cover them.

In one process a table is one shard; sharded by TorchRec a rank has some rows, or all rows of some tables.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from tidegate_components.models.config import Architecture
from tidegate_components.models.inputs import Inputs
from tidegate_components.models.ranker import table_widths

__all__ = ["Shard", "cover_untrained", "initialize"]

_CHUNK = 1 << 16


@dataclass(frozen=True)
class Shard:
    """Rows `first`.. of a table: weights [n, width] and, where the optimizer keeps one, its sum of squares [n, ...]."""

    table: str
    first: int
    weights: Tensor
    momentum: Tensor | None

    @property
    def rows(self) -> range:
        """Numbers of the rows."""
        return range(self.first, self.first + len(self.weights))

    @property
    def touched(self) -> Tensor:
        """Whether training ever changed a row; Bool [n]. Without a momentum nobody knows: all count as touched."""
        if self.momentum is None:
            return torch.ones(len(self.weights), dtype=torch.bool)
        return self.momentum.reshape(len(self.weights), -1).sum(dim=1) > 0


@torch.no_grad()
def initialize(shards: list[Shard], inputs: Inputs, said: Architecture, seed: int) -> None:
    """Vectors uniform within +-0.05 and first-order weights of zero: an id says nothing until it was seen.

    A row's values depend on seed, table and row only, so that every sharding begins alike.
    """
    crosses = {bag.name for bag in inputs.crosses}
    for shard in shards:
        shard.weights.zero_()
        if shard.table not in crosses:
            _fill(shard, said.embedding_dim, seed)


def _fill(shard: Shard, dim: int, seed: int) -> None:
    for chunk in range(shard.rows.start // _CHUNK, -(-shard.rows.stop // _CHUNK)):
        name = f"{seed}/{shard.table}/{chunk}".encode()
        drawn = torch.Generator().manual_seed(int.from_bytes(hashlib.sha256(name).digest()[:7], "big"))
        low, high = max(chunk * _CHUNK, shard.rows.start), min((chunk + 1) * _CHUNK, shard.rows.stop)
        values = torch.empty(high - chunk * _CHUNK, dim).uniform_(-0.05, 0.05, generator=drawn)
        shard.weights[low - shard.first : high - shard.first, :dim] = values[low - chunk * _CHUNK :]


@torch.no_grad()
def cover_untrained(
    shards: list[Shard], inputs: Inputs, said: Architecture, summed: Callable[[Tensor], Tensor]
) -> None:
    """Give every row that no batch touched the mean of its table's bucket rows, where unknown ids were shown at all.

    `summed` adds a tensor up over all ranks.
    """
    for name, width in table_widths(inputs, said).items():
        bag = inputs.bag(name)
        if not bag.unknown_share:
            continue
        mine = [shard for shard in shards if shard.table == name]
        total = torch.zeros(width, dtype=torch.float64)
        for shard in mine:
            total += _buckets(shard, bag.rows, bag.buckets).double().sum(dim=0)
        unknown = (summed(total) / bag.buckets).float()
        for shard in mine:
            place = torch.arange(shard.rows.start, shard.rows.stop)
            bucket = (place >= bag.rows) & (place < bag.rows + bag.buckets)
            shard.weights[~shard.touched & ~bucket] = unknown


def _buckets(shard: Shard, rows: int, buckets: int) -> Tensor:
    low = min(max(rows - shard.first, 0), len(shard.weights))
    high = min(max(rows + buckets - shard.first, 0), len(shard.weights))
    return shard.weights[low:high]
