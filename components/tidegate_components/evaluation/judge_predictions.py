"""`tidegate evaluate`: predictions in, metrics.json and report.html out."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tidegate_components.evaluation.compare import Compared, Margins, compare, verdict_of
from tidegate_components.evaluation.estimates import Estimate
from tidegate_components.evaluation.gate import Verdict
from tidegate_components.evaluation.measure import Settings, measure
from tidegate_components.evaluation.metrics import gains, reliability
from tidegate_components.evaluation.predictions import (
    Columns,
    Predictions,
    Rows,
    parts_of,
    read_baseline,
    read_predictions,
)
from tidegate_components.json_values import plain
from tidegate_components.storage import replacing

if TYPE_CHECKING:
    from tidegate_components.evaluation.drift import Drift

__all__ = ["Asked", "Judged", "Part", "judge_predictions", "write_judged"]

Say = Callable[[str], None]


@dataclass(frozen=True)
class Asked:
    """What is to be judged: the files, what their columns are, and how."""

    predictions: Path
    columns: Columns
    settings: Settings = field(default_factory=Settings)
    baseline: Path | None = None
    baseline_score: str | None = None
    margins: Margins = field(default_factory=lambda: Margins({}, {}))
    reference: Path | None = None


@dataclass(frozen=True)
class Part:
    """A slice of the rows: its name, rows, share clicked and metrics."""

    column: str
    name: str
    rows: int
    click_rate: float
    metrics: dict[str, Estimate]


@dataclass(frozen=True)
class Judged:
    """All that the report tells."""

    rows: int
    groups: int | None
    click_rate: float
    metrics: dict[str, Estimate]
    reliability: list[tuple[float, float, int]]
    slices: list[Part]
    gains: dict[str, list[tuple[float, float]]]
    compared: dict[str, Compared]
    verdict: Verdict | None
    asked: Asked

    def to_json(self) -> dict[str, Any]:
        """metrics.json: each metric as {value, low, high} at the top, null for what is not defined."""
        found: dict[str, Any] = {name: one.to_json() for name, one in self.metrics.items()}
        found |= {"rows": self.rows, "groups": self.groups, "click_rate": self.click_rate}
        found |= {"confidence": self.asked.settings.confidence}
        bins = [{"score": score, "clicked": clicked, "rows": rows} for score, clicked, rows in self.reliability]
        found |= {"reliability": bins, "slices": [_part_json(part) for part in self.slices]}
        if self.verdict is not None:
            by_metric = {name: asdict(one) for name, one in self.compared.items()}
            found["verdict"] = {**asdict(self.verdict), "metrics": by_metric}
        checked: dict[str, Any] = plain(found)
        return checked

    def to_text(self, drift: Drift | None = None) -> str:
        """metrics.json as it is written."""
        more = {} if drift is None else {"drift": plain(asdict(drift))}
        return json.dumps({**self.to_json(), **more}, indent=1, default=str, allow_nan=False)


def _part_json(part: Part) -> dict[str, Any]:
    metrics = {name: one.to_json() for name, one in part.metrics.items()}
    return {
        "column": part.column, "name": part.name, "rows": part.rows, "click_rate": part.click_rate, **metrics,
    }  # fmt: skip


def judge_predictions(asked: Asked, say: Say = lambda text: None) -> Judged:
    """Judge the predictions, and compare them with the baseline where there is one.

    Raises EvaluationError for what cannot be judged. `say` is told what goes on.
    """
    given = read_predictions(asked.predictions, asked.columns)
    rows = given.rows
    say(f"{given.name}: {len(rows.labels):,} rows")
    found = measure(rows, asked.settings)
    slices = _slices(given, asked.settings, say)
    baseline = _baseline(asked, given, say)
    compared = {} if baseline is None else compare(rows, baseline, asked.settings, asked.margins)
    curves = {"these predictions": rows} | ({} if baseline is None else {"baseline": baseline})
    return Judged(
        rows=len(rows.labels),
        groups=None if rows.codes is None else int(rows.codes.max()) + 1,
        click_rate=_click_rate(rows),
        metrics=found,
        reliability=reliability(rows.labels, rows.scores, asked.settings.bins, rows.weights),
        slices=slices,
        gains={name: gains(one.labels, one.scores, one.weights) for name, one in curves.items()},
        compared=compared,
        verdict=verdict_of(compared, asked.settings.confidence) if compared else None,
        asked=asked,
    )


def _click_rate(rows: Rows) -> float:
    import numpy as np

    return float(np.average(rows.labels, weights=rows.weights)) if _has_weight(rows) else float("nan")


def _has_weight(rows: Rows) -> bool:
    return rows.weights is None or bool(rows.weights.any())


def _slices(given: Predictions, settings: Settings, say: Say) -> list[Part]:
    found = []
    for column, values in given.slices.items():
        for name, index in parts_of(column, values):
            part = given.rows.take(index)
            metrics = measure(part, settings) if _has_weight(part) else {}
            found.append(Part(column, name, len(index), _click_rate(part), metrics))
        say(f"slices by {column}: {sum(part.column == column for part in found)}")
    return found


def _baseline(asked: Asked, given: Predictions, say: Say) -> Rows | None:
    if asked.baseline is None:
        return None
    say(f"comparing with {asked.baseline.name}")
    columns = replace(asked.columns, score=asked.baseline_score or asked.columns.score, weight=None, slices=())
    return read_baseline(asked.baseline, columns, given)


def write_judged(judged: Judged, into: Path, say: Say = lambda text: None) -> None:
    """Write metrics.json and report.html, and drift.html where there is a reference, into a folder.

    The folder appears whole or not at all.
    """
    from tidegate_components.evaluation.predictions_report import render_predictions

    with replacing(into) as beside:
        beside.mkdir()
        drift = _drift(judged.asked, beside, say)
        (beside / "metrics.json").write_text(judged.to_text(drift))
        (beside / "report.html").write_text(render_predictions(judged, drift))


def _drift(asked: Asked, into: Path, say: Say) -> Drift | None:
    if asked.reference is None:
        return None
    from tidegate_components.evaluation.drift import find_drift

    say(f"looking for drift against {asked.reference.name}")
    names = asked.columns
    without = {name for name in (names.key, names.group, names.weight) if name is not None}
    return find_drift(asked.predictions, asked.reference, without, into / "drift.html", seed=asked.settings.seed)
