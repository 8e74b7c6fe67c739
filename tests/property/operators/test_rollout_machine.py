"""Whatever happens around it, a rollout keeps its promises."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from rollouts import GOOD, LATER, NEXT, SPEC, START, deployment, obeyed, routed, shares, windows
from tidegate_api.annotations import ABORT, PAUSE, PROMOTE, RESTART, RETRY, UNDO_TO
from tidegate_api.model_deployment import ModelDeploymentStatus
from tidegate_operators.rollout.decide import decide
from tidegate_operators.rollout.observed import Decision, Failure, Observed, Routes, Server
from tidegate_operators.rollout.source import revision_of

STEPPED = {"strategy": SPEC["strategy"]}
PLANS: tuple[dict[str, Any], ...] = (
    STEPPED,
    STEPPED,
    {"strategy": {"blueGreen": {"scaleDownDelay": "30s"}}, "analysis": {"interval": "10s", "metrics": []}},
    {"strategy": {"abTest": {"header": "x-bucket", "percent": 30, "maxDuration": "2m"}}},
    {"strategy": {"canary": {"steps": [{"setWeight": 5}, {"pause": {}}, {"setWeight": 20}, {"setWeight": 50}]}}},
    {
        "strategy": {"canary": {"steps": [{"setWeight": 5}, {"setWeight": 50}], "maxUnavailable": 1}},
        "runtime": {"gpus": 1, "backend": "onnxruntime"},
        "scaling": SPEC["scaling"] | {"minReplicas": 3},
    },
)


class Rollout(RuleBasedStateMachine):
    """Random looks: pods come and go, the gateway lags, counters vary, people and sources change their minds."""

    @initialize(plan=st.sampled_from(PLANS))
    def begin(self, plan: dict[str, Any]) -> None:
        self.plan = plan
        self.now = START
        self.status = ModelDeploymentStatus()
        self.decision: Decision | None = None
        self.routes = Routes()
        self.model = GOOD
        self.annotations: dict[str, str] = {}
        self.asked: set[tuple[str, datetime]] = set()
        self.ready: dict[str, Server] = {}

    def _look(self, observed: Observed) -> None:
        self.now += timedelta(seconds=10)
        before = self.status
        parsed = deployment(before, self.annotations, **self.plan)
        self.ready = dict(observed.servers)
        self.decision = decide(parsed, observed, self.now)
        assert decide(parsed, observed, self.now) == self.decision, "the same look gives the same answer"
        self.status = ModelDeploymentStatus.model_validate(self.decision.status.to_dict())
        assert self.status.to_dict() == self.decision.status.to_dict(), "the status survives the API server"
        if self.status.canary and self.annotations.get(PROMOTE) == self.status.canary.revision.hash:
            self.asked.add((self.status.canary.revision.hash, self.status.canary.started_at))
        self._check_promotion(before)

    def _check_promotion(self, before: ModelDeploymentStatus) -> None:
        after = self.status.stable
        if before.stable is None or after is None or after.hash == before.stable.hash:
            return
        assert before.canary is not None
        by_hand = self.annotations.get(PROMOTE) == after.hash or (after.hash, before.canary.started_at) in self.asked
        asked = by_hand or before.canary.undo or "blueGreen" in self.plan["strategy"]
        enough = [item.canary.trials >= 100 and item.stable.trials >= 100 for item in before.canary.evidence]
        assert asked or (enough and all(enough)), "never promoted without evidence"

    @rule(ready=st.integers(0, 4), lag=st.booleans(), stable=st.integers(0, 400), canary=st.integers(0, 400),
          errors=st.sampled_from([0.0, 0.0, 0.0, 0.3]), gpus=st.sampled_from([None, (0,), (2, 8)]))  # fmt: skip
    def look(
        self, ready: int, lag: bool, stable: int, canary: int, errors: float, gpus: tuple[int, ...] | None
    ) -> None:
        plans = self.decision.plans if self.decision else ()
        servers = {p.revision.hash: Server(max(p.min_replicas, 1), ready) for p in plans}
        if self.decision and not lag:
            self.routes = routed(self.decision)
        counts = windows(self.now + timedelta(seconds=10), (0, stable), (int(canary * errors), canary))
        until = self.now + timedelta(seconds=10)
        self._look(Observed(self.model, servers, self.routes, windows=counts, judged_until=until, free_gpus=gpus))

    @rule()
    def look_without_neighbours(self) -> None:
        down = Failure("Unreachable", "does not answer")
        servers = self.ready
        self._look(Observed(None, servers, self.routes, model_failure=down, metrics_failure=down))

    @rule(model=st.sampled_from([GOOD, NEXT, LATER]))
    def name_another_version(self, model: type(GOOD)) -> None:  # type: ignore[valid-type]
        self.model = model

    @rule(annotation=st.sampled_from([ABORT, PAUSE, PROMOTE, RESTART, RETRY, UNDO_TO]),
          model=st.sampled_from([GOOD, NEXT, LATER]))  # fmt: skip
    def annotate(self, annotation: str, model: type(GOOD)) -> None:  # type: ignore[valid-type]
        self.annotations = {annotation: revision_of(deployment(**self.plan), model).hash}

    @rule()
    def remove_annotations(self) -> None:
        self.annotations = {}

    @invariant()
    def weights_are_whole(self) -> None:
        if shares(self.decision):
            assert sum(shares(self.decision).values()) == 100
            assert all(weight > 0 for weight in shares(self.decision).values())

    @invariant()
    def a_weight_is_given_only_to_ready_pods(self) -> None:
        if self.decision and self.status.canary and self.status.weight:
            assert self.ready[self.status.canary.revision.hash].ready > 0

    @invariant()
    def whoever_gets_traffic_runs(self) -> None:
        if self.decision:
            assert set(self.decision.weights) <= {plan.revision.hash for plan in self.decision.plans}

    @invariant()
    def what_was_rejected_is_not_tried_while_it_is_named(self) -> None:
        if self.status.rejected and self.status.canary:
            assert self.status.rejected.hash != self.status.canary.revision.hash

    def teardown(self) -> None:
        """From wherever it got to, a well-behaved cluster brings it to an end, and a person where one is waited for."""
        self.annotations = {}
        for _ in range(120):
            waits = self.status.canary is not None and "waits until" in (self.status.message or "")
            self.annotations = {PROMOTE: self.status.canary.revision.hash} if waits else {}
            at = self.now + timedelta(seconds=10)
            counts = windows(at, (0, 500), (0, 500))
            self._look(obeyed(self.decision, self.model, windows=counts, judged_until=at))
        assert self.status.canary is None, "it always ends"
        assert self.decision is not None
        assert self.status.stable is not None
        assert self.decision.weights == {self.status.stable.hash: 100}


Rollout.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestRollout = Rollout.TestCase
