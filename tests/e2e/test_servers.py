"""Servers made anew, more and fewer, further models, GPUs that are short: on the real cluster, under traffic."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from deployed import LONGEST, PLAIN, RATE, SCALING, all_answered, ask, deployed
from live import Live, Trained, registry, renamed, stable_is, upload

from tidegate_api.model_deployment import ModelDeployment
from tidegate_demo.traffic import traffic

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

WHOLE_RUNTIME = PLAIN | {
    "instances": 2, "rateLimit": {"maxConcurrency": 2}, "responseCache": "64Mi",
    "batching": {"maxBatchSize": 256, "maxQueueDelay": "100us"},
}  # fmt: skip


def test_pods_are_made_anew_without_a_lost_request(shop: Live, trained: Trained, bodies: Path, tmp_path: Path) -> None:
    name = "anew"
    with (
        deployed(shop, trained, name, scaling=SCALING, runtime=WHOLE_RUNTIME),
        traffic(shop.target(name), bodies, RATE, LONGEST, tmp_path / "counts.json") as running,
    ):
        before = _pods(shop, name)
        shop.plugin("restart", name)
        gone = lambda: (not before & _pods(shop, name), str(_pods(shop, name)))  # noqa: E731
        shop.cluster.wait(gone, 120, "every pod is a new one")
        all_answered(running, shop, 2000)
        shop.cluster.wait(lambda: _cache_hits(shop, name), 60, "Triton answers from its cache")


def test_a_further_model_is_served_by_the_same_pods_and_rolled_out_with_them(
    shop: Live, trained: Trained, bodies: Path, tmp_path: Path
) -> None:
    name, beside = "pair", "ctr-beside"
    digest = renamed(trained.package, tmp_path / beside, beside)
    also = [{"name": beside, "uri": upload(shop, tmp_path / beside, f"e2e/{beside}"), "digest": digest}]
    line = bodies.read_text().splitlines()[0]
    with (
        deployed(shop, trained, name, scaling=SCALING, analysis={"metrics": []}),
        traffic(shop.target(name), bodies, RATE, LONGEST, tmp_path / "counts.json") as running,
    ):
        assert ask(shop, shop.host(name), line, model=beside) == 404
        shop.deploy(
            name, registry(name), scaling=SCALING, analysis={"metrics": []}, runtime=PLAIN | {"alsoServe": also}
        )
        shop.wait_for(name, lambda found: _serves(found, beside), 120, "it was rolled out")
        assert ask(shop, shop.host(name), line, model=beside) == 200
        assert ask(shop, shop.host(name), line) == 200
        all_answered(running, shop, 1000)
        wrong = [also[0] | {"name": "somebody"}]
        shop.deploy(
            name, registry(name), scaling=SCALING, analysis={"metrics": []}, runtime=PLAIN | {"alsoServe": wrong}
        )
        refused = shop.wait_for_reason("modeldeployment", name, "Progressing", "PackageRefused")
        assert f"'{beside}', expected somebody" in refused["message"]


def _serves(found: ModelDeployment, further: str) -> bool:
    stable = found.status.stable
    also = stable.runtime.also_serve if stable and stable.runtime else None
    return further in {model.name for model in also or ()} and found.status.canary is None


def _cache_hits(shop: Live, name: str) -> tuple[bool, str]:
    """Requests that some server answered from its response cache, by its own counter."""
    pages = [httpx.get(f"http://{pod['status']['podIP']}:8002/metrics").text for pod in shop.pods(name)]
    lines = [line for page in pages for line in page.splitlines() if line.startswith("nv_cache_num_hits_per_model{")]
    return any(float(line.split()[-1]) > 0 for line in lines), str(lines)


def _pods(shop: Live, name: str) -> set[str]:
    return {pod["metadata"]["name"] for pod in shop.pods(name)}


@pytest.fixture
def gpus(live: Live) -> Iterator[int]:
    """The node says that it has GPUs, which the scheduler takes at its word."""
    node = live.cluster.kubectl.get("nodes")["items"][0]["metadata"]["name"]
    count = 2
    patch = ("patch", "node", node, "--subresource=status", "--type=merge", "-p")
    key = '{"status": {"capacity": {"nvidia.com/gpu": %s}, "allocatable": {"nvidia.com/gpu": %s}}}'
    live.cluster.kubectl.run(*patch, key % (f'"{count}"', f'"{count}"'))
    yield count
    live.cluster.kubectl.run(*patch, key % ("null", "null"))


def _cpu_image(live: Live) -> str:
    config = live.cluster.kubectl.get("configmap", "tidegate-operator", "-n", "tidegate-system")
    return str(config["data"]["TIDEGATE_TRITON_IMAGE"])


def test_where_gpus_are_short_it_is_said_before_anything_is_touched_and_pods_give_way_one_by_one(
    shop: Live, trained: Trained, bodies: Path, tmp_path: Path, gpus: int
) -> None:
    name = "gpus"
    runtime = {"gpus": 1, "backend": "onnxruntime", "image": _cpu_image(shop),
               "resources": {"requests": {"cpu": "50m", "memory": "256Mi"}}}  # fmt: skip
    scaling = SCALING | {"minReplicas": gpus, "maxReplicas": gpus}
    steps = [{"setWeight": 50}]
    spec: dict[str, Any] = {"runtime": runtime, "scaling": scaling, "analysis": {"metrics": []}}
    with (
        deployed(shop, trained, name, **spec, strategy={"canary": {"steps": steps}}),
        traffic(shop.target(name), bodies, RATE, LONGEST, tmp_path / "counts.json") as running,
    ):
        shop.wait_for_reason("modeldeployment", name, "Ready", "Serving")
        shop.name_version(trained.second, name)
        said = shop.wait_for_reason("modeldeployment", name, "Progressing", "InsufficientCapacity")
        assert "Nothing was started" in said["message"]
        assert shop.deployment(name).status.canary is None
        shop.deploy(name, registry(name), **spec, strategy={"canary": {"steps": steps, "maxUnavailable": 1}})
        shop.wait_for(name, stable_is(trained.second), 180, "the new revision took the pods' places")
        all_answered(running, shop, 2000)


def test_servers_follow_the_load_up_and_down(shop: Live, trained: Trained, bodies: Path, tmp_path: Path) -> None:
    name = "load"
    scaling = {"minReplicas": 1, "maxReplicas": 3, "targets": [{"requestsPerSecond": 30}], "scaleDownDelay": "5s"}
    with deployed(shop, trained, name, scaling=scaling):
        with traffic(shop.target(name), bodies, RATE, LONGEST, tmp_path / "counts.json") as running:
            shop.cluster.wait(lambda: _replicas(shop, name, lambda n: n >= 3), 120, "load rises, servers rise")
        assert running.counts().failed == 0, running.counts()
        slow = tmp_path / "slow.json"
        with traffic(shop.target(name), bodies, 5, LONGEST, slow) as running:
            shop.cluster.wait(lambda: _replicas(shop, name, lambda n: n == 1), 180, "load ends, servers fall")
            assert running.counts().failed == 0, running.counts()


def _replicas(shop: Live, name: str, holds: Any) -> tuple[bool, str]:
    body = shop.cluster.get("deployments", "-l", f"tidegate.dev/deployment={name}")["items"][0]
    ready, wanted = body["status"].get("readyReplicas", 0), body["spec"]["replicas"]
    return bool(holds(ready) and ready == wanted), f"{ready} of {wanted}"


def test_what_somebody_takes_from_under_a_deployment_is_put_back(shop: Live, trained: Trained, bodies: Path) -> None:
    """Its Service, all of its pods, and the Gateway that its routes name: soon, and told."""
    name, line = "meddled", bodies.read_text().splitlines()[0]
    spec: dict[str, Any] = {"scaling": SCALING, "analysis": {"metrics": []}}
    kubectl = shop.cluster.kubectl
    with deployed(shop, trained, name, **spec):
        stable = shop.deployment(name).status.stable
        server = f"{name}-{stable.hash if stable else ''}"
        kubectl.run("delete", "service", server, "-n", shop.namespace)
        answered = lambda: (ask(shop, shop.host(name), line) == 200, "it does not answer")  # noqa: E731
        there = lambda: (bool(shop.cluster.get("services", f"--field-selector=metadata.name={server}")["items"]), "")  # noqa: E731
        shop.cluster.wait(there, 10, "the Service is there again")
        shop.cluster.wait(answered, 30, "requests arrive again")
        kubectl.run("scale", "deployment", server, "-n", shop.namespace, "--replicas=0")
        shop.cluster.wait(lambda: _replicas(shop, name, lambda n: n == 1), 60, "the pod is there again")
        told = [event["reason"] for event in shop.cluster.get("events")["items"]]
        assert "ScaledFromZero" in told
        shop.cluster.wait(answered, 30, "requests arrive again")
        nowhere = {"gatewayRef": {"name": "nowhere", "namespace": "gateways"}}
        shop.deploy(name, registry(name), **spec, routing=nowhere)
        said = shop.wait_for_reason("modeldeployment", name, "Stalled", "GatewayNotFound")
        assert "Until then the routes stay with Gateway gateways/public" in said["message"]
        assert ask(shop, shop.host(name), line) == 200


RIVAL = "a-rival"
"""Of two routes of one second the first by name has the hostname."""


def test_a_hostname_that_somebody_has_is_taken_once_it_is_free_without_a_lost_request(
    shop: Live, trained: Trained, bodies: Path, tmp_path: Path
) -> None:
    name, line = "mover", bodies.read_text().splitlines()[0]
    spec: dict[str, Any] = {"scaling": SCALING, "analysis": {"metrics": []}}
    wanted = f"wanted.{shop.namespace}.example.com"
    kubectl, cluster = shop.cluster.kubectl, shop.cluster
    with deployed(shop, trained, name, **spec):
        ours = next(body for body in cluster.get("httproutes")["items"] if body["metadata"]["name"] == name)
        rival = {key: ours[key] for key in ("apiVersion", "kind")} | {"metadata": {"name": RIVAL}}
        cluster.apply(rival | {"spec": ours["spec"] | {"hostnames": [wanted]}})
        taken = lambda: (ask(shop, wanted, line) == 200, "the rival does not answer")  # noqa: E731
        cluster.wait(taken, 30, "the rival has the hostname")
        with traffic(shop.target(name), bodies, RATE, LONGEST, tmp_path / "counts.json") as running:
            routing = {"hostnames": [shop.host(name), wanted], "grpcHostnames": [f"grpc.{shop.host(name)}"]}
            patch = {"spec": {"routing": routing}}
            kubectl.run("patch", "md", name, "-n", shop.namespace, "--type=merge", "-p", json.dumps(patch))
            said = shop.wait_for_reason("modeldeployment", name, "Stalled", "RuleMatchConflict")
            assert f"({wanted})" in said["message"]
            assert f"HTTPRoute {RIVAL} has a hostname of these too" in said["message"]
            assert shop.condition("modeldeployment", name, "Ready")["status"] == "True"
            kubectl.run("delete", "httproute", RIVAL, "-n", shop.namespace)
            shop.wait_for_reason("modeldeployment", name, "RoutesAccepted", "Accepted")
            assert ask(shop, wanted, line) == 200
            all_answered(running, shop, 500)
        names = {route["metadata"]["name"] for route in cluster.get("httproutes")["items"]}
        assert f"{name}-moving" not in names
