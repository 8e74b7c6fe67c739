"""A cluster, a gateway and a registry that are kept in memory, and one look of the operator at them."""

from __future__ import annotations

from typing import Any

from rollouts import GOOD, START, deployment
from tidegate_api.model_deployment import HistoryEntry, ModelDeployment, ResolvedModel
from tidegate_api.resource import Resource
from tidegate_operators.adapters.errors import RefusedError
from tidegate_operators.handlers import model_deployment
from tidegate_operators.handlers.neighbours import Neighbours
from tidegate_operators.resources.platform import Platform
from tidegate_operators.rollout.observed import Announcement

Body = dict[str, Any]
PLATFORM = Platform("components:1", "triton:cpu", "triton:gpu", "http://mlflow:5000")
VIEW = {
    "apiVersion": "tidegate.dev/v1alpha1",
    "kind": "FeatureView",
    "metadata": {"name": "user-activity", "namespace": "shop", "uid": "u-2"},
    "spec": {
        "entity": {"name": "user", "joinKeys": [{"name": "user_id", "type": "Int64"}]},
        "source": {"parquet": {"uri": "pvc://lake/interactions"}, "eventTimestamp": "event_time"},
        "features": [{"name": "clicks_7d", "type": "Int64", "aggregate": {"function": "count", "window": "7d"}}],
        "offline": {"uri": "pvc://features/user-activity"},
        "online": {"redis": {"urlFrom": {"secretKeyRef": {"name": "redis", "key": "url"}}}},
        "materialization": {"schedule": "*/15 * * * *", "suspend": True},
    },
}
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
        body = body | {"metadata": body["metadata"] | {"generation": 1}}
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


def condition(memory: Memory, kind: str) -> Body:
    return next(item for item in memory.status["conditions"] if item["type"] == kind)


def unplaced(message: str, **labels: str) -> Body:
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
    metadata = {"name": "p", "namespace": "shop", "labels": labels, "creationTimestamp": "2026-01-01T00:00:00Z"}
    return {"metadata": metadata, "status": {"phase": "Pending", "conditions": [condition]}}


def no_claim(name: str) -> str:
    return f'0/1 nodes are available: persistentvolumeclaim "{name}" not found. preemption: not helpful'


def look(memory: Memory, found: ModelDeployment) -> ModelDeployment:
    model_deployment.reconcile(found, neighbours_of(memory), START)
    return ModelDeployment.parse(_body(found) | {"status": memory.status})


def _body(found: ModelDeployment) -> Body:
    return found.model_dump(mode="json", by_alias=True, exclude_none=True)


def condition_of(found: ModelDeployment, kind: str) -> str:
    return next(item.message for item in found.status.conditions if item.type == kind)


class Gateways(Memory):
    """A cluster with one Gateway, which answers every route at once, and pods that are ready at once.

    taken: hosts that somebody else has, so that their routes are refused.
    """

    def __init__(self) -> None:
        super().__init__()
        self.objects["Gateway", "public"] = {"spec": {"gatewayClassName": "contour"}}
        self.scaled: list[tuple[str, int]] = []
        self.taken: set[str] = set()

    def apply(self, body: Body) -> Body:
        if body["kind"] == "HTTPRoute":
            body = body | {"status": self._answer(body)}
        if body["kind"] == "Deployment":
            replicas = self.objects.get(("Deployment", body["metadata"]["name"]), {"spec": {}})["spec"].get(
                "replicas", 2
            )
            body = body | {"spec": body["spec"] | {"replicas": replicas}, "status": {"readyReplicas": replicas}}
        return super().apply(body)

    def _answer(self, body: Body) -> Body:
        free = not self.taken & set(body["spec"].get("hostnames", []))
        reason, message = ("Accepted", "Yes.") if free else ("RuleMatchConflict", "Match has conflict.")
        said = {"Accepted": str(free), "ResolvedRefs": "True"}
        told = [{"type": kind, "status": holds, "reason": reason, "message": message} for kind, holds in said.items()]
        return {"parents": [{"conditions": [each | {"observedGeneration": 1} for each in told]}]}

    def scale(self, kind: str, namespace: str, name: str, replicas: int) -> None:
        self.scaled.append((name, replicas))
        self.objects[kind, name]["spec"]["replicas"] = replicas


def serving(memory: Memory, **spec: Any) -> ModelDeployment:
    found = deployment(**spec)
    for _ in range(4):
        found = look(memory, found)
    assert found.status.stable is not None
    return found
