"""A good canary is promoted and a broken one rolled back, while the operator is killed in every phase."""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from live import MODEL, REPOSITORY, Live, Trained, registry, request_bodies

from tidegate_api.model_deployment import ModelDeployment
from tidegate_demo.facts import requests_of
from tidegate_demo.traffic import Target, traffic

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1200)]

NAME, ALIAS = "ranker", "rollout"
RATE, LONGEST = 250.0, 1000.0
LEAST_REQUESTS = 20_000
_BOARD = json.loads((REPOSITORY / "manifests/monitoring/dashboards/rollouts.json").read_text())
_PANELS = [panel for panel in _BOARD["panels"] if panel["type"] != "row" and "reading" not in str(panel)]
"""All but those of threshold metrics, which this deployment has not."""


@pytest.fixture(scope="module")
def serving(shop: Live, trained: Trained) -> Iterator[Live]:
    """The first version serves."""
    shop.name_version(trained.first, ALIAS)
    shop.deploy(NAME, registry(ALIAS))
    shop.wait_for(NAME, lambda found: found.status.stable is not None, 180, "the first revision serves")
    yield shop
    shop.cluster.kubectl.run("delete", "-n", shop.namespace, "modeldeployment", NAME, "--ignore-not-found")


@pytest.fixture(scope="module")
def target(serving: Live) -> Target:
    """Where clients of this deployment send requests."""
    return serving.target(NAME)


def _kill_at_each_weight(live: Live, version: str, most_weight: int) -> set[int]:
    """Kill the operator once at each weight that the canary is seen to have, until its rollout ends."""
    killed: set[int] = set()

    def ended(found: ModelDeployment) -> bool:
        canary, weight = found.status.canary, found.status.weight
        if canary is not None and canary.revision.version == version and weight not in killed and weight <= most_weight:
            live.kill_operator()
            killed.add(weight)
        return canary is None and found.status.verdict is not None and found.status.verdict.revision.version == version

    live.wait_for(NAME, ended, LONGEST, f"the rollout of version {version} ends")
    return killed


def test_a_good_canary_is_promoted_and_no_request_fails(
    serving: Live, trained: Trained, target: Target, tmp_path: Path
) -> None:
    bodies = request_bodies(serving, trained, tmp_path / "requests.jsonl", new_users=0.06)
    with traffic(target, bodies, RATE, LONGEST, tmp_path / "counts.json") as running:
        serving.name_version(trained.second, ALIAS)
        killed = _kill_at_each_weight(serving, trained.second.number, 100)
        serving.kill_operator()
        enough = lambda: (running.counts().sent >= LEAST_REQUESTS, str(running.counts()))  # noqa: E731
        serving.cluster.wait(enough, 300, f"{LEAST_REQUESTS} requests")
    counts = running.counts()
    status = serving.deployment(NAME).status
    assert counts.failed == 0, counts
    assert counts.sent >= LEAST_REQUESTS
    assert {0, 1, 5, 20} <= killed
    assert [entry.outcome for entry in status.history] == ["promoted", "promoted"]
    assert status.stable is not None
    assert status.stable.version == trained.second.number


@pytest.mark.parametrize("panel", _PANELS, ids=lambda panel: panel["title"])
def test_grafana_has_what_it_shows_of_the_promotion(serving: Live, panel: dict[str, Any]) -> None:
    chosen = {"$namespace": serving.namespace, "$name": NAME, "$metric": ".*", "$__rate_interval": "30s"}
    span = {"start": time.time() - 900, "end": time.time(), "step": 5}
    found = []
    for target in panel["targets"]:
        query = functools.reduce(lambda text, one: text.replace(*one), chosen.items(), target["expr"])
        answer = httpx.get(f"{serving.addresses.prometheus}/api/v1/query_range", params={"query": query} | span)
        found += answer.raise_for_status().json()["data"]["result"]
    assert found, "none of its queries has anything"


def test_the_registry_learns_of_the_promotion(serving: Live, trained: Trained) -> None:
    serving.wait_for(NAME, lambda found: all(e.recorded for e in found.status.history), 60, "the registry was told")
    assert serving.alias(f"{ALIAS}-champion") == trained.second.number
    assert serving.version_tags(trained.second)["tidegate.outcome"] == "promoted"


def test_the_old_server_is_gone_and_stable_was_not_restarted(serving: Live) -> None:
    stable = serving.deployment(NAME).status.stable
    assert stable is not None
    of_stable = (stable.hash, "-unjudged")
    gone = lambda: (all(any(part in n for part in of_stable) for n in _servers(serving)), str(_servers(serving)))  # noqa: E731
    serving.cluster.wait(gone, 90, "the old server is gone")
    pods = serving.cluster.get("pods", "-l", f"tidegate.dev/revision={stable.hash}")["items"]
    assert all(status["restartCount"] == 0 for pod in pods for status in pod["status"]["containerStatuses"])


def _servers(live: Live) -> list[str]:
    return [name for name in live.owned(NAME) if "route" not in name]


def test_a_broken_canary_is_rolled_back_with_the_reason_everywhere(
    serving: Live, trained: Trained, target: Target, tmp_path: Path
) -> None:
    bodies = request_bodies(serving, trained, tmp_path / "requests.jsonl", new_users=0.3)
    with traffic(target, bodies, RATE, LONGEST, tmp_path / "counts.json") as running:
        serving.name_version(trained.broken, ALIAS)
        _kill_at_each_weight(serving, trained.broken.number, 1)
    status = serving.deployment(NAME).status
    assert status.verdict is not None
    assert (status.verdict.outcome, status.verdict.reason) == ("rolledBack", "GuardFailed")
    assert status.stable is not None
    assert status.stable.version == trained.second.number
    assert running.counts().failures.keys() <= {"500"}
    assert ("GuardFailed", status.verdict.message) in serving.events(NAME)
    _, failed = requests_of(serving.addresses, NAME, status.stable.hash)
    assert failed == 0, "stable never failed"


def test_the_registry_learns_of_the_rollback(serving: Live, trained: Trained) -> None:
    serving.wait_for(NAME, lambda found: all(e.recorded for e in found.status.history), 60, "the registry was told")
    tags = serving.version_tags(trained.broken)
    assert tags["tidegate.outcome"] == "rolledBack"
    assert "errors: canary" in tags["tidegate.message"]
    assert serving.alias(f"{ALIAS}-champion") == trained.second.number


def test_kubectl_shows_what_happened(serving: Live) -> None:
    line = serving.cluster.kubectl.run("get", "md", NAME, "-n", serving.namespace, "-o", "wide")
    assert "RolledBack" in line
    assert "GuardFailed" in line
    assert "was rolled back" in serving.cluster.kubectl.run("describe", "md", NAME, "-n", serving.namespace)


def test_the_hpa_stands_and_reads_its_metric(serving: Live) -> None:
    def active() -> tuple[bool, str]:
        conditions = serving.cluster.get("hpa")["items"][0]["status"].get("conditions", [])
        return any(c["type"] == "ScalingActive" and c["status"] == "True" for c in conditions), json.dumps(conditions)

    serving.cluster.wait(active, 90, "the HPA reads queue time")


def test_grpc_goes_through_the_gateway_too(serving: Live) -> None:
    from tritonclient import grpc

    address = serving.addresses.gateway.removeprefix("http://")
    options = [("grpc.default_authority", f"grpc.{serving.host(NAME)}")]
    with grpc.InferenceServerClient(address, channel_args=options) as client:
        assert client.is_model_ready(MODEL)


def test_deleting_leaves_nothing_behind(serving: Live) -> None:
    serving.cluster.kubectl.run("delete", "md", NAME, "-n", serving.namespace)
    serving.cluster.wait(lambda: (not serving.owned(NAME), str(serving.owned(NAME))), 120, "everything is gone")
