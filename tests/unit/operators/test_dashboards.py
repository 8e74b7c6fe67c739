"""Grafana's dashboards ask only for what the operator and Triton tell."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import REGISTRY

from tidegate_operators.handlers import metrics, state_metrics

FILES = sorted((Path(__file__).parents[3] / "manifests/monitoring/dashboards").glob("*.json"))
_TOLD = {family.name for family in REGISTRY.collect()} | set(state_metrics.FAMILIES)


def _panels(dashboard: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for panel in dashboard["panels"]:
        yield from panel.get("panels") or ([panel] if panel["type"] != "row" else [])


def _queries(dashboard: dict[str, Any]) -> list[str]:
    asked = [target["expr"] for panel in _panels(dashboard) for target in panel["targets"]]
    return asked + [one["query"] for one in dashboard["templating"]["list"] if one["type"] == "query"]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_query_asks_for_series_that_are_told(file: Path) -> None:
    assert metrics
    for query in _queries(json.loads(file.read_text())):
        asked = re.findall(r"\btidegate_[a-z_]+(?=[\s{\[,)]|$)", re.sub(r"\{[^}]*\}", "{}", query))
        plain = {re.sub(r"_(total|count|bucket|sum)$", "", name) for name in asked}
        assert asked or "nv_" in query or "process_" in query, query
        assert plain - {"tidegate_deployment", "tidegate_revision"} <= _TOLD, query


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_panel_says_what_it_shows_and_asks_the_chosen_prometheus(file: Path) -> None:
    for panel in _panels(json.loads(file.read_text())):
        assert panel["title"]
        assert panel["description"].endswith(".")
        assert panel["datasource"]["uid"] == "${datasource}"
