"""The package that is served, and the rows that it is asked: a DeepFM of 16 categories and 4 numbers, drawn weights."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

NAME = "ctr-ranker"
CATEGORIES, NUMBERS = 16, 4
_ROWS, _MOST_IDS = 20_000, 100_000


@dataclass(frozen=True)
class Asked:
    """One request's rows, and the scores that are right for them."""

    ids: np.ndarray[Any, Any]
    dense: np.ndarray[Any, Any]
    scores: np.ndarray[Any, Any]


def onnx_of(package: Path) -> Path:
    return package / "repository" / NAME / "1" / "model.onnx"


def made(folder: Path) -> Path:
    """The package, by `tidegate`'s own packaging with its defaults; embedding 16, hidden layers 128 and 64."""
    import torch
    from criteo_shaped import CATEGORIES as COLUMNS
    from criteo_shaped import NUMBERS as NUMERICS
    from criteo_shaped import SIZES, write

    from tidegate_components.models.config import parse_config
    from tidegate_components.models.fitting import fit_inputs
    from tidegate_components.models.scoring import Scorer
    from tidegate_components.packaging.package import package_model
    from tidegate_components.packaging.run_folder import read_run, write_report

    sample, _ = write(folder / "data", _ROWS)
    sample = sample.rename(folder / "sample.parquet")
    config = parse_config({
        "name": NAME, "model": {"name": "deepfm", "embedding_dim": 16, "hidden": [128, 64]},
        "inputs": {
            "numeric": [{"column": column, "transform": "log1p"} for column in NUMERICS[:NUMBERS]],
            "categorical": [
                {"column": column, "rows": min(size, _MOST_IDS)}
                for column, size in list(zip(COLUMNS, SIZES, strict=True))[:CATEGORIES]
            ],
        },
    })  # fmt: skip
    scorer = Scorer(fit_inputs(config, [sample]), config.model)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for table in scorer.tables.values():
            table.copy_(torch.randn(table.shape, generator=generator) * 0.1)
    scorer.save(folder / "model")
    (folder / "metrics.json").write_text(json.dumps({"auc": 0.5}))
    run = read_run(folder, NAME)
    report = write_report(run, folder / "report.html")
    package_model(run.model, run.sample, report, folder / "package", run.provenance)
    return folder / "package"


def asked(package: Path, rows: int) -> Asked:
    """The first rows of the sample, as the package reads them."""
    from tidegate_components.models.arrays import read_set
    from tidegate_components.models.scoring import Scorer
    from tidegate_components.packaging.onnx_export import onnx_scores

    found, _ = read_set(package.parent / "sample.parquet", Scorer.load(package.parent / "model").inputs)
    ids, dense = found.ids[:rows], found.dense[:rows]
    return Asked(ids, dense, onnx_scores(onnx_of(package), ids, dense))
