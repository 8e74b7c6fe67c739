"""A canary that loses its pods, or never has them: its weight goes, and comes back with them."""

from __future__ import annotations

from rollouts import GOOD, NEXT, revision, shares
from stories import Story, canarying
from tidegate_api.annotations import PAUSE
from tidegate_operators.rollout.observed import Observed, Routes, Server


def test_a_canary_without_ready_pods_loses_its_weight() -> None:
    story = canarying()
    servers = {revision(GOOD): Server(2, 2), revision(NEXT): Server(1, 0)}
    routes = Routes({revision(GOOD): 95, revision(NEXT): 5}, accepted=True)
    decision = story.look(observed=Observed(model=NEXT, servers=servers, routes=routes))
    assert shares(decision) == {revision(GOOD): 100}
    assert revision(NEXT) in {plan.revision.hash for plan in decision.plans}


def _loses_its_pod(story: Story) -> None:
    story.look(observed=_gone(story))
    assert story.status.weight == 0


def test_a_pod_that_is_made_anew_begins_no_pause_anew() -> None:
    """Else a pause that is longer than the progress deadline would end in a time-out by any drained node."""
    steps = [{"setWeight": 5}, {"pause": {"duration": "30m"}}, {"setWeight": 50}]
    story = canarying(strategy={"canary": {"steps": steps}}, progressDeadline="5m")
    story.looks(170)
    _loses_its_pod(story)
    assert story.said[-1] == "CanaryNotReady"
    story.look()
    assert (story.status.weight, story.said[-1]) == (5, "StepStarted")
    story.looks(2)
    assert "00:31:30" in (story.status.message or "")
    story.judged((0, 900), (0, 100), count=20)
    assert story.status.verdict is not None
    assert story.status.verdict.reason == "Promoted"


def test_a_canary_that_stays_without_pods_is_drained_at_the_deadline() -> None:
    story = canarying(progressDeadline="5m")
    for _ in range(40):
        servers = {revision(GOOD): Server(2, 2), revision(NEXT): Server(1, 0)}
        story.look(observed=Observed(NEXT, servers, Routes({revision(GOOD): 100, revision(NEXT): 0}, accepted=True)))
    assert story.status.verdict is not None
    assert story.status.verdict.outcome == "timedOut"
    assert story.said.count("CanaryNotReady") == 1


def test_a_paused_canary_gets_back_what_it_had_and_no_more() -> None:
    story = canarying()
    story.annotations = {PAUSE: revision(NEXT)}
    story.looks(2)
    _loses_its_pod(story)
    story.looks(2)
    assert (story.status.weight, story.status.message) == (5, f"{_title(story)} is paused at 5 % of the traffic.")
    story.looks(100)
    assert story.status.weight == 5


def _title(story: Story) -> str:
    assert story.status.canary is not None
    return story.status.canary.revision.title.capitalize()


def test_time_without_a_pod_and_paused_time_are_left_out_once_each() -> None:
    """Seconds at the weight: 40 before the loss; 60 s without pods, of which 40 s are paused as well."""
    steps = [{"setWeight": 5}, {"pause": {"duration": "60s"}}, {"setWeight": 50}]
    for order in (("lose", "pause"), ("pause", "lose")):
        story = canarying(strategy={"canary": {"steps": steps}})
        assert story.status.canary is not None
        story.judged((0, 900), (0, 100), count=4)
        for step in order:
            if step == "pause":
                story.annotations = {PAUSE: revision(NEXT)}
                story.look(observed=_gone(story) if order[0] == "lose" else None)
            else:
                story.look(observed=_gone(story))
        for _ in range(3):
            story.look(observed=_gone(story))
        story.annotations = {}
        story.look(observed=_gone(story))
        story.looks(2)
        since = story.status.canary.weight_since
        assert since is not None
        waited = (story.now - since).total_seconds()
        assert 40 <= waited <= 70, (order, waited)


def _gone(story: Story) -> Observed:
    servers = {revision(GOOD): Server(2, 2), revision(NEXT): Server(1, 0)}
    return Observed(NEXT, servers, Routes(story.decision.weights if story.decision else {}, accepted=True))
