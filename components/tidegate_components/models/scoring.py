"""The serving twin of every model: plain torch, ids and raw numbers in, probabilities out. ONNX is made of it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from tidegate_api.errors import TidegateError
from tidegate_components.models.config import Architecture
from tidegate_components.models.inputs import Inputs
from tidegate_components.models.ranker import Ranker, table_widths
from tidegate_components.models.taste import Taste

_ROWS = 4096
"""Scored at once: each holds the factors of a whole history."""
_FORMAT = 2
"""What the stored numbers mean; in 1 an id's first-order weight was the sum of its lanes, now it is their mean."""

__all__ = ["Scorer"]


class Scorer(nn.Module):
    """A model for serving: P(click) from ids [N, C] Int64 and dense [N, D] Float32, as [N, 1] Float32."""

    def __init__(self, inputs: Inputs, said: Architecture, taste: Taste | None = None, fold: bool = True) -> None:
        super().__init__()
        self.inputs = inputs
        self.said = said
        self.fold = fold
        self.ranker = Ranker(inputs, said, taste, fold)
        widths = table_widths(inputs, said)
        self.tables = nn.ParameterDict({
            bag.name: torch.zeros(bag.size if fold else bag.rows, widths[bag.name]) for bag in inputs.tables
        })  # fmt: skip
        self.of_slot = [bag.shares or bag.name for bag in inputs.tabled for _ in bag.columns]
        self.of_slot += [bag.name for bag in inputs.crosses]

    def forward(self, ids: Tensor, dense: Tensor) -> Tensor:
        """Probabilities [N, 1]."""
        columns = ids.T
        rows = self.ranker.lookup(columns)
        values = torch.cat([self.tables[name][row] for name, row in zip(self.of_slot, rows, strict=True)], dim=1)
        return torch.sigmoid(self.ranker(values, columns, dense, self.ranker.taste(ids)))[:, None]

    @torch.no_grad()
    def cover_untrained(self, touched: dict[str, Tensor]) -> None:
        """Give every row that training never touched (`touched` by table, Bool [size]) the mean of the bucket rows."""
        for bag in self.inputs.tables:
            table, seen = self.tables[bag.name], touched[bag.name][:, None]
            if not bag.crossed:
                table[:] = torch.where(seen, table, table[bag.rows : bag.rows + bag.buckets].mean(dim=0))

    @torch.no_grad()
    def without_fold(self) -> Scorer:
        """The same model without bucket rows: an id beyond its table fails at run time."""
        strict = Scorer(self.inputs, self.said, fold=False)
        state = self.state_dict()
        for bag in self.inputs.tables:
            state[f"tables.{bag.name}"] = state[f"tables.{bag.name}"][: bag.rows]
        strict.load_state_dict(state)
        return strict.eval()

    def save(self, folder: Path) -> None:
        """Write `config.json` and `weights.npz` (plain arrays, no pickle) into a folder."""
        folder.mkdir(parents=True, exist_ok=True)
        said = {"inputs": self.inputs.to_dict(), "model": self.said.model_dump(mode="json")}
        config = {"format": _FORMAT} | said
        (folder / "config.json").write_text(json.dumps(config, indent=1))
        weights = {name: value.numpy() for name, value in self.state_dict().items()}
        np.savez(folder / "weights.npz", allow_pickle=False, **weights)

    @staticmethod
    def load(folder: Path) -> Scorer:
        """The inverse of save. Raises TidegateError where another release wrote numbers of another meaning."""
        config = json.loads((folder / "config.json").read_text())
        if config.get("format") != _FORMAT:
            raise TidegateError(
                resource=f"model {folder}", field="format", value=config.get("format", 1), expected=str(_FORMAT),
                remedy="train it anew: an earlier release wrote it, whose weights mean something else",
            )  # fmt: skip
        model = Scorer(Inputs.from_dict(config["inputs"]), Architecture(**config["model"]))
        with np.load(folder / "weights.npz", allow_pickle=False) as weights:
            model.load_state_dict({name: torch.from_numpy(weights[name]) for name in weights.files})
        return model.eval()

    @torch.no_grad()
    def scores(self, ids: np.ndarray, dense: np.ndarray) -> np.ndarray:
        """Probabilities [N] of arrays."""
        parts = zip(torch.split(torch.from_numpy(ids), _ROWS), torch.split(torch.from_numpy(dense), _ROWS), strict=True)
        result: np.ndarray = torch.cat([self(*part)[:, 0] for part in parts]).numpy()
        return result
