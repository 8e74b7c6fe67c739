"""Numbers as the layers see them: read by their kind, standardized, kept within bounds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from tidegate_components.models.inputs import Inputs, Numeric

__all__ = ["Scale", "read_numbers"]


def read_numbers(numerics: Sequence[Numeric], dense: Tensor | np.ndarray) -> Tensor:
    """f of every raw number x [N, D], by its kind; n are the rows that speak for it, w is `prior_rows`.

    count: log(1 + x). share: log-odds of (x + w prior) / (n + w), the mean of a beta posterior. mean: drawn to the
    prior the same, (n x + w prior) / (n + w). plain, evidence: x. Where x is NaN its `missing` is read.
    """
    raw = torch.as_tensor(dense)
    if not numerics:
        return raw
    raw = torch.where(torch.isnan(raw), torch.tensor([n.missing for n in numerics], dtype=raw.dtype), raw)
    positive, rows = torch.clamp(raw, min=0.0), torch.clamp(raw[:, [n.evidence for n in numerics]], min=0.0)
    weight = torch.tensor([n.prior_rows for n in numerics], dtype=raw.dtype)
    prior = weight * torch.tensor([n.prior for n in numerics], dtype=raw.dtype)
    for kind in sorted({n.kind for n in numerics} & {"count", "share", "mean"}):
        if kind == "count":
            value = torch.log1p(positive)
        elif kind == "share":
            value = torch.logit((torch.minimum(positive, rows) + prior) / (rows + weight))
        else:
            value = (raw * rows + prior) / (rows + weight)
        raw = torch.where(torch.tensor([n.kind == kind for n in numerics], dtype=torch.bool), value, raw)
    return raw


class Scale(nn.Module):
    """Raw numbers [N, D] to standardized ones that layers see: (f(x) - mean) / std, kept within +-4; no evidence."""

    mean: Tensor
    std: Tensor

    def __init__(self, inputs: Inputs) -> None:
        super().__init__()
        self.numerics = inputs.numerics
        self.read = inputs.read
        self.register_buffer("mean", torch.tensor([n.mean for n in inputs.numerics], dtype=torch.float32))
        self.register_buffer("std", torch.tensor([n.std for n in inputs.numerics], dtype=torch.float32))

    def forward(self, dense: Tensor) -> Tensor:
        """Standardized numbers [N, read]."""
        seen = read_numbers(self.numerics, dense)
        return torch.clamp((seen - self.mean) / self.std, -4.0, 4.0)[:, self.read]
