"""All of a model but its tables: which rows it reads, and what it makes of them. Shared by training and serving."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tidegate_components.models.config import Architecture
from tidegate_components.models.dcn_v2 import DCNv2
from tidegate_components.models.deepfm import DeepFM
from tidegate_components.models.dlrm import DLRM
from tidegate_components.models.inputs import Inputs
from tidegate_components.models.layers import Seen, Shape
from tidegate_components.models.lookup import Lookup
from tidegate_components.models.numbers import Scale
from tidegate_components.models.pooling import Pool
from tidegate_components.models.taste import Taste
from tidegate_components.models.wide_deep import WideDeep

__all__ = ["LANES", "Ranker", "table_widths"]

LANES = 4
"""fbgemm wants widths in multiples of four: the first-order weight of an id is the mean of its row's last four lanes.

Of their sum the gradients would be four times as great, and outweigh those of the vector, whose step size they share.
"""

_NETS: dict[str, type[WideDeep] | type[DeepFM] | type[DCNv2] | type[DLRM]] = {
    "wide_deep": WideDeep,
    "deepfm": DeepFM,
    "dcn_v2": DCNv2,
    "dlrm": DLRM,
}


def table_widths(inputs: Inputs, said: Architecture) -> dict[str, int]:
    """Columns of each table: a vector, lanes behind it where the model has a linear part; a cross has lanes only."""
    lanes = LANES if _NETS[said.name].linear else 0
    return {bag.name: LANES if bag.crossed else said.embedding_dim + lanes for bag in inputs.tables}


class Ranker(nn.Module):
    """Logits from what the tables gave for the rows of `lookup`."""

    def __init__(self, inputs: Inputs, said: Architecture, taste: Taste | None = None, fold: bool = True) -> None:
        super().__init__()
        self.inputs = inputs
        self.said = said
        self.lookup = Lookup(inputs, fold)
        self.scale = Scale(inputs)
        self.taste = taste or Taste(inputs)
        self.pool = Pool(inputs)
        self.slots = sum(len(bag.columns) for bag in inputs.tabled)
        self.lanes = LANES if _NETS[said.name].linear else 0
        shape = Shape(len(inputs.tabled), said.embedding_dim, len(inputs.read) + self.taste.width)
        self.net = _NETS[said.name](shape, said)

    def forward(self, values: Tensor, ids: Tensor, dense: Tensor, taste: Tensor) -> Tensor:
        """Logits [N] of values [N, slots x width + crosses x LANES], ids [C, N], raw numbers [N, D], taste [N, T]."""
        width = self.said.embedding_dim + self.lanes
        slots, crosses = values[:, : self.slots * width], values[:, self.slots * width :]
        vectors, lanes = torch.split(slots.reshape(-1, self.slots, width), [self.said.embedding_dim, self.lanes], dim=2)
        if not self.pool.trivial:
            there = self.pool.there(ids)
            vectors, lanes = self.pool(vectors, there), lanes * there[:, :, None]
        linear = (lanes.sum(dim=(1, 2)) + crosses.sum(dim=1)) / LANES
        logits: Tensor = self.net(Seen(vectors, linear, torch.cat([self.scale(dense), taste], dim=1)))
        return logits
