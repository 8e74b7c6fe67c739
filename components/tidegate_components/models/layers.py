"""What every ranking network is given, and the layers they share."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

__all__ = ["Seen", "Shape", "mlp"]


@dataclass(frozen=True)
class Shape:
    """Sizes: F fields with vectors of `dim`, D numbers."""

    fields: int
    dim: int
    numbers: int


@dataclass(frozen=True)
class Seen:
    """One batch after the tables: vectors [N, F, dim], first-order weights of ids summed [N], numbers [N, D]."""

    vectors: Tensor
    linear: Tensor
    numbers: Tensor


def mlp(width: int, hidden: tuple[int, ...], dropout: float = 0.0) -> nn.Sequential:
    """Linear layers, each with ReLU and, where told, dropout; [N, width] -> [N, hidden[-1]]."""
    layers: list[nn.Module] = []
    for size in hidden:
        layers += [nn.Linear(width, size), nn.ReLU(), *([nn.Dropout(dropout)] if dropout else [])]
        width = size
    return nn.Sequential(*layers)
