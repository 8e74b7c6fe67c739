"""The CRDs are current, structural, and read well in `kubectl explain`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tidegate_api.crds import crds, main

CRD_FOLDER = Path(__file__).parents[3] / "manifests" / "crds"


def _schema(name: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(crds()[name])["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return found


def _undescribed(node: dict[str, Any], path: str) -> Iterator[str]:
    for name, child in node.get("properties", {}).items():
        if not child.get("description"):
            yield f"{path}.{name}"
        yield from _undescribed(child, f"{path}.{name}")
        yield from _undescribed(child.get("items", {}), f"{path}.{name}[]")


def test_the_committed_crds_are_current() -> None:
    assert main([str(CRD_FOLDER), "--check"]) == 0


def test_a_stale_folder_is_told_apart(tmp_path: Path) -> None:
    assert main([str(tmp_path), "--check"]) == 1


@pytest.mark.parametrize("name", sorted(crds()))
def test_every_field_explains_itself(name: str) -> None:
    spec = _schema(name)["properties"]["spec"]
    assert list(_undescribed(spec, "spec")) == []


@pytest.mark.parametrize("name", sorted(crds()))
def test_schemas_hold_nothing_that_a_structural_schema_may_not(name: str) -> None:
    text = crds()[name]
    assert not any(word in text for word in ("$ref", "anyOf", "$defs", "const:"))


def _at(name: str, *path: str) -> dict[str, Any]:
    node = _schema(name)
    for key in path:
        node = node["properties"][key]
    return node


def test_defaults_are_told_where_kubectl_explain_shows_them() -> None:
    assert _at("modeldeployments.yaml", "spec", "analysis", "interval")["description"].endswith("Default: 15s.")
    assert _at("modeldeployments.yaml", "spec", "analysis", "errorLevel")["description"].endswith("Default: 0.05.")
    assert _at("modeldeployments.yaml", "spec", "routing", "protocols")["description"].endswith("Default: HTTP.")


@pytest.mark.parametrize("strategy", ["shadow"])
def test_a_strategy_that_is_not_there_yet_says_so(strategy: str) -> None:
    assert "refuses it" in _at("modeldeployments.yaml", "spec", "strategy", strategy)["description"]


@pytest.mark.parametrize("name", sorted(crds()))
def test_a_status_has_no_rules(name: str) -> None:
    assert "x-kubernetes-validations" not in str(_at(name, "status"))
