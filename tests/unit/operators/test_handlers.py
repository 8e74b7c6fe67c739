"""One look of the operator, against a cluster that is kept in memory: what is wrong is said, by field and remedy."""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta
from typing import Any

import pytest
from kubernetes.client.exceptions import ApiException
from prometheus_client import REGISTRY
from test_resources import PLATFORM, VIEW

from rollouts import GOOD, START, deployment
from tidegate_api.errors import TidegateError
from tidegate_api.feature_view import FeatureView
from tidegate_api.model_deployment import HistoryEntry, ModelDeployment, ModelDeploymentStatus, ResolvedModel
from tidegate_api.resource import Resource
from tidegate_operators.adapters.cluster import Cluster
from tidegate_operators.adapters.errors import NeighbourError, RefusedError
from tidegate_operators.handlers import feature_view, model_deployment, triggers
from tidegate_operators.handlers.aliases import AliasWatch
from tidegate_operators.handlers.keeper import Keeper, retry_after, spread
from tidegate_operators.handlers.neighbours import Neighbours
from tidegate_operators.handlers.state_metrics import state_metrics
from tidegate_operators.rollout.observed import Announcement
from tidegate_operators.rollout.source import revision_of

Body = dict[str, Any]
CRON = "The API server refused CronJob user-activity-scheduled: unknown time zone Mars/X; correct the spec."


class Memory:
    """The port of the cluster: objects by kind and name, and kinds that it refuses."""

    def __init__(self, refused: str = "", pods: tuple[Body, ...] = ()) -> None:
        self.refused = refused
        self.pods = pods
        self.objects: dict[tuple[str, str], Body] = {}
        self.status: Body = {}
        self.said: list[Announcement] = []

    def get(self, kind: str, namespace: str, name: str) -> Body | None:
        return self.objects.get((kind, name))

    def list(self, kind: str, namespace: str, labels: dict[str, str]) -> list[Body]:
        if kind == "Pod":
            return list(self.pods)
        return [body for (found, _), body in self.objects.items() if found == kind]

    def apply(self, body: Body) -> Body:
        if body["kind"] == self.refused:
            raise RefusedError("InvalidSpec", CRON)
        self.objects[body["kind"], body["metadata"]["name"]] = body
        return body

    def delete(self, kind: str, namespace: str, name: str) -> None:
        del self.objects[kind, name]

    def apply_status(self, resource: Resource, status: Body) -> None:
        self.status = status

    def announce(self, resource: Resource, announcement: Announcement, now: object) -> None:
        self.said.append(announcement)


class Named:
    """The port of the registry: the alias names one version, and verdicts are heard."""

    def resolve(self, source: object) -> ResolvedModel:
        return GOOD

    def record(self, source: object, entry: HistoryEntry, *, serves: bool, by: str) -> None:
        return None


def neighbours_of(memory: Memory) -> Neighbours:
    return Neighbours(memory, None, Named(), PLATFORM)  # type: ignore[arg-type]


def _condition(memory: Memory, kind: str) -> Body:
    return next(item for item in memory.status["conditions"] if item["type"] == kind)


def _unplaced(message: str, **labels: str) -> Body:
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
    metadata = {"name": "p", "namespace": "shop", "labels": labels, "creationTimestamp": "2026-01-01T00:00:00Z"}
    return {"metadata": metadata, "status": {"phase": "Pending", "conditions": [condition]}}


def _no_claim(name: str) -> str:
    return f'0/1 nodes are available: persistentvolumeclaim "{name}" not found. preemption: not helpful'


def _look(memory: Memory, found: ModelDeployment) -> ModelDeployment:
    model_deployment.reconcile(found, neighbours_of(memory), START)
    return ModelDeployment.parse(_body(found) | {"status": memory.status})


def _body(found: ModelDeployment) -> Body:
    return found.model_dump(mode="json", by_alias=True, exclude_none=True)


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


def test_a_view_whose_schedule_is_refused_says_so_and_still_materializes() -> None:
    memory = Memory(refused="CronJob")
    with pytest.raises(RefusedError):
        feature_view.reconcile(FeatureView.parse(VIEW), neighbours_of(memory), START)
    ready = _condition(memory, "Ready")
    assert (ready["status"], ready["reason"], ready["message"]) == ("False", "InvalidSpec", CRON)
    assert Announcement("Warning", "InvalidSpec", CRON) in memory.said
    assert "Job" in {kind for kind, _ in memory.objects}


def test_a_deployment_whose_objects_are_refused_says_so() -> None:
    memory = Memory(refused="HorizontalPodAutoscaler")
    with pytest.raises(RefusedError):
        model_deployment.reconcile(deployment(), neighbours_of(memory), START)
    assert _condition(memory, "Progressing")["reason"] == "InvalidSpec"
    assert memory.status["message"] == CRON


def test_a_view_whose_claim_is_missing_names_the_field_and_the_remedy() -> None:
    memory = Memory(pods=(_unplaced(_no_claim("lake")),))
    feature_view.reconcile(FeatureView.parse(VIEW), neighbours_of(memory), START)
    ready = _condition(memory, "Ready")
    assert ready["reason"] == "Unschedulable"
    assert ready["message"] == (
        "spec.source.parquet.uri names the PersistentVolumeClaim lake, which namespace shop does not have: "
        "create the claim or correct spec.source.parquet.uri."
    )


def test_a_pinned_package_waits_for_the_views_that_it_is_said_to_read() -> None:
    view = FeatureView.parse(VIEW)
    pinned = {"uri": "pvc://models/1", "digest": GOOD.digest, "featureViews": {view.metadata.name: view.schema_hash}}
    owner, memory = deployment(model={"package": pinned}), Memory()
    waiting = _look(memory, owner)
    assert _condition(memory, "FeaturesReady")["reason"] == "FeatureViewMissing"
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
    started = _look(memory, owner)
    assert started.status.canary is not None
    assert started.status.canary.revision.feature_views == pinned["featureViews"]


def test_a_package_whose_claim_is_missing_names_the_field_and_the_remedy() -> None:
    owner = deployment(model={"package": {"uri": "pvc://nosuch/1", "digest": GOOD.digest}})
    memory = Memory()
    started = _look(memory, owner)
    assert started.status.canary is not None
    memory.pods = (_unplaced(_no_claim("nosuch"), **{"tidegate.dev/revision": started.status.canary.revision.hash}),)
    said = _condition_of(_look(memory, started), "Progressing")
    assert "spec.model.package.uri names the PersistentVolumeClaim nosuch" in said
    assert "create the claim" in said


def _condition_of(found: ModelDeployment, kind: str) -> str:
    return next(item.message for item in found.status.conditions if item.type == kind)


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


def test_each_failure_is_waited_for_longer_up_to_an_end() -> None:
    assert [retry_after(n).total_seconds() for n in (1, 2, 3, 4, 5, 6, 100)] == [5, 10, 20, 40, 80, 120, 120]


def test_what_was_made_together_is_looked_at_in_turn() -> None:
    waits = [spread(("ModelDeployment", "shop", f"m{n}"), timedelta(minutes=10)).total_seconds() for n in range(1000)]
    assert 480 <= min(waits) < 490
    assert 590 < max(waits) <= 600
    most = max(sum(begin <= wait < begin + 10 for wait in waits) for begin in range(480, 600, 10))
    assert most < 130, "of 1,000 in a sixth of the time"
    assert spread(("ModelDeployment", "shop", "m"), timedelta(seconds=10)) == timedelta(seconds=10)


def test_what_can_be_expected_is_one_line_without_a_traceback(caplog: pytest.LogCaptureFixture) -> None:
    def look(key: object) -> timedelta | None:
        raise RefusedError("InvalidSpec", CRON)

    async def once() -> None:
        keeper = Keeper(look)
        keeper.lead(True)
        keeper.keep(("FeatureView", "shop", "user-activity"))
        while not caplog.records:
            await asyncio.sleep(0.01)
        keeper.forget(("FeatureView", "shop", "user-activity"))

    asyncio.run(once())
    assert [(record.getMessage(), record.exc_info) for record in caplog.records][:1] == [(CRON, None)]
    assert caplog.records[0].levelno == logging.WARNING


def test_a_deleted_object_is_looked_at_once_more() -> None:
    looks: list[object] = []

    def look(key: object) -> timedelta | None:
        looks.append(key)
        return timedelta(hours=1)

    async def story() -> None:
        keeper = Keeper(look)
        keeper.lead(True)
        keeper.keep(("ModelDeployment", "shop", "x"))
        while not looks:
            await asyncio.sleep(0.01)
        keeper.forget(("ModelDeployment", "shop", "x"))
        while len(looks) < 2:
            await asyncio.sleep(0.01)

    asyncio.run(asyncio.wait_for(story(), 10))
    assert len(looks) == 2


def test_the_metrics_of_a_deleted_deployment_go() -> None:
    owner = deployment()
    state_metrics.show_rollout(owner, owner.status)
    where = {"namespace": "shop", "name": "ctr-ranker"}
    assert REGISTRY.get_sample_value("tidegate_canary_weight_percent", where) == 0
    assert triggers.reconcile(("ModelDeployment", "shop", "ctr-ranker"), neighbours_of(Memory()), AliasWatch()) is None
    assert REGISTRY.get_sample_value("tidegate_canary_weight_percent", where) is None


def test_an_object_that_an_older_crd_let_in_is_said_to_be_wrong() -> None:
    memory = Memory()
    memory.objects["FeatureView", "user-activity"] = VIEW | {"spec": {}}
    triggers.reconcile(("FeatureView", "shop", "user-activity"), neighbours_of(memory), AliasWatch())
    assert [said.reason for said in memory.said] == ["InvalidSpec"]
    ready = _condition(memory, "Ready")
    assert (ready["status"], ready["reason"]) == ("False", "InvalidSpec")
    serving = {"conditions": [{"type": "Ready", "status": "True"}]}
    memory.objects["FeatureView", "user-activity"] |= {"status": serving}
    memory.status = {}
    triggers.reconcile(("FeatureView", "shop", "user-activity"), neighbours_of(memory), AliasWatch())
    assert memory.status == {}, "what an earlier release said of it stays"
    with pytest.raises(TidegateError):
        FeatureView.parse(VIEW | {"spec": {}})


class Metrics:
    """The port of Prometheus: the value of each metric, whatever its labels."""

    def __init__(self, **values: float) -> None:
        self.values = values

    def scalar(self, query: str, at: object) -> float | None:
        assert 'namespace="shop",view="user-activity"' in query
        return next((value for name, value in self.values.items() if name in query), None)


def _topic_view() -> FeatureView:
    source = {"kafka": {"bootstrapServers": "kafka:9092", "topic": "events"}, "eventTimestamp": "event_time"}
    return FeatureView.parse(VIEW | {"spec": VIEW["spec"] | {"source": source}})  # type: ignore[operator]


def test_a_streamed_view_is_as_ready_and_fresh_as_its_stream_says() -> None:
    memory = Memory()
    metrics = Metrics(
        watermark=START.timestamp(), newest_event_time=(START - timedelta(seconds=9)).timestamp(), rows_written=12
    )
    neighbours = Neighbours(memory, metrics, Named(), PLATFORM)  # type: ignore[arg-type]
    feature_view.reconcile(_topic_view(), neighbours, START)
    assert _condition(memory, "Ready")["status"] == "True"
    assert memory.status["watermark"].startswith("2026-01-01T00:00:00")
    assert (memory.status["rows"], memory.status["newestEventTime"][:19]) == (12, "2025-12-31T23:59:51")
    assert ("CronJob", "user-activity-scheduled") not in memory.objects


def test_a_stream_that_ends_again_and_again_says_its_last_word() -> None:
    ended = {"exitCode": 2, "message": '{"view": "x"}\nError: topic events has 3 partitions and no keys'}
    waiting = {"reason": "CrashLoopBackOff", "message": "back-off 40s"}
    status = {"containerStatuses": [{"state": {"waiting": waiting}, "lastState": {"terminated": ended}}]}
    pod = {"metadata": {"name": "p", "namespace": "shop"}, "status": status}
    memory = Memory(pods=(pod,))
    feature_view.reconcile(_topic_view(), Neighbours(memory, Metrics(), Named(), PLATFORM), START)  # type: ignore[arg-type]
    assert _condition(memory, "Materialized")["message"] == "Error: topic events has 3 partitions and no keys"


def test_pods_that_are_not_let_in_are_told_with_the_reason() -> None:
    memory = Memory()
    started = _look(memory, deployment())
    assert started.status.canary is not None
    server = ("Deployment", f"ctr-ranker-{started.status.canary.revision.hash}")
    quota = 'pods "ctr-ranker-1" is forbidden: exceeded quota: small, requested: pods=1, used: pods=2, limited: pods=2'
    refused = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": quota}
    memory.objects[server]["status"] = {"conditions": [refused]}
    after = _look(memory, started)
    assert f"No pod of {server[1]} is let in: {quota}." in _condition_of(after, "Progressing")
    assert "exceeded quota" in (after.status.message or "")


class Gateways(Memory):
    """A cluster with one Gateway, which accepts every route at once, and pods that are ready at once."""

    def __init__(self) -> None:
        super().__init__()
        self.objects["Gateway", "public"] = {"spec": {"gatewayClassName": "contour"}}
        self.scaled: list[tuple[str, int]] = []

    def apply(self, body: Body) -> Body:
        if body["kind"] == "HTTPRoute":
            told = [{"type": kind, "status": "True", "observedGeneration": 1} for kind in ("Accepted", "ResolvedRefs")]
            body = body | {"metadata": body["metadata"] | {"generation": 1}}
            body |= {"status": {"parents": [{"conditions": told}]}}
        if body["kind"] == "Deployment":
            replicas = self.objects.get(("Deployment", body["metadata"]["name"]), {"spec": {}})["spec"].get(
                "replicas", 2
            )
            body = body | {"spec": body["spec"] | {"replicas": replicas}, "status": {"readyReplicas": replicas}}
        return super().apply(body)

    def scale(self, kind: str, namespace: str, name: str, replicas: int) -> None:
        self.scaled.append((name, replicas))
        self.objects[kind, name]["spec"]["replicas"] = replicas


def _served(memory: Memory, **spec: Any) -> ModelDeployment:
    found = deployment(**spec)
    for _ in range(4):
        found = _look(memory, found)
    assert found.status.stable is not None
    return found


def test_a_gateway_that_is_not_there_takes_no_standing_route_along() -> None:
    memory = Gateways()
    served = _served(memory)
    elsewhere = {"gatewayRef": {"name": "nowhere", "namespace": "gateways"}, "hostnames": ["ctr.example.com"]}
    after = _look(memory, deployment(served.status, routing=elsewhere))
    parent = memory.objects["HTTPRoute", "ctr-ranker"]["spec"]["parentRefs"][0]
    assert (parent["namespace"], parent["name"]) == ("gateways", "public")
    said = _condition_of(after, "RoutesAccepted")
    assert "Gateway gateways/nowhere does not exist" in said
    assert "until then the routes stay with Gateway gateways/public" in said
    status = {item.type: item.status for item in after.status.conditions}
    assert (after.status.phase, status["Ready"], status["Stalled"]) == ("Healthy", "True", "True")


def test_a_route_that_is_refused_names_its_hosts_and_who_has_them_too() -> None:
    memory = Gateways()
    served = _served(memory)
    route = memory.objects["HTTPRoute", "ctr-ranker"]
    refusal = {"type": "Accepted", "status": "False", "reason": "RuleMatchConflict", "message": "Match has conflict."}
    route["status"] = {"parents": [{"conditions": [refusal | {"observedGeneration": 1}]}]}
    other = {"name": "other-ranker", "labels": {"tidegate.dev/deployment": "other-ranker"}, "generation": 1}
    memory.objects["HTTPRoute", "other-ranker"] = {"kind": "HTTPRoute", "metadata": other, "spec": route["spec"]}
    said = _condition_of(_look(memory, served), "RoutesAccepted")
    assert "refused HTTPRoute ctr-ranker (ctr.example.com): Match has conflict." in said
    assert "ModelDeployment other-ranker has a hostname of these too" in said


def test_a_server_that_somebody_scaled_to_nothing_comes_back() -> None:
    memory = Gateways()
    served = _served(memory)
    assert memory.scaled == []
    name = f"ctr-ranker-{revision_of(served, GOOD).hash}"
    memory.objects["Deployment", name]["spec"]["replicas"] = 0
    _look(memory, served)
    assert memory.scaled == [(name, 2)]
    assert "was scaled to 0 pods by somebody" in memory.said[-1].message
    _look(memory, served)
    assert memory.scaled == [(name, 2)]


def test_another_address_of_the_same_package_moves_no_pod_of_stable_until_a_restart() -> None:
    memory = Gateways()
    package = {"uri": "pvc://models/1", "digest": GOOD.digest}
    served = _served(memory, model={"package": package})
    server = ("Deployment", f"ctr-ranker-{served.status.stable.hash if served.status.stable else ''}")
    before = memory.objects[server]["spec"]["template"]
    moved = {"package": package | {"uri": "pvc://elsewhere/1"}}
    after = _look(memory, deployment(served.status, model=moved))
    assert memory.objects[server]["spec"]["template"] == before
    _look(memory, deployment(after.status, {"tidegate.dev/restart": "now"}, model=moved))
    assert "pvc://elsewhere/1" in str(memory.objects[server]["spec"]["template"])


def test_a_pod_of_stable_that_does_not_start_is_told() -> None:
    memory = Gateways()
    served = _served(memory)
    revision = revision_of(served, GOOD).hash
    memory.pods = (_unplaced(_no_claim("gone"), **{"tidegate.dev/revision": revision}),)
    memory.objects["Deployment", f"ctr-ranker-{revision}"]["status"] = {"readyReplicas": 1}
    after = _look(memory, served)
    assert "1 pods of version 1" in _condition_of(after, "Ready")
    assert "One does not start: " in _condition_of(after, "Ready")
    status = {item.type: item.status for item in after.status.conditions}
    assert (status["Ready"], status["Stalled"]) == ("True", "True")
