"""FuxiCTR's models on MovieLens-100k, with settings found by random search; quality.py runs it where FuxiCTR is.

Models are put together from the package's own layers, as its model zoo describes them: its wheel holds no zoo. They get
what Tidegate's model gets: ids, genres, the 64 films that the user rated before with whether they were liked, and the
numbers of the feature views, standardized. Search and epochs go by LogLoss on the validation set, and the chosen
settings learn anew from training and validation set together for as many epochs, as ours do.
"""

from __future__ import annotations

import json
import random
import sys
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from fuxictr.features import FeatureMap
from fuxictr.pytorch.layers import (
    CrossNetV2,
    DIN_Attention,
    FactorizationMachine,
    FeatureEmbedding,
    FeatureEmbeddingDict,
    LogisticRegression,
    MLP_Block,
)
from fuxictr.pytorch.models import BaseModel
from torch import Tensor, nn

BATCH, MOST_EPOCHS, PATIENCE = 1024, 12, 2
IDS = ("user_id", "item_id", "gender", "occupation", "release_year")
GENRES = [f"genre_{n}" for n in range(1, 7)]
OPINIONS = [f"user-history__opinion_{n}" for n in range(1, 65)]
COUNTS = [f"{view}__{kind}_365d" for view in ("item-popularity", "user-activity") for kind in ("impressions", "clicks")]
MEANS = ["item-popularity__mean_rating_365d", "user-activity__mean_rating_365d"]
NUMBERS = ["age", *COUNTS, *MEANS, "item_share", "user_share"]
CHOICES: dict[str, list[Any]] = {
    "rate": [0.0005, 0.001, 0.002],
    "dim": [4, 8, 16],
    "regularizer": [0, 1e-6, 1e-5, 1e-4],
    "hidden": [[64, 32], [128, 64], [256, 128]],
    "dropout": [0.0, 0.2, 0.5],
}
Settings = dict[str, Any]


def main() -> None:
    folder, name, trials, into = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), Path(sys.argv[4])
    train, valid, test = (pq.read_table(folder / f"{part}_set") for part in ("train", "validation", "test"))
    learned = Encoder(train)
    sets = learned.of(train), learned.of(valid)
    drawn = random.Random(7)
    tried = [{key: drawn.choice(values) for key, values in CHOICES.items()} for _ in range(trials)]
    found = [(*learn(name, settings, *sets)[:2], settings) for settings in tried]
    loss, epochs, settings = min(found, key=lambda one: one[0])
    both = pa.concat_tables([train, valid])
    known = Encoder(both)
    model = learn(name, settings, known.of(both), None, epochs)[2]
    data = known.of(test)
    scores = scored(model, data)
    users = test["user_id"]
    pq.write_table(pa.table({"label": test["label"], "score": scores.numpy().astype("f8"), "user_id": users}), into)
    print(json.dumps({"settings": settings, "epochs": epochs, "validation_logloss": loss}))


class Encoder:
    """Columns to tensors, by what a training set knows: unknown ids share row 1, row 0 of a sequence is empty."""

    def __init__(self, train: pa.Table) -> None:
        self.known = {c: np.unique(np.asarray(train[c])) for c in IDS}
        numbers = self._numbers(train)
        self.mean, self.std = numbers.mean(axis=0), numbers.std(axis=0) + 1e-6

    def of(self, table: pa.Table) -> dict[str, Tensor]:
        opinions = np.stack([np.asarray(table[c].fill_null(0)) for c in OPINIONS], axis=1)
        film = self._code("item_id", opinions // 2)
        there = opinions > 1
        numbers = ((self._numbers(table) - self.mean) / self.std).clip(-4, 4)
        found = {c: self._code(c, np.asarray(table[c])) for c in IDS}
        found |= {c: numbers[:, n].astype("f4") for n, c in enumerate(NUMBERS)}
        found["genres"] = np.stack([np.asarray(table[c]) for c in GENRES], axis=1)
        found["films"] = np.where(there, film, 0)
        found["liked"] = np.where(there, opinions % 2 + 1, 0)
        found["opinions"] = np.where(there, 2 * film + opinions % 2, 0)
        found["label"] = np.asarray(table["label"]).astype("f4")
        return {name: torch.from_numpy(np.ascontiguousarray(values)) for name, values in found.items()}

    def _code(self, column: str, values: Any) -> Any:
        known = self.known[column]
        at = np.searchsorted(known, values).clip(max=len(known) - 1)
        return np.where(known[at] == values, at + 2, 1)

    def _numbers(self, table: pa.Table) -> Any:
        values = {c: np.nan_to_num(np.asarray(table[c].cast(pa.float64()).fill_null(0.0))) for c in COUNTS + MEANS}
        for c in MEANS:
            values[c] = np.where(values[c] == 0, 3.5, values[c])
        shares = [
            (values[f"{view}__clicks_365d"] + 5.5) / (values[f"{view}__impressions_365d"] + 10)
            for view in ("item-popularity", "user-activity")
        ]
        logs = [np.log1p(values[c]) for c in COUNTS]
        return np.stack([np.asarray(table["age"]).astype("f8"), *logs, *(values[c] for c in MEANS), *shares], axis=1)


def feature_map(data: dict[str, Tensor], dim: int, sequences: tuple[str, ...]) -> Any:
    """FuxiCTR's description of the columns; `sequences` are pooled, but for those of attention."""
    known = FeatureMap("movielens", "/tmp")
    features = {c: {"source": "", "type": "categorical", "vocab_size": int(data[c].max()) + 2} for c in IDS}
    features["item_id"]["vocab_size"] = features["user_id"]["vocab_size"] = 2000
    features |= {c: {"source": "", "type": "numeric"} for c in NUMBERS}
    sizes = {"genres": 32, "films": 2000, "liked": 3, "opinions": 4000}
    for c in ("genres", *sequences):
        features[c] = {"source": "", "type": "sequence", "vocab_size": sizes[c], "padding_idx": 0, "max_len": 64}
        if c in ("genres", "opinions"):
            features[c]["feature_encoder"] = "layers.MaskedAveragePooling()"
    if "films" in sequences:
        features["films"]["share_embedding"] = "item_id"
    known.features, known.labels, known.default_emb_dim = OrderedDict(features), ["label"], dim
    known.num_fields = len(features)
    return known


class Model(BaseModel):
    """One of the zoo's models: `WideDeep`, `DeepFM`, `DCNv2` (side by side with its layers) or `DIN`."""

    def __init__(self, name: str, known: Any, settings: Settings) -> None:
        regularizer = settings["regularizer"] or None
        quiet = {"gpu": -1, "verbose": 0, "model_root": "/tmp", "metrics": ["logloss"]}
        super().__init__(known, name, embedding_regularizer=regularizer, **quiet)
        dim = settings["dim"]
        width = known.num_fields * dim
        self.first = LogisticRegression(known) if name == "WideDeep" else None
        self.fm = FactorizationMachine(known) if name == "DeepFM" else None
        self.cross = CrossNetV2(width, 3) if name == "DCNv2" else None
        self.attention = DIN_Attention(dim, attention_units=[32]) if name == "DIN" else None
        self.vectors = (FeatureEmbeddingDict if name == "DIN" else FeatureEmbedding)(known, dim)
        last = settings["hidden"][-1]
        deep = {"hidden_units": settings["hidden"], "dropout_rates": settings["dropout"], "hidden_activations": "ReLU"}
        width_in = (known.num_fields - 1) * dim if name == "DIN" else width
        self.mlp = MLP_Block(input_dim=width_in, output_dim=None if name == "DCNv2" else 1, **deep)
        self.out = nn.Linear(width + last, 1) if name == "DCNv2" else None
        self.compile("adam", "binary_crossentropy", settings["rate"])
        self.reset_parameters()
        self._max_gradient_norm = 10.0

    def forward(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        x = self.get_inputs(inputs)
        if self.attention is not None:
            return {"y_pred": self.output_activation(self.mlp(self._attended(x)))}
        vectors = self.vectors(x)
        flat = vectors.flatten(1)
        if self.cross is not None:
            return {"y_pred": self.output_activation(self.out(torch.cat([self.cross(flat), self.mlp(flat)], dim=1)))}
        score = self.mlp(flat)
        score = score + self.first(x) if self.first is not None else score
        score = score + self.fm(x, vectors) if self.fm is not None else score
        return {"y_pred": self.output_activation(score)}

    def _attended(self, x: dict[str, Tensor]) -> Tensor:
        """What a user thought of a film is the film's vector and one of liked or not, together."""
        vectors = self.vectors(x)
        history = vectors.pop("films") + vectors.pop("liked")
        history = self.attention(vectors["item_id"], history, x["films"] > 0)
        return torch.cat([*vectors.values(), history], dim=1)


def learn(
    name: str, settings: Settings, train: dict[str, Tensor], valid: dict[str, Tensor] | None, epochs: int = MOST_EPOCHS
) -> tuple[float, int, Any]:
    """The least LogLoss on `valid`, after how many epochs, and the model; without `valid` all epochs are run."""
    torch.manual_seed(7)
    sequences = ("films", "liked") if name == "DIN" else ("opinions",)
    left_out = {"films", "liked", "opinions"} - set(sequences)
    train = {c: values for c, values in train.items() if c not in left_out}
    model = Model(name, feature_map(train, settings["dim"], sequences), settings)
    best = (float("inf"), 0)
    for epoch in range(1, epochs + 1):
        model.train()
        for rows in torch.split(torch.randperm(len(train["label"])), BATCH):
            model.train_step({c: values[rows] for c, values in train.items()})
        if valid is None:
            continue
        loss = float(nn.functional.binary_cross_entropy(scored(model, valid), valid["label"]))
        if loss < best[0]:
            best = (loss, epoch)
        elif epoch - best[1] >= PATIENCE:
            break
    return *best, model


@torch.no_grad()
def scored(model: Any, data: dict[str, Tensor]) -> Tensor:
    model.eval()
    given = {c: values for c, values in data.items() if c in model.feature_map.features}
    parts = [
        model({c: values[start : start + 8192] for c, values in given.items()})["y_pred"]
        for start in range(0, len(data["label"]), 8192)
    ]
    return torch.cat(parts).squeeze(1).clamp(1e-6, 1 - 1e-6)


if __name__ == "__main__":
    main()
