"""A rollout, told step by step to the pure decide."""

from __future__ import annotations

from datetime import timedelta

import pytest

from rollouts import GOOD, LATER, NEXT, deployment, obeyed, readings, revision, shares, windows
from stories import Story, canarying, serving
from tidegate_api.annotations import ABORT, PAUSE, PROMOTE
from tidegate_api.model_deployment import RevisionImages
from tidegate_operators.cli.explain import explanation
from tidegate_operators.rollout.decide import decide
from tidegate_operators.rollout.observed import Failure, Observed, Routes, Server


def test_the_first_revision_needs_no_analysis() -> None:
    story = serving()
    assert story.decision is not None
    assert shares(story.decision) == {revision(GOOD): 100}
    assert story.status.verdict is not None
    assert story.status.verdict.reason == "FirstRevision"


def test_nobody_has_a_weight_before_its_pods_are_ready() -> None:
    story = Story()
    decision = story.look()
    waiting = Observed(model=GOOD, servers={revision(GOOD): Server(2, 0)}, routes=Routes())
    assert shares(decision) == {}
    assert shares(story.look(observed=waiting)) == {}
    assert "0 of 1 pods are ready" in (story.status.message or "")


def test_a_new_version_starts_at_the_first_weight() -> None:
    story = canarying()
    assert story.decision is not None
    assert shares(story.decision) == {revision(GOOD): 95, revision(NEXT): 5}


def test_a_weight_is_kept_until_pause_and_samples_are_there() -> None:
    story = canarying()
    story.judged((0, 900), (0, 50))
    assert story.status.weight == 5
    assert "needs 100 samples a side" in (story.status.message or "")
    story.judged((0, 900), (0, 60)).looks(2)
    assert story.status.weight == 50


def test_a_good_canary_is_promoted_and_the_old_server_leaves_last() -> None:
    story = canarying()
    story.judged((0, 900), (0, 120)).looks(2).judged((0, 500), (0, 500), count=2).looks(4)
    assert story.decision is not None
    assert story.status.stable is not None
    assert story.status.stable.version == "2"
    assert [plan.revision.hash for plan in story.decision.plans] == [revision(NEXT)]
    assert shares(story.decision) == {revision(NEXT): 100}
    assert story.said[-1] == "Promoted"


def test_gross_harm_in_the_first_interval_moves_no_weight_up() -> None:
    story = canarying()
    story.judged((0, 900), (90, 120))
    assert story.status.canary is None
    assert story.said[-1] == "GuardFailed"


def test_harm_rolls_back_for_good() -> None:
    story = canarying()
    story.judged((0, 900), (30, 100), count=4)
    assert story.status.canary is None
    assert story.status.verdict is not None
    assert story.status.verdict.reason == "GuardFailed"
    assert "errors: canary" in story.status.verdict.message
    assert story.decision is not None
    assert shares(story.decision) == {revision(GOOD): 100}
    story.looks(5)
    assert story.said.count("RolloutStarted") == 2


def test_a_rejected_digest_is_tried_again_once_the_source_named_another() -> None:
    story = canarying()
    story.judged((0, 900), (30, 100), count=4)
    story.model = LATER
    story.look()
    story.model = NEXT
    story.look()
    assert story.status.canary is not None
    assert story.status.canary.revision.hash == revision(NEXT)


def test_missing_data_is_never_success() -> None:
    story = canarying()
    story.looks(70, metrics_failure=Failure("PrometheusUnreachable", "Prometheus does not answer"))
    assert story.status.verdict is not None
    assert story.status.verdict.reason == "InsufficientEvidence"
    assert story.status.verdict.outcome == "timedOut"
    assert "Prometheus does not answer" in story.status.verdict.message


def test_the_deadline_leaves_out_pauses() -> None:
    steps = [{"setWeight": 5}, {"pause": {"duration": "20m"}}, {"setWeight": 50}]
    story = canarying(strategy={"canary": {"steps": steps}})
    story.looks(115)
    assert story.status.canary is not None
    assert "pauses until" in (story.status.message or "")


def test_a_paused_rollout_stays_and_outlives_the_deadline() -> None:
    story = canarying()
    story.annotations = {PAUSE: revision(NEXT)}
    story.looks(100)
    assert story.status.weight == 5
    story.annotations = {}
    story.look()
    assert story.status.canary is not None
    assert story.status.canary.paused_at is None


def test_a_paused_rollout_is_still_rolled_back_by_a_guard() -> None:
    story = canarying()
    story.spec["paused"] = True
    story.judged((0, 900), (30, 100), count=4)
    assert story.status.verdict is not None
    assert story.status.verdict.outcome == "rolledBack"


def test_an_indefinite_pause_waits_for_promotion() -> None:
    story = canarying(strategy={"canary": {"steps": [{"setWeight": 5}, {"pause": {}}]}})
    story.judged((0, 900), (0, 200)).looks(100)
    assert story.status.weight == 5
    story.annotations = {PROMOTE: revision(NEXT)}
    story.looks(4)
    assert story.status.stable is not None
    assert story.status.stable.version == "2"


def test_a_promotion_ends_an_indefinite_pause_and_the_steps_after_it_are_judged() -> None:
    steps = [{"setWeight": 5}, {"pause": {}}, {"setWeight": 20}, {"setWeight": 50}]
    story = canarying(strategy={"canary": {"steps": steps}}).judged((0, 900), (0, 200))
    story.annotations = {PROMOTE: revision(NEXT)}
    story.looks(20)
    assert story.status.weight == 20
    story.judged((0, 900), (200, 200), 3)
    assert story.status.verdict is not None
    assert story.status.verdict.outcome == "rolledBack"


def test_a_promotion_anywhere_else_skips_the_rest_and_the_history_says_who_promoted() -> None:
    story = canarying(strategy={"canary": {"steps": [{"setWeight": 5}, {"setWeight": 20}]}})
    story.annotations = {PROMOTE: revision(NEXT)}
    story.looks(5)
    assert story.status.verdict is not None
    assert (story.status.verdict.outcome, story.status.verdict.reason) == ("promoted", "PromotedByPerson")
    assert "by the annotation tidegate.dev/promote" in story.status.verdict.message


@pytest.mark.parametrize("value", ["true", "nosuch"])
def test_an_annotation_that_names_no_revision_is_told_once(value: str) -> None:
    story = canarying()
    story.annotations = {ABORT: value}
    story.looks(4)
    assert story.said.count("AnnotationIgnored") == 1
    assert story.status.ignored_annotations == {ABORT: value}
    assert f"is {value}, which names no revision" in explanation(story.deployment())
    story.annotations = {ABORT: revision(GOOD)}
    story.look()
    assert story.status.ignored_annotations == {}


def test_an_annotation_of_another_revision_does_nothing() -> None:
    story = canarying()
    story.annotations = {ABORT: "00000000", PROMOTE: "00000000"}
    story.looks(3)
    assert story.status.canary is not None


def test_abort_gives_all_traffic_back() -> None:
    story = canarying()
    story.annotations = {ABORT: revision(NEXT)}
    decision = story.look()
    assert shares(decision) == {revision(GOOD): 100}
    assert story.status.verdict is not None
    assert story.status.verdict.outcome == "aborted"


def test_a_newer_version_supersedes_the_canary() -> None:
    story = canarying()
    story.model = LATER
    story.look()
    assert story.status.canary is not None
    assert story.status.canary.revision.version == "3"
    assert [entry.outcome for entry in story.status.history] == ["promoted", "superseded"]


def test_going_back_to_the_stable_version_ends_the_canary() -> None:
    story = canarying()
    story.model = GOOD
    story.looks(2)
    assert story.status.canary is None
    assert story.status.rejected is None


def test_an_unreachable_registry_changes_nothing() -> None:
    story = canarying()
    story.model = None
    decision = story.look(model_failure=Failure("RegistryUnreachable", "MLflow does not answer"))
    assert shares(decision) == {revision(GOOD): 95, revision(NEXT): 5}


def test_an_old_server_stays_with_weight_0_until_the_gateway_has_let_it_go() -> None:
    story = canarying()
    story.annotations = {ABORT: revision(NEXT)}
    for _ in range(2):
        decision = story.look()
        assert decision.weights == {revision(GOOD): 100, revision(NEXT): 0}
        assert revision(NEXT) in {plan.revision.hash for plan in decision.plans}
    decision = story.look()
    assert decision.weights == {revision(GOOD): 100}
    assert revision(NEXT) not in {plan.revision.hash for plan in decision.plans}


def test_the_gateway_knows_a_canary_before_it_gets_traffic() -> None:
    story = serving()
    story.model = NEXT
    assert story.look().weights == {revision(GOOD): 100, revision(NEXT): 0}


def test_an_objective_must_be_proven_before_all_traffic_moves() -> None:
    ratio = {"events": "tidegate_clicks_total{$track}", "trials": "tidegate_impressions_total{$track}"}
    metric = {"name": "ctr", "role": "objective", "margin": 0.01, "higherIsBetter": True, "ratio": ratio}
    analysis = {"interval": "10s", "minSamples": 100, "metrics": [metric]}
    story = canarying(analysis=analysis, strategy={"canary": {"steps": [{"setWeight": 5}]}})
    for _ in range(3):
        at = story.now + timedelta(seconds=10)
        story.look(windows=windows(at, (30, 1000), (6, 200), metric="ctr"))
    assert story.status.weight == 5
    assert "not yet proven" in (story.status.message or "")
    for _ in range(30):
        at = story.now + timedelta(seconds=10)
        story.look(windows=windows(at, (30, 1000), (9, 200), metric="ctr"))
    assert story.status.stable is not None
    assert story.status.stable.version == "2"


def test_a_threshold_fails_after_its_limit() -> None:
    threshold = {"query": "max(drift{$track})", "max": 0.25, "failureLimit": 1}
    metric = {"name": "drift", "role": "guard", "threshold": threshold}
    story = canarying(
        analysis={"interval": "10s", "metrics": [metric]},
        strategy={"canary": {"steps": [{"setWeight": 5}, {"pause": {}}]}},
    )
    for _ in range(2):
        at = story.now + timedelta(seconds=10)
        story.look(windows=readings(at, 0.5))
    assert story.status.verdict is not None
    assert story.status.verdict.outcome == "rolledBack"


def test_a_threshold_has_readings_enough_to_fail_before_the_step_to_all_of_the_traffic() -> None:
    """Else one that fails every reading would be promoted as long as it had not failed often enough."""
    threshold = {"query": "max(drift{$track})", "max": 0.25, "failureLimit": 2}
    metric = {"name": "drift", "role": "guard", "threshold": threshold}
    story = canarying(
        analysis={"interval": "10s", "metrics": [metric]}, strategy={"canary": {"steps": [{"setWeight": 5}]}}
    )
    for reading in (1, 2):
        at = story.now + timedelta(seconds=10)
        story.look(windows=readings(at, float("inf")))
        assert f"drift needs 3 readings here, has {reading}" in (story.status.message or "")
    at = story.now + timedelta(seconds=10)
    story.look(windows=readings(at, 5.0))
    assert story.status.verdict is not None
    assert story.status.verdict.outcome == "rolledBack"
    assert "5 with 3 failed readings of 2 tolerated" in story.status.verdict.message


def test_stable_keeps_the_demand_for_a_signature_that_it_was_started_with() -> None:
    source = {"secretKeyRef": {"name": "model-keys", "key": "public.pem"}}
    model = {"registry": {"name": "ctr-ranker", "alias": "challenger"}, "verify": {"publicKeyFrom": source}}
    story = Story().looks(4)
    stable = story.status.stable
    assert stable is not None
    assert stable.public_key is None
    again = decide(deployment(story.status, model=model), obeyed(story.decision, GOOD), story.now)
    assert again.status.stable == stable
    later = decide(deployment(story.status, model=model), obeyed(story.decision, NEXT), story.now)
    assert later.status.canary is not None
    assert later.status.canary.revision.public_key is not None
    assert later.status.canary.revision.public_key.kind == "Secret"


def test_stable_keeps_the_images_it_was_started_with() -> None:
    old, new = (RevisionImages(fetch=f"components:{n}", server=f"triton:{n}") for n in (1, 2))
    story = Story().looks(4, images=old).looks(2, images=new)
    assert story.status.stable is not None
    assert story.status.stable.images == old
    story.model = NEXT
    story.look(images=new)
    assert story.status.canary is not None
    assert story.status.canary.revision.images == new


def test_the_first_weight_is_announced_like_every_other() -> None:
    story = serving()
    story.model = NEXT
    said = [(item.reason, item.weight) for _ in range(4) for item in story.look().announcements]
    assert said == [("RolloutStarted", 0), ("StepStarted", 5)]


def test_an_annotation_from_before_the_rollout_is_said_to_be_spent() -> None:
    story = serving()
    story.annotations[ABORT] = revision(NEXT)
    story.model = NEXT
    story.looks(3)
    assert "AnnotationSpent" in story.said
    assert story.status.canary is not None


def test_a_second_wait_for_a_person_says_that_the_annotation_has_acted() -> None:
    waits = [{"setWeight": 5}, {"pause": {}}, {"setWeight": 20}, {"pause": {}}]
    story = canarying(strategy={"canary": {"steps": waits}}, analysis={"interval": "10s"})
    story.annotations[PROMOTE] = revision(NEXT)
    story.looks(6)
    assert story.status.weight == 20
    assert "taken away and set again: the one that stands has acted" in (story.status.message or "")


def test_an_edit_of_a_metric_under_way_is_told_for_its_error_level_begins_anew() -> None:
    story = canarying()
    story.judged((0, 900), (0, 50))
    metric = {"name": "errors", "role": "guard", "margin": 0.02, "errorRate": {}}
    story.spec["analysis"] = {"interval": "10s", "minSamples": 100, "metrics": [metric]}
    story.judged((0, 900), (0, 50), count=2)
    assert story.said.count("MetricsEdited") == 1
    assert story.status.canary is not None
    assert story.status.canary.evidence[0].canary.trials == 100


def test_a_revision_whose_server_never_stood_is_not_made_for_its_leaving() -> None:
    """Its objects may be what the API server refused."""
    story = serving()
    story.model = NEXT
    story.look()
    story.model = LATER
    stood = {revision(GOOD): Server(2, 2)}
    decision = story.look(observed=Observed(LATER, stood, Routes({revision(GOOD): 100}, accepted=True)))
    assert revision(NEXT) not in {plan.revision.hash for plan in decision.plans}
    assert revision(NEXT) not in decision.weights
