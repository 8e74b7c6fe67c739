"""From `kubectl apply` to the first answer through the gateway, split by cause: `python benchmarks/first_answer.py`.

    dev/cluster up && dev/cluster platform
    KUBECONFIG=/run/tidegate/kubeconfig python benchmarks/first_answer.py --runs 5

Needs the development cluster on this machine, images already on the node; what it lacks is installed, and the model is
trained if it is not in the cache (three minutes). Each run applies one ModelDeployment of one pod and removes it after.
A client asks through the gateway every 20 ms until it is answered. When a stage ended is when a watch told of it, by
this machine's clock; the table gives the seconds that each took, which add up to the whole.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "dev"))
sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "e2e"))

import httpx
from delivery import ALIAS, CANARY, NAME, applied, trained_versions
from kubernetes import client, config, watch
from live import Live, own_namespace, request_bodies, whole_cluster

PATIENCE = 180.0
Body = Mapping[str, Any]


def of_pod(condition: str) -> Callable[[Body], bool]:
    """Whether a pod's condition holds."""

    def holds(body: Body) -> bool:
        found = body.get("status", {}).get("conditions", [])
        return any(item["type"] == condition and item["status"] == "True" for item in found)

    return holds


def serves(body: Body) -> bool:
    """Whether Triton's process has started in the pod."""
    found = body.get("status", {}).get("containerStatuses", [])
    return any(item["name"] == "triton" and "running" in item["state"] for item in found)


def accepted(body: Body) -> bool:
    """Whether the gateway has taken a route that gives somebody a weight."""
    weights = [backend.get("weight", 1) for rule in body["spec"]["rules"] for backend in rule.get("backendRefs", [])]
    found = [item for parent in body.get("status", {}).get("parents", []) for item in parent["conditions"]]
    return any(weights) and any(item["type"] == "Accepted" and item["status"] == "True" for item in found)


STAGES: tuple[tuple[str, str, Callable[[Body], bool]], ...] = (
    ("operator makes the objects", "deployments", lambda body: True),
    ("a node is found", "pods", of_pod("PodScheduled")),
    ("package is fetched and verified", "pods", of_pod("Initialized")),
    ("Triton's process starts", "pods", serves),
    ("model loads, golden requests are answered", "pods", of_pod("Ready")),
    ("gateway takes the route", "httproutes", accepted),
)
"""What is waited for, in which kind of object it is seen, and when it has ended."""
ANSWERED = "the first answer"


def main() -> None:
    """A row for each stage."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--runs", type=int, default=5)
    arguments.add_argument("--json", action="store_true", help="print the seconds of each stage, run by run, as JSON")
    given = arguments.parse_args()
    live = whole_cluster()
    with tempfile.TemporaryDirectory() as scratch, own_namespace(live) as shop:
        trained = trained_versions(shop, Path(scratch))
        shop.name_version(trained.first, ALIAS)
        body = request_bodies(shop, trained, Path(scratch) / "bodies.jsonl").open().readline()
        runs = [one_run(shop, body) for _ in range(given.runs)]
    print(json.dumps(runs)) if given.json else show(runs)


def one_run(shop: Live, body: str) -> dict[str, float]:
    """Seconds that each stage took after the one before it."""
    ended: dict[str, float] = {}
    listeners = watching(shop, ended)
    begin = time.monotonic()
    applied(shop, 1, CANARY)
    answered = first_answer(shop, body)
    shop.cluster.kubectl.run("delete", "modeldeployment", NAME, "-n", shop.namespace)
    for listener in listeners:
        listener.join()
    moments = [begin]
    for stage, _, _ in STAGES:
        moments.append(max(moments[-1], min(ended[stage], answered)))
    names = [*(stage for stage, _, _ in STAGES), ANSWERED]
    moments.append(answered)
    return {name: later - earlier for name, (earlier, later) in zip(names, pairwise(moments), strict=True)}


def first_answer(shop: Live, body: str) -> float:
    """Ask until there is an answer; returns when."""
    target, deadline = shop.target(NAME), time.monotonic() + PATIENCE
    with httpx.Client(headers={"host": target.host, "content-type": "application/json"}, timeout=5) as client:
        while time.monotonic() < deadline:
            if client.post(target.url, content=body).status_code == httpx.codes.OK:
                return time.monotonic()
            time.sleep(0.02)
    raise SystemExit(f"no answer within {PATIENCE:.0f} s: {shop.deployment(NAME).status.message}")


def watching(shop: Live, ended: dict[str, float]) -> list[threading.Thread]:
    """Threads that note when each stage ended, from the present state on; each ends once its object is deleted."""
    config.load_kube_config(shop.cluster.kubectl.kubeconfig)
    core, apps, custom = client.CoreV1Api(), client.AppsV1Api(), client.CustomObjectsApi()
    routes = partial(custom.list_namespaced_custom_object, "gateway.networking.k8s.io", "v1", plural="httproutes")
    kinds = {"deployments": apps.list_namespaced_deployment, "pods": core.list_namespaced_pod, "httproutes": routes}
    return [listening(kind, partial(kinds[kind], namespace=shop.namespace), ended) for kind in kinds]


def listening(kind: str, listed: Callable[..., Any], ended: dict[str, float]) -> threading.Thread:
    """A thread, already at work, that hears of every change of a kind."""
    now = plain(listed())["metadata"]["resourceVersion"]
    thread = threading.Thread(target=listen, args=(kind, listed, now, ended))
    thread.start()
    return thread


def listen(kind: str, listed: Callable[..., Any], since: str, ended: dict[str, float]) -> None:
    """Note the first time that each of the kind's stages is seen to have ended."""
    for event in watch.Watch().stream(listed, resource_version=since, timeout_seconds=int(PATIENCE)):
        if event["type"] == "DELETED":
            return
        for stage, seen_in, holds in STAGES:
            if seen_in == kind and stage not in ended and holds(plain(event["object"])):
                ended[stage] = time.monotonic()


def plain(found: Any) -> Any:
    """As the API writes it, whatever the client made of it."""
    return client.ApiClient().sanitize_for_serialization(found)


def show(runs: list[dict[str, float]]) -> None:
    """Median, least and most of each stage."""
    print(f"\nload {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores, {len(runs)} runs")
    print(f"{'':<44}{'median s':>10}{'least':>8}{'most':>8}")
    for stage in runs[0]:
        row(stage, [run[stage] for run in runs])
    row("all", [sum(run.values()) for run in runs])


def row(name: str, seconds: list[float]) -> None:
    print(f"{name:<44}{statistics.median(seconds):>10.2f}{min(seconds):>8.2f}{max(seconds):>8.2f}")


if __name__ == "__main__":
    main()
