"""The live view: what a person sees of a rollout at one moment."""

from __future__ import annotations

from typing import Any

from rich.console import Console

from rollouts import GOOD, NEXT, obeyed, revision
from stories import Story, canarying
from tidegate_operators.cli.explain import explanation
from tidegate_operators.cli.watch import view
from tidegate_operators.handlers.pods import free_gpus
from tidegate_operators.rollout.summary import summarize


def _picture(story: Story) -> str:
    console = Console(width=140, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    servers = [_server(model, 2) for model in (GOOD, NEXT)]
    console.print(view(story.deployment(), servers, story.now))
    return console.export_text()


def _server(model: Any, pods: int) -> dict[str, Any]:
    labels = {"tidegate.dev/revision": revision(model)}
    return {"metadata": {"labels": labels}, "spec": {"replicas": pods}, "status": {"readyReplicas": pods}}


def test_a_rollout_shows_steps_weights_pods_evidence_and_time_left() -> None:
    story = canarying()
    story.judged((9, 900), (1, 40), count=2)
    shown = _picture(story)
    for part in ("stable 1: 95 %", "canary 2: 5 %", "canary (version 2)", "errors", "0.0250", "80 / 1800",
                 "deadline in", "5 %  50 %  100 %"):  # fmt: skip
        assert part in shown, part


def test_a_rollout_without_an_error_on_either_side_shows_no_difference_as_such() -> None:
    assert "+0.0000" in _picture(canarying().judged((0, 900), (0, 40), count=2))


def test_a_rollout_that_ended_shows_how() -> None:
    story = canarying()
    story.judged((0, 900), (30, 100), count=4)
    assert "last rollout: rolledBack" in _picture(story)


def _pod(node: str | None, gpus: int, phase: str = "Running") -> dict[str, Any]:
    container = {"resources": {"requests": {"nvidia.com/gpu": str(gpus)} if gpus else {}}}
    return {"spec": {"nodeName": node, "containers": [container]}, "status": {"phase": phase}}


def test_free_gpus_are_those_that_no_running_pod_has() -> None:
    nodes = [
        {"metadata": {"name": name}, "spec": spec, "status": {"allocatable": {"nvidia.com/gpu": "4"}}}
        for name, spec in (("a", {}), ("b", {"unschedulable": True}))
    ]
    pods = [_pod("a", 2), _pod("a", 1, "Succeeded"), _pod("a", 0), _pod(None, 1)]
    assert free_gpus(nodes, pods) == (2, 0)


def test_an_explanation_does_not_say_that_nothing_is_wrong() -> None:
    story = canarying()
    assert story.decision is not None
    seen = obeyed(story.decision, NEXT)
    status = summarize(story.deployment(), seen, story.decision, story.now)
    found = story.deployment().model_copy(update={"status": status})
    assert any(item.reason == "NotStalled" for item in status.conditions)
    assert "stands in the way" not in explanation(found)
