"""Going back, pods made anew, and what must be so before a rollout begins."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from rollouts import GOOD, LATER, NEXT, deployment, obeyed, revision, shares
from stories import Story, canarying, serving
from tidegate_api.annotations import ABORT, PROMOTE, RESTART, RETRY, UNDO_TO
from tidegate_api.model_deployment import ResolvedModel
from tidegate_operators.resources.platform import Platform
from tidegate_operators.resources.routes import route_objects
from tidegate_operators.resources.server import server_objects
from tidegate_operators.rollout.observed import Decision, Observed, Routes, Server, View
from tidegate_operators.rollout.source import revision_of
from tidegate_operators.rollout.summary import summarize

PLATFORM = Platform("components:1", "triton:cpu", "triton:gpu", "http://mlflow:5000")


def _promoted() -> Story:
    """Version 2 was promoted over version 1."""
    story = canarying()
    story.judged((0, 900), (0, 120)).looks(2).judged((0, 500), (0, 500), count=2).looks(6)
    assert story.status.stable is not None
    assert story.status.stable.version == "2"
    return story


@pytest.mark.parametrize("named", [revision(GOOD), "1"])
def test_a_person_goes_back_at_once_and_the_source_s_version_stays_away(named: str) -> None:
    story = _promoted()
    story.annotations = {UNDO_TO: named}
    story.looks(3)
    assert shares(story.decision) == {revision(GOOD): 100}
    story.looks(20)
    assert story.status.stable is not None
    assert story.status.stable.version == "1"
    assert story.status.verdict is not None
    assert story.status.verdict.reason == "Undone"
    assert shares(story.decision) == {revision(GOOD): 100}


def test_the_history_tells_of_the_revision_that_a_person_left() -> None:
    story = _promoted()
    story.annotations = {UNDO_TO: "1"}
    story.looks(10)
    left, back = story.status.history[-2:]
    assert (left.revision.version, left.outcome, left.reason) == ("2", "aborted", "Undone")
    assert (back.revision.version, back.outcome, back.reason) == ("1", "promoted", "Undone")
    assert "gave way: a person went back to version 1" in left.message


def test_an_undo_kept_in_git_does_not_act_twice() -> None:
    story = _promoted()
    story.annotations = {UNDO_TO: revision(GOOD)}
    story.looks(6)
    story.model = LATER
    story.looks(3)
    assert story.status.canary is not None
    assert story.status.canary.revision.version == "3"


def test_going_back_during_a_rollout_gives_the_canary_up() -> None:
    story = canarying()
    story.annotations = {UNDO_TO: revision(GOOD)}
    story.look()
    assert story.status.canary is None
    assert shares(story.decision) == {revision(GOOD): 100}
    assert story.status.verdict is not None
    assert (story.status.verdict.outcome, story.status.verdict.reason) == ("aborted", "Undone")
    story.looks(5)
    assert story.status.canary is None


def test_going_back_to_what_nobody_knows_is_refused_with_a_sentence() -> None:
    story = serving()
    story.annotations = {UNDO_TO: "ffffffff"}
    decision = story.look()
    (said,) = decision.announcements
    assert (said.reason, "status.history does not hold" in said.message) == ("UndoRefused", True)
    assert story.look().announcements == ()


def test_a_restart_makes_the_pods_of_live_revisions_anew_once() -> None:
    story = serving()
    story.annotations = {RESTART: "2026-01-01T00:00:00Z"}
    decision = story.look()
    (said,) = decision.announcements
    assert said.reason == "Restarted"
    assert story.status.stable is not None
    pods = server_objects(story.deployment(), story.status.stable, 2, PLATFORM)[1]["spec"]["template"]
    assert pods["metadata"]["annotations"][RESTART] == "2026-01-01T00:00:00Z"
    assert story.look().announcements == ()
    story.annotations = {}
    story.look()
    assert story.status.stable.restart == "2026-01-01T00:00:00Z"


READS = NEXT.model_copy(update={"feature_views": {"user-activity": "sha256:one"}})


def _view(ready: bool = True, schema: str = "sha256:one") -> tuple[View, ...]:
    return (View("user-activity", ready, frozenset({schema}), "the lake is empty"),)


@pytest.mark.parametrize(
    ("views", "reason", "said"),
    [
        ((), "FeatureViewMissing", "does not exist in this namespace"),
        (_view(ready=False), "FeatureViewNotReady", "the lake is empty"),
        (_view(schema="sha256:two"), "SchemaMismatch", "train on the present schema"),
    ],
)
def test_a_model_whose_features_cannot_be_read_is_not_rolled_out(
    views: tuple[View, ...], reason: str, said: str
) -> None:
    story = serving()
    story.model = READS
    decision = story.look(views=views)
    assert story.status.canary is None
    assert decision.blocked is not None
    assert decision.blocked.reason == reason
    assert said in (story.status.message or "")
    assert _conditions(story, decision, views)["FeaturesReady"] == ("False", reason)
    story.look(views=_view())
    assert story.status.canary is not None


def test_every_view_that_cannot_be_read_is_named() -> None:
    story = serving()
    story.model = NEXT.model_copy(
        update={"feature_views": {"user-activity": "sha256:one", "user-history": "sha256:two"}}
    )
    story.look()
    message = story.status.message or ""
    assert "FeatureView user-activity" in message
    assert "FeatureView user-history" in message


def _conditions(story: Story, decision: Decision, views: tuple[View, ...] = ()) -> dict[str, tuple[str, str]]:
    observed = obeyed(decision, story.model, views=views)
    status = summarize(story.deployment(), observed, decision, story.now)
    return {item.type: (item.status, item.reason) for item in status.conditions}


def _on_gpus(spare: int = 0, **scaling: Any) -> Story:
    steps = [{"setWeight": 5}, {"setWeight": 50}]
    return Story(
        runtime={"gpus": 2, "backend": "onnxruntime"},
        strategy={"canary": {"steps": steps, "maxUnavailable": spare}},
        scaling={"minReplicas": 2, "maxReplicas": 4, "targets": [{"queueTime": "5ms"}]} | scaling,
    )


def test_a_rollout_without_room_touches_nothing_and_says_what_lacks() -> None:
    story = _on_gpus().looks(4, free_gpus=(4,))
    story.model = NEXT
    decision = story.look(free_gpus=(1, 3))
    assert story.status.canary is None
    assert [plan.revision.version for plan in decision.plans] == ["1"]
    assert "2 pods with 2 nvidia.com/gpu each are wanted beside stable, but 1 fit (4 GPUs are free)" in (
        story.status.message or ""
    )
    conditions = _conditions(story, decision)
    assert conditions["Progressing"] == ("False", "InsufficientCapacity")
    assert conditions["Stalled"][0] == "True"
    story.look(free_gpus=(2, 3))
    assert story.status.canary is not None


@pytest.mark.parametrize(("spare", "least", "away"), [(0, 2, 0), (1, 2, 1), (3, 2, 1), (1, 1, 0)])
def test_a_restart_without_a_free_gpu_lets_pods_be_away_as_the_strategy_says(spare: int, least: int, away: int) -> None:
    story = _on_gpus(spare, minReplicas=least).looks(4, free_gpus=(8,))
    assert story.status.stable is not None
    server = server_objects(story.deployment(), story.status.stable, least, PLATFORM)[1]
    assert server["spec"]["strategy"]["rollingUpdate"] == {"maxUnavailable": away, "maxSurge": 1}


def test_a_first_revision_without_room_says_so() -> None:
    story = _on_gpus()
    decision = story.look(free_gpus=(0,))
    assert decision.plans == ()
    assert "0 fit" in (story.status.message or "")


def test_where_nodes_come_on_demand_nobody_asks_for_room() -> None:
    story = _on_gpus(nodesOnDemand=True).looks(4, free_gpus=(0,))
    assert story.status.stable is not None


def test_a_server_that_cannot_spare_a_pod_is_not_taken_apart() -> None:
    story = _on_gpus(spare=2).looks(4, free_gpus=(4,))
    story.model = NEXT
    assert story.look(free_gpus=(0,)).blocked is not None


def test_a_verdict_of_the_past_stalls_until_another_version_is_named() -> None:
    story = canarying()
    assert story.decision is not None
    assert _conditions(story, story.decision)["Reconciling"] == ("True", "RolloutUnderWay")
    story.judged((0, 900), (30, 100), count=4)
    assert _conditions(story, story.decision)["Stalled"] == ("True", "Rejected")


def test_a_revision_is_named_by_digest_and_runtime_alone() -> None:
    annotated = deployment(annotations={RESTART: "now"})
    assert revision_of(annotated, GOOD).hash == revision(GOOD)


def test_an_undo_that_is_aborted_does_not_bring_back_what_harmed() -> None:
    story = _promoted()
    story.model = LATER
    story.looks(3)
    story.judged((0, 900), (30, 100), count=4)
    assert story.status.rejected is not None
    story.annotations = {UNDO_TO: revision(GOOD)}
    story.look()
    assert story.status.canary is not None
    story.annotations = {UNDO_TO: revision(GOOD), ABORT: revision(GOOD)}
    story.looks(5)
    assert story.status.canary is None
    assert story.status.rejected is not None
    assert story.status.rejected.version == "3"


@pytest.mark.parametrize("how", ["abort", "deadline"])
def test_a_way_back_that_does_not_succeed_leaves_stable_unrejected(how: str) -> None:
    """Stable is what the source names: it serves, and nothing of it was rejected."""
    story = _promoted()
    story.annotations = {UNDO_TO: revision(GOOD)}
    story.look(observed=_startless(story))
    if how == "abort":
        story.annotations |= {ABORT: revision(GOOD)}
    for _ in range(70):
        story.look(observed=_startless(story))
    assert (story.status.canary, story.status.rejected) == (None, None)
    assert shares(story.decision) == {revision(NEXT): 100}
    assert story.status.verdict is not None
    assert story.status.verdict.outcome == {"abort": "aborted", "deadline": "timedOut"}[how]
    status = summarize(story.deployment(), _startless(story), story.look(observed=_startless(story)), story.now)
    assert status.phase == "Healthy"


def _startless(story: Story) -> Observed:
    """Version 2 serves, and no pod of version 1 starts."""
    servers = {revision(NEXT): Server(2, 2), revision(GOOD): Server(1, 0)}
    return Observed(NEXT, servers, Routes({revision(NEXT): 100, revision(GOOD): 0}, accepted=True))


def test_a_way_back_to_what_the_source_names_is_not_begun_again_once_it_was_aborted() -> None:
    story = _promoted()
    story.annotations = {UNDO_TO: revision(GOOD)}
    story.looks(10)
    story.annotations = {UNDO_TO: revision(NEXT)}
    story.look()
    assert story.status.canary is not None
    story.annotations |= {ABORT: revision(NEXT)}
    story.looks(10)
    assert story.status.canary is None
    assert shares(story.decision) == {revision(GOOD): 100}
    assert story.status.rejected is not None
    assert story.status.rejected.version == "2"


def test_an_undo_without_a_free_gpu_takes_pods_places_too() -> None:
    story = _on_gpus(spare=1).looks(4, free_gpus=(8,))
    story.model = NEXT
    story.looks(3, free_gpus=(8,))
    story.judged((0, 900), (0, 120)).looks(2).judged((0, 500), (0, 500), count=2).looks(6)
    assert story.status.stable is not None
    assert story.status.stable.version == "2"
    story.annotations = {UNDO_TO: "1"}
    story.look(free_gpus=(0,))
    assert story.status.canary is not None
    assert story.status.canary.baseline_replicas == 2


def test_a_promotion_kept_in_git_does_not_act_on_a_later_rollout_of_the_same_revision() -> None:
    story = canarying()
    story.annotations = {PROMOTE: revision(NEXT)}
    story.looks(8)
    assert story.status.stable is not None
    assert story.status.stable.version == "2"
    story.model = GOOD
    story.looks(3)
    story.judged((0, 900), (0, 120)).looks(2).judged((0, 500), (0, 500), count=2).looks(6)
    assert story.status.stable.version == "1"
    story.model = NEXT
    story.looks(8)
    assert story.status.canary is not None
    story.annotations = {}
    story.look()
    story.annotations = {PROMOTE: revision(NEXT)}
    story.looks(6)
    assert story.status.stable.version == "2"


def _rolled_back() -> Story:
    """Version 2 was rolled back, and the source still names it."""
    story = canarying()
    story.judged((0, 4000), (900, 1000)).looks(5)
    assert story.status.rejected is not None
    return story


@pytest.mark.parametrize("named", [revision(NEXT), "2"])
def test_what_was_rejected_is_tried_again_once_where_a_person_asks_for_it(named: str) -> None:
    story = _rolled_back()
    story.annotations = {RETRY: named}
    story.looks(3)
    assert story.status.canary is not None
    assert story.status.canary.revision.version == "2"
    assert not any(item.canary.trials for item in story.status.canary.evidence)
    story.judged((0, 4000), (900, 1000)).looks(20)
    assert story.status.canary is None
    assert story.status.rejected is not None
    assert story.said.count("Retried") == 1


def test_a_retry_of_what_was_not_rejected_does_nothing_and_says_so() -> None:
    story = _rolled_back()
    story.annotations = {RETRY: revision(GOOD)}
    story.looks(5)
    assert (story.status.canary, story.said.count("RetryRefused")) == (None, 1)


def test_attempts_that_never_served_push_nobody_out_of_the_history() -> None:
    story = _promoted()
    story.spec = {"revisionHistoryLimit": 2}
    for number in range(6):
        story.model = (LATER, NEXT)[number % 2]
        story.looks(2)
    promoted = [entry.revision.version for entry in story.status.history if entry.outcome == "promoted"]
    assert promoted == ["1", "2"]
    story.annotations = {UNDO_TO: "1"}
    assert shares(story.looks(4).decision) == {revision(GOOD): 100}


def _pinned(name: str, digest: str = GOOD.digest) -> tuple[dict[str, Any], ResolvedModel]:
    package = {"uri": GOOD.uri, "digest": digest, "name": name}
    return {"package": package}, ResolvedModel(digest=digest, uri=GOOD.uri, name=name)


def _names(story: Story) -> set[str]:
    """By what names pods load the model and routes lead to it."""
    assert story.decision is not None
    owner = story.deployment()
    bodies = [
        body
        for plan in story.decision.plans
        for body in server_objects(owner, plan.revision, plan.min_replicas, PLATFORM)
    ]
    bodies += route_objects(owner, story.decision.status, story.decision.weights)
    return set(re.findall(r"/v2/models/([a-z-]+)/|--load-model=([a-z-]+)", json.dumps(bodies))[0]) - {""}


def test_another_name_for_what_serves_cuts_nobody_off() -> None:
    model, named = _pinned("ctr-ranker")
    story = Story(model=model)
    story.model = named
    story.looks(5)
    before = _names(story)
    story.spec["model"], story.model = _pinned("other")
    story.looks(5)
    assert _names(story) == before == {"ctr-ranker"}
    assert story.status.stable is not None
    assert story.status.stable.name == "ctr-ranker"


def test_a_model_of_another_name_is_not_rolled_out() -> None:
    model, named = _pinned("ctr-ranker")
    story = Story(model=model)
    story.model = named
    story.looks(5)
    story.spec["model"], story.model = _pinned("other", NEXT.digest)
    decision = story.looks(5).decision
    assert decision is not None
    assert decision.blocked is not None
    assert decision.blocked.reason == "OtherModel"
    assert (story.status.canary, _names(story)) == (None, {"ctr-ranker"})


def test_what_a_person_went_back_to_is_healthy_and_nothing_is_stalled() -> None:
    story = _promoted()
    story.annotations = {UNDO_TO: "1"}
    decision = story.looks(10).decision
    assert decision is not None
    servers = {revision(GOOD): Server(2, 2)}
    observed = Observed(NEXT, servers, Routes({revision(GOOD): 100}, accepted=True))
    status = summarize(story.deployment(), observed, decision, story.now)
    stalled = next(item.status for item in status.conditions if item.type == "Stalled")
    assert (status.phase, stalled) == ("Healthy", "False")
