"""The report of what is stored: JSON for machines, a page with a picture of each feature, gauges for Prometheus."""

from __future__ import annotations

import html
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from tidegate_components.features.errors import BadFeaturesError
from tidegate_components.features.monitor import Measured
from tidegate_components.features.statistics import QUANTILES, FeatureStatistics
from tidegate_components.storage import replacing

__all__ = ["serve_metrics", "write_report"]

_STYLE = """body{font:16px/1.5 system-ui;margin:2rem auto;max-width:72rem;padding:0 1rem;color:#1b1f24}
table{border-collapse:collapse;width:100%;margin:.5rem 0 1.5rem}
td,th{padding:.3rem .6rem;text-align:right;border-bottom:1px solid #d0d7de;font-variant-numeric:tabular-nums}
td:nth-child(-n+3),th:nth-child(-n+3){text-align:left}svg{display:block}.missing{color:#b42318;font-weight:600}"""
_HEADS = ("feature", "store", "slice", "rows", "missing", "distinct", "mean", "std", "median", "1 % to 99 %")
_WIDTH, _HEIGHT = 260, 16


def write_report(found: Sequence[Measured], into: Path) -> None:
    """Write report.json and report.html into a folder, which appears whole or not at all."""
    with replacing(into) as beside:
        beside.mkdir()
        (beside / "report.json").write_text(json.dumps([one.to_json() for one in found], indent=1, default=str))
        (beside / "report.html").write_text(_page(found))


def _page(found: Sequence[Measured]) -> str:
    views = dict.fromkeys(one.view for one in found)
    sections = "".join(_section(view, [one for one in found if one.view == view]) for view in views)
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>Features</title><style>{_STYLE}</style>'
        f"<h1>Features, offline and online</h1>\n{sections}</html>\n"
    )


def _section(view: str, found: Sequence[Measured]) -> str:
    rows = [(one.store, statistics) for one in found for statistics in one.statistics]
    features = dict.fromkeys(statistics.feature for _, statistics in rows)
    body = "".join(_feature([row for row in rows if row[1].feature == feature]) for feature in features)
    head = "".join(f"<th>{name}</th>" for name in _HEADS)
    return f"<h2>{html.escape(view)}</h2><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>\n"


def _feature(rows: Sequence[tuple[str, FeatureStatistics]]) -> str:
    """Rows of one feature; their pictures share an axis, so that stores and slices can be compared."""
    ends = [value for _, found in rows if found.quantiles for value in (found.quantiles[0], found.quantiles[-1])]
    axis = (min(ends), max(ends)) if ends else (0.0, 0.0)
    return "".join(_row(store, found, axis) for store, found in rows)


def _row(store: str, found: FeatureStatistics, axis: tuple[float, float]) -> str:
    missing = f'<span class="{"missing" if found.missing else ""}">{found.missing_rate:.1%}</span>'
    std = None if found.variance is None else found.variance**0.5
    median = found.quantiles[QUANTILES.index(0.5)] if found.quantiles else None
    cells = (
        html.escape(found.feature), store, html.escape(found.slice) or "all", f"{found.rows:,}", missing,
        f"{found.distinct:,}", _number(found.mean), _number(std), _number(median), _picture(found.quantiles, axis),
    )  # fmt: skip
    return "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>\n"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:,.4g}"


def _picture(quantiles: Sequence[float], axis: tuple[float, float]) -> str:
    """A line from the 1 % to the 99 % quantile, a box around the middle half, a stroke at the median."""
    if not quantiles:
        return ""
    least, most = axis
    scale = (_WIDTH - 4) / (most - least) if most > least else 0.0
    x = {q: 2 + (value - least) * scale for q, value in zip(QUANTILES, quantiles, strict=True)}
    middle = _HEIGHT / 2
    title = ", ".join(f"{q:g}: {value:,.4g}" for q, value in zip(QUANTILES, quantiles, strict=True))
    return (
        f'<svg width="{_WIDTH}" height="{_HEIGHT}" role="img"><title>{title}</title>'
        f'<line x1="{x[0.01]:.1f}" x2="{x[0.99]:.1f}" y1="{middle}" y2="{middle}" stroke="#8c959f"/>'
        f'<rect x="{x[0.25]:.1f}" y="3" width="{max(x[0.75] - x[0.25], 1):.1f}" height="{_HEIGHT - 6}" fill="#9ec5fe"/>'
        f'<line x1="{x[0.5]:.1f}" x2="{x[0.5]:.1f}" y1="1" y2="{_HEIGHT - 1}" stroke="#0b3d91" stroke-width="2"/></svg>'
    )


def serve_metrics(port: int) -> Callable[[Iterable[Measured]], None]:
    """Serve gauges at http://:PORT/metrics; returns what sets them anew, and forgets what is no longer there.

    Raises BadFeaturesError where the port is in use.
    """
    from prometheus_client import CollectorRegistry, Gauge, start_http_server

    registry = CollectorRegistry()
    labels = ("view", "store", "feature", "slice")
    words = {
        "rows": "Stored entities.",
        "missing_ratio": "Share of them without a value.",
        "mean": "Mean of the feature.",
        "variance": "Variance of the feature.",
    }
    gauges = {
        name: Gauge(f"tidegate_feature_store_{name}", text, labels, registry=registry) for name, text in words.items()
    }
    quantile = Gauge("tidegate_feature_store_quantile", "Quantiles.", [*labels, "quantile"], registry=registry)
    try:
        start_http_server(port, registry=registry)
    except OSError as error:
        raise BadFeaturesError(
            resource="features monitor", field="--metrics-port", value=port, expected=f"a free port ({error.strerror})",
            remedy="name another port, or stop what listens there",
        ) from error  # fmt: skip

    def show(found: Iterable[Measured]) -> None:
        for gauge in (*gauges.values(), quantile):
            gauge.clear()
        for one in found:
            for statistics in one.statistics:
                _set(gauges, quantile, (one.view, one.store, statistics.feature, statistics.slice), statistics)

    return show


def _set(gauges: dict[str, Any], quantile: Any, where: tuple[str, ...], found: FeatureStatistics) -> None:
    numbers = {
        "rows": found.rows,
        "missing_ratio": found.missing_rate,
        "mean": found.mean,
        "variance": found.variance,
    }
    for name, value in numbers.items():
        if value is not None:
            gauges[name].labels(*where).set(value)
    for probability, value in zip(QUANTILES, found.quantiles, strict=False):
        quantile.labels(*where, f"{probability:g}").set(value)
