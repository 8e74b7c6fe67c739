"""What the documentation and the examples show is what the API server takes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from rollouts import SPEC
from tidegate_api.admission import KINDS, admit
from tidegate_api.resource import API_VERSION
from wrong_specs import VIEW

ROOT = Path(__file__).parents[3]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
EXAMPLES = sorted((ROOT / "manifests" / "examples").glob("*.yaml"))


def _blocks(page: Path) -> list[Any]:
    text = page.read_text().replace("sha256:...", "sha256:" + "d" * 64)
    return [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", text, re.S)]


def _objects(block: Any) -> list[dict[str, Any]]:
    """The block, where it is a resource; a part of a ModelDeployment's spec, in one that is whole."""
    if not isinstance(block, dict):
        return []
    if block.get("kind") in KINDS:
        return [block]
    if not block or not block.keys() <= SPEC.keys() or block.keys() <= VIEW.keys():
        return []
    spec = {key: SPEC[key] | part if isinstance(part, dict) else part for key, part in block.items()}
    spec = {key: block[key] if key == "strategy" else part for key, part in spec.items()}
    if "steps" in str(block.get("strategy")):
        spec["analysis"] = SPEC["analysis"] | {"metrics": [_CTR]}
    if "blueGreen" in block.get("strategy", {}):
        spec["analysis"] = {"metrics": []}
    body = {"apiVersion": API_VERSION, "kind": "ModelDeployment", "metadata": {"name": "told"}}
    return [body | {"spec": SPEC | spec}]


_CTR = {
    "name": "ctr", "role": "objective", "margin": 0.002, "higherIsBetter": True,
    "ratio": {"events": "c{$track}", "trials": "i{$track}"},
}  # fmt: skip


@pytest.mark.parametrize("page", PAGES, ids=[page.name for page in PAGES])
def test_yaml_of_the_documentation_is_admitted(page: Path) -> None:
    for block in _blocks(page):
        for body in _objects(block):
            admit(body, page.name)


def test_the_pages_about_rollouts_show_each_strategy_and_kind_of_metric() -> None:
    shown = str([_objects(block) for block in _blocks(ROOT / "docs" / "rollouts.md")])
    for word in (
        "canary",
        "blueGreen",
        "abTest",
        "errorRate",
        "slowRequests",
        "ratio",
        "mean",
        "external",
        "threshold",
    ):
        assert f"'{word}'" in shown, word


@pytest.mark.parametrize("file", EXAMPLES, ids=[file.name for file in EXAMPLES])
def test_an_example_is_admitted(file: Path) -> None:
    admit(yaml.safe_load(file.read_text()), file.name)
