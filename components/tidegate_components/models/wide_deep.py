"""Wide & Deep (Cheng et al. 2016, "Wide & Deep Learning for Recommender Systems").

    P(click | x) = sigmoid(w_wide . [x, phi(x)] + w_deep . a(l_f) + b)          (equation 3 of the paper)

Both parts are trained jointly. The wide part is linear in the ids, their declared cross products phi(x) and the
numbers; the deep part embeds every id, appends the numbers and runs ReLU layers.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tidegate_components.models.config import Architecture
from tidegate_components.models.layers import Seen, Shape, mlp

__all__ = ["WideDeep"]


class WideDeep(nn.Module):
    """Logits [N]."""

    linear = True

    def __init__(self, shape: Shape, said: Architecture) -> None:
        super().__init__()
        self.wide_numbers = nn.Linear(shape.numbers, 1)
        self.deep = mlp(shape.fields * shape.dim + shape.numbers, said.hidden, said.dropout)
        self.top = nn.Linear(said.hidden[-1], 1)
        nn.init.zeros_(self.wide_numbers.weight)

    def forward(self, seen: Seen) -> Tensor:
        """wide + deep."""
        wide = seen.linear + self.wide_numbers(seen.numbers)[:, 0]
        deep = self.top(self.deep(torch.cat([seen.vectors.flatten(1), seen.numbers], dim=1)))[:, 0]
        logits: Tensor = wide + deep
        return logits
