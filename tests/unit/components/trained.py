"""The shop's model, trained and packaged by the rooms themselves."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from tidegate_api.model_package import package_digest
from tidegate_components.evaluation.judge import Evaluation, Slice, evaluate
from tidegate_components.evaluation.report import write_report
from tidegate_components.events.clean import clean
from tidegate_components.events.join import join_samples
from tidegate_components.events.lake import land
from tidegate_components.features.compute import compute_features
from tidegate_components.models.config import parse_config
from tidegate_components.packaging.layout import SUMS
from tidegate_components.packaging.package import Provenance, package_model
from tidegate_components.training.loop import train
from tidegate_components.training.split import split_by_time
from unit.components.shop import parsed, shop_views, write_shop

CONFIG = parse_config({
    "model": {"name": "wide_deep", "embedding_dim": 4, "hidden": [8], "dropout": 0.2},
    "training": {
        "epochs": 2, "batch_size": 256, "learning_rate": 0.002, "weight_decay": 1e-4, "refit": True, "threads": 1,
        "sparse": {"learning_rate": 0.002},
    },
})  # fmt: skip
PROVENANCE = Provenance("ctr-ranker", "run-1", "code-1", "sha256:" + "0" * 64, {"auc": 0.7})


@dataclass(frozen=True)
class Trained:
    """Where everything lies after a training of the shop."""

    folder: Path
    digest: str
    evaluation: Evaluation

    @property
    def package(self) -> Path:
        return self.folder / "package"

    @property
    def sets(self) -> tuple[Path, Path, Path]:
        return self.folder / "train.parquet", self.folder / "validation.parquet", self.folder / "test.parquet"


def train_shop(folder: Path) -> None:
    clean(write_shop(folder / "raw"), folder / "clean", folder / "quarantine")
    land(folder / "clean", folder / "lake")
    join_samples(folder / "clean", folder / "samples.parquet")
    views = [parsed(body) for body in shop_views()]
    compute_features(folder / "samples.parquet", views, folder / "features.parquet", folder / "lake")
    sets = [folder / f"{name}.parquet" for name in ("train", "validation", "test")]
    split_by_time(folder / "features.parquet", *sets)
    train(sets[0], sets[1], folder / "model", CONFIG)
    evaluation = evaluate(folder / "model", *sets, folder / "evaluation.json")
    write_report(evaluation, "ctr-ranker", {"data": "shop"}, folder / "report.html")
    package_model(folder / "model", sets[2], folder / "report.html", folder / "package", PROVENANCE)


def load_shop(folder: Path) -> Trained:
    found = json.loads((folder / "evaluation.json").read_text())
    slices = [Slice(**part) for part in found.pop("slices")]
    evaluation = Evaluation(**found, slices=slices)
    return Trained(folder, package_digest((folder / "package" / SUMS).read_bytes()), evaluation)
