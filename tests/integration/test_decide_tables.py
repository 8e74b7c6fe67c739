"""The tables of `decide` once more, with a real API server that keeps what each look leaves behind.

Nothing else runs beside it, so that the stories' clock is the only one. After every look that changes more than counts
(of which every fifth is kept) the deployment, the objects that the operator makes of the decision, and the status go to
the API server; the next look starts from what it kept.
"""

from __future__ import annotations

import copy
import inspect
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client

from api_server import api_server, establish
from stories import Story
from tidegate_api.model_deployment import ModelDeployment, ModelDeploymentStatus
from tidegate_operators.adapters.cluster import Cluster
from tidegate_operators.adapters.prometheus import Prometheus
from tidegate_operators.adapters.registry import Registry
from tidegate_operators.handlers.model_deployment import apply_decision, owned
from tidegate_operators.handlers.neighbours import Neighbours
from tidegate_operators.resources.platform import Platform
from tidegate_operators.rollout.observed import Decision
from unit.operators import test_decide, test_lost_pods, test_strategies, test_undo_and_gates

# Its certificate was made a moment ago.
pytestmark = [pytest.mark.integration, pytest.mark.filterwarnings("ignore:Unverified HTTPS")]

REPOSITORY = Path(__file__).parents[2]
CRDS = ("crds/*s.yaml", "platform/gateway/crds/*routes.yaml")
NOWHERE = "http://127.0.0.1:9"
COUNTED = 5
"""Of looks that differ in counts alone, one of so many is kept."""
KINDS = ("Deployment", "Service", "HorizontalPodAutoscaler", "PodDisruptionBudget", "HTTPRoute", "GRPCRoute")


def _stories() -> list[Callable[[], None]]:
    modules = (test_decide, test_lost_pods, test_strategies, test_undo_and_gates)
    found = [test for module in modules for name, test in vars(module).items() if name.startswith("test_")]
    return [test for test in found if not inspect.signature(test).parameters]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[client.ApiClient]:
    """An API server with our kinds and the gateway's, and nobody who acts on them."""
    programs = subprocess.run([REPOSITORY / "dev" / "cluster", "binaries"], check=True, capture_output=True, text=True)
    with api_server(tmp_path_factory.mktemp("alone"), Path(programs.stdout.strip())) as api:
        establish(api, [file for pattern in CRDS for file in sorted((REPOSITORY / "manifests").glob(pattern))])
        client.CoreV1Api(api).create_namespace({"metadata": {"name": "shop"}})
        yield api


class Keeping:
    """Keeps each look of one story on the API server."""

    def __init__(self, api: client.ApiClient) -> None:
        self.cluster = Cluster(api)
        self.known: Any = None
        self.counts: Any = None
        self.looks = 0
        platform = Platform("components:1", "triton:cpu", "triton:gpu", NOWHERE)
        self.neighbours = Neighbours(self.cluster, Prometheus(NOWHERE), Registry(NOWHERE), platform)

    def kept(self, story: Story, decision: Decision) -> ModelDeploymentStatus:
        """Write what the look decided, unless only time or counts went by; the status as the API server kept it."""
        deployment = story.deployment()
        wanted = (deployment.spec, story.annotations, decision.plans, decision.weights)
        self.looks += 1
        told, counts = _told(decision.status)
        if (wanted, told) == self.known and (self.looks % COUNTED or counts == self.counts):
            return decision.status
        if self.known is None or wanted != self.known[0]:
            self._apply(deployment, story.annotations, decision)
        self.known, self.counts = copy.deepcopy((wanted, told)), counts
        self.cluster.apply_status(deployment, decision.status.to_dict())
        return self._read(deployment).status

    def _apply(self, deployment: ModelDeployment, annotations: dict[str, str], decision: Decision) -> None:
        body = {"apiVersion": deployment.api_version, "kind": deployment.kind, "spec": deployment.spec.to_dict()}
        own = {"name": deployment.metadata.name, "namespace": "shop", "annotations": annotations}
        self.cluster.apply(body | {"metadata": own})
        present = owned(deployment, self.neighbours)
        assert apply_decision(deployment, decision, present, self.neighbours) is None

    def _read(self, deployment: ModelDeployment) -> ModelDeployment:
        body = self.cluster.get(deployment.kind, "shop", deployment.metadata.name)
        assert body is not None
        return ModelDeployment.parse(body)

    def forget(self) -> None:
        """Remove all that the story made."""
        for kind in ("ModelDeployment", *KINDS):
            for body in self.cluster.list(kind, "shop", {}):
                self.cluster.delete(kind, "shop", body["metadata"]["name"])


def _told(status: ModelDeploymentStatus) -> tuple[dict[str, Any], Any]:
    """The status without what time alone changes, and without the canary's counts; and these."""
    found = status.to_dict() | {"message": None}
    counts = found["canary"].pop("evidence", None) if "canary" in found else None
    return found | ({"canary": found["canary"] | {"judgedUntil": None}} if "canary" in found else {}), counts


@pytest.mark.parametrize("story", _stories(), ids=lambda story: story.__name__.removeprefix("test_"))
def test_what_decide_says_is_kept_whole_by_a_real_api_server(
    story: Callable[[], None], alone: client.ApiClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    keeping = Keeping(alone)

    def kept(self: Story, decision: Decision) -> ModelDeploymentStatus:
        found = keeping.kept(self, decision)
        assert found == decision.status
        return found

    monkeypatch.setattr(Story, "kept", kept)
    try:
        story()
    finally:
        keeping.forget()
