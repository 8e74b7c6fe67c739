"""A seeded set of Criteo's shape: 13 numbers, 26 categories with Zipf ids, and labels of a planted model.

python benchmarks/criteo_shaped.py --rows 4000000 --into /tmp/criteo   # train.parquet, and a tenth as valid.parquet
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

NUMBERS = [f"I{i}" for i in range(1, 14)]
CATEGORIES = [f"C{i}" for i in range(1, 27)]
SIZES = [1460, 583, 1_000_000, 1_000_000, 305, 24, 12_517, 633, 3, 93_145, 5_683, 1_000_000, 3_194, 27, 14_992,
         1_000_000, 10, 5_652, 2_173, 4, 1_000_000, 18, 15, 286_181, 105, 142_572]  # fmt: skip
"""Ids of the Kaggle set's categories, cut at a million."""
_GROUP = 1 << 17


def write(folder: Path, rows: int, seed: int = 7) -> tuple[Path, Path]:
    """Write both sets; returns their paths. About a quarter of the labels are 1."""
    folder.mkdir(parents=True, exist_ok=True)
    planted = _planted(np.random.default_rng(seed))
    parts = (folder / "train.parquet", rows, seed + 1), (folder / "valid.parquet", rows // 10, seed + 2)
    for path, count, one in parts:
        _write_part(path, count, np.random.default_rng(one), planted)
    return parts[0][0], parts[1][0]


def _planted(rng: np.random.Generator) -> list[tuple[np.ndarray, np.ndarray]]:
    """Of every id a first-order weight and a vector of four: labels follow a factorization machine."""
    return [(rng.normal(0, 0.4, size), rng.normal(0, 0.25, (size, 4))) for size in SIZES]


def _write_part(path: Path, rows: int, rng: np.random.Generator, planted: list[tuple[np.ndarray, np.ndarray]]) -> None:
    schema = pa.schema(
        [("label", pa.int8())] + [(n, pa.float32()) for n in NUMBERS] + [(c, pa.int64()) for c in CATEGORIES]
    )
    with pq.ParquetWriter(path, schema) as sink:
        for start in range(0, rows, _GROUP):
            sink.write_table(_rows(min(_GROUP, rows - start), rng, planted, schema))


def _rows(
    count: int, rng: np.random.Generator, planted: list[tuple[np.ndarray, np.ndarray]], schema: pa.Schema
) -> pa.Table:
    numbers = np.exp(rng.normal(1.0, 1.0, (count, len(NUMBERS)))).astype(np.float32) - 1
    ids = [np.minimum(rng.zipf(1.2, count) - 1, size * 10) % size for size in SIZES]
    first = sum(weights[i] for (weights, _), i in zip(planted, ids, strict=True))
    vectors = np.stack([v[i] for (_, v), i in zip(planted, ids, strict=True)])
    pairs = 0.5 * (vectors.sum(0) ** 2 - (vectors**2).sum(0)).sum(1)
    logit = -2.6 + 0.7 * first + pairs + 0.3 * (np.log1p(np.maximum(numbers, 0)) - 1).sum(1) / 3
    label = (rng.random(count) < 1 / (1 + np.exp(-logit))).astype(np.int8)
    return pa.table([label, *numbers.T, *ids], schema=schema)


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--rows", type=int, default=4_000_000)
    arguments.add_argument("--into", type=Path, default=Path("/tmp/criteo"))
    given = arguments.parse_args()
    print(*write(given.into, given.rows), sep="\n")
