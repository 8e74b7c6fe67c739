"""Judge a trained model on the test set, next to the two baselines of the same run."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tidegate_components.evaluation.metrics import all_metrics, reliability
from tidegate_components.storage import replacing

if TYPE_CHECKING:
    import numpy as np

    from tidegate_components.models.arrays import Arrays
    from tidegate_components.models.inputs import Inputs

    Array = np.ndarray[Any, Any]

__all__ = ["Evaluation", "Slice", "evaluate"]

MODEL, POPULARITY, REGRESSION = "wide_deep", "popularity", "logistic_regression"


@dataclass(frozen=True)
class Slice:
    """A part of the test set: rows, share clicked, and the metrics of the model and the regression on it."""

    name: str
    rows: int
    click_rate: float
    model: dict[str, float]
    regression: dict[str, float]


@dataclass(frozen=True)
class Evaluation:
    """Metrics of `wide_deep`, `popularity` and `logistic_regression` on the same rows, and what explains them."""

    metrics: dict[str, dict[str, float]]
    slices: list[Slice]
    reliability: list[tuple[float, float, int]]
    rows: dict[str, int]
    test_from: str
    test_to: str

    @property
    def beats_baselines(self) -> bool:
        """Whether the model's AUC is above both baselines'."""
        return all(self.metrics[MODEL]["auc"] > self.metrics[name]["auc"] for name in (POPULARITY, REGRESSION))

    @property
    def headline(self) -> str:
        """The outcome in one sentence."""
        model, pop, linear = (self.metrics[name]["auc"] for name in (MODEL, POPULARITY, REGRESSION))
        verb = "ranks" if self.beats_baselines else "does not rank"
        found = f"AUC {model:.4f}, logistic regression {linear:.4f}, popularity {pop:.4f}"
        return f"Wide & Deep {verb} better than both baselines: {found}."


def evaluate(model: Path, train_set: Path, validation_set: Path, test_set: Path, into: Path) -> Evaluation:
    """Score the test set with the model (folder of Scorer.save) and both baselines; writes `into` (JSON) too.

    Groups of GAUC and NDCG@10 are users. Raises TrainingSetError where a set cannot be read.
    """
    from tidegate_components.evaluation.baselines import logistic_regression, popularity
    from tidegate_components.models.arrays import read_set
    from tidegate_components.models.scoring import Scorer

    scorer = Scorer.load(model)
    train, validation, test = (read_set(path, scorer.inputs)[0] for path in (train_set, validation_set, test_set))
    learned = train.followed_by(validation)
    scores = {
        MODEL: scorer.scores(test.ids, test.dense),
        POPULARITY: popularity(learned, test, scorer.inputs),
        REGRESSION: logistic_regression(train, validation, test, scorer.inputs),
    }
    users = test.ids[:, scorer.inputs.id_columns.index("user_id")]
    found = Evaluation(
        metrics={name: all_metrics(test.labels, values, users) for name, values in scores.items()},
        slices=_slices(learned, test, scorer.inputs, scores),
        reliability=reliability(test.labels, scores[MODEL]),
        rows={"train": len(train.labels), "validation": len(validation.labels), "test": len(test.labels)},
        **_times(test_set),
    )
    with replacing(into) as beside:
        beside.write_text(json.dumps(asdict(found), indent=1))
    return found


def _times(test_set: Path) -> dict[str, str]:
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    ends = pc.min_max(pq.read_table(test_set, columns=["event_time"])["event_time"]).as_py()
    return {"test_from": ends["min"].isoformat(" ", "minutes"), "test_to": ends["max"].isoformat(" ", "minutes")}


def _slices(learned: Arrays, test: Arrays, inputs: Inputs, scores: dict[str, Array]) -> list[Slice]:
    import numpy as np

    user, item = (inputs.id_columns.index(column) for column in ("user_id", "item_id"))
    shown = np.bincount(learned.ids[:, item], minlength=int(test.ids[:, item].max()) + 1)[test.ids[:, item]]
    known = np.isin(test.ids[:, user], learned.ids[:, user])
    masks = {
        "users seen in training": known,
        "new users": ~known,
        "items shown at least 100 times in training": shown >= 100,
        "items shown less often": shown < 100,
    }
    if "gender" in inputs.id_columns:
        gender = test.ids[:, inputs.id_columns.index("gender")]
        masks |= {"women": gender == 1, "men": gender == 2}
    users = test.ids[:, user]
    return [_slice(name, mask, test.labels, users, scores) for name, mask in masks.items() if mask.any()]


def _slice(name: str, mask: Array, labels: Array, users: Array, scores: dict[str, Array]) -> Slice:
    model, linear = (all_metrics(labels[mask], scores[who][mask], users[mask]) for who in (MODEL, REGRESSION))
    return Slice(name, int(mask.sum()), float(labels[mask].mean()), model, linear)
