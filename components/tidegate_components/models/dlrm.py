"""DLRM (Naumov et al. 2019, "Deep Learning Recommendation Model for Personalization and Recommendation Systems").

Numbers go through a bottom MLP to one vector; the dot products of all pairs of vectors, that one among them, are
appended to it and go through the top MLP (section 2.1.4 of the paper).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tidegate_components.models.config import Architecture
from tidegate_components.models.layers import Seen, Shape, mlp

__all__ = ["DLRM"]


class DLRM(nn.Module):
    """Logits [N]."""

    linear = False

    def __init__(self, shape: Shape, said: Architecture) -> None:
        super().__init__()
        self.bottom = mlp(shape.numbers, (*said.bottom, shape.dim)) if shape.numbers else None
        vectors = shape.fields + (1 if self.bottom else 0)
        first, second = torch.tril_indices(vectors, vectors, offset=-1).tolist()
        self.pairs = [vectors * i + j for i, j in zip(first, second, strict=True)]
        self.over = mlp(len(self.pairs) + (shape.dim if self.bottom else 0), said.hidden, said.dropout)
        self.top = nn.Linear(said.hidden[-1], 1)

    def forward(self, seen: Seen) -> Tensor:
        """The top MLP over all dot products."""
        dense = [self.bottom(seen.numbers)] if self.bottom else []
        vectors = torch.cat([*(vector[:, None] for vector in dense), seen.vectors], dim=1)
        products = torch.bmm(vectors, vectors.transpose(1, 2)).flatten(1)[:, self.pairs]
        logits: Tensor = self.top(self.over(torch.cat([*dense, products], dim=1)))[:, 0]
        return logits
