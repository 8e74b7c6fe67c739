"""The evaluation report of a training run, for people who decide and do not train models."""

from __future__ import annotations

import math
from html import escape
from pathlib import Path

from tidegate_components.evaluation.charts import Axis, gains_chart, reliability_chart, whisker
from tidegate_components.evaluation.drift import call_of
from tidegate_components.evaluation.judge import MODEL, POPULARITY, REGRESSION, Evaluation, Slice
from tidegate_components.evaluation.page import Html, cells, headline, interval, page, section, table
from tidegate_components.storage import replacing

__all__ = ["IMPORTANCE_NOTE", "drift_table", "importance_table", "render_report", "write_report"]

_BASELINES = {REGRESSION: "Logistic regression", POPULARITY: "Popularity"}
_METRICS = {
    # key: name, what it says, +1 higher is better, -1 lower, 0 near one
    "auc": ("AUC", "Chance that an item which was clicked is ranked above one which was not. 0.5 is guessing.", 1),
    "gauc": ("GAUC", "The same within each user, weighted by the user's rows.", 1),
    "logloss": ("LogLoss", "How surprised the model is by what happened. Lower is better.", -1),
    "calibration": ("Calibration", "Clicks promised for each click that came. 1.00 is right.", 0),
    "ndcg_at_10": ("NDCG@10", "How near the top ten of each user are to the best possible order.", 1),
}
_DIFFERENCES = ("auc", "gauc", "logloss", "ndcg_at_10")

IMPORTANCE_NOTE = (
    "An input is shuffled between the rows; what AUC loses is what the model had from it. Inputs that tell the same "
    "share their worth. Intervals are over repeated shuffles."
)
_DRIFT_NOTE = (
    "Numbers of the test rows against those of the training rows, 5,000 of each: the population stability index by "
    "Evidently, from 0.1 to watch, from 0.25 to act. Counts over a long window grow while a data set begins."
)
_SURE_NOTE = (
    "The difference on the same rows with its 95 % interval, users being what is independent; bold where zero lies "
    "outside. It covers other users of the same days, not other days, and not other seeds of the training."
)


def write_report(evaluation: Evaluation, model: str, facts: dict[str, str], into: Path) -> None:
    """Write the report of `model` to the file `into`. `facts` are shown as name and value (settings, data, code)."""
    with replacing(into) as beside:
        beside.write_text(render_report(evaluation, model, facts))


def render_report(evaluation: Evaluation, model: str, facts: dict[str, str]) -> str:
    """The report as HTML."""
    rows = evaluation.rows
    under = (
        f"Judged on {rows['test']:,} impressions from {evaluation.test_from} to {evaluation.test_to} UTC, all later "
        f"than the {rows['train']:,} and {rows['validation']:,} it learned from; the latter also chose when to stop."
    )
    note = (
        "All three saw the same data; the best value of each line is bold. Popularity orders items by their past share "
        f"of clicks. The logistic regression reads exactly the inputs that {evaluation.title} reads."
    )
    parts = [
        headline(evaluation.headline, "" if evaluation.beats_baselines else "bad", _shortfall(evaluation)),
        section("How good is it?", _metric_table(evaluation), note=note),
        section("Could the difference be chance?", _difference_table(evaluation), note=_SURE_NOTE),
        section("Can its promises and its order be trusted?", _charts(evaluation)),
        section("For whom does it work?", _slice_table(evaluation)),
        section("What does it look at?", importance_table(evaluation.importance), note=IMPORTANCE_NOTE),
        section("Has the data moved since training?", drift_table(evaluation.drift), note=_DRIFT_NOTE),
        section("What was trained", table((), (cells(name, value) for name, value in facts.items()))),
    ]
    return page(f"{model}: evaluation", under, parts)


def _contenders(evaluation: Evaluation) -> dict[str, str]:
    return {MODEL: evaluation.title, **_BASELINES}


def _metric_table(evaluation: Evaluation) -> str:
    heads = ("Metric", *_contenders(evaluation).values())
    return table(heads, (_metric_row(key, evaluation) for key in _METRICS))


def _metric_row(key: str, evaluation: Evaluation) -> str:
    name, meaning, _ = _METRICS[key]
    values = {who: evaluation.metrics[who][key] for who in _contenders(evaluation)}
    best = min(values, key=lambda who: _badness(key, values[who]))
    shown = [_with_interval(value, evaluation.intervals.get(who, {}).get(key)) for who, value in values.items()]
    marks = {1 + list(values).index(best): "best"}
    return cells(Html(f"{name}<small>{escape(meaning)}</small>"), *shown, marks=marks)


def _with_interval(value: float | None, ends: tuple[float, float] | None) -> Html:
    if value is None or math.isnan(value):
        return Html("not defined")
    return Html(f"{value:.4f}" + (f"<small>{interval(*ends)}</small>" if ends else ""))


def _shortfall(evaluation: Evaluation) -> str:
    """Where a baseline is ahead, said as plainly as the headline."""
    metrics = evaluation.metrics
    ahead = []
    for who, title in _BASELINES.items():
        names = [
            _METRICS[k][0] for k in _METRICS if _badness(k, metrics[who][k]) < _badness(k, metrics[MODEL][k])
        ]  # fmt: skip
        if names:
            ahead.append(f"{title} is ahead on {' and '.join(names)}")
    return f"<br><small>{'; '.join(ahead)}.</small>" if ahead else ""


def _badness(key: str, value: float | None) -> float:
    if value is None:
        return math.inf
    direction = _METRICS[key][2]
    return abs(value - 1) if direction == 0 else -direction * value


def _difference_table(evaluation: Evaluation) -> str:
    heads = ("Metric", *(f"{evaluation.title} less {title.lower()}" for title in _BASELINES.values()))
    return table(heads, (_difference_row(key, evaluation) for key in _DIFFERENCES))


def _difference_row(key: str, evaluation: Evaluation) -> str:
    shown, marks = [], {}
    for place, who in enumerate(_BASELINES, start=1):
        found = evaluation.differences.get(who, {}).get(key)
        if found is None:
            shown.append(Html("not defined"))
            continue
        difference, low, high = found
        shown.append(Html(f"{difference:+.4f}<small>{interval(low, high, '+.4f')}</small>"))
        if low > 0 or high < 0:
            marks[place] = "best" if (difference > 0) == (_METRICS[key][2] > 0) else "bad"
    return cells(_METRICS[key][0], *shown, marks=marks)


def _charts(evaluation: Evaluation) -> str:
    titles = _contenders(evaluation)
    drawn = [reliability_chart(evaluation.reliability)]
    if evaluation.gains:
        drawn.append(gains_chart({titles[who]: curve for who, curve in evaluation.gains.items()}))
    return f'<div class="pair">{"".join(drawn)}</div>'


def _slice_table(evaluation: Evaluation) -> str:
    overall = evaluation.metrics[MODEL]["auc"]
    ends = [end for part in evaluation.slices for end in part.intervals.get("auc", ())]
    axis = Axis.around([overall, *ends])
    heads = ("Part of the test set", "Rows", "Clicked", "AUC", "", "AUC of regression", "Calibration")
    return table(heads, (_slice_row(part, axis, overall) for part in evaluation.slices))


def _slice_row(part: Slice, axis: Axis, overall: float) -> str:
    auc, linear, promised = part.model["auc"], part.regression["auc"], part.model["calibration"]
    drawn = whisker(None, None, None, axis)
    if auc is not None and "auc" in part.intervals:
        drawn = whisker(auc, *part.intervals["auc"], axis, overall)
    figures = (_figure(auc), drawn, _figure(linear), _figure(promised, ".3f"))
    return cells(part.name, f"{part.rows:,}", f"{part.click_rate:.1%}", *figures)


def _figure(value: float | None, form: str = ".4f") -> str:
    return "" if value is None or math.isnan(value) else f"{value:{form}}"


def importance_table(importance: list[tuple[str, float, float, float]]) -> str:
    """Inputs with what AUC loses without them (name, loss, low, high), drawn on one scale."""
    axis = Axis.around([0.0, *(end for _, _, low, high in importance for end in (low, high))])
    rows = (cells(name, f"{loss:+.4f}", whisker(loss, low, high, axis, 0.0)) for name, loss, low, high in importance)
    return table(("Input", "AUC lost without it", ""), rows)


_CALLS = {"steady": "steady", "watch": "moved: watch it", "act": "moved far: act"}


def drift_table(columns: list[tuple[str, float, float, float]]) -> str:
    """Columns with PSI and shares missing now and then (name, psi, now, then), and what that asks for."""
    rows = (
        cells(
            name, f"{psi:.3f}", _CALLS[call_of(psi)], f"{now:.1%}", f"{then:.1%}",
            marks={2: "bad"} if call_of(psi) == "act" else None,
        )
        for name, psi, now, then in columns
    )  # fmt: skip
    return table(("Column", "PSI", "", "Missing now", "Missing then"), rows)
