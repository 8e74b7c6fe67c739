"""Judge a trained model on the test set, next to the two baselines of the same run."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tidegate_components.json_values import plain
from tidegate_components.storage import replacing

if TYPE_CHECKING:
    import numpy as np

    from tidegate_components.evaluation.estimates import Estimate
    from tidegate_components.evaluation.predictions import Rows
    from tidegate_components.models.arrays import Arrays
    from tidegate_components.models.inputs import Inputs
    from tidegate_components.models.scoring import Scorer

    Array = np.ndarray[Any, Any]

__all__ = ["MODEL", "POPULARITY", "REGRESSION", "Evaluation", "Slice", "evaluate", "user_rows"]

MODEL, POPULARITY, REGRESSION = "wide_deep", "popularity", "logistic_regression"
"""Contenders. The first is the trained model, whatever its architecture: the name is public."""

_TITLES = {"wide_deep": "Wide & Deep", "deepfm": "DeepFM", "dcn_v2": "DCN-V2", "dlrm": "DLRM"}
_METRICS = ("auc", "gauc", "logloss", "calibration", "ndcg_at_10")
_EXPLAINED_ROWS, _REPEATS, _DRIFT_ROWS = 4000, 3, 5000

Interval = tuple[float, float]


@dataclass(frozen=True)
class Slice:
    """A part of the test set: rows, share clicked, the metrics of model and regression, the model's intervals."""

    name: str
    rows: int
    click_rate: float
    model: dict[str, float]
    regression: dict[str, float]
    intervals: dict[str, Interval] = field(default_factory=dict)


@dataclass(frozen=True)
class Evaluation:
    """Metrics of `wide_deep`, `popularity` and `logistic_regression` on the same rows, and what explains them.

    `intervals` are by contender and metric, `differences` (model less baseline, low, high) by baseline and metric, of
    95 % with users as what is independent; `importance` lists (input, AUC lost without it, low, high), `drift` (column,
    PSI of test to training rows, share missing in the test, in training).
    """

    metrics: dict[str, dict[str, float]]
    slices: list[Slice]
    reliability: list[tuple[float, float, int]]
    rows: dict[str, int]
    test_from: str
    test_to: str
    title: str = "Wide & Deep"
    intervals: dict[str, dict[str, Interval]] = field(default_factory=dict)
    differences: dict[str, dict[str, tuple[float, float, float]]] = field(default_factory=dict)
    gains: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    importance: list[tuple[str, float, float, float]] = field(default_factory=list)
    drift: list[tuple[str, float, float, float]] = field(default_factory=list)

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
        return f"{self.title} {verb} better than both baselines: {found}."


def evaluate(model: Path, train_set: Path, validation_set: Path, test_set: Path, into: Path) -> Evaluation:
    """Score the test set with the model (folder of Scorer.save) and both baselines; writes `into` (JSON) too.

    Groups of GAUC and NDCG@10 are users. Raises TrainingSetError where a set cannot be read.
    """
    from tidegate_components.evaluation.metrics import gains, reliability
    from tidegate_components.models.arrays import read_set
    from tidegate_components.models.scoring import Scorer

    scorer = Scorer.load(model)
    train, validation, test = (read_set(path, scorer.inputs)[0] for path in (train_set, validation_set, test_set))
    contenders = _contenders(scorer, train, validation, test)
    measured = {name: _measured(rows) for name, rows in contenders.items()}
    found = Evaluation(
        metrics={name: _values(one) for name, one in measured.items()},
        slices=_slices(train.followed_by(validation), test, scorer.inputs, contenders),
        reliability=reliability(test.labels, contenders[MODEL].scores),
        rows={"train": len(train.labels), "validation": len(validation.labels), "test": len(test.labels)},
        **_times(test_set),
        title=_TITLES.get(scorer.said.name, scorer.said.name),
        intervals={name: _intervals(one) for name, one in measured.items()},
        differences={name: _differences(contenders[MODEL], contenders[name]) for name in (POPULARITY, REGRESSION)},
        gains={name: gains(rows.labels, rows.scores) for name, rows in contenders.items() if name != POPULARITY},
        importance=_importance(scorer, test),
        drift=_drift(test_set, train_set, {*scorer.inputs.numeric_columns, "label"}),
    )
    with replacing(into) as beside:
        beside.write_text(json.dumps(plain(asdict(found)), indent=1))
    return found


def _contenders(scorer: Scorer, train: Arrays, validation: Arrays, test: Arrays) -> dict[str, Rows]:
    from tidegate_components.evaluation.baselines import logistic_regression, popularity

    learned = train.followed_by(validation)
    scores = {
        MODEL: scorer.scores(test.ids, test.dense),
        POPULARITY: popularity(learned, test, scorer.inputs),
        REGRESSION: logistic_regression(train, validation, test, scorer.inputs),
    }
    users = test.ids[:, scorer.inputs.id_columns.index("user_id")]
    return {name: user_rows(test.labels, values, users) for name, values in scores.items()}


def user_rows(labels: Array, scores: Array, users: Array) -> Rows:
    """Labels, scores and users, each [N], as rows that can be judged."""
    import numpy as np

    from tidegate_components.evaluation.predictions import Rows
    from tidegate_components.evaluation.ranking import dense_codes

    return Rows(labels.astype(np.int8), scores.astype(np.float64), dense_codes(users))


def _measured(rows: Rows) -> dict[str, Estimate]:
    from tidegate_components.evaluation.measure import Settings, measure

    return measure(rows, Settings())


def _values(measured: dict[str, Estimate]) -> dict[str, float]:
    found = {name: measured[name].value for name in _METRICS}
    return {name: float("nan") if value is None else value for name, value in found.items()}


def _intervals(measured: dict[str, Estimate]) -> dict[str, Interval]:
    ends = {name: (measured[name].low, measured[name].high) for name in _METRICS}
    return {name: (low, high) for name, (low, high) in ends.items() if low is not None and high is not None}


def _differences(model: Rows, baseline: Rows) -> dict[str, tuple[float, float, float]]:
    from tidegate_components.evaluation.compare import Margins, compare
    from tidegate_components.evaluation.measure import Settings

    found = compare(model, baseline, Settings(), Margins({}, {}))
    told: dict[str, tuple[float, float, float]] = {}
    for name, one in found.items():
        if one.difference is not None and one.low is not None and one.high is not None:
            told[name] = (one.difference, one.low, one.high)
    return told


def _importance(scorer: Scorer, test: Arrays) -> list[tuple[str, float, float, float]]:
    from tidegate_components.evaluation.explain import permutation_importance, some_rows

    found = permutation_importance(scorer.scores, some_rows(test, _EXPLAINED_ROWS), scorer.inputs, _REPEATS)
    return [(one.name, one.loss, one.low, one.high) for one in found]


def _drift(test_set: Path, train_set: Path, columns: set[str]) -> list[tuple[str, float, float, float]]:
    import pyarrow.parquet as pq

    from tidegate_components.evaluation.drift import find_drift

    others = set(pq.read_schema(test_set).names) - columns
    found = find_drift(test_set, train_set, others, most=_DRIFT_ROWS)
    return [(one.column, one.psi, one.missing_now, one.missing_then) for one in found.columns]


def _times(test_set: Path) -> dict[str, str]:
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    ends = pc.min_max(pq.read_table(test_set, columns=["event_time"])["event_time"]).as_py()
    return {"test_from": ends["min"].isoformat(" ", "minutes"), "test_to": ends["max"].isoformat(" ", "minutes")}


def _slices(learned: Arrays, test: Arrays, inputs: Inputs, contenders: dict[str, Rows]) -> list[Slice]:
    import numpy as np

    from tidegate_components.evaluation.ranking import dense_codes

    user, item = (inputs.id_columns.index(column) for column in ("user_id", "item_id"))
    codes = dense_codes(np.concatenate([learned.ids[:, item], test.ids[:, item]]))
    shown = np.bincount(codes[: len(learned.labels)], minlength=int(codes.max()) + 1)[codes[len(learned.labels) :]]
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
    return [_slice(name, np.flatnonzero(mask), contenders) for name, mask in masks.items() if mask.any()]


def _slice(name: str, index: Array, contenders: dict[str, Rows]) -> Slice:
    model, linear = (contenders[who].take(index) for who in (MODEL, REGRESSION))
    found = _measured(model)
    rate = float(model.labels.mean())
    return Slice(name, len(index), rate, _values(found), _values(_measured(linear)), _intervals(found))
