"""The order of rows that compete for one list: a pairwise loss beside the pointwise one.

Of the two together scores stay probabilities and order a list better (Li, Lu, Mei, Wang & Pandey, KDD 2015).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import softplus

__all__ = ["pairs_of", "pairwise_loss"]


def pairwise_loss(logits: Tensor, labels: Tensor, weights: Tensor, groups: Tensor) -> Tensor:
    """RankNet (Burges et al., ICML 2005): the mean of log(1 + exp(s_j - s_i)) over `pairs_of` rows; 0 without a pair.

    A pair weighs what the product of its rows' weights is. Logits, labels, weights and groups are [N].
    """
    above, below = pairs_of(labels, groups)
    weight = weights[above] * weights[below]
    lost = (softplus(logits[below] - logits[above]) * weight).sum()
    return lost / weight.sum() if len(above) else lost


def pairs_of(labels: Tensor, groups: Tensor) -> tuple[Tensor, Tensor]:
    """Indices [P] of a clicked row and of one without a click, for every such pair of a group; below 0 is no group."""
    clicked = torch.nonzero((labels > 0.5) & (groups >= 0))[:, 0]
    others = torch.nonzero((labels <= 0.5) & (groups >= 0))[:, 0]
    others = others[torch.argsort(groups[others], stable=True)]
    first, end = (torch.searchsorted(groups[others], groups[clicked], right=right) for right in (False, True))
    count = end - first
    above = torch.repeat_interleave(clicked, count)
    within = torch.arange(len(above), device=above.device) - torch.repeat_interleave(count.cumsum(0) - count, count)
    return above, others[torch.repeat_interleave(first, count) + within]
