"""DCN-V2 (Wang et al. 2021, "DCN V2: Improved Deep & Cross Network and Practical Lessons for Web-scale Learning to
Rank Systems"), the parallel structure.

    x_{l+1} = x_0 * (W_l x_l + b_l) + x_l                                       (equation 1 of the paper)
    y = sigmoid(w . [x_cross, x_deep])                                          (equations 4 and 5)

With a rank r, W_l = U_l V_l^T with U, V of r columns (equation 2).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tidegate_components.models.config import Architecture
from tidegate_components.models.layers import Seen, Shape, mlp

__all__ = ["DCNv2"]


class DCNv2(nn.Module):
    """Logits [N]."""

    linear = False

    def __init__(self, shape: Shape, said: Architecture) -> None:
        super().__init__()
        width = shape.fields * shape.dim + shape.numbers
        self.cross = nn.ModuleList(_weights(width, said.cross_rank) for _ in range(said.cross_layers))
        self.deep = mlp(width, said.hidden, said.dropout)
        self.top = nn.Linear(width + said.hidden[-1], 1)

    def forward(self, seen: Seen) -> Tensor:
        """The cross network beside the deep one."""
        first = torch.cat([seen.vectors.flatten(1), seen.numbers], dim=1)
        crossed = first
        for weights in self.cross:
            crossed = torch.addcmul(crossed, first, weights(crossed))
        logits: Tensor = self.top(torch.cat([crossed, self.deep(first)], dim=1))[:, 0]
        return logits


def _weights(width: int, rank: int) -> nn.Module:
    if not rank:
        return nn.Linear(width, width)
    return nn.Sequential(nn.Linear(width, rank, bias=False), nn.Linear(rank, width))
