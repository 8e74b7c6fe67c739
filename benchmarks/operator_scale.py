"""What the operator costs with many resources at rest: `python benchmarks/operator_scale.py --resources 100 1000`.

    TIDEGATE_AUTOSCALER_PERIOD=15s dev/cluster up && dev/cluster platform; make demo
    KUBECONFIG=/run/tidegate/kubeconfig python benchmarks/operator_scale.py --resources 100 1000

Needs the development cluster with the operator installed. Everything is real but the servers: their pods lie on a
node without a kubelet, and this program says of each that it is ready, as KWOK does. Every ModelDeployment has routes,
an HPA and a budget of its own. The operator looks at each every ten minutes where nothing changes, so 600 s see all.
The other nodes take no pods meanwhile, and at the end all of it is removed. The development cluster's autoscaler looks
every 2 s, which with a thousand autoscalers leaves no processor to anybody; Kubernetes' own period is 15 s.
"""

from __future__ import annotations

import argparse
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from kubernetes import client, config, watch
from kubernetes.client.exceptions import ApiException
from operator_cost import calls, operators

NODE, NAMESPACE = "pretend", "many-models"
GROUP = ("tidegate.dev", "v1alpha1", NAMESPACE, "modeldeployments")


def spec(number: int) -> dict[str, Any]:
    """A ModelDeployment of a pinned package, which nobody opens."""
    return {
        "model": {
            "package": {"uri": "http://packages.example.com/none", "digest": f"sha256:{number:064x}", "name": "ctr"}
        },
        "runtime": {"gpus": 0, "backend": "onnxruntime"},
        "scaling": {"minReplicas": 1, "maxReplicas": 2, "targets": [{"cpuUtilization": 70}]},
        "routing": {
            "gatewayRef": {"name": "public", "namespace": "gateways"},
            "protocols": ["HTTP", "GRPC"],
            "hostnames": [f"m{number}.many.example.com"],
            "grpcHostnames": [f"grpc.m{number}.many.example.com"],
        },
        "strategy": {"canary": {"steps": [{"setWeight": 50}]}},
        "analysis": {"metrics": []},
    }


class PretendNode:
    """A node without a machine: its pods are ready once they are bound, and gone once they are deleted."""

    def __init__(self, core: client.CoreV1Api) -> None:
        self._core = core
        self._given = 0

    def make(self) -> None:
        """Make the node, which must not be there."""
        self._core.create_node({"metadata": {"name": NODE, "labels": {"kubernetes.io/hostname": NODE}}})

    def stand(self) -> None:
        """Say that the node is there, and has room."""
        now = datetime.now(UTC)
        ready = {"type": "Ready", "status": "True", "reason": "Pretended", "lastHeartbeatTime": now.isoformat()}
        room = {"cpu": "100000", "memory": "1000Ti", "pods": "10000", "ephemeral-storage": "1000Ti"}
        status = {"status": {"capacity": room, "allocatable": room, "conditions": [ready]}}
        self._core.patch_node_status(NODE, status)

    def look(self, seconds: int) -> None:
        """Bring every pod of the node to where it is wanted, as a watch tells of it, for so long."""
        pods, only = self._core.list_pod_for_all_namespaces, f"spec.nodeName={NODE}"
        for event in watch.Watch().stream(pods, field_selector=only, timeout_seconds=seconds):
            if event["type"] in {"ADDED", "MODIFIED"}:
                self._serve(event["object"])

    def _serve(self, pod: Any) -> None:
        name, namespace = pod.metadata.name, pod.metadata.namespace
        with suppress(ApiException):
            if pod.metadata.deletion_timestamp:
                self._core.delete_namespaced_pod(name, namespace, grace_period_seconds=0)
            elif pod.status.phase == "Pending":
                self._core.patch_namespaced_pod_status(name, namespace, self._running(pod))

    def _running(self, pod: Any) -> dict[str, Any]:
        self._given += 1
        address = f"10.240.{self._given // 250}.{self._given % 250 + 1}"
        conditions = [{"type": kind, "status": "True"} for kind in ("Initialized", "ContainersReady", "Ready")]
        now = datetime.now(UTC).isoformat()
        containers = [
            {"name": each.name, "ready": True, "restartCount": 0, "image": each.image, "imageID": each.image,
             "state": {"running": {"startedAt": now}}}
            for each in pod.spec.containers
        ]  # fmt: skip
        addresses = {"podIP": address, "podIPs": [{"ip": address}], "startTime": now}
        return {"status": {"phase": "Running", "conditions": conditions, "containerStatuses": containers} | addresses}


@contextmanager
def pretending(core: client.CoreV1Api) -> Iterator[None]:
    """The pretended node stands, and the others take no pods."""
    others = [node.metadata.name for node in core.list_node().items if node.metadata.name != NODE]
    node, over = PretendNode(core), threading.Event()

    def stand() -> None:
        while not over.wait(10):
            node.stand()

    def look() -> None:
        while not over.is_set():
            node.look(20)

    node.make()
    node.stand()
    threads = [threading.Thread(target=stand), threading.Thread(target=look)]
    for thread in threads:
        thread.start()
    for name in others:
        core.patch_node(name, {"spec": {"unschedulable": True}})
    try:
        yield
    finally:
        for name in others:
            core.patch_node(name, {"spec": {"unschedulable": False}})
        until(lambda: not core.list_pod_for_all_namespaces(field_selector=f"spec.nodeName={NODE}").items, 600)
        over.set()
        for thread in threads:
            thread.join()
        core.delete_node(NODE)


def until(holds: Any, seconds: float) -> float:
    """Look every ten seconds until it holds, for a look is not cheap; returns how long that took."""
    begin = time.monotonic()
    while not holds():
        if time.monotonic() - begin > seconds:
            raise TimeoutError(f"it did not come about within {seconds:.0f} s")
        time.sleep(10)
    return time.monotonic() - begin


def serving(api: client.CustomObjectsApi) -> int:
    """How many deployments have a stable revision."""
    found = api.list_namespaced_custom_object(*GROUP, resource_version="0")["items"]
    return sum("stable" in item.get("status", {}) for item in found)


def row(api: client.CustomObjectsApi, begin: int, count: int, seconds: float) -> str:
    """Make the deployments from `begin` to `count`, wait until all serve and rest, and measure.

    How long it takes until all serve counts from when the last was made.
    """
    for number in range(begin, count):
        name = f"m{number}"
        body = {"apiVersion": "tidegate.dev/v1alpha1", "kind": "ModelDeployment", "metadata": {"name": name}}
        api.create_namespaced_custom_object(*GROUP, body | {"spec": spec(number)})
    took = until(lambda: serving(api) == count, 1800)
    time.sleep(60)
    (process,) = operators()
    before, cpu = Counter(calls()), sum(process.cpu_times()[:2])
    time.sleep(seconds)
    cores = (sum(process.cpu_times()[:2]) - cpu) / seconds
    made = (Counter(calls()) - before).total()
    return f"{count:10d} {took:14.0f} {cores:8.3f} {process.memory_info().rss / 2**20:8.0f} {60 * made / seconds:12.0f}"


def main() -> None:
    """A row for each number of resources."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--resources", type=int, nargs="+", default=[100, 1000])
    parser.add_argument("--seconds", type=float, default=600.0)
    given = parser.parse_args()
    config.load_kube_config()
    core, api = client.CoreV1Api(), client.CustomObjectsApi()
    if len(operators()) != 1:
        print("One operator must run on this machine: `make demo` brings one up.")
        return
    with pretending(core):
        core.create_namespace({"metadata": {"name": NAMESPACE}})
        try:
            print(f"{'resources':>10} {'all serve in s':>14} {'cores':>8} {'MiB':>8} {'calls a min.':>12}")
            for begin, count in zip([0, *given.resources], given.resources, strict=False):
                print(row(api, begin, count, given.seconds), flush=True)
        finally:
            core.delete_namespace(NAMESPACE)


if __name__ == "__main__":
    main()
