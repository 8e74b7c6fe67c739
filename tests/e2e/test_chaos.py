"""Everything around a rollout is killed in turn while it runs: it still ends right, with the reason recorded."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from kubernetes.client.exceptions import ApiException
from live import Live, Trained, registry, request_bodies

from tidegate_api.model_deployment import ModelDeployment
from tidegate_demo.facts import requests_of
from tidegate_demo.traffic import traffic
from tidegate_dev import paths
from tidegate_dev.errors import CommandError
from tidegate_operators.adapters.errors import NeighbourError

pytestmark = [pytest.mark.e2e, pytest.mark.alone, pytest.mark.timeout(1200)]

NAME, RATE, LONGEST = "stormy", 100.0, 900.0
WEIGHTS = (5, 10, 20, 30, 40, 50, 60)
SYSTEM = "tidegate-system"


@pytest.fixture(scope="module")
def stormy(shop: Live, trained: Trained) -> Iterator[Live]:
    """The first version serves; a canary would take a dozen seconds a weight."""
    steps = [step for weight in WEIGHTS for step in ({"setWeight": weight}, {"pause": {"duration": "12s"}})]
    shop.name_version(trained.first, NAME)
    scaling = {"minReplicas": 2, "maxReplicas": 2, "targets": [{"queueTime": "50ms"}]}
    shop.deploy(NAME, registry(NAME), strategy={"canary": {"steps": steps}}, scaling=scaling)
    shop.wait_for(NAME, lambda found: found.status.stable is not None, 180, "the first revision serves")
    yield shop
    shop.cluster.kubectl.run("delete", "md", NAME, "-n", shop.namespace)


def _kill_component(live: Live, name: str) -> None:
    """Kill a program of the development cluster's control plane; its supervisor starts it again."""
    cache = str(paths.cache())
    for process in psutil.process_iter(["cmdline"]):
        command = process.info["cmdline"] or [""]
        if command[0].startswith(cache) and Path(command[0]).name == name:
            process.kill()
    live.cluster.wait(lambda: _answers(live), 90, f"the API server answers after {name} was killed")


def _answers(live: Live) -> tuple[bool, str]:
    try:
        live.cluster.kubectl.run("get", "--raw", "/readyz")
    except CommandError as error:
        return False, str(error)
    return True, "ready"


def _restart(live: Live, deployment: str) -> None:
    live.scale(deployment, 0)
    live.scale(deployment, 1)


def _kill_pod(live: Live, revision: str | None) -> None:
    labels = f"tidegate.dev/deployment={NAME},tidegate.dev/revision={revision}"
    pods = live.cluster.get("pods", "-l", labels)["items"]
    if pods:
        name = pods[0]["metadata"]["name"]
        live.cluster.kubectl.run("delete", "pod", name, "-n", live.namespace, "--force", "--grace-period=0")


def _storms(stable: str, canary: str) -> list[tuple[str, Callable[[Live], None]]]:
    return [
        ("the operator", lambda live: live.kill_operator()),
        ("a pod of stable", lambda live: _kill_pod(live, stable)),
        ("a pod of the canary", lambda live: _kill_pod(live, canary)),
        ("Prometheus", lambda live: _restart(live, "prometheus")),
        ("Redis", lambda live: _restart(live, "redis")),
        ("MLflow", lambda live: _restart(live, "mlflow")),
        ("the API server", lambda live: _kill_component(live, "kube-apiserver")),
        ("etcd", lambda live: _kill_component(live, "server")),
    ]


def _seen(live: Live) -> ModelDeployment | None:
    """The deployment, unless the API server is away just now."""
    try:
        return live.deployment(NAME)
    except (NeighbourError, ApiException):
        return None


def test_a_good_canary_is_promoted_whatever_dies_around_it(stormy: Live, trained: Trained, tmp_path: Path) -> None:
    bodies = request_bodies(stormy, trained, tmp_path / "requests.jsonl")
    stable = stormy.deployment(NAME).status.stable
    assert stable is not None
    with traffic(stormy.target(NAME), bodies, RATE, LONGEST, tmp_path / "counts.json") as running:
        stormy.name_version(trained.second, NAME)
        found = stormy.wait_for(NAME, lambda f: f.status.weight > 0, 120, "the canary has its first weight")
        assert found.status.canary is not None
        for what, strike in _storms(stable.hash, found.status.canary.revision.hash):
            before = running.counts()
            strike(stormy)
            print(f"{what}: {running.counts().failed - before.failed} failed")

        def ended() -> tuple[bool, str]:
            seen = _seen(stormy)
            return bool(seen and seen.status.canary is None), str(seen and seen.status.message)

        stormy.cluster.wait(ended, 600, "the rollout ends")
    status = stormy.deployment(NAME).status
    assert status.stable is not None
    assert status.stable.version == trained.second.number
    assert [entry.reason for entry in status.history] == ["FirstRevision", "Promoted"]
    stormy.wait_for(NAME, lambda f: all(e.recorded for e in f.status.history), 60, "the registry was told")
    counts = running.counts()
    assert counts.sent > 5000
    assert counts.failed <= counts.sent // 100, counts


def test_an_edit_is_seen_by_those_whose_watches_were_cut(stormy: Live) -> None:
    """The API server was killed: whoever watches must have begun anew. The next look by the clock is minutes away."""
    stormy.plugin("restart", NAME)
    stormy.wait_for(NAME, lambda f: bool(f.status.stable and f.status.stable.restart), 30, "the edit is seen")


def test_a_harmful_canary_is_rolled_back_though_operator_and_prometheus_die(
    stormy: Live, trained: Trained, tmp_path: Path
) -> None:
    bodies = request_bodies(stormy, trained, tmp_path / "requests.jsonl", new_users=0.3)
    stable = stormy.deployment(NAME).status.stable
    assert stable is not None
    with traffic(stormy.target(NAME), bodies, RATE, LONGEST, tmp_path / "counts.json"):
        stormy.name_version(trained.broken, NAME)
        stormy.wait_for(NAME, lambda f: f.status.weight > 0, 120, "the canary has its first weight")
        stormy.kill_operator()
        _restart(stormy, "prometheus")
        found = stormy.wait_for(NAME, lambda f: f.status.canary is None, 300, "the rollout ends")
    assert found.status.verdict is not None
    assert found.status.verdict.reason == "GuardFailed"
    assert found.status.stable is not None
    assert found.status.stable.hash == stable.hash
    assert requests_of(stormy.addresses, NAME, found.status.verdict.revision.hash)[1] > 0
