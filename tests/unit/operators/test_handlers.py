"""One look of the operator, against a cluster that is kept in memory: what is wrong is said, by field and remedy."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from kubernetes.client.exceptions import ApiException
from prometheus_client import REGISTRY

from cluster_in_memory import (
    CRON,
    PLATFORM,
    VIEW,
    Body,
    Gateways,
    Memory,
    Named,
    condition,
    condition_of,
    look,
    neighbours_of,
    no_claim,
    serving,
    unplaced,
)
from rollouts import GOOD, START, deployment
from tidegate_api.feature_view import FeatureView
from tidegate_api.model_deployment import HistoryEntry, ModelDeploymentStatus
from tidegate_operators.adapters.cluster import Cluster
from tidegate_operators.adapters.errors import NeighbourError, RefusedError
from tidegate_operators.handlers import feature_view, model_deployment, triggers
from tidegate_operators.handlers.aliases import AliasWatch
from tidegate_operators.handlers.neighbours import Neighbours
from tidegate_operators.handlers.state_metrics import state_metrics
from tidegate_operators.rollout.source import revision_of


class Versioned(Memory):
    """It numbers what is applied, as the API server does, and keeps the names."""

    def __init__(self) -> None:
        super().__init__()
        self.applied: list[str] = []

    def apply(self, body: Body) -> Body:
        self.applied.append(f"{body['kind']}/{body['metadata']['name']}")
        return super().apply(body | {"metadata": body["metadata"] | {"resourceVersion": str(len(self.applied))}})


def test_what_stands_as_it_was_applied_is_not_applied_again() -> None:
    memory = Versioned()
    neighbours = neighbours_of(memory)
    feature_view.reconcile(FeatureView.parse(VIEW), neighbours, START)
    made = [name for name in memory.applied if not name.startswith("ControllerRevision")]
    assert {name.partition("/")[0] for name in made} == {"Job", "CronJob", "ConfigMap"}
    memory.applied.clear()
    feature_view.reconcile(FeatureView.parse(VIEW), neighbours, START)
    assert memory.applied == []
    cron = next(name for name in memory.objects if name[0] == "CronJob")
    memory.objects[cron]["metadata"]["resourceVersion"] = "changed by somebody"
    feature_view.reconcile(FeatureView.parse(VIEW), neighbours, START)
    assert memory.applied == ["/".join(cron)]


class Deaf(Named):
    """The registry names versions, and takes no verdict."""

    def record(self, *_: object, **__: object) -> None:
        raise NeighbourError("RegistryUnreachable", "nobody answers")


def test_a_registry_that_did_not_hear_of_a_verdict_is_told_again_soon() -> None:
    ended = HistoryEntry(
        revision=revision_of(deployment(), GOOD), outcome="promoted", reason="FirstRevision", message="The first.",
        started_at=START, ended_at=START,
    )  # fmt: skip
    status = ModelDeploymentStatus(stable=ended.revision, history=[ended])
    neighbours = Neighbours(Memory(), None, Deaf(), PLATFORM)  # type: ignore[arg-type]
    assert model_deployment.reconcile(deployment(status), neighbours, START) <= timedelta(seconds=15)


class Stuttering(Named):
    """The registry does not take the second verdict that it is told, but the ones after it."""

    def __init__(self) -> None:
        self.calls = 0
        self.heard: list[str] = []

    def record(self, source: object, entry: HistoryEntry, serves: bool, by: str) -> None:
        self.calls += 1
        if self.calls == 2:
            raise NeighbourError("RegistryUnreachable", "nobody answers")
        self.heard.append(entry.reason)


def test_the_registry_hears_of_verdicts_in_their_order() -> None:
    revision = revision_of(deployment(), GOOD)
    history = [
        HistoryEntry(revision=revision, outcome=outcome, reason=reason, message="", started_at=START, ended_at=START)
        for outcome, reason in (("promoted", "FirstRevision"), ("promoted", "Promoted"), ("aborted", "Undone"))
    ]
    registry, memory = Stuttering(), Memory()
    neighbours = Neighbours(memory, None, registry, PLATFORM)  # type: ignore[arg-type]
    status = ModelDeploymentStatus(stable=revision, history=history)
    model_deployment.reconcile(deployment(status), neighbours, START)
    assert registry.heard == ["FirstRevision"]
    kept = ModelDeploymentStatus.model_validate(memory.status)
    model_deployment.reconcile(deployment(kept), neighbours, START)
    assert registry.heard == ["FirstRevision", "Promoted", "Undone"]


def test_a_deployment_whose_objects_are_refused_says_so() -> None:
    memory = Memory(refused="HorizontalPodAutoscaler")
    with pytest.raises(RefusedError):
        model_deployment.reconcile(deployment(), neighbours_of(memory), START)
    assert condition(memory, "Progressing")["reason"] == "InvalidSpec"
    assert memory.status["message"] == CRON


def test_a_pinned_package_waits_for_the_views_that_it_is_said_to_read() -> None:
    view = FeatureView.parse(VIEW)
    pinned = {"uri": "pvc://models/1", "digest": GOOD.digest, "featureViews": {view.metadata.name: view.schema_hash}}
    owner, memory = deployment(model={"package": pinned}), Memory()
    waiting = look(memory, owner)
    assert condition(memory, "FeaturesReady")["reason"] == "FeatureViewMissing"
    assert waiting.status.canary is None
    memory.objects["FeatureView", view.metadata.name] = VIEW | {
        "status": {
            "conditions": [
                {
                    "type": "Ready",
                    "status": "True",
                    "reason": "Serving",
                    "message": "",
                    "lastTransitionTime": "2026-01-01T00:00:00Z",
                }
            ]
        }
    }
    started = look(memory, owner)
    assert started.status.canary is not None
    assert started.status.canary.revision.feature_views == pinned["featureViews"]


def test_a_package_whose_claim_is_missing_names_the_field_and_the_remedy() -> None:
    owner = deployment(model={"package": {"uri": "pvc://nosuch/1", "digest": GOOD.digest}})
    memory = Memory()
    started = look(memory, owner)
    assert started.status.canary is not None
    memory.pods = (unplaced(no_claim("nosuch"), **{"tidegate.dev/revision": started.status.canary.revision.hash}),)
    said = condition_of(look(memory, started), "Progressing")
    assert "spec.model.package.uri names the PersistentVolumeClaim nosuch" in said
    assert "create the claim" in said


@pytest.mark.parametrize(
    ("status", "reason"), [(422, "InvalidSpec"), (400, "InvalidSpec"), (403, "Forbidden"), (404, "KindNotFound")]
)
def test_what_the_api_server_will_not_have_is_said_in_its_own_sentence(status: int, reason: str) -> None:
    with pytest.raises(RefusedError) as found:
        Cluster(_Refusing(status)).apply({"kind": "CronJob", "metadata": {"name": "x", "namespace": "shop"}})  # type: ignore[arg-type]
    assert found.value.failure.reason == reason
    assert "unknown time zone Mars/X" in found.value.failure.message


def test_an_api_server_that_is_away_is_no_refusal() -> None:
    with pytest.raises(NeighbourError) as found:
        Cluster(_Refusing(503)).apply({"kind": "CronJob", "metadata": {"name": "x", "namespace": "shop"}})  # type: ignore[arg-type]
    assert not isinstance(found.value, RefusedError)


class _Refusing:
    """A client whose API server answers with an error."""

    def __init__(self, status: int) -> None:
        self.status = status

    def call_api(self, *_: Any, **__: Any) -> None:
        error = ApiException(status=self.status, reason="no")
        error.body = '{"message": "unknown time zone Mars/X"}'
        raise error


def test_the_metrics_of_a_deleted_deployment_go() -> None:
    owner = deployment()
    state_metrics.show_rollout(owner, owner.status)
    where = {"namespace": "shop", "name": "ctr-ranker"}
    assert REGISTRY.get_sample_value("tidegate_canary_weight_percent", where) == 0
    assert triggers.reconcile(("ModelDeployment", "shop", "ctr-ranker"), neighbours_of(Memory()), AliasWatch()) is None
    assert REGISTRY.get_sample_value("tidegate_canary_weight_percent", where) is None


def test_pods_that_are_not_let_in_are_told_with_the_reason() -> None:
    memory = Memory()
    started = look(memory, deployment())
    assert started.status.canary is not None
    server = ("Deployment", f"ctr-ranker-{started.status.canary.revision.hash}")
    quota = 'pods "ctr-ranker-1" is forbidden: exceeded quota: small, requested: pods=1, used: pods=2, limited: pods=2'
    refused = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": quota}
    memory.objects[server]["status"] = {"conditions": [refused]}
    after = look(memory, started)
    assert f"No pod of {server[1]} is let in: {quota}." in condition_of(after, "Progressing")
    assert "exceeded quota" in (after.status.message or "")


def test_a_server_that_somebody_scaled_to_nothing_comes_back() -> None:
    memory = Gateways()
    served = serving(memory)
    assert memory.scaled == []
    name = f"ctr-ranker-{revision_of(served, GOOD).hash}"
    memory.objects["Deployment", name]["spec"]["replicas"] = 0
    look(memory, served)
    assert memory.scaled == [(name, 2)]
    assert "was scaled to 0 pods by somebody" in memory.said[-1].message
    look(memory, served)
    assert memory.scaled == [(name, 2)]


def test_an_autoscaler_that_reads_nothing_is_told_after_a_while() -> None:
    memory = Gateways()
    found = serving(memory)
    name = ("HorizontalPodAutoscaler", f"ctr-ranker-{revision_of(found, GOOD).hash}")
    said = {"type": "ScalingActive", "status": "False", "reason": "FailedGetPodsMetric", "message": "no metrics"}
    for minutes, holds in ((2, "True"), (3, "False")):
        since = (START - timedelta(minutes=minutes)).isoformat()
        memory.objects[name]["status"] = {"conditions": [said | {"lastTransitionTime": since}]}
        after = look(memory, found)
        assert {item.type: item.status for item in after.status.conditions}["ScalingActive"] == holds
    assert "keeps the pods that there are, for it reads no target: no metrics." in condition_of(after, "ScalingActive")
    assert memory.said[-1].reason == "FailedGetPodsMetric"
    disabled = said | {"reason": "ScalingDisabled", "lastTransitionTime": since}
    memory.objects[name]["status"] = {"conditions": [disabled]}
    assert condition_of(look(memory, after), "ScalingActive") == "The autoscaler reads what it scales by."


def test_another_address_of_the_same_package_moves_no_pod_of_stable_until_a_restart() -> None:
    memory = Gateways()
    package = {"uri": "pvc://models/1", "digest": GOOD.digest}
    served = serving(memory, model={"package": package})
    server = ("Deployment", f"ctr-ranker-{served.status.stable.hash if served.status.stable else ''}")
    before = memory.objects[server]["spec"]["template"]
    moved = {"package": package | {"uri": "pvc://elsewhere/1"}}
    after = look(memory, deployment(served.status, model=moved))
    assert memory.objects[server]["spec"]["template"] == before
    look(memory, deployment(after.status, {"tidegate.dev/restart": "now"}, model=moved))
    assert "pvc://elsewhere/1" in str(memory.objects[server]["spec"]["template"])


def test_a_pod_of_stable_that_does_not_start_is_told() -> None:
    memory = Gateways()
    served = serving(memory)
    revision = revision_of(served, GOOD).hash
    memory.pods = (unplaced(no_claim("gone"), **{"tidegate.dev/revision": revision}),)
    memory.objects["Deployment", f"ctr-ranker-{revision}"]["status"] = {"readyReplicas": 1}
    after = look(memory, served)
    assert "1 pods of version 1" in condition_of(after, "Ready")
    assert "One does not start: " in condition_of(after, "Ready")
    status = {item.type: item.status for item in after.status.conditions}
    assert (status["Ready"], status["Stalled"]) == ("True", "True")
