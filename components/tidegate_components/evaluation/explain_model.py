"""`tidegate explain`: a model and rows in, importance and attributions out, with a report."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tidegate_components.evaluation.errors import EvaluationError
from tidegate_components.evaluation.explain import (
    Importance,
    attributions,
    input_names,
    permutation_importance,
    some_rows,
)
from tidegate_components.evaluation.metrics import auc
from tidegate_components.evaluation.page import cells, headline, page, section, table
from tidegate_components.evaluation.report import IMPORTANCE_NOTE, importance_table
from tidegate_components.storage import replacing

__all__ = ["Explained", "explain", "to_json", "write_explained"]

Array = np.ndarray[Any, Any]

_EXAMPLES = 3
_TELLING = 4


@dataclass(frozen=True)
class Explained:
    """What a model looks at on some rows: importances, and attributions [N, inputs] of scores [N]."""

    model: str
    auc: float
    names: list[str]
    importance: list[Importance]
    attributions: Array
    scores: Array
    labels: Array

    @property
    def mean_effect(self) -> dict[str, float]:
        """Mean of |attribution| by input, greatest first."""
        means = np.abs(self.attributions).mean(axis=0)
        return {self.names[i]: float(means[i]) for i in np.argsort(-means, kind="stable")}


def explain(
    model: Path, data: Path, rows: int = 2000, repeats: int = 5, seed: int = 7, label: str = "label"
) -> Explained:
    """Explain the model (folder of Scorer.save) on at most `rows` rows of a training-like Parquet file.

    Raises EvaluationError where the folder is no model, TrainingSetError where the rows lack a column or a class.
    """
    from tidegate_components.models.arrays import read_set
    from tidegate_components.models.scoring import Scorer

    if not (model / "config.json").is_file():
        raise EvaluationError(
            resource="model", field="--model", value=str(model), expected="the folder that training wrote",
            remedy="check the path",
        )  # fmt: skip
    scorer = Scorer.load(model)
    some = some_rows(read_set(data, scorer.inputs, label)[0], rows, seed)
    scores = scorer.scores(some.ids, some.dense)
    importance = permutation_importance(scorer.scores, some, scorer.inputs, repeats, seed)
    told = attributions(scorer, some)
    return Explained(
        model.name, auc(some.labels, scores), input_names(scorer.inputs), importance, told, scores, some.labels
    )


def write_explained(found: Explained, into: Path) -> None:
    """Write explanation.json, attributions.parquet (a row for each that was judged) and report.html into a folder."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {name: found.attributions[:, i] for i, name in enumerate(found.names)}
    with replacing(into) as beside:
        beside.mkdir()
        (beside / "explanation.json").write_text(json.dumps(to_json(found), indent=1))
        pq.write_table(
            pa.table({"score": found.scores, "label": found.labels, **columns}), beside / "attributions.parquet"
        )
        (beside / "report.html").write_text(_page(found))


def to_json(found: Explained) -> dict[str, Any]:
    """explanation.json."""
    return {
        "model": found.model, "rows": len(found.scores), "auc": found.auc,
        "importance": [asdict(one) for one in found.importance], "mean_effect": found.mean_effect,
    }  # fmt: skip


def _page(found: Explained) -> str:
    first = found.importance[0]
    told = f"{found.model} looks most at {first.name}: without it, AUC falls from {found.auc:.4f} by {first.loss:.4f}."
    losses = [(one.name, one.loss, one.low, one.high) for one in found.importance]
    parts = [
        headline(told, "plain"),
        section("What does it look at?", importance_table(losses), note=IMPORTANCE_NOTE),
        section("How far does each input move a score?", _effects(found), note=_EFFECT_NOTE),
        section("Single predictions", _examples(found), note=_EXAMPLE_NOTE),
    ]
    return page(f"What {found.model} looks at", f"On {len(found.scores):,} rows.", parts)


_EFFECT_NOTE = (
    "The score as it is, less the score without the input (a missing id, an empty list, a middling number): the mean "
    "size of that, in points of probability."
)
_EXAMPLE_NOTE = (
    "The same for single rows: the three greatest scores, three in the middle, the three least. What moved the score "
    "most comes first. All rows are in attributions.parquet."
)


def _effects(found: Explained) -> str:
    return table(
        ("Input", "Points, on average"), (cells(n, f"{100 * value:.2f}") for n, value in found.mean_effect.items())
    )


def _examples(found: Explained) -> str:
    order = np.argsort(-found.scores, kind="stable")
    middle = len(order) // 2
    chosen = dict.fromkeys([*order[:_EXAMPLES], *order[middle : middle + _EXAMPLES], *order[-_EXAMPLES:]])
    return table(("Row", "Score", "Clicked", "Why"), (_example(found, int(row)) for row in chosen), left={3})


def _example(found: Explained, row: int) -> str:
    effects = found.attributions[row]
    telling = np.argsort(-np.abs(effects), kind="stable")[:_TELLING]
    why = ", ".join(f"{found.names[i]} {100 * effects[i]:+.1f}" for i in telling)
    return cells(str(row), f"{found.scores[row]:.1%}", "yes" if found.labels[row] else "no", why, marks={3: "left"})
