"""The charts of the reports, as SVG."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from tidegate_components.evaluation.page import Html

__all__ = ["Axis", "gains_chart", "reliability_chart", "whisker"]

_CHART, _PAD = 300, 42
_BLUE, _GREY, _ORANGE = "#1f5fa8", "#8795a3", "#c26a1b"
_WIDTH, _HEIGHT = 220, 18

Point = tuple[float, float]


@dataclass(frozen=True)
class Axis:
    """A scale from `low` to `high`."""

    low: float
    high: float

    def place(self, value: float) -> float:
        """Where a value lies, from 0 to 1; kept within."""
        share = (value - self.low) / (self.high - self.low) if self.high > self.low else 0.5
        return min(max(share, 0.0), 1.0)

    @staticmethod
    def around(values: Sequence[float], least: float = 1e-6) -> Axis:
        """A scale that holds the values, with a little air."""
        low, high = min(values), max(values)
        air = max((high - low) * 0.05, least)
        return Axis(low - air, high + air)


def reliability_chart(bins: Sequence[tuple[float, float, int]]) -> str:
    """Share clicked against promised probability; `bins` are (mean score, share clicked, rows), lowest first."""
    limit = _round_up(max([max(score, clicked) for score, clicked, _ in bins], default=1.0))
    points = [(score / limit, clicked / limit) for score, clicked, _ in bins]
    titles = [f"promised {score:.2%}, clicked {clicked:.2%}, {rows:,} rows" for score, clicked, rows in bins]
    axes = _axes(limit, "promised probability of a click", "share clicked")
    caption = (
        "Each dot is an equal part of the rows, from the least to the most promising. On the dashed line, as many "
        "clicked as the model promised; above it, more did."
    )
    return _figure(axes + _line(points, _BLUE) + _dots(points, titles), "Share clicked against promise", caption)


def gains_chart(curves: Mapping[str, Sequence[Point]]) -> str:
    """Share of all clicks against share of rows, best first; by name of who ordered them."""
    colours = (_BLUE, _ORANGE)
    lines = "".join(_line(points, colour) for points, colour in zip(curves.values(), colours, strict=False))
    legend = "".join(_legend(place, *line) for place, line in enumerate(zip(curves, colours, strict=False)))
    first = next(iter(curves.values()), [])
    fifth = next((caught for looked, caught in first if looked >= 0.2), 1.0)
    caption = (
        f"Rows ordered by the model, best first: the best fifth of them holds {fifth:.0%} of the clicks. The dashed "
        "line is a random order."
    )
    axes = _axes(1.0, "share of rows, best first", "share of clicks")
    return _figure(axes + lines + legend, "Share of clicks by share of rows", caption)


def _legend(place: int, name: str, colour: str) -> str:
    at = f'x="{_x(0.97):.0f}" y="{_y(0.06 + 0.07 * place):.0f}"'
    return f'<text {at} text-anchor="end" fill="{colour}">{escape(name)}</text>'


def whisker(value: float | None, low: float | None, high: float | None, axis: Axis, mark: float | None = None) -> Html:
    """A value with its interval on a small scale; `mark` is a dashed line, such as the value of all rows."""
    if value is None:
        return Html("")
    parts = [] if mark is None else [_stroke(axis.place(mark), axis.place(mark), _GREY, 'stroke-dasharray="3 3"', 0)]
    if low is not None and high is not None:
        parts.append(_stroke(axis.place(low), axis.place(high), _BLUE, 'stroke-width="2"', _HEIGHT / 2))
    dot = f'<circle cx="{_at(axis.place(value)):.1f}" cy="{_HEIGHT / 2}" r="4" fill="{_BLUE}"/>'
    told = f"{value:.4f}" + ("" if low is None or high is None else f" ({low:.4f} to {high:.4f})")
    return Html(
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" height="{_HEIGHT}" role="img" aria-label="{told}">'
        f"<title>{told}</title>{''.join(parts)}{dot}</svg>"
    )


def _at(share: float) -> float:
    return 6 + share * (_WIDTH - 12)


def _stroke(start: float, end: float, colour: str, style: str, y: float) -> str:
    """A horizontal line at `y`, or with y = 0 a vertical one through the whole height."""
    ends = (y, y) if y else (0, _HEIGHT)
    return (
        f'<line x1="{_at(start):.1f}" x2="{_at(end):.1f}" y1="{ends[0]}" y2="{ends[1]}" stroke="{colour}" {style}/>'
    )  # fmt: skip


def _round_up(value: float) -> float:
    """The next of 1, 2, 2.5, 5 times a power of ten, at most 1."""
    if not 0 < value < 1:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return min(1.0, next(step * power for step in (1, 2, 2.5, 5, 10) if step * power >= value * 0.999))


def _figure(inside: str, label: str, caption: str) -> str:
    size = _CHART + 2 * _PAD
    return (
        f'<figure><svg viewBox="0 0 {size} {size}" width="420" role="img" aria-label="{escape(label)}">'
        f'<g font-size="12">{inside}</g></svg><figcaption>{escape(caption)}</figcaption></figure>'
    )


def _line(points: Sequence[Point], colour: str) -> str:
    path = " ".join(f"{_x(x):.1f},{_y(y):.1f}" for x, y in points)
    return f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>'


def _dots(points: Sequence[Point], titles: Sequence[str]) -> str:
    return "".join(
        f'<circle cx="{_x(x):.1f}" cy="{_y(y):.1f}" r="4" fill="{_BLUE}"><title>{escape(title)}</title></circle>'
        for (x, y), title in zip(points, titles, strict=True)
    )


def _axes(limit: float, across: str, up: str) -> str:
    marks = [tick / 5 for tick in range(6)]
    form = ".0%" if limit >= 0.1 and round(limit * 20) == limit * 20 else ".1%" if limit >= 0.01 else ".2%"
    grid = "".join(
        f'<line x1="{_x(0)}" x2="{_x(1)}" y1="{_y(m)}" y2="{_y(m)}" stroke="#e6ebf0"/>'
        f'<text x="{_x(0) - 8}" y="{_y(m) + 4}" text-anchor="end" fill="#5a6b7b">{m * limit:{form}}</text>'
        f'<text x="{_x(m)}" y="{_y(0) + 18}" text-anchor="middle" fill="#5a6b7b">{m * limit:{form}}</text>'
        for m in marks
    )
    names = (
        f'<text x="{_x(0.5)}" y="{_y(0) + 36}" text-anchor="middle" fill="#5a6b7b">{across}</text>'
        f'<text x="{_x(0) - 30}" y="{_y(1) - 16}" fill="#5a6b7b">{up}</text>'
    )
    even = f'<line x1="{_x(0)}" y1="{_y(0)}" x2="{_x(1)}" y2="{_y(1)}" stroke="#a9b6c2" stroke-dasharray="5 4"/>'
    return grid + names + even


def _x(value: float) -> float:
    return _PAD + value * _CHART


def _y(value: float) -> float:
    return _PAD + (1 - value) * _CHART
