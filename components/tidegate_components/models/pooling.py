"""From the vectors of slots to the vectors of fields: sums, means and attention over the ids of a bag."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tidegate_components.models.inputs import Bag, Inputs

__all__ = ["Pool"]


class Pool(nn.Module):
    """Slot vectors [N, S, dim] to field vectors [N, F, dim]; empty slots say nothing. One slot alone is its field."""

    def __init__(self, inputs: Inputs) -> None:
        super().__init__()
        self.bags = inputs.tabled
        self.sizes = [len(bag.columns) for bag in self.bags]
        self.columns = [c for bag in self.bags for c in range(*inputs.columns_of(bag.name).indices(1 << 30))]
        self.none = torch.tensor([bag.none if _is_pooled(bag) else -1 for bag in self.bags for _ in bag.columns])[
            :, None
        ]
        self.always = torch.tensor([not _is_pooled(bag) for bag in self.bags for _ in bag.columns])[:, None]
        self.trivial = not any(map(_is_pooled, self.bags))

    def there(self, ids: Tensor) -> Tensor:
        """Which slots [N, S] hold an id, of ids [C, N]; a bag of one column always does."""
        wanted = ids[self.columns]
        return (self.always | ((wanted >= 0) & (wanted != self.none))).T

    def forward(self, vectors: Tensor, there: Tensor) -> Tensor:
        """Field vectors [N, F, dim]."""
        parts = dict(zip((bag.name for bag in self.bags), torch.split(vectors, self.sizes, 1), strict=True))
        masks = torch.split(there, self.sizes, 1)
        return torch.stack([_pooled(bag, parts, mask) for bag, mask in zip(self.bags, masks, strict=True)], dim=1)


def _is_pooled(bag: Bag) -> bool:
    return len(bag.columns) > 1 or bool(bag.list_column)


def _pooled(bag: Bag, parts: dict[str, Tensor], there: Tensor) -> Tensor:
    vectors = parts[bag.name]
    if not _is_pooled(bag):
        return vectors[:, 0]
    if bag.pooling == "attention":
        return _attended(vectors, parts[bag.target][:, 0], there)
    summed = torch.where(there[:, :, None], vectors, 0.0).sum(dim=1)
    return summed / torch.clamp(there.sum(dim=1, keepdim=True), min=1) if bag.pooling == "mean" else summed


def _attended(vectors: Tensor, target: Tensor, there: Tensor) -> Tensor:
    """softmax(q . k / sqrt(dim)) over the slots that are there (Vaswani et al. 2017, equation 1); else zeros."""
    scores = (vectors * target[:, None]).sum(dim=2) / vectors.shape[2] ** 0.5
    weights = torch.softmax(torch.where(there, scores, -1e9), dim=1) * there
    return (vectors * weights[:, :, None]).sum(dim=1)
