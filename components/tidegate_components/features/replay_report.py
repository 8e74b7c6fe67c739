"""The report of a replay: JSON for machines, a page for people."""

from __future__ import annotations

import html
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tidegate_components.features.replay import OUTCOMES, FeatureReplay, ViewReplay
from tidegate_components.json_values import plain
from tidegate_components.storage import replacing

__all__ = ["to_json", "write_report"]


def to_json(found: Sequence[ViewReplay]) -> dict[str, Any]:
    """The report for machines; `consistent` is whether every logged value was equal."""
    return {"consistent": not _unequal(found), "views": plain([asdict(view) for view in found])}


def write_report(found: Sequence[ViewReplay], into: Path) -> None:
    """Write report.json and report.html into a folder, which appears whole or not at all."""
    with replacing(into) as beside:
        beside.mkdir()
        (beside / "report.json").write_text(json.dumps(to_json(found), indent=1, default=str))
        (beside / "report.html").write_text(_page(found))


def _unequal(found: Sequence[ViewReplay]) -> int:
    return sum(feature.unequal for view in found for feature in view.features)


_STYLE = """body{font:16px/1.5 system-ui;margin:2rem auto;max-width:64rem;padding:0 1rem;color:#1b1f24}
table{border-collapse:collapse;width:100%;margin:.5rem 0 1rem}
td,th{padding:.35rem .6rem;text-align:right;border-bottom:1px solid #d0d7de}
td:first-child,th:first-child{text-align:left}.bad{background:#fff1f0;color:#b42318}code{font-size:.85em}"""


def _page(found: Sequence[ViewReplay]) -> str:
    unequal = _unequal(found)
    headline = f"{unequal:,} logged values differ from the definition" if unequal else "Every logged value is right"
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>Feature replay</title><style>{_STYLE}</style>'
        f"<h1>{headline}</h1>\n" + "".join(map(_section, found)) + "</html>\n"
    )


def _section(view: ViewReplay) -> str:
    ages = ", ".join(f"{name} {'none' if age is None else f'{age:,.1f} s'}" for name, age in view.staleness.items())
    head = "".join(f"<th>{name}</th>" for name in ("feature", *OUTCOMES))
    return (
        f"<h2>{html.escape(view.view)}</h2><p>{view.rows:,} rows, {view.unstored:,} of them with nothing stored. "
        f"Staleness when used: {ages}.</p><table><thead><tr>{head}</tr></thead><tbody>"
        + "".join(map(_row, view.features))
        + "</tbody></table>\n"
        + "".join(_example(feature, example) for feature in view.features for example in feature.examples)
    )


def _row(feature: FeatureReplay) -> str:
    cells = "".join(f"<td>{feature.outcomes[outcome]:,}</td>" for outcome in OUTCOMES)
    return f'<tr class="{"bad" if feature.unequal else ""}"><td>{html.escape(feature.feature)}</td>{cells}</tr>\n'


def _example(feature: FeatureReplay, example: dict[str, Any]) -> str:
    key = ", ".join("null" if part is None else part for part in example["key"])
    said = (
        f"{example['outcome']}: request {example['request_id']}, key {key}, "
        f"as of {example['as_of']}: serving used {example['logged']}, the definition gives {example['recomputed']}"
    )
    return f"<p><code>{html.escape(feature.feature)}</code> {html.escape(said)}</p>\n"
