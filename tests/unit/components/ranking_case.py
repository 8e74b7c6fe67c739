"""A small set with every kind of input, and configurations that read it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tidegate_components.models.config import Config, parse_config

INPUTS: dict[str, Any] = {
    "numeric": [{"column": "price", "transform": "log1p"}, {"column": "age", "missing": 30.0}],
    "categorical": [
        {"column": "user", "buckets": 2, "unknown_share": 0.1},
        {"column": "city", "lookup": "hash", "rows": 50},
        {"column": "item", "lookup": "vocabulary", "min_count": 2},
    ],
    "multi_hot": [{"column": "tags", "rows": 20, "max_length": 4, "pooling": "mean"}],
    "sequence": [{"column": "seen", "shares": "item", "max_length": 5, "pooling": "attention", "target": "item"}],
}
NAMES = ("wide_deep", "deepfm", "dcn_v2", "dlrm")


def config(name: str = "deepfm", **training: Any) -> Config:
    crosses = [{"of": ["user", "city"], "rows": 97}] if name in {"wide_deep", "deepfm"} else []
    model = {"name": name, "embedding_dim": 8, "hidden": [16], "cross_layers": 2, "bottom": [8]}
    said = {"batch_size": 128, "threads": 1, "learning_rate": 0.01, "sparse": {"learning_rate": 0.1}, **training}
    return parse_config({"model": model, "inputs": {**INPUTS, "crosses": crosses}, "training": said})


def table(rows: int, seed: int = 3, items: int = 40) -> pa.Table:
    """Labels follow user and item; some ids, texts, numbers and lists are missing."""
    rng = np.random.default_rng(seed)
    user, item = rng.integers(0, 60, rows), rng.integers(0, items, rows) * 1_000_003
    logit = 1.5 * np.sin(user) + 1.5 * np.cos(item)
    return pa.table({
        "label": (rng.random(rows) < 1 / (1 + np.exp(-logit))).astype(np.int8),
        "price": pa.array(rng.exponential(9, rows).astype(np.float32), mask=rng.random(rows) < 0.05),
        "age": pa.array(rng.integers(18, 80, rows), mask=rng.random(rows) < 0.1),
        "user": pa.array(user, mask=rng.random(rows) < 0.02),
        "city": pa.array([f"city {n}" for n in rng.integers(0, 200, rows)], mask=rng.random(rows) < 0.02),
        "item": item,
        "tags": [rng.integers(0, 20, n).tolist() for n in rng.integers(0, 7, rows)],
        "seen": [(rng.integers(0, items, n) * 1_000_003).tolist() for n in rng.integers(0, 8, rows)],
    })  # fmt: skip


def sets(folder: Path, rows: int = 1000) -> tuple[Path, Path]:
    train, valid = folder / "train.parquet", folder / "valid.parquet"
    pq.write_table(table(rows, 3), train, row_group_size=300)
    pq.write_table(table(rows // 2, 4, items=45), valid)
    return train, valid
