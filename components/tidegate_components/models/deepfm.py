"""DeepFM (Guo et al. 2017, "DeepFM: A Factorization-Machine based Neural Network for CTR Prediction").

    y = sigmoid(y_FM + y_DNN)                                                   (equation 1 of the paper)
    y_FM = <w, x> + sum_{i<j} <V_i, V_j> x_i x_j                                (equation 2)

Both parts read the same vectors; that of a number x_i is its own V_i times x_i. The pairs are summed in linear time, as
half of (sum v)^2 - sum v^2 (Rendle 2010, "Factorization Machines", lemma 3.1). A linear layer over V_i x_i is one over
x_i, so the deep part reads the number itself.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tidegate_components.models.config import Architecture
from tidegate_components.models.layers import Seen, Shape, mlp

__all__ = ["DeepFM"]


class DeepFM(nn.Module):
    """Logits [N]."""

    linear = True

    def __init__(self, shape: Shape, said: Architecture) -> None:
        super().__init__()
        self.first_order = nn.Linear(shape.numbers, 1)
        self.number_vectors = nn.Parameter(torch.empty(shape.numbers, shape.dim).uniform_(-0.05, 0.05))
        self.deep = mlp(shape.fields * shape.dim + shape.numbers, said.hidden, said.dropout)
        self.top = nn.Linear(said.hidden[-1], 1)

    def forward(self, seen: Seen) -> Tensor:
        """y_FM + y_DNN."""
        first = seen.linear + self.first_order(seen.numbers)[:, 0]
        deep = self.deep(torch.cat([seen.vectors.flatten(1), seen.numbers], dim=1))
        logits: Tensor = first + self.pairs(seen) + self.top(deep)[:, 0]
        return logits

    def pairs(self, seen: Seen) -> Tensor:
        """The sum of <v_i, v_j> over all pairs of fields and numbers, [N]."""
        summed = seen.vectors.sum(dim=1) + seen.numbers @ self.number_vectors
        squares = seen.vectors.square().sum(dim=(1, 2))
        squares = squares + seen.numbers.square() @ self.number_vectors.square().sum(dim=1)
        return 0.5 * (summed.square().sum(dim=1) - squares)
