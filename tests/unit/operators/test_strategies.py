"""blueGreen, abTest, analysis steps and pods that give way, told look by look."""

from __future__ import annotations

from typing import Any

from rollouts import GOOD, NEXT, deployment, obeyed, revision, shares, windows
from stories import Story, canarying, serving
from tidegate_api.annotations import ABORT, PROMOTE
from tidegate_operators.resources.routes import route_objects
from tidegate_operators.rollout.observed import Observed, Routes, Server

SWITCH = {"blueGreen": {"scaleDownDelay": "60s", "previewHostnames": ["next.example.com"]}}
DRIFT = {"name": "drift", "role": "guard", "threshold": {"query": "max(drift{$track})", "max": 0.25}}
CTR: dict[str, Any] = {
    "name": "ctr", "role": "objective", "margin": 0.002, "higherIsBetter": True,
    "ratio": {"events": "clicks{$track}", "trials": "impressions{$track}"},
}  # fmt: skip
BOTH_PROTOCOLS = {
    "gatewayRef": {"name": "public"}, "protocols": ["HTTP", "GRPC"],
    "hostnames": ["ctr.example.com"], "grpcHostnames": ["grpc.example.com"],
}  # fmt: skip


def _analysis(*metrics: dict[str, Any]) -> dict[str, Any]:
    return {"interval": "10s", "minSamples": 100, "metrics": list(metrics)}


def _switching(**switch: Any) -> Story:
    """Version 2 comes up beside version 1."""
    plan = {"blueGreen": SWITCH["blueGreen"] | switch}
    story = serving(strategy=plan, analysis=_analysis())
    story.model = NEXT
    story.look()
    return story


def test_blue_green_gives_no_traffic_before_as_many_pods_as_stable_has_are_ready() -> None:
    story = _switching()
    half = obeyed(story.decision, NEXT)
    story.look(observed=Observed(NEXT, half.servers | {revision(NEXT): Server(2, 1)}, half.routes))
    assert shares(story.decision) == {revision(GOOD): 100}
    assert "1 of 2 pods are ready for the switch" in (story.status.message or "")
    story.looks(3)
    assert shares(story.decision) == {revision(NEXT): 100}


def test_blue_green_keeps_the_old_revision_and_goes_back_at_once() -> None:
    story = _switching().looks(4)
    assert shares(story.decision) == {revision(NEXT): 100}
    assert "stable stays beside it" in (story.status.message or "")
    assert story.decision is not None
    assert {plan.revision.hash: plan.min_replicas for plan in story.decision.plans} == {
        revision(GOOD): 2,
        revision(NEXT): 2,
    }
    story.annotations = {ABORT: revision(NEXT)}
    assert shares(story.look()) == {revision(GOOD): 100}


def test_blue_green_promotes_when_the_delay_has_passed() -> None:
    story = _switching().looks(15)
    assert story.status.stable is not None
    assert story.status.stable.version == "2"
    assert story.said[-1] == "Promoted"


def test_a_promoted_switch_still_keeps_the_old_revision() -> None:
    story = _switching(autoPromotionEnabled=False).looks(10)
    assert shares(story.decision) == {revision(GOOD): 100}
    assert "waits until it is promoted" in (story.status.message or "")
    story.annotations = {PROMOTE: revision(NEXT)}
    story.looks(3)
    assert shares(story.decision) == {revision(NEXT): 100}
    assert story.status.canary is not None
    story.looks(10)
    assert story.status.stable is not None
    assert story.status.stable.version == "2"


def test_a_threshold_guard_rolls_a_preview_back() -> None:
    story = serving(strategy=SWITCH, analysis=_analysis(DRIFT))
    story.model = NEXT
    story.looks(4)
    assert "drift has had no reading yet" in (story.status.message or "")
    at = story.now
    (empty,) = windows(at, (0, 0), (0, 0), metric="drift")
    story.look(windows=(type(empty)("drift", at, at, value=0.9),))
    assert story.status.verdict is not None
    assert story.status.verdict.reason == "GuardFailed"


def test_a_preview_leads_to_the_newest_revision() -> None:
    story = _switching()
    assert story.decision is not None
    routes = route_objects(story.deployment(), story.status, story.decision.weights)
    preview, main = routes
    assert preview["spec"]["hostnames"] == ["next.example.com"]
    assert preview["spec"]["rules"][0]["backendRefs"][0]["name"].endswith(revision(NEXT))
    weights = {b["name"]: b["weight"] for b in main["spec"]["rules"][0]["backendRefs"]}
    assert weights[f"ctr-ranker-{revision(GOOD)}"] == 100


def _testing(percent: int = 20, *metrics: dict[str, Any], **plan: Any) -> Story:
    story = serving(
        strategy={"abTest": {"header": "x-bucket", "percent": percent} | plan},
        analysis=_analysis(*(metrics or (CTR,))),
        routing=BOTH_PROTOCOLS,
    )
    story.model = NEXT
    return story.looks(4)


def _routed(story: Story, kind: str, name: str) -> list[tuple[str, set[str | None]]]:
    """Each rule of a route: where it leads, and which buckets it matches (None: whoever sends none)."""
    assert story.decision is not None
    bodies = route_objects(story.deployment(), story.status, story.decision.weights)
    (body,) = (b for b in bodies if b["kind"] == kind and b["metadata"]["name"] == name)
    return [
        (
            next(b["name"] for b in rule["backendRefs"] if b["weight"]),
            {match["headers"][0]["value"] if "headers" in match else None for match in rule["matches"]},
        )
        for rule in body["spec"]["rules"]
    ]


def test_a_test_sends_each_bucket_to_one_side_and_others_to_a_service_nobody_judges() -> None:
    for percent in (1, 20, 64, 65, 99):
        story = _testing(percent)
        for kind, name in (("HTTPRoute", "ctr-ranker"), ("HTTPRoute", "ctr-ranker-versioned"),
                           ("GRPCRoute", "ctr-ranker-grpc")):  # fmt: skip
            found: dict[str, set[str | None]] = {}
            for service, buckets in _routed(story, kind, name):
                found[service] = found.get(service, set()) | buckets
            assert found[f"ctr-ranker-{revision(NEXT)}"] == {str(b) for b in range(percent)}
            assert found[f"ctr-ranker-{revision(GOOD)}"] == {str(b) for b in range(percent, 100)}
            assert found["ctr-ranker-unjudged"] == {None}


def test_a_test_s_routes_stay_within_what_gateway_api_takes() -> None:
    for percent in (1, 37, 50, 99):
        story = _testing(percent)
        assert story.decision is not None
        for body in route_objects(story.deployment(), story.status, story.decision.weights):
            sizes = [len(rule["matches"]) for rule in body["spec"]["rules"]]
            assert max(sizes) <= 64
            assert sum(sizes) <= 128
            assert len(sizes) <= 16


def test_a_test_by_values_leaves_everybody_else_with_stable() -> None:
    story = serving(strategy={"abTest": {"header": "x-group", "values": ["beta", "staff"]}}, analysis=_analysis(CTR))
    story.model = NEXT
    story.looks(4)
    assert _routed(story, "HTTPRoute", "ctr-ranker") == [
        (f"ctr-ranker-{revision(NEXT)}", {"beta", "staff"}),
        (f"ctr-ranker-{revision(GOOD)}", {None}),
    ]
    assert "has the requests whose x-group is beta or staff" in (story.status.message or "")


def test_whoever_may_get_traffic_by_an_edit_of_the_strategy_is_known_to_the_gateway_before() -> None:
    """A cluster that comes with its traffic can cost a request, for a gateway hears of the two by separate streams."""
    for strategy in (
        {"canary": {"steps": [{"setWeight": 5}]}},
        {"abTest": {"header": "x-bucket", "percent": 20, "minDuration": "1h"}},
        {"abTest": {"header": "x-group", "values": ["beta"], "minDuration": "1h"}},
    ):
        story = serving(strategy=strategy)
        for _ in range(2):
            assert story.decision is not None
            for body in route_objects(story.deployment(), story.status, story.decision.weights):
                known = {backend["name"] for rule in body["spec"]["rules"] for backend in rule["backendRefs"]}
                live = {f"ctr-ranker-{found.hash}" for found in story.status.live}
                assert known == live | {"ctr-ranker-unjudged"}, strategy
            story.model = NEXT
            story.looks(3)


def test_before_and_after_a_test_all_traffic_is_with_stable() -> None:
    story = _testing()
    story.annotations = {ABORT: revision(NEXT)}
    story.look()
    for name in ("ctr-ranker", "ctr-ranker-versioned"):
        assert _routed(story, "HTTPRoute", name) == [(f"ctr-ranker-{revision(GOOD)}", {None})]


def test_a_test_runs_until_it_is_decided() -> None:
    story = _testing(maxDuration="1h")
    story.judged((30, 1000), (12, 400), 20, "ctr")
    assert "not yet proven" in (story.status.message or "")
    story.judged((30, 1000), (20, 400), 60, "ctr")
    assert story.status.stable is not None
    assert story.status.stable.version == "2"


def test_a_test_that_proves_nothing_ends_at_its_longest_and_stable_keeps_all() -> None:
    story = _testing(maxDuration="10m")
    story.judged((30, 1000), (12, 400), 70, "ctr")
    assert story.status.verdict is not None
    assert story.status.verdict.outcome == "timedOut"
    assert "maxDuration of 600 s" in story.status.verdict.message
    assert shares(story.decision) == {revision(GOOD): 100}


def test_a_test_without_objectives_runs_its_stated_time() -> None:
    guard = {"name": "errors", "role": "guard", "margin": 0.01, "errorRate": {}}
    story = _testing(20, guard, maxDuration="10m")
    story.judged((0, 1000), (0, 400), 50)
    assert story.status.canary is not None
    story.looks(15)
    assert story.status.stable is not None
    assert story.status.stable.version == "2"


def test_an_analysis_step_asks_for_more_samples_at_its_weight() -> None:
    steps = [{"setWeight": 5}, {"analysis": {"minSamples": 1000}}, {"setWeight": 50}]
    story = canarying(strategy={"canary": {"steps": steps}})
    story.judged((0, 900), (0, 500)).look()
    assert "needs 1000 samples a side" in (story.status.message or "")
    story.judged((0, 900), (0, 600)).looks(2)
    assert story.status.weight == 50


def test_an_analysis_step_waits_for_the_objectives_it_names() -> None:
    steps = [{"setWeight": 5}, {"analysis": {"objectives": ["ctr"]}}, {"setWeight": 50}]
    story = canarying(strategy={"canary": {"steps": steps}}, analysis=_analysis(CTR))
    story.judged((30, 1000), (12, 400), 5, "ctr")
    assert "not yet proven" in (story.status.message or "")
    assert story.status.weight == 5


def test_where_no_gpu_is_free_stable_gives_up_pod_by_pod() -> None:
    runtime = {"gpus": 1, "backend": "onnxruntime"}
    steps = [{"setWeight": 10}, {"setWeight": 50}]
    story = Story(runtime=runtime, strategy={"canary": {"steps": steps, "maxUnavailable": 1}},
                  scaling={"minReplicas": 4, "maxReplicas": 8, "targets": [{"queueTime": "5ms"}]})  # fmt: skip
    story.looks(4, free_gpus=(8,))
    story.model = NEXT
    bounds = []
    for _ in range(12):
        story.judged((0, 1000), (0, 1000), free_gpus=(0,))
        assert story.decision is not None
        if story.status.canary is not None:
            by_version = {plan.revision.version: (plan.min_replicas, plan.most) for plan in story.decision.plans}
            bounds.append((by_version["1"], by_version["2"]))
    assert list(dict.fromkeys(bounds)) == [((3, 3), (1, 1)), ((2, 2), (2, 2)), ((1, 1), (3, 3))]
    assert story.status.stable is not None
    assert story.status.stable.version == "2"


def test_spec_and_stories_agree_on_defaults() -> None:
    canary = deployment(strategy={"canary": {}}).spec.strategy.canary
    assert canary is not None
    assert [step.set_weight for step in canary.steps] == [1, 5, 20, 100]


def test_an_edited_strategy_never_jumps_ahead() -> None:
    many = [{"setWeight": weight} for weight in (1, 2, 5, 10, 20)]
    story = canarying_at(20, strategy={"canary": {"steps": many}})
    for plan, weight in (
        ({"canary": {"steps": [{"setWeight": 10}, {"setWeight": 50}]}}, 10),
        ({"canary": {"steps": many}}, 10),
        ({"abTest": {"header": "x-bucket", "percent": 30, "minDuration": "1h"}}, 30),
        ({"blueGreen": {"autoPromotionEnabled": False}}, 0),
    ):
        story.spec |= {"strategy": plan} | ({"analysis": _analysis()} if "blueGreen" in plan else {})
        story.looks(3)
        assert story.status.weight == weight, plan
    assert story.said.count("StrategyChanged") == 4


def test_a_hiccup_of_the_gateway_costs_a_test_no_time() -> None:
    story = _testing(maxDuration="7d")
    for count in (200, 200):
        story.looks(count)
        assert story.decision is not None
        lagging = obeyed(story.decision, NEXT, judged_until=story.now)
        story.look(observed=Observed(NEXT, lagging.servers, Routes(lagging.routes.weights, accepted=False)))
    assert story.status.canary is not None
    assert story.status.canary.weight_since is not None


def test_a_pod_that_is_made_anew_costs_a_test_no_time() -> None:
    story = _testing(minDuration="1h", maxDuration="2h")
    story.looks(300)
    story.look(observed=_without_pods(story))
    story.judged((900, 30000), (900, 30000), 75, "ctr")
    assert story.status.stable is not None
    assert story.status.stable.version == "2", "an hour had passed before, and not once more"


def _without_pods(story: Story) -> Observed:
    """A look at which no pod of the canary is ready."""
    seen = obeyed(story.decision, NEXT, judged_until=story.now)
    return Observed(NEXT, seen.servers | {revision(NEXT): Server(1, 0)}, seen.routes)


def test_pods_that_never_start_end_a_rollout_that_waits_for_a_person() -> None:
    story = _switching(autoPromotionEnabled=False)
    for _ in range(70):
        seen = obeyed(story.decision, NEXT)
        story.look(observed=Observed(NEXT, seen.servers | {revision(NEXT): Server(2, 0)}, seen.routes))
    assert story.status.verdict is not None
    assert story.status.verdict.outcome == "timedOut"


def test_a_metric_that_is_redefined_starts_from_nothing() -> None:
    story = _testing(maxDuration="1h").judged((30, 1000), (12, 400), 5, "ctr")
    assert story.status.canary is not None
    assert story.status.canary.evidence[0].canary.trials == 2000
    story.spec["analysis"] = _analysis(CTR | {"higherIsBetter": False})
    story.look()
    assert story.status.canary.evidence[0].canary.trials == 0


def test_all_traffic_at_once_still_asks_for_proof() -> None:
    story = serving(strategy={"canary": {"steps": [{"setWeight": 100}]}}, analysis=_analysis(CTR))
    story.model = NEXT
    story.looks(20)
    assert story.status.canary is not None
    assert "no samples" in (story.status.message or "")


def test_an_edited_delay_does_not_turn_the_switch_back() -> None:
    story = _switching().looks(4)
    assert shares(story.decision) == {revision(NEXT): 100}
    story.spec["strategy"] = {"blueGreen": {"scaleDownDelay": "50s"}}
    assert shares(story.look()) == {revision(NEXT): 100}


def canarying_at(weight: int, **spec: Any) -> Story:
    """Version 2 has come to a weight, with samples enough for each one before."""
    story = serving(**spec)
    story.model = NEXT
    story.looks(3)
    for _ in range(40):
        if story.status.weight == weight:
            return story
        story.judged((0, 900), (0, 120))
    raise AssertionError(story.status.message)
