"""From ids to rows of embedding tables, the same in training, in the serving twin and in ONNX.

An id with a row of its own leads there; any other to `rows + id mod buckets`; a missing one (below 0) to the last row.
`identity`: the own row is the id. `hash`: ((a x + b) mod p) mod rows with p = 2^31 - 1 (Carter & Wegman 1979,
"Universal Classes of Hash Functions"), x the id mod p, so that no product leaves 63 bits. `vocabulary`: the place in
the vocabulary, found in a table of hash buckets of one width, since ONNX has no search.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from tidegate_components.models.inputs import Bag, Inputs

__all__ = ["Lookup", "VocabularyIndex"]

_PRIME = 2**31 - 1
_FACTOR, _SHIFT = 1_103_515_245, 12_345
_CROSS = 805_306_457


class Lookup(nn.Module):
    """ids [C, N] Int64 to rows [S, N] Int64 of their tables. Slots S: the columns of every tabled bag, then crosses.

    With `fold` off an unknown or missing id leads beyond the table, so that reading it fails.
    """

    def __init__(self, inputs: Inputs, fold: bool = True) -> None:
        super().__init__()
        self.fold = fold
        slots = [(bag, column) for bag in inputs.tabled for column in _range(inputs.columns_of(bag.name))]
        self.columns = [column for _, column in slots]
        self.straight = self.columns == list(range(len(inputs.id_columns)))
        self.rows = _vector([bag.rows for bag, _ in slots])
        self.buckets = _vector([bag.buckets for bag, _ in slots])
        self.hashed = torch.tensor([bag.lookup == "hash" for bag, _ in slots])[:, None]
        self.hashes = any(bag.lookup == "hash" for bag, _ in slots)
        self.crosses = [(bag.rows, [inputs.columns_of(name).start for name in bag.crossed]) for bag in inputs.crosses]
        self.vocabularies = nn.ModuleDict({
            bag.name: VocabularyIndex(bag) for bag in inputs.tabled if bag.lookup == "vocabulary" and not bag.shares
        })  # fmt: skip
        self.places = [
            (bag.shares or bag.name, place) for place, (bag, _) in enumerate(slots) if bag.lookup == "vocabulary"
        ]

    def forward(self, ids: Tensor) -> Tensor:
        """Rows [S, N]."""
        wanted = ids if self.straight else ids[self.columns]
        own = self._own(wanted)
        if not self.fold:
            return torch.where(own < 0, self.rows, own)
        known = (own >= 0) & (own < self.rows)
        rows = torch.where(known, own, self.rows + torch.remainder(wanted, self.buckets))
        rows = torch.where(wanted < 0, self.rows + self.buckets, rows)
        return torch.cat([rows, *(_crossed(ids, *cross) for cross in self.crosses)]) if self.crosses else rows

    def _own(self, wanted: Tensor) -> Tensor:
        """The row that each id has for itself, or one beyond the table."""
        own = torch.where(self.hashed, torch.remainder(_mixed(wanted), self.rows), wanted) if self.hashes else wanted
        if not self.places:
            return own
        parts = list(own)
        for name, place in self.places:
            parts[place] = self.vocabularies[name](wanted[place])
        return torch.stack(parts)


class VocabularyIndex(nn.Module):
    """Ids [N] to their places in a vocabulary; the number of ids in it where they are not."""

    keys: Tensor
    at: Tensor

    def __init__(self, bag: Bag) -> None:
        super().__init__()
        self.size = bag.rows
        keys, at = _hash_buckets(np.array(bag.vocabulary, dtype=np.int64))
        self.register_buffer("keys", torch.from_numpy(keys), persistent=False)
        self.register_buffer("at", torch.from_numpy(at), persistent=False)

    def forward(self, ids: Tensor) -> Tensor:
        """Places [N] Int64."""
        bucket = torch.remainder(_mixed(ids), len(self.keys))
        found = self.keys[bucket] == ids[:, None]
        return torch.where(found, self.at[bucket], 0).sum(dim=1) + torch.where(found.any(dim=1), 0, self.size)


def _mixed(ids: Tensor) -> Tensor:
    return torch.remainder(torch.remainder(ids, _PRIME) * _FACTOR + _SHIFT, _PRIME)


def _crossed(ids: Tensor, rows: int, columns: list[int]) -> Tensor:
    """Rows [1, N] of a product of ids: each in turn is mixed into what came before."""
    mixed = _mixed(ids[columns[0]])
    for column in columns[1:]:
        mixed = torch.remainder(mixed * _CROSS + torch.remainder(ids[column], _PRIME), _PRIME)
    return torch.remainder(_mixed(mixed), rows)[None]


def _hash_buckets(vocabulary: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Keys and places [buckets, width]: an id lies in the bucket that its hash names; an empty slot holds -1."""
    buckets = max(2 * len(vocabulary) + 1, 1)
    bucket = (((vocabulary % _PRIME) * _FACTOR + _SHIFT) % _PRIME) % buckets
    order = np.argsort(bucket, kind="stable")
    counts = np.bincount(bucket, minlength=buckets)
    slot = np.arange(len(vocabulary)) - np.repeat(counts.cumsum() - counts, counts)
    keys = np.full((buckets, max(int(counts.max(initial=0)), 1)), -1, dtype=np.int64)
    at = np.zeros_like(keys)
    keys[bucket[order], slot], at[bucket[order], slot] = vocabulary[order], order
    return keys, at


def _vector(values: list[int]) -> Tensor:
    return torch.tensor(values, dtype=torch.int64)[:, None]


def _range(part: slice) -> range:
    return range(part.start, part.stop)
