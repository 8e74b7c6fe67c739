"""Argo CD's health scripts, run in the Lua that Argo CD has (5.1), say what a person would."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from lupa.lua51 import LuaRuntime

from rollouts import obeyed
from stories import Story, canarying, serving
from tidegate_operators.rollout.decide import decide
from tidegate_operators.rollout.summary import summarize

SCRIPTS = Path(__file__).parents[3] / "manifests" / "gitops"


def health(kind: str, resource: dict[str, Any]) -> tuple[str, str]:
    """Status and message that the script of a kind gives a resource."""
    lua = LuaRuntime()
    lua.globals().obj = lua.table_from(resource, recursive=True)
    found = lua.execute((SCRIPTS / f"argocd-health-{kind}.lua").read_text())
    return found["status"], found["message"]


def _looked_at(story: Story, **spec: Any) -> dict[str, Any]:
    """The deployment as the API server has it after one more look."""
    story.spec |= spec
    deployment = story.deployment()
    observed = obeyed(story.decision, story.model, judged_until=story.now)
    status = summarize(deployment, observed, decide(deployment, observed, story.now), story.now)
    return {"metadata": {"generation": 1}, "status": status.to_dict()}


def _harmful() -> Story:
    story = canarying()
    return story.judged((0, 900), (90, 120)).looks(2)


@pytest.mark.parametrize(
    ("resource", "wanted"),
    [
        (lambda: {"metadata": {"generation": 1}}, "Progressing"),
        (lambda: _looked_at(serving()), "Healthy"),
        (lambda: _looked_at(canarying()), "Progressing"),
        (lambda: _looked_at(canarying(), paused=True), "Suspended"),
        (lambda: _looked_at(_harmful()), "Degraded"),
    ],
    ids=["not looked at", "serving", "rolling out", "paused", "rolled back"],
)
def test_a_deployment_is_as_healthy_as_a_person_would_say(resource: Any, wanted: str) -> None:
    found, message = health("modeldeployment", resource())
    assert (found, bool(message)) == (wanted, True), message


def test_an_edit_that_nobody_has_looked_at_yet_is_not_healthy() -> None:
    resource = _looked_at(serving()) | {"metadata": {"generation": 2}}
    assert health("modeldeployment", resource)[0] == "Progressing"


@pytest.mark.parametrize(
    ("conditions", "phase", "wanted"),
    [
        ([], "Pending", "Progressing"),
        ([("Ready", "True")], "Ready", "Healthy"),
        ([("Ready", "False")], "Failed", "Degraded"),
        ([("Ready", "True"), ("SchemaCompatible", "False")], "Ready", "Degraded"),
    ],
)
def test_a_view_is_as_healthy_as_its_conditions(conditions: list[tuple[str, str]], phase: str, wanted: str) -> None:
    told = [{"type": kind, "status": status, "message": f"{kind} is {status}"} for kind, status in conditions]
    assert health("featureview", {"status": {"phase": phase, "message": "m", "conditions": told}})[0] == wanted
