"""DeepFM (Guo et al. 2017, "DeepFM: A Factorization-Machine based Neural Network for CTR Prediction").

    y = sigmoid(y_FM + y_DNN)                                                   (equation 1 of the paper)
    y_FM = <w, x> + sum_{i<j} <V_i, V_j> x_i x_j                                (equation 2)

Both parts read the same vectors; that of a number x_i is its own V_i times x_i. The pairs are summed in linear time, as
half of (sum v)^2 - sum v^2 (Rendle 2010, "Factorization Machines", lemma 3.1).
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
        self.deep = mlp((shape.fields + shape.numbers) * shape.dim, said.hidden, said.dropout)
        self.top = nn.Linear(said.hidden[-1], 1)

    def forward(self, seen: Seen) -> Tensor:
        """y_FM + y_DNN."""
        vectors = torch.cat([seen.vectors, seen.numbers[:, :, None] * self.number_vectors], dim=1)
        first = seen.linear + self.first_order(seen.numbers)[:, 0]
        pairs = 0.5 * (vectors.sum(dim=1).square() - vectors.square().sum(dim=1)).sum(dim=1)
        logits: Tensor = first + pairs + self.top(self.deep(vectors.flatten(1)))[:, 0]
        return logits
