"""Phase, conditions and Events that follow from a look."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from rollouts import GOOD, NEXT, START, deployment, obeyed, revision
from tidegate_api.model_deployment import ModelDeployment, ModelDeploymentStatus, ResolvedModel
from tidegate_operators.rollout.decide import decide
from tidegate_operators.rollout.observed import Decision, Failure, Observed, Routes, Server
from tidegate_operators.rollout.summary import announce_changes, summarize

PINNED = ResolvedModel(digest=GOOD.digest, uri=GOOD.uri)
PACKAGE = {"package": {"uri": GOOD.uri, "digest": GOOD.digest}}


def _looks(count: int, named: ResolvedModel, **spec: Any) -> ModelDeployment:
    found, decision = deployment(**spec), None
    for _ in range(count):
        found, decision = _look(found, obeyed(decision, named))
    return found


def _look(found: ModelDeployment, observed: Observed) -> tuple[ModelDeployment, Decision]:
    decision = decide(found, observed, START)
    status = summarize(found, observed, decision, START)
    return found.model_copy(update={"status": status}), decision


def _message(status: ModelDeploymentStatus, kind: str) -> str:
    return next(item.message for item in status.conditions if item.type == kind)


def test_the_model_that_the_source_names_is_told() -> None:
    assert (
        _message(_looks(1, GOOD).status, "ModelResolved")
        == "challenger of ctr-ranker names version 1 (sha256:aaaaaaaa)."
    )
    pinned = _looks(1, PINNED, model=PACKAGE)
    assert _message(pinned.status, "ModelResolved") == "spec.model.package names sha256:aaaaaaaa."


def test_another_model_is_an_event_and_the_same_one_is_none() -> None:
    before = _looks(3, GOOD)
    same, _ = _look(before, obeyed(None, GOOD))
    other, _ = _look(before, obeyed(None, NEXT))
    resolved = [
        [said.message for said in announce_changes(before.status.conditions, after.status.conditions)
         if said.reason == "Resolved"]
        for after in (same, other)
    ]  # fmt: skip
    assert resolved == [[], ["challenger of ctr-ranker names version 2 (sha256:bbbbbbbb)."]]


def test_without_a_gateway_nobody_is_said_to_have_traffic() -> None:
    found = _looks(1, GOOD)
    missing = Failure("GatewayNotFound", "Gateway gateways/nowhere does not exist: create it.")
    servers = {revision(GOOD): Server(2, 2)}
    after, _ = _look(found, Observed(GOOD, servers, Routes(failure=missing)))
    assert "has 100 %" not in (after.status.message or "")
    assert "is to have 100 % of the traffic" in (after.status.message or "")
    assert "Gateway gateways/nowhere does not exist" in (after.status.message or "")
    progressing = next(item for item in after.status.conditions if item.type == "Progressing")
    assert (progressing.status, progressing.reason) == ("False", "GatewayNotFound")


def test_a_pinned_package_has_a_version_to_show() -> None:
    pinned = _looks(4, PINNED, model=PACKAGE)
    assert pinned.status.stable is not None
    assert pinned.status.stable_version == pinned.status.stable.hash
    assert _looks(4, GOOD).status.stable_version == "1"


def test_a_stable_revision_whose_gateway_is_gone_is_not_said_to_serve() -> None:
    missing = Failure("GatewayNotFound", "Gateway gateways/public does not exist: create it.")
    after, _ = _look(_looks(4, GOOD), Observed(GOOD, {revision(GOOD): Server(2, 2)}, Routes(failure=missing)))
    assert "is stable, but its routes do not stand: Gateway gateways/public" in (after.status.message or "")


MISSING = Failure("GatewayNotFound", "Gateway gateways/nowhere does not exist: create it.")


def _said(status: ModelDeploymentStatus, kind: str) -> tuple[str, str]:
    found = next(item for item in status.conditions if item.type == kind)
    return found.status, found.reason


def test_a_stable_revision_that_the_gateway_cuts_off_is_not_ready() -> None:
    after, _ = _look(_looks(4, GOOD), Observed(GOOD, {revision(GOOD): Server(2, 2)}, Routes(failure=MISSING)))
    assert (_said(after.status, "Ready"), after.status.phase) == (("False", "GatewayNotFound"), "Degraded")
    assert _said(after.status, "Stalled") == ("True", "GatewayNotFound")


def test_what_only_a_person_can_mend_is_stalled_and_what_passes_is_not() -> None:
    before = _looks(4, GOOD)
    servers, routes = {revision(GOOD): Server(2, 2)}, Routes({revision(GOOD): 100}, accepted=True)
    for reason, stalled in (("ModelNotFound", "True"), ("RegistryUnreachable", "False")):
        failure = Failure(reason, "The alias names nothing.")
        after, _ = _look(before, Observed(None, servers, routes, model_failure=failure))
        assert _said(after.status, "Stalled")[0] == stalled
    for reason, stalled in (("QueryRefused", "True"), ("MetricNotSeen", "False"), ("PrometheusUnreachable", "False")):
        failure = Failure(reason, "The query is none.")
        after, _ = _look(before, Observed(GOOD, servers, routes, metrics_failure=failure))
        assert _said(after.status, "Stalled")[0] == stalled


def test_a_first_revision_that_does_not_start_is_stalled_once_its_time_is_up() -> None:
    refused = Failure("PackageRefused", "The package has another digest.")
    found = _looks(2, GOOD)
    observed = Observed(GOOD, {revision(GOOD): Server(0, 1, refused)}, Routes())
    for minutes, stalled in ((1, ("False", "NotStalled")), (30, ("True", "PackageRefused"))):
        now = START + timedelta(minutes=minutes)
        status = summarize(found, observed, decide(found, observed, now), now)
        assert _said(status, "Stalled") == stalled
