"""Blue-green, A/B test, going back, pods made anew, GPUs that are short: on the real cluster, under traffic."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from kubernetes import client, config
from live import MODEL, REVISION_HEADER, Live, Trained, registry, renamed, request_bodies, stable_is, upload

from tidegate_api.model_deployment import ModelDeployment
from tidegate_demo.facts import requests_of
from tidegate_demo.traffic import Running, traffic

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

RATE, LONGEST = 100.0, 600.0
SCALING = {"minReplicas": 1, "maxReplicas": 2, "targets": [{"queueTime": "50ms"}], "scaleDownDelay": "10s"}
BUCKET = "x-bucket"
PLAIN: dict[str, Any] = {
    "gpus": 0,
    "backend": "onnxruntime",
    "resources": {"requests": {"cpu": "50m", "memory": "256Mi"}},
}
WHOLE_RUNTIME = PLAIN | {
    "instances": 2, "rateLimit": {"maxConcurrency": 2}, "responseCache": "64Mi",
    "batching": {"maxBatchSize": 256, "maxQueueDelay": "100us"},
}  # fmt: skip


@pytest.fixture(scope="module")
def bodies(shop: Live, trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return request_bodies(shop, trained, tmp_path_factory.mktemp("bodies") / "requests.jsonl")


@contextmanager
def _serving(shop: Live, trained: Trained, name: str, **spec: Any) -> Iterator[None]:
    """The first version serves under a name of its own; it is deleted at the end."""
    shop.name_version(trained.first, name)
    shop.deploy(name, registry(name), **spec)
    try:
        shop.wait_for(name, lambda found: found.status.stable is not None, 180, "the first revision serves")
        yield
    finally:
        shop.cluster.kubectl.run("delete", "md", name, "-n", shop.namespace)


def _counts(running: Running, shop: Live, at_least: int) -> None:
    enough = lambda: (running.counts().sent >= at_least, str(running.counts()))  # noqa: E731
    shop.cluster.wait(enough, 120, f"{at_least} requests")
    assert running.counts().failed == 0, running.counts()


_HTTP = httpx.Client(verify=False)  # plain HTTP: reading all certificates for each request cost more than the request


def _ask(shop: Live, host: str, body: str, *, model: str = MODEL, **headers: str) -> int:
    return _answer(shop, host, body, model=model, **headers).status_code


def _answer(shop: Live, host: str, body: str, *, model: str = MODEL, **headers: str) -> httpx.Response:
    url = f"{shop.addresses.gateway}/v2/models/{model}/infer"
    content = {"Host": host, "Content-Type": "application/json"} | headers
    return _HTTP.post(url, content=body, headers=content, timeout=10)


def test_blue_green_previews_switches_at_once_and_goes_back_in_seconds(
    shop: Live, trained: Trained, bodies: Path, tmp_path: Path
) -> None:
    name = "switch"
    preview = f"next.{shop.host(name)}"
    plan = {"autoPromotionEnabled": False, "scaleDownDelay": "15s", "previewHostnames": [preview]}
    with (
        _serving(shop, trained, name, strategy={"blueGreen": plan}, analysis={"metrics": []}, scaling=SCALING),
        traffic(shop.target(name), bodies, RATE, LONGEST, tmp_path / "counts.json") as running,
    ):
        shop.name_version(trained.second, name)
        shop.wait_for(name, lambda found: "waits until" in (found.status.message or ""), 120, "the preview stands")
        revision = shop.deployment(name).status.canary
        assert revision is not None
        assert _ask(shop, preview, bodies.read_text().splitlines()[0]) == 200
        shop.plugin("promote", name)
        shop.wait_for(name, lambda found: found.status.weight == 100, 30, "all traffic is switched")
        shop.cluster.kubectl.run(
            "wait", f"md/{name}", "-n", shop.namespace, "--for=condition=Reconciling=False", "--timeout=60s"
        )
        assert stable_is(trained.second)(shop.deployment(name))
        begin = time.monotonic()
        shop.plugin("undo", name)
        shop.wait_for(name, stable_is(trained.first), 60, "the old revision is back")
        assert time.monotonic() - begin < 60
        _counts(running, shop, 3000)
        history = shop.deployment(name).status.history
        assert [entry.reason for entry in history] == ["FirstRevision", "PromotedByPerson", "Undone", "Undone"]


def test_a_test_s_shares_are_exact_and_nobody_flips(shop: Live, trained: Trained, bodies: Path) -> None:
    name, percent, each = "test", 30, 3
    strategy = {"abTest": {"header": BUCKET, "percent": percent, "minDuration": "1h"}}
    lines = bodies.read_text().splitlines()
    with _serving(shop, trained, name, strategy=strategy, scaling=SCALING):
        shop.name_version(trained.second, name)
        found = shop.wait_for(
            name, lambda f: f.status.canary is not None and f.status.canary.weight_since is not None, 120, "it runs"
        )
        assert found.status.canary is not None
        assert found.status.stable is not None
        stable, canary = found.status.stable.hash, found.status.canary.revision.hash
        before = requests_of(shop.addresses, name, stable)[0]
        for bucket in range(100):
            answers = [_answer(shop, shop.host(name), lines[k], **{BUCKET: str(bucket)}) for k in range(each)]
            told = {(answer.status_code, answer.headers[REVISION_HEADER]) for answer in answers}
            assert told == {(200, canary if bucket < percent else stable)}
        assert all(_ask(shop, shop.host(name), line) == 200 for line in lines[:50])
        wanted = (each * (100 - percent), each * percent)

        def counted() -> tuple[bool, str]:
            now = requests_of(shop.addresses, name, stable)[0] - before, requests_of(shop.addresses, name, canary)[0]
            return now == wanted, f"{now}, wanted {wanted}"

        shop.cluster.wait(
            counted, 30, "each side has had its buckets, and whoever has no bucket is counted for neither"
        )


def test_pods_are_made_anew_without_a_lost_request(shop: Live, trained: Trained, bodies: Path, tmp_path: Path) -> None:
    name = "anew"
    with (
        _serving(shop, trained, name, scaling=SCALING, runtime=WHOLE_RUNTIME),
        traffic(shop.target(name), bodies, RATE, LONGEST, tmp_path / "counts.json") as running,
    ):
        before = _pods(shop, name)
        shop.plugin("restart", name)
        gone = lambda: (not before & _pods(shop, name), str(_pods(shop, name)))  # noqa: E731
        shop.cluster.wait(gone, 120, "every pod is a new one")
        _counts(running, shop, 2000)
        shop.cluster.wait(lambda: _cache_hits(shop, name), 60, "Triton answers from its cache")


def test_a_further_model_is_served_by_the_same_pods_and_rolled_out_with_them(
    shop: Live, trained: Trained, bodies: Path, tmp_path: Path
) -> None:
    name, beside = "pair", "ctr-beside"
    digest = renamed(trained.package, tmp_path / beside, beside)
    also = [{"name": beside, "uri": upload(shop, tmp_path / beside, f"e2e/{beside}"), "digest": digest}]
    line = bodies.read_text().splitlines()[0]
    with (
        _serving(shop, trained, name, scaling=SCALING, analysis={"metrics": []}),
        traffic(shop.target(name), bodies, RATE, LONGEST, tmp_path / "counts.json") as running,
    ):
        assert _ask(shop, shop.host(name), line, model=beside) == 404
        shop.deploy(
            name, registry(name), scaling=SCALING, analysis={"metrics": []}, runtime=PLAIN | {"alsoServe": also}
        )
        shop.wait_for(name, lambda found: _serves(found, beside), 120, "it was rolled out")
        assert _ask(shop, shop.host(name), line, model=beside) == 200
        assert _ask(shop, shop.host(name), line) == 200
        _counts(running, shop, 1000)
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
        _serving(shop, trained, name, **spec, strategy={"canary": {"steps": steps}}),
        traffic(shop.target(name), bodies, RATE, LONGEST, tmp_path / "counts.json") as running,
    ):
        shop.wait_for_reason("modeldeployment", name, "Ready", "Serving")
        shop.name_version(trained.second, name)
        said = shop.wait_for_reason("modeldeployment", name, "Progressing", "InsufficientCapacity")
        assert "Nothing was started" in said["message"]
        assert shop.deployment(name).status.canary is None
        shop.deploy(name, registry(name), **spec, strategy={"canary": {"steps": steps, "maxUnavailable": 1}})
        shop.wait_for(name, stable_is(trained.second), 180, "the new revision took the pods' places")
        _counts(running, shop, 2000)


@contextmanager
def _rewritten(shop: Live, name: str) -> Iterator[list[int]]:
    """Somebody changes the deployment's annotations as fast as the API server takes it; yields how often."""
    config.load_kube_config(shop.cluster.kubectl.kubeconfig)
    api, over, times = client.CustomObjectsApi(), threading.Event(), [0]
    where = ("tidegate.dev", "v1alpha1", shop.namespace, "modeldeployments", name)

    def rewrite() -> None:
        while not over.wait(0.02):
            times[0] += 1
            body = {"metadata": {"annotations": {"example.com/storm": str(times[0])}}}
            api.patch_namespaced_custom_object(*where, body)

    thread = threading.Thread(target=rewrite)
    thread.start()
    try:
        yield times
    finally:
        over.set()
        thread.join()


def test_a_rollout_ends_though_somebody_rewrites_the_deployment_all_the_time(shop: Live, trained: Trained) -> None:
    name = "contended"
    with (
        _serving(shop, trained, name, scaling=SCALING, analysis={"metrics": []}),
        _rewritten(shop, name) as times,
    ):
        shop.name_version(trained.second, name)
        shop.wait_for(name, stable_is(trained.second), 120, "it is promoted")
        assert times[0] > 100
        assert shop.deployment(name).metadata.annotations["example.com/storm"], (
            "the operator's writes took nothing away"
        )


def test_another_operator_takes_over_when_the_leader_dies(live: Live, shop: Live, trained: Trained) -> None:
    name = "leaders"
    live.scale("tidegate-operator", 2)
    try:
        with _serving(shop, trained, name, scaling=SCALING, analysis={"metrics": []}):
            leader = live.leader()
            shop.name_version(trained.second, name)
            live.cluster.kubectl.run("delete", "pod", leader, "-n", "tidegate-system", "--force", "--grace-period=0")
            shop.wait_for(name, stable_is(trained.second), 180, "the other one finishes the rollout")
            assert live.leader() != leader
    finally:
        live.scale("tidegate-operator", 1)


def test_servers_follow_the_load_up_and_down(shop: Live, trained: Trained, bodies: Path, tmp_path: Path) -> None:
    name = "load"
    scaling = {"minReplicas": 1, "maxReplicas": 3, "targets": [{"requestsPerSecond": 30}], "scaleDownDelay": "5s"}
    with _serving(shop, trained, name, scaling=scaling):
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
