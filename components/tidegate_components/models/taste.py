"""Taste: what a user's rated films say of the candidate. Three numbers, fitted in closed form, computed in the graph.

With v_h = 1 or 0 for liked or not, less the share of clicks of film h: how much more than others the user liked it,

    leniency = sum_h v_h / (n + w),                   and from here on v_h less the leniency,
    genres   = sum_h v_h g_h . g_i / (sum_h g_h . g_i + w),         g: genres of a film, of length 1
    films    = sum_h v_h s_hi                                       s: similarity of two films

for history h and candidate i. The similarity is item-based collaborative filtering (Sarwar et al. 2001) on residuals
with shrinkage (Koren 2008, "Factorization Meets the Neighborhood", section 2.2): over users who rated both, the
product of what was left unexplained, drawn to zero; it is kept as its greatest eigenvectors. A row that is learned
from would find its own label in s, so its user is left out there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy import sparse  # type: ignore[import-untyped]
from torch import Tensor, nn

from tidegate_components.models.arrays import Arrays
from tidegate_components.models.inputs import HISTORY, Inputs

__all__ = ["Taste", "fit_taste"]

_RANK = 32
_MOST_ITEMS = 4096
"""Films beyond have no taste of their own: the fit keeps one number for each pair of films."""
_PRIOR_ROWS = 10.0
_PRIOR_HISTORY = 20.0
_PRIOR_PAIRS = 200.0
_VARIANCE = 0.2
"""Of a residual of a click, about: it makes the similarity a slope."""

Array = np.ndarray[Any, Any]


class Taste(nn.Module):
    """ids [N, C] to standardized [N, 3]: leniency, genres, films; [N, 0] where the inputs hold no history."""

    share: Tensor
    genres: Tensor
    left: Tensor
    right: Tensor
    mean: Tensor
    std: Tensor

    def __init__(self, inputs: Inputs) -> None:
        super().__init__()
        self.inputs = inputs
        self.width = 3 if inputs.has_history else 0
        rows = {bag.name: bag.rows for bag in inputs.bags} if self.width else {}
        self.items = min(rows.get("item", 0), _MOST_ITEMS)
        self.register_buffer("share", torch.zeros(self.items))
        self.register_buffer("genres", torch.zeros(self.items, rows.get("genres", 1)))
        self.register_buffer("left", torch.zeros(self.items, _RANK))
        self.register_buffer("right", torch.zeros(self.items, _RANK))
        self.register_buffer("mean", torch.zeros(self.width))
        self.register_buffer("std", torch.ones(self.width))

    def forward(self, ids: Tensor) -> Tensor:
        """Standardized numbers, kept within +-4."""
        if not self.width:
            return torch.zeros(ids.shape[0], 0)
        item, known, film, leniency, surplus = self.opinions(ids)
        liking = torch.einsum("nh,nhd->nd", surplus, self.right[film])
        films = (liking * self.left[item]).sum(dim=1) * known
        return self.standardized(torch.stack([leniency, self.by_genre(item, known, film, surplus), films], dim=1))

    def opinions(self, ids: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Candidate [N], whether known [N], films of the history [N, H], leniency [N], surplus [N, H]; 0 is none."""
        item, given = ids[:, self.inputs.columns_of("item")][:, 0], ids[:, self.inputs.columns_of(HISTORY)]
        known = (item > 0) & (item < self.items)
        there = (given > 1) & (given < 2 * self.items)
        film = torch.where(there, given // 2, 0)
        surplus = (given % 2 - self.share[film]) * there
        leniency = surplus.sum(dim=1) / (there.sum(dim=1) + _PRIOR_HISTORY)
        return torch.where(known, item, 0), known, film, leniency, (surplus - leniency[:, None]) * there

    def by_genre(self, item: Tensor, known: Tensor, film: Tensor, surplus: Tensor) -> Tensor:
        """How much more the user liked films of the candidate's genres [N]; film 0 has no genres."""
        common = torch.einsum("nhg,ng->nh", self.genres[film], self.genres[item]) * known[:, None]
        return (common * surplus).sum(dim=1) / (common.sum(dim=1) + _PRIOR_HISTORY)

    def standardized(self, raw: Tensor) -> Tensor:
        """(x - mean) / std, kept within +-4."""
        return torch.clamp((raw - self.mean) / self.std, -4.0, 4.0)


@dataclass(frozen=True)
class _Pairs:
    """What the rows say of pairs of films: residuals by user and film, their products and counts over users."""

    residuals: Any
    rated: Any
    products: Array
    counts: Array


@torch.no_grad()
def fit_taste(data: Arrays, inputs: Inputs) -> tuple[Taste, Tensor]:
    """Taste as the rows tell it, and its numbers [N, 3] for these same rows, each without what its own user told."""
    taste = Taste(inputs)
    if not taste.width:
        return taste, torch.zeros(len(data.labels), 0)
    user, item = (data.ids[:, inputs.columns_of(name)][:, 0] for name in ("user", "item"))
    within = (item > 0) & (item < taste.items)
    if not within.any():
        return taste, torch.zeros(len(data.labels), taste.width)
    taste.share[:] = torch.from_numpy(_shares(item[within], data.labels[within], taste.items))
    taste.genres[:] = torch.from_numpy(_genres(data.ids, item, inputs, taste.items))
    pairs = _pairs(user[within], item[within], _residuals(taste, user, item, data.labels, within), taste.items)
    for name, factor in zip(("left", "right"), _factors(pairs), strict=True):
        getattr(taste, name)[:] = torch.from_numpy(factor)
    raw = torch.cat([_left_out(taste, pairs, *part) for part in _parts(user, torch.from_numpy(data.ids))])
    taste.mean[:], taste.std[:] = raw.mean(dim=0), torch.clamp(raw.std(dim=0, correction=0), min=1e-6)
    return taste, taste.standardized(raw)


def _parts(user: Array, ids: Tensor, rows: int = 4096) -> list[tuple[Array, Tensor]]:
    return [(user[start : start + rows], ids[start : start + rows]) for start in range(0, len(user), rows)]


def _shares(item: Array, labels: Array, items: int) -> Array:
    shown, clicks = np.bincount(item, minlength=items), np.bincount(item, labels, minlength=items)
    shares: Array = (clicks + _PRIOR_ROWS * labels.mean()) / (shown + _PRIOR_ROWS)
    return shares.astype(np.float32)


def _genres(ids: Array, item: Array, inputs: Inputs, items: int) -> Array:
    """Genres of each film [items, genres], each row of length 1 (or 0)."""
    names = {bag.name: bag.rows for bag in inputs.bags}
    found = np.zeros((items, names.get("genres", 1)), dtype=np.float32)
    if "genres" not in names:
        return found
    of_item = ids[:, inputs.columns_of("genres")]
    there = (of_item > 0) & (of_item < names["genres"]) & ((item > 0) & (item < items))[:, None]
    row, slot = np.nonzero(there)
    found[item[row], of_item[row, slot]] = 1
    scaled: Array = found / np.sqrt(np.maximum(found.sum(axis=1, keepdims=True), 1))
    return scaled


def _residuals(taste: Taste, user: Array, item: Array, labels: Array, within: Array) -> Array:
    """Of the rows within: label less the film's share, less the user's mean of that, drawn to zero."""
    surplus = labels[within] - taste.share.numpy()[item[within]]
    users, at = np.unique(user[within], return_inverse=True)
    mean = np.bincount(at, surplus, len(users)) / (np.bincount(at, minlength=len(users)) + _PRIOR_HISTORY)
    residuals: Array = surplus - mean[at]
    return residuals


def _pairs(user: Array, item: Array, residuals: Array, items: int) -> _Pairs:
    shape = (int(user.max()) + 1, items)
    summed = sparse.csr_matrix((residuals, (user, item)), shape=shape)
    summed.sum_duplicates()
    rated = summed.copy()
    rated.data = np.ones_like(rated.data)
    return _Pairs(summed, rated, (summed.T @ summed).toarray(), (rated.T @ rated).toarray())


def _similarity(products: Array, counts: Array) -> Array:
    similarity: Array = products / (_VARIANCE * (counts + _PRIOR_PAIRS))
    return similarity


def _factors(pairs: _Pairs) -> tuple[Array, Array]:
    """left, right [items, _RANK] with left @ right.T nearest to the similarity, a film's own left out."""
    similarity = _similarity(pairs.products, pairs.counts)
    np.fill_diagonal(similarity, 0)
    values, vectors = np.linalg.eigh(similarity)
    kept = np.argsort(-np.abs(values), kind="stable")[:_RANK]
    left, right = (np.zeros((len(similarity), _RANK), dtype=np.float32) for _ in range(2))
    left[:, : len(kept)], right[:, : len(kept)] = vectors[:, kept] * values[kept], vectors[:, kept]
    return left, right


def _left_out(taste: Taste, pairs: _Pairs, user: Array, ids: Tensor) -> Tensor:
    """Raw numbers [N, 3] of rows that were learned from, by similarities that their own users did not tell."""
    item, known, film, leniency, surplus = taste.opinions(ids)
    candidate, seen = item.numpy()[:, None], film.numpy()
    own, rated = (
        _of_user(part, user, candidate) * _of_user(part, user, seen) for part in (pairs.residuals, pairs.rated)
    )
    others = _similarity(pairs.products[candidate, seen] - own, pairs.counts[candidate, seen] - rated)
    films = (torch.from_numpy(others.astype(np.float32)) * surplus).sum(dim=1) * known
    return torch.stack([leniency, taste.by_genre(item, known, film, surplus), films], dim=1)


def _of_user(values: Any, user: Array, item: Array) -> Array:
    """values[user, item] of a sparse matrix, by binary search; [N, any]."""
    width = values.shape[1]
    keys = np.repeat(np.arange(values.shape[0]), np.diff(values.indptr)) * width + values.indices
    wanted = user[:, None] * width + item
    at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    found: Array = np.where(keys[at] == wanted, values.data[at], 0.0)
    return found
