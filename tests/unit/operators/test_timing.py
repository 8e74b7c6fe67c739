"""When the operator looks again: not before something can have changed, and not after."""

from __future__ import annotations

from datetime import timedelta

from rollouts import NEXT
from stories import Story, canarying, serving
from tidegate_operators.rollout.observed import Failure
from tidegate_operators.rollout.steps import SETTLE, grid_floor

INTERVAL = timedelta(seconds=10)


def _next(story: Story) -> timedelta:
    assert story.decision is not None
    return story.decision.requeue


def test_a_weight_that_holds_is_looked_at_when_an_interval_s_samples_have_come() -> None:
    story = canarying().judged((0, 10), (0, 1))
    assert grid_floor(story.now + _next(story) - SETTLE, INTERVAL) > grid_floor(story.now - SETTLE, INTERVAL)
    assert _next(story) <= INTERVAL


def test_a_pause_is_looked_at_when_it_ends() -> None:
    steps = [{"setWeight": 5}, {"pause": {"duration": "23s"}}, {"setWeight": 50}]
    story = canarying(strategy={"canary": {"steps": steps}}, analysis={"interval": "1h", "metrics": []})
    canary = story.status.canary
    assert canary is not None
    assert canary.weight_since is not None
    assert story.now + _next(story) == canary.weight_since + timedelta(seconds=23)


def test_a_step_that_was_just_taken_is_looked_at_at_once() -> None:
    story = canarying().judged((0, 900), (0, 120))
    assert story.status.canary is not None
    assert story.status.canary.step == 1
    assert _next(story) < timedelta(seconds=1)


def test_a_source_that_could_not_be_read_is_asked_again_soon_however_long_the_interval() -> None:
    story = canarying(analysis={"interval": "1h", "metrics": []}, progressDeadline="5h")
    story.look(model_failure=Failure("RegistryUnreachable", "MLflow does not answer"))
    assert _next(story) <= timedelta(seconds=5)


def test_what_waits_for_pods_or_the_gateway_is_looked_at_soon() -> None:
    story = serving()
    story.model = NEXT
    story.look()
    assert _next(story) == timedelta(seconds=2)


def test_a_revision_that_leaves_is_looked_at_when_it_may_go_and_then_hardly_ever() -> None:
    story = canarying().judged((0, 900), (50, 120), 2)
    assert story.status.canary is None
    waits = []
    while story.status.retiring:
        waits.append(_next(story))
        story.look(seconds=_next(story).total_seconds())
    assert len(waits) <= 3
    story.look(seconds=_next(story).total_seconds())
    assert _next(story) == timedelta(minutes=10)
