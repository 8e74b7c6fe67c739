"""The evaluation report: one HTML file without scripts or links, for people who decide and do not train models."""

from __future__ import annotations

from html import escape
from pathlib import Path

from tidegate_components.evaluation.judge import MODEL, POPULARITY, REGRESSION, Evaluation, Slice
from tidegate_components.storage import replacing

__all__ = ["render_report", "write_report"]

_CONTENDERS = {MODEL: "Wide & Deep", REGRESSION: "Logistic regression", POPULARITY: "Popularity"}
_METRICS = {
    # key: name, what it says, +1 higher is better, -1 lower, 0 near one
    "auc": ("AUC", "Chance that an item which was clicked is ranked above one which was not. 0.5 is guessing.", 1),
    "gauc": ("GAUC", "The same within each user, weighted by the user's rows.", 1),
    "logloss": ("LogLoss", "How surprised the model is by what happened. Lower is better.", -1),
    "calibration": ("Calibration", "Clicks promised for each click that came. 1.00 is right.", 0),
    "ndcg_at_10": ("NDCG@10", "How near the top ten of each user are to the best possible order.", 1),
}
_CHART = 300
_PAD = 42

_STYLE = """
body{font:16px/1.5 system-ui,"Segoe UI",Roboto,Helvetica,Arial,sans-serif;color:#1b2733;margin:0;background:#f4f6f8}
main{max-width:900px;margin:0 auto;padding:32px 24px;background:#fff}
h1{font-size:26px;margin:0 0 4px} h2{font-size:19px;margin:34px 0 8px} p{margin:6px 0}
.muted{color:#5a6b7b;font-size:14px}
.headline{font-size:18px;padding:12px 16px;border-left:5px solid #157f5b;background:#eaf6f1;margin:16px 0}
.headline.bad{border-color:#b3402a;background:#fbeeeb}
table{border-collapse:collapse;width:100%;margin:10px 0;font-variant-numeric:tabular-nums}
th,td{padding:7px 10px;border-bottom:1px solid #dde4ea;text-align:right} th:first-child,td:first-child{text-align:left}
th{font-size:14px;color:#3b4b5a} td small{display:block;color:#5a6b7b;max-width:330px}
td.best{font-weight:700;color:#0e6a4b}
svg{max-width:100%;height:auto} figure{margin:10px 0} figcaption{font-size:14px;color:#5a6b7b}
"""


def write_report(evaluation: Evaluation, model: str, facts: dict[str, str], into: Path) -> None:
    """Write the report of `model` to the file `into`. `facts` are shown as name and value (settings, data, code)."""
    with replacing(into) as beside:
        beside.write_text(render_report(evaluation, model, facts))


def render_report(evaluation: Evaluation, model: str, facts: dict[str, str]) -> str:
    """The report as HTML."""
    rows = evaluation.rows
    tone = "" if evaluation.beats_baselines else " bad"
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">
<title>{escape(model)}: evaluation</title><style>{_STYLE}</style></head><body><main>
<h1>{escape(model)}: evaluation</h1>
<p class="muted">Judged on {rows["test"]:,} impressions from {evaluation.test_from} to {evaluation.test_to} UTC,
all later than the {rows["train"]:,} and {rows["validation"]:,} it learned from; the latter also chose when to stop.</p>
<p class="headline{tone}">{escape(evaluation.headline)}{_shortfall(evaluation.metrics)}</p>
<h2>How good is it?</h2>{_metric_table(evaluation)}
<p class="muted">All three saw the same data; the best value of each line is bold. Popularity orders items by their past
share of clicks. The logistic regression reads exactly the inputs that Wide &amp; Deep reads.</p>
<h2>Can its probabilities be trusted?</h2>{_reliability_chart(evaluation.reliability)}
<h2>For whom does it work?</h2>{_slice_table(evaluation.slices)}
<h2>What was trained</h2>{_fact_table(facts)}
</main></body></html>
"""


def _metric_table(evaluation: Evaluation) -> str:
    heads = "".join(f"<th>{escape(name)}</th>" for name in _CONTENDERS.values())
    rows = "".join(_metric_row(key, evaluation.metrics) for key in _METRICS)
    return f"<table><tr><th>Metric</th>{heads}</tr>{rows}</table>"


def _metric_row(key: str, metrics: dict[str, dict[str, float]]) -> str:
    name, meaning, _ = _METRICS[key]
    values = {who: metrics[who][key] for who in _CONTENDERS}
    best = min(values, key=lambda who: _badness(key, values[who]))
    cells = "".join(f"<td{' class=best' if who == best else ''}>{value:.4f}</td>" for who, value in values.items())
    return f"<tr><td>{name}<small>{escape(meaning)}</small></td>{cells}</tr>"


def _shortfall(metrics: dict[str, dict[str, float]]) -> str:
    """Where a baseline is ahead, said as plainly as the headline."""
    ahead = [
        f"{_CONTENDERS[who]} is ahead on {' and '.join(names)}"
        for who in (REGRESSION, POPULARITY)
        if (
            names := [_METRICS[k][0] for k in _METRICS if _badness(k, metrics[who][k]) < _badness(k, metrics[MODEL][k])]
        )
    ]
    return f"<br><small>{'; '.join(ahead)}.</small>" if ahead else ""


def _badness(key: str, value: float) -> float:
    direction = _METRICS[key][2]
    return abs(value - 1) if direction == 0 else -direction * value


def _slice_table(slices: list[Slice]) -> str:
    rows = "".join(
        f"<tr><td>{escape(s.name)}</td><td>{s.rows:,}</td><td>{s.click_rate:.1%}</td><td>{s.model['auc']:.4f}</td>"
        f"<td>{s.regression['auc']:.4f}</td><td>{s.model['calibration']:.3f}</td></tr>"
        for s in slices
    )
    heads = ("Part of the test set", "Rows", "Clicked", "AUC", "AUC of regression", "Calibration")
    return f"<table><tr>{''.join(f'<th>{head}</th>' for head in heads)}</tr>{rows}</table>"


def _fact_table(facts: dict[str, str]) -> str:
    rows = "".join(f"<tr><td>{escape(name)}</td><td>{escape(value)}</td></tr>" for name, value in facts.items())
    return f"<table>{rows}</table>"


def _reliability_chart(bins: list[tuple[float, float, int]]) -> str:
    points = [(_x(score), _y(clicked)) for score, clicked, _ in bins]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    dots = "".join(
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="#1f5fa8"><title>promised {score:.1%}, clicked {clicked:.1%}, '
        f"{rows:,} rows</title></circle>"
        for (x, y), (score, clicked, rows) in zip(points, bins, strict=True)
    )
    return f"""<figure><svg viewBox="0 0 {_CHART + 2 * _PAD} {_CHART + 2 * _PAD}" width="460" role="img"
 aria-label="Share clicked against promised probability"><g font-size="12" fill="#5a6b7b">{_axes()}</g>
<line x1="{_x(0)}" y1="{_y(0)}" x2="{_x(1)}" y2="{_y(1)}" stroke="#a9b6c2" stroke-dasharray="5 4"/>
<polyline points="{line}" fill="none" stroke="#1f5fa8" stroke-width="2"/>{dots}</svg>
<figcaption>Each dot is a tenth of the test set, from the least to the most promising. On the dashed line, as many
clicked as the model promised; above it, more did.</figcaption></figure>"""


def _axes() -> str:
    marks = [tick / 5 for tick in range(6)]
    grid = "".join(
        f'<line x1="{_x(0)}" x2="{_x(1)}" y1="{_y(m)}" y2="{_y(m)}" stroke="#e6ebf0"/>'
        f'<text x="{_x(0) - 8}" y="{_y(m) + 4}" text-anchor="end">{m:.0%}</text>'
        f'<text x="{_x(m)}" y="{_y(0) + 18}" text-anchor="middle">{m:.0%}</text>'
        for m in marks
    )
    names = (
        f'<text x="{_x(0.5)}" y="{_y(0) + 36}" text-anchor="middle">promised probability of a click</text>'
        f'<text x="{_x(0) - 30}" y="{_y(1) - 16}">share clicked</text>'
    )
    return grid + names


def _x(value: float) -> float:
    return _PAD + value * _CHART


def _y(value: float) -> float:
    return _PAD + (1 - value) * _CHART
