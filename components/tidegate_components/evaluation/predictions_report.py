"""The report of `tidegate evaluate`, for people who decide and do not train models."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tidegate_components.evaluation.charts import Axis, gains_chart, reliability_chart, whisker
from tidegate_components.evaluation.compare import METRIC_NAMES, Compared
from tidegate_components.evaluation.estimates import Estimate
from tidegate_components.evaluation.judge_predictions import Judged, Part
from tidegate_components.evaluation.page import Html, cells, headline, interval, page, section, table
from tidegate_components.evaluation.report import drift_table

if TYPE_CHECKING:
    from tidegate_components.evaluation.drift import Drift

__all__ = ["render_predictions"]

_MEANINGS = {
    "auc": ("AUC", "Chance that a clicked row is ranked above one that was not clicked. 0.5 is guessing."),
    "gauc": ("GAUC", "The same within each group, such as a user, weighted by the group's rows."),
    "logloss": ("LogLoss", "How surprised the scores are by what happened. Lower is better."),
    "calibration": ("Calibration", "Clicks promised for each click that came. 1.00 is right."),
    "normalized_entropy": ("Normalized entropy", "LogLoss next to that of always saying the mean. Below 1 is of use."),
    "ece": ("ECE", "How far promise and outcome are apart on average, over parts of equal size. 0 is right."),
    "ndcg": ("NDCG", "How near the top of each group is to the best possible order. 1 is perfect."),
    "precision": ("Precision", "Share clicked of the rows at or above the threshold {threshold:g}."),
    "recall": ("Recall", "Share of all clicks that lie at or above the threshold {threshold:g}."),
    "precision_at": ("Precision", "Share clicked of each group's top places."),
    "recall_at": ("Recall", "Share of each group's clicks that are among its top places."),
}


def render_predictions(judged: Judged, drift: Drift | None = None) -> str:
    """The report as HTML."""
    asked = judged.asked
    groups = "" if judged.groups is None else f" of {judged.groups:,} groups ({asked.columns.group})"
    under = f"{judged.rows:,} rows{groups}, {judged.click_rate:.2%} of them clicked; from {asked.predictions.name}."
    parts = [_headline(judged), section("How good is it?", _metric_table(judged), note=_note(judged))]
    if judged.compared:
        parts.append(section("Is it as good as the baseline?", _comparison(judged.compared), note=_TOLD))
    charts = reliability_chart(judged.reliability), gains_chart(judged.gains)
    parts.append(section("Can its promises and its order be trusted?", f'<div class="pair">{"".join(charts)}</div>'))
    if judged.slices:
        parts.append(section("For whom does it work?", _slices(judged), note=_SLICES))
    if drift is not None:
        parts.append(section("Has the data moved?", _drift(drift), note=_drift_note(drift)))
    return page(f"Evaluation of {asked.predictions.name}", under, parts)


_TOLD = (
    "A difference above zero is a gain for AUC, GAUC and NDCG, and a loss for the others. An objective must be shown "
    "not to lose more than is tolerated; a guard fails where it is shown to lose more."
)
_SLICES = "The dashed line is the AUC of all rows. Where an interval reaches far, the part has too few rows to tell."


def _headline(judged: Judged) -> str:
    if judged.verdict is not None:
        return headline(judged.verdict.sentence, "" if judged.verdict.passed else "bad")
    auc, promised = judged.metrics["auc"], judged.metrics["calibration"]
    if auc.value is None or promised.value is None:
        return headline(f"AUC cannot be told: {auc.reason}.", "bad")
    sentence = (
        f"A clicked row is ranked above one that was not clicked in {auc.value:.1%} of pairs (AUC {auc.value:.4f}, "
        f"{_range(auc)}); {promised.value:.2f} clicks were promised for each that came."
    )
    return headline(sentence, "plain")


def _range(one: Estimate) -> str:
    return interval(one.low, one.high) or "no interval"


def _note(judged: Judged) -> str:
    by = f"groups ({judged.asked.columns.group})" if judged.groups is not None else "rows"
    held = f"{judged.asked.settings.confidence:.0%}"
    return f"An interval made like this holds the true value in {held} of cases; {by} are taken to be independent."


def _metric_table(judged: Judged) -> str:
    rows = [_metric_row(name, one, judged.asked.settings.threshold) for name, one in judged.metrics.items()]
    return table(("Metric", "Value", f"{judged.asked.settings.confidence:.0%} interval"), rows)


def _metric_row(name: str, one: Estimate, threshold: float) -> str:
    base, at, k = name.partition("_at_")
    title, meaning = _MEANINGS[base if base == "ndcg" else base + ("_at" if at else "")]
    shown = Html(f"{title}{'@' + k if at else ''}<small>{meaning.format(threshold=threshold)}</small>")
    if one.value is None:
        return cells(shown, "not defined", one.reason)
    return cells(shown, f"{one.value:.4f}", interval(one.low, one.high) or one.reason)


def _comparison(compared: dict[str, Compared]) -> str:
    heads = ("Metric", "Challenger", "Baseline", "Difference", "Interval", "p", "Tolerated loss", "")
    return table(heads, (_comparison_row(name, one) for name, one in compared.items()))


def _comparison_row(name: str, one: Compared) -> str:
    base, at, k = name.partition("_at_")
    title = METRIC_NAMES[base] + (f"@{k}" if at else "")
    title = title[0].upper() + title[1:]
    if one.challenger is None or one.baseline is None or one.difference is None:
        return cells(title, "", "", "not defined", "", "", "", "fails" if not one.passed else "")
    tolerated = "" if one.margin is None else f"{one.margin:g} ({one.role})"
    outcome = "" if one.role == "shown" else "passes" if one.passed else "fails"
    p_value = "" if one.p_value is None else "<0.001" if one.p_value < 0.001 else f"{one.p_value:.3f}"
    values = (f"{one.challenger:.4f}", f"{one.baseline:.4f}", f"{one.difference:+.4f}")
    marks = {} if not outcome else {7: "best" if one.passed else "bad"}
    return cells(title, *values, interval(one.low, one.high, "+.4f"), p_value, tolerated, outcome, marks=marks)


def _slices(judged: Judged) -> str:
    told = [part.metrics["auc"] for part in judged.slices if "auc" in part.metrics]
    ends = [end for one in (*told, judged.metrics["auc"]) for end in (one.value, one.low, one.high) if end is not None]
    axis = Axis.around(ends) if ends else Axis(0, 1)
    heads = ("Part", "Rows", "Clicked", "AUC", "", "Calibration", "Interval")
    return table(heads, (_slice_row(part, axis, judged.metrics["auc"].value) for part in judged.slices))


def _slice_row(part: Part, axis: Axis, overall: float | None) -> str:
    auc, promised = part.metrics.get("auc"), part.metrics.get("calibration")
    if auc is None or promised is None:
        return cells(part.name, f"{part.rows:,}", "", "no weight", "", "", "")
    drawn = whisker(auc.value, auc.low, auc.high, axis, overall)
    value = Html(f"{auc.value:.4f}") if auc.value is not None else Html("<small>one class</small>")
    ratio = "" if promised.value is None else f"{promised.value:.3f}"
    rate, reach = f"{part.click_rate:.2%}", interval(promised.low, promised.high, ".3f")
    return cells(part.name, f"{part.rows:,}", rate, value, drawn, ratio, reach)


def _drift(drift: Drift) -> str:
    return drift_table([(one.column, one.psi, one.missing_now, one.missing_then) for one in drift.columns])


def _drift_note(drift: Drift) -> str:
    looked = [f"{some:,} of {rows:,} rows" for some, rows in (drift.rows_now, drift.rows_then)]
    return (
        f"Against {drift.reference}: {looked[0]} now, {looked[1]} then. PSI by Evidently: from 0.1 to watch, from 0.25 "
        "to act. Its whole report, with the quality of each column, is drift.html beside this file."
    )
