"""The serving twin of the models: plain torch, ids and raw numbers in, probabilities out. ONNX is made of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from tidegate_components.models.inputs import Inputs, Numeric
from tidegate_components.models.taste import Taste

_ROWS = 4096
"""Scored at once: each holds the factors of a whole history."""

__all__ = ["Scale", "Scorer", "deep_layers", "read_numbers", "rows_of"]


def rows_of(inputs: Inputs, ids: Tensor, fold: bool = True) -> list[Tensor]:
    """Embedding rows from ids [N, C]: per bag with a table [N, columns]; -1 where a slot is empty.

    With `fold` an unknown id goes to one of the bag's bucket rows (modulo), else it stays as it is: beyond the table.
    """
    found = []
    for bag in inputs.tabled:
        wanted = ids[:, inputs.columns_of(bag.name)]
        known = (wanted >= 0) & (wanted < bag.rows)
        rows = torch.where(known, wanted, bag.rows + torch.remainder(wanted, bag.buckets)) if fold else wanted
        found.append(torch.where(wanted == 0, -1, rows) if len(bag.columns) > 1 else rows)
    return found


def deep_layers(inputs: Inputs, numbers: int, dim: int, hidden: tuple[int, ...], dropout: float) -> nn.Sequential:
    """ReLU layers from the concatenated embeddings and numbers to one logit."""
    layers: list[nn.Module] = []
    width = len(inputs.tabled) * dim + numbers
    for size in hidden:
        layers += [nn.Linear(width, size), nn.ReLU(), nn.Dropout(dropout)]
        width = size
    return nn.Sequential(*layers, nn.Linear(width, 1))


def read_numbers(numerics: Sequence[Numeric], dense: Tensor | np.ndarray) -> Tensor:
    """f of every raw number x [N, D], by its kind; n are the rows that speak for it, w is `prior_rows`.

    count: log(1 + x). share: log-odds of (x + w prior) / (n + w), the mean of a beta posterior. mean: drawn to the
    prior the same, (n x + w prior) / (n + w). plain, evidence: x.
    """
    raw = torch.as_tensor(dense)
    positive, rows = torch.clamp(raw, min=0.0), torch.clamp(raw[:, [n.evidence for n in numerics]], min=0.0)
    weight = torch.tensor([n.prior_rows for n in numerics], dtype=raw.dtype)
    prior = weight * torch.tensor([n.prior for n in numerics], dtype=raw.dtype)
    formed = {
        "count": torch.log1p(positive),
        "share": torch.logit((torch.minimum(positive, rows) + prior) / (rows + weight)),
        "mean": (raw * rows + prior) / (rows + weight),
    }
    for kind, value in formed.items():
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


class Scorer(nn.Module):
    """Wide & Deep for serving: P(click) from ids [N, C] Int64 and dense [N, D] Float32, as [N, 1] Float32."""

    def __init__(self, inputs: Inputs, embedding_dim: int, hidden: tuple[int, ...], fold: bool = True) -> None:
        super().__init__()
        self.inputs = inputs
        self.embedding_dim = embedding_dim
        self.hidden = hidden
        self.fold = fold
        sizes = {bag.name: bag.rows + bag.buckets * fold for bag in inputs.tabled}
        self.deep_tables = nn.ParameterDict({name: torch.zeros(rows, embedding_dim) for name, rows in sizes.items()})
        self.wide_tables = nn.ParameterDict({name: torch.zeros(rows, 1) for name, rows in sizes.items()})
        self.scale = Scale(inputs)
        self.taste = Taste(inputs)
        numbers = len(inputs.read) + self.taste.width
        self.wide_numbers = nn.Linear(numbers, 1)
        self.deep = deep_layers(inputs, numbers, embedding_dim, hidden, 0.0)

    def forward(self, ids: Tensor, dense: Tensor) -> Tensor:
        """Probabilities [N, 1]."""
        names = [bag.name for bag in self.inputs.tabled]
        rows = dict(zip(names, rows_of(self.inputs, ids, self.fold), strict=True))
        numbers = torch.cat([self.scale(dense), self.taste(ids)], dim=1)
        embedded = [_bag_sum(self.deep_tables[name], rows[name]) for name in names]
        deep = self.deep(torch.cat([*embedded, numbers], dim=1))
        weights = [_bag_sum(self.wide_tables[name], found) for name, found in rows.items()]
        wide = torch.cat(weights, dim=1).sum(dim=1, keepdim=True) + self.wide_numbers(numbers)
        return torch.sigmoid(wide + deep)

    @torch.no_grad()
    def cover_untrained(self, seen: list[Tensor]) -> None:
        """Give every row that training never touched (`seen` counts per bag) the mean of its bag's bucket rows."""
        for bag, count in zip(self.inputs.tabled, seen, strict=True):
            for table in (self.deep_tables[bag.name], self.wide_tables[bag.name]):
                unknown = table[bag.rows :].mean(dim=0)
                table[: bag.rows] = torch.where(count[: bag.rows, None] > 0, table[: bag.rows], unknown)

    @torch.no_grad()
    def without_fold(self) -> Scorer:
        """The same model without bucket rows: an id beyond its table fails at run time."""
        strict = Scorer(self.inputs, self.embedding_dim, self.hidden, fold=False)
        state = self.state_dict()
        for bag in self.inputs.tabled:
            for part in ("deep_tables", "wide_tables"):
                state[f"{part}.{bag.name}"] = state[f"{part}.{bag.name}"][: bag.rows]
        strict.load_state_dict(state)
        return strict.eval()

    def save(self, folder: Path) -> None:
        """Write `config.json` and `weights.npz` (plain arrays, no pickle) into a folder."""
        folder.mkdir(parents=True, exist_ok=True)
        config = {"inputs": self.inputs.to_dict(), "embedding_dim": self.embedding_dim, "hidden": self.hidden}
        (folder / "config.json").write_text(json.dumps(config, indent=1))
        weights = {name: value.numpy() for name, value in self.state_dict().items()}
        np.savez(folder / "weights.npz", allow_pickle=False, **weights)

    @staticmethod
    def load(folder: Path) -> Scorer:
        """The inverse of save."""
        config = json.loads((folder / "config.json").read_text())
        model = Scorer(Inputs.from_dict(config["inputs"]), config["embedding_dim"], tuple(config["hidden"]))
        with np.load(folder / "weights.npz", allow_pickle=False) as weights:
            model.load_state_dict({name: torch.from_numpy(weights[name]) for name in weights.files})
        return model.eval()

    @torch.no_grad()
    def scores(self, ids: np.ndarray, dense: np.ndarray) -> np.ndarray:
        """Probabilities [N] of arrays."""
        parts = zip(torch.split(torch.from_numpy(ids), _ROWS), torch.split(torch.from_numpy(dense), _ROWS), strict=True)
        result: np.ndarray = torch.cat([self(*part)[:, 0] for part in parts]).numpy()
        return result


def _bag_sum(table: Tensor, rows: Tensor) -> Tensor:
    """Sum of the table's rows [N, columns] -> [N, dim]; a row of -1 adds nothing."""
    if rows.shape[1] == 1:
        return table[rows[:, 0]]
    there = (rows >= 0).unsqueeze(2).to(table.dtype)
    return (table[torch.clamp(rows, min=0)] * there).sum(dim=1)
