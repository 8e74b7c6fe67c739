"""Output folders of a training run, made without training: a model with drawn weights, rows that it explains."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from tidegate_components.models.arrays import read_set
from tidegate_components.models.config import parse_config
from tidegate_components.models.fitting import fit_inputs
from tidegate_components.models.scoring import Scorer

NAME = "rich-ranker"
INPUTS: dict[str, Any] = {
    "numeric": [{"column": "price", "transform": "log1p", "missing": 1.0}, "age"],
    "categorical": [
        {"column": "user", "lookup": "hash", "rows": 400},
        {"column": "item", "lookup": "vocabulary", "min_count": 2},
        {"column": "slot"},
    ],
    "multi_hot": [{"column": "tags", "max_length": 3, "rows": 20, "pooling": "mean"}],
    "sequence": [{"column": "seen", "max_length": 4, "pooling": "attention", "target": "item", "shares": "item",
                  "lookup": "vocabulary"}],
}  # fmt: skip


def rich_table(rows: int, seed: int = 7) -> pa.Table:
    """Texts, lists (some empty, some null), missing numbers, missing ids."""
    rng = np.random.default_rng(seed)
    nulls = rng.random(rows) < 0.05

    def lists(most: int, length: int) -> pa.Array:
        drawn = [rng.integers(0, most, rng.integers(0, length + 1)).tolist() for _ in range(rows)]
        return pa.array([None if rng.random() < 0.02 else one for one in drawn], pa.list_(pa.int64()))

    return pa.table({
        "request": np.arange(rows),
        "user": pa.array([f"u-{u}" for u in rng.zipf(1.3, rows) % 500], mask=nulls),
        "item": pa.array(rng.zipf(1.3, rows) % 300, pa.int64()),
        "slot": pa.array(rng.integers(0, 9, rows), mask=rng.random(rows) < 0.01),
        "price": pa.array(rng.exponential(20, rows), mask=nulls),
        "age": rng.normal(40, 10, rows).astype(np.float32),
        "tags": lists(20, 5),
        "seen": lists(300, 6),
        "label": (rng.random(rows) < 0.3).astype(np.int64),
    })  # fmt: skip


@dataclass(frozen=True)
class Run:
    """The folder and what its model says of the sample."""

    folder: Path
    table: pa.Table
    scores: np.ndarray[Any, Any]


def rich_run(folder: Path, architecture: str, rows: int = 12_000) -> Run:
    """A run of one architecture over every kind of input; labels are drawn from the model's own scores."""
    folder.mkdir(parents=True)
    table, sample = rich_table(rows), folder / "sample.parquet"
    pq.write_table(table, sample)
    config = parse_config({"name": NAME, "model": {"name": architecture, "embedding_dim": 16, "hidden": [64, 32]},
                           "inputs": INPUTS})  # fmt: skip
    inputs = fit_inputs(config, [sample])
    torch.manual_seed(5)
    scorer = drawn(Scorer(inputs, config.model))
    arrays, _ = read_set(sample, inputs)
    scores = scorer.scores(arrays.ids, arrays.dense)
    labels = (np.random.default_rng(1).random(rows) < scores).astype(np.int64)
    table = table.set_column(table.column_names.index("label"), "label", pa.array(labels))
    pq.write_table(table, sample)
    scorer.save(folder / "model")
    (folder / "metrics.json").write_text(json.dumps({"auc": {"value": 0.7, "low": 0.6}, "examples_per_second": 9.5}))
    (folder / "run.json").write_text(json.dumps({"name": NAME, "run": "run-7", "settings": {"seed": 7}}))
    return Run(folder, table, scores)


def drawn(scorer: Scorer) -> Scorer:
    """Tables as wide as trained ones: without, every score would be the same."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for table in scorer.tables.values():
            table.copy_(torch.randn(table.shape, generator=generator) * 0.6)
    return scorer.eval()
