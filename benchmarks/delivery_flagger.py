"""The same rollouts by Tidegate and by Flagger: `python benchmarks/delivery_flagger.py [--harms N] [--json]`.

    dev/cluster up && dev/cluster platform
    KUBECONFIG=/run/tidegate/kubeconfig python benchmarks/delivery_flagger.py

Needs the development cluster on this machine and Go; what else it lacks is installed, Flagger compiled once from its
module. Both have the same Triton pods, gateway, Prometheus, weights (1, 5, 20, 100), interval (10 s, Flagger's least)
and bound on errors (0.5 %): Tidegate as the margin of its sequential test, Flagger as the threshold of its metric, with
one failed check as its limit. Requests come in an open loop through the gateway, and none is tried again.

Good: a version like the one before. Harm: one that fails on unseen users, with three of ten requests from such. "on
air" is from a weight above 0 in the HTTPRoute until it is 0 again, as a watch told. Calls to the API server come from
its audit log; CPU is that of the controller's process.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "dev"))
sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "e2e"))

import psutil
import yaml
from delivery import (
    ALIAS,
    CANARY,
    LONGEST,
    NAME,
    NEW_USERS,
    WEIGHTS,
    Watched,
    ready,
    shaped,
    trained_versions,
    weights_watched,
)
from live import Live, Trained, Version, own_namespace, request_bodies, whole_cluster
from operator_cost import USER, calls, operators
from servers.installed import flagger

from tidegate_demo.traffic import Target, traffic

PEER, SYSTEM = "peer", "tidegate-system"
PEER_USER = f"system:serviceaccount:{SYSTEM}:{PEER}"
BOUND = 0.005
ERRORS = {"name": "errors", "role": "guard", "margin": BOUND, "errorRate": {}}
SLOWER = {"interval": "10s", "minSamples": 100, "metrics": [ERRORS]}


@dataclass(frozen=True)
class Row:
    """One rollout: how it ended, how long it took and was on the air, and what it cost."""

    who: str
    version: str
    outcome: str
    seconds: float
    on_air: float
    requests: int
    failed: int
    calls: int
    cpu: float


@dataclass(frozen=True)
class Contender:
    """Who rolls out: begins with a version, and says how it ended, once it has and nothing moves any more."""

    who: str
    route: str
    user: str
    process: psutil.Process
    target: Target
    begin: Callable[[Version], None]
    ended: Callable[[], tuple[str, str]]
    """How it ended, and the Service of what was new."""


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--rate", type=float, default=200.0, help="requests a second")
    arguments.add_argument("--harms", type=int, default=3, help="how often the broken version is rolled out")
    arguments.add_argument("--only", choices=["Tidegate", "Flagger"], help="leave the other out")
    arguments.add_argument("--json", action="store_true", help="print the rows as JSON")
    given = arguments.parse_args()
    live = whole_cluster()
    with tempfile.TemporaryDirectory() as scratch, own_namespace(live) as shop:
        trained = trained_versions(shop, Path(scratch))
        rows = list(compared(shop, trained, Path(scratch), given))
    print(json.dumps([asdict(row) for row in rows])) if given.json else show(rows, given.rate)


def compared(shop: Live, trained: Trained, scratch: Path, given: argparse.Namespace) -> Iterator[Row]:
    """Each contender with the good version, then with the broken one again and again; in between it goes back."""
    bodies = request_bodies(shop, trained, scratch / "bodies.jsonl")
    harmful = request_bodies(shop, trained, scratch / "harm.jsonl", new_users=NEW_USERS)
    for starting in (tidegate, by_flagger):
        with starting(shop, trained, scratch) as contender:
            if given.only not in (None, contender.who):
                continue
            yield one(shop, contender, "good", trained.second, bodies, given.rate, scratch)
            for _ in range(given.harms):
                one(shop, contender, "back", trained.first, bodies, given.rate, scratch)
                yield one(shop, contender, "broken", trained.broken, harmful, given.rate, scratch)


def one(shop: Live, by: Contender, told: str, version: Version, bodies: Path, rate: float, scratch: Path) -> Row:
    """One rollout under traffic."""
    before, cpu = sum(1 for _ in calls(by.user)), sum(by.process.cpu_times()[:2])
    with (
        traffic(by.target, bodies, rate, LONGEST, scratch / "counts.json") as running,
        weights_watched(shop, by.route) as seen,
    ):
        start = time.monotonic()
        by.begin(version)
        outcome, service = by.ended()
        seconds, counts = time.monotonic() - start, running.counts()
    made, used = sum(1 for _ in calls(by.user)) - before, sum(by.process.cpu_times()[:2]) - cpu
    row = Row(by.who, told, outcome, seconds, on_air(seen, service), counts.sent, counts.failed, made, used)
    print(row, file=sys.stderr, flush=True)
    return row


def on_air(seen: Watched, service: str) -> float:
    """Seconds from the first weight of the Service that was new until it had none; of one that took over, unknown."""
    first = next((at for at, weights in seen if weights.get(service)), None)
    zero = next((at for at, weights in seen if first and at > first and not weights.get(service)), None)
    return (zero - first).total_seconds() if first and zero else float("nan")


@contextmanager
def tidegate(shop: Live, trained: Trained, scratch: Path) -> Iterator[Contender]:
    """The operator of this checkout: the alias is moved."""
    settings = CANARY | {"analysis": SLOWER}
    shop.name_version(trained.first, ALIAS)
    shaped(shop, 1, settings)
    asked: list[tuple[Version, datetime]] = []

    def begin(version: Version) -> None:
        asked.append((version, datetime.now(UTC).replace(microsecond=0)))
        shop.name_version(version, ALIAS)

    def ended() -> tuple[str, str]:
        (version, since) = asked[-1]

        def over(found: Any) -> bool:
            verdict, status = found.status.verdict, found.status
            told = verdict is not None and verdict.revision.version == version.number and verdict.at >= since
            back = status.stable.version == version.number and status.rejected is None
            return status.canary is None and not status.retiring and (told or back)

        found = shop.wait_for(NAME, over, 900, f"the rollout of version {version.number} ends")
        verdict = found.status.verdict
        assert verdict is not None
        return verdict.outcome, f"{NAME}-{verdict.revision.hash}"

    (process,) = operators()
    yield Contender("Tidegate", NAME, USER, process, shop.target(NAME), begin, ended)


@contextmanager
def by_flagger(shop: Live, trained: Trained, scratch: Path) -> Iterator[Contender]:
    """Flagger on this machine, with the rights of an account in the operator's namespace: the Deployment is changed."""
    kubectl, (program, definitions) = shop.cluster.kubectl, flagger()
    kubectl.run("apply", "--server-side", "-f", str(definitions))
    kubectl.run("wait", "--for=condition=Established", "-f", str(definitions))
    with account(shop, scratch) as kubeconfig, controller(shop, program, kubeconfig, scratch) as process:
        template, attempts = pod_template(shop), [trained.first]
        shop.cluster.apply(deployment(shop, template, trained.first, trained.first.number))
        for body in canary(shop):
            shop.cluster.apply(body)
        shop.cluster.wait(lambda: (phase(shop) == "Initialized", phase(shop)), 300, "Flagger has made its copy")

        def begin(version: Version) -> None:
            """What it rolled back to it takes for unchanged; what it rolled back, for new only if something differs."""
            failed = phase(shop) == "Failed"
            attempts.append(version)
            mark = f"{version.number}-{len(attempts)}" if version == trained.broken else version.number
            shop.cluster.apply(deployment(shop, template, version, mark))
            if failed and version == trained.first:
                return
            busy = ("Progressing", "WaitingPromotion", "Promoting")
            shop.cluster.wait(lambda: (phase(shop) in busy, phase(shop)), 120, "Flagger has seen the change")

        def ended() -> tuple[str, str]:
            shop.cluster.wait(lambda: (still(shop), phase(shop)), 900, "the rollout ends")
            return phase(shop), f"{PEER}-canary"

        target = Target(shop.target(NAME).address, shop.host(PEER), shop.target(NAME).model)
        yield Contender("Flagger", PEER, PEER_USER, process, target, begin, ended)
        kubectl.run("delete", "canary", PEER, "-n", shop.namespace)
    kubectl.run("delete", "-f", str(definitions))


def phase(shop: Live) -> str:
    """How far Flagger is."""
    return str(shop.cluster.get("canary", PEER).get("status", {}).get("phase", ""))


def still(shop: Live) -> bool:
    """Whether Flagger is done, with the pods of its canary gone and those of its primary ready."""
    pods = shop.cluster.get("pods", "-l", f"app in ({PEER}, {PEER}-primary)")["items"]
    return phase(shop) in ("Succeeded", "Failed") and len(pods) == 1 and all(map(ready, pods))


@contextmanager
def account(shop: Live, scratch: Path) -> Iterator[Path]:
    """An account that may do everything, whose calls the audit log holds; its kubeconfig."""
    kubectl = shop.cluster.kubectl
    kubectl.run("create", "serviceaccount", PEER, "-n", SYSTEM)
    binding = ("clusterrolebinding", f"tidegate-benchmark-{PEER}")
    kubectl.run("create", *binding, "--clusterrole=cluster-admin", f"--serviceaccount={SYSTEM}:{PEER}")
    try:
        token = kubectl.run("create", "token", PEER, "-n", SYSTEM, "--duration=4h").strip()
        config = yaml.safe_load(Path(kubectl.kubeconfig).read_text())
        config["users"] = [{"name": each["name"], "user": {"token": token}} for each in config["users"]]
        file = scratch / "peer.kubeconfig"
        file.touch(mode=0o600)
        file.write_text(yaml.safe_dump(config))
        yield file
    finally:
        kubectl.run("delete", *binding)
        kubectl.run("delete", "serviceaccount", PEER, "-n", SYSTEM)


@contextmanager
def controller(shop: Live, program: Path, kubeconfig: Path, scratch: Path) -> Iterator[psutil.Process]:
    """Flagger's process."""
    words = [f"-kubeconfig={kubeconfig}", "-mesh-provider=gatewayapi:v1", "-log-level=info", "-port=18080"]
    words += [f"-namespace={shop.namespace}", f"-metrics-server={shop.addresses.prometheus}"]
    with (scratch / "flagger.log").open("wb") as log:
        process = subprocess.Popen([program, *words], stdout=log, stderr=subprocess.STDOUT)
    try:
        yield psutil.Process(process.pid)
    except BaseException:
        print((scratch / "flagger.log").read_text()[-4000:], file=sys.stderr)
        raise
    finally:
        process.terminate()
        process.wait(timeout=30)


def pod_template(shop: Live) -> dict[str, Any]:
    """The pods as our operator makes them for the first version."""
    stable = shop.deployment(NAME).status.stable
    assert stable is not None
    found: dict[str, Any] = shop.cluster.get("deployment", f"{NAME}-{stable.hash}")["spec"]["template"]
    return found


def deployment(shop: Live, template: dict[str, Any], version: Version, mark: str) -> dict[str, Any]:
    """Those pods with another package, selected as Flagger wants it; its client knows no `preStop.sleep` yet."""
    spec = copy.deepcopy(template["spec"])
    command = spec["initContainers"][0]["command"]
    for option, value in (("--uri", version.uri), ("--digest", version.digest)):
        command[command.index(option) + 1] = value
    server = next(each for each in spec["containers"] if "lifecycle" in each)
    seconds = server["lifecycle"]["preStop"]["sleep"]["seconds"]
    server["lifecycle"] = {"preStop": {"exec": {"command": ["sleep", str(seconds)]}}}
    labels = {"app": PEER}
    spec["topologySpreadConstraints"] = []
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": PEER, "namespace": shop.namespace},
        "spec": {
            "selector": {"matchLabels": labels},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
            "template": {"metadata": {"labels": labels, "annotations": {"attempt": mark}}, "spec": spec},
        },
    }


def canary(shop: Live) -> list[dict[str, Any]]:
    """The share of requests that failed, and the rollout that it bounds."""
    series = 'envoy_cluster_upstream_rq_xx{%senvoy_cluster_name="{{ namespace }}_{{ target }}-canary_8000"}'
    failed, all_of_them = series % 'envoy_response_code_class="5",', series % ""
    query = f"(sum(rate({failed}[{{{{ interval }}}}])) or vector(0)) / sum(rate({all_of_them}[{{{{ interval }}}}]))"
    provider = {"type": "prometheus", "address": shop.addresses.prometheus}
    metadata = {"name": PEER, "namespace": shop.namespace}
    metric = {"name": "errors", "templateRef": {"name": PEER}, "thresholdRange": {"max": BOUND}, "interval": "10s"}
    service = {
        "port": 8000, "targetPort": "http", "hosts": [shop.host(PEER)],
        "gatewayRefs": [{"name": "public", "namespace": "gateways"}],
    }  # fmt: skip
    spec = {
        "targetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": PEER},
        "service": service,
        "analysis": {"interval": "10s", "threshold": 1, "stepWeights": list(WEIGHTS), "metrics": [metric]},
    }
    version = "flagger.app/v1beta1"
    return [
        {
            "apiVersion": version,
            "kind": "MetricTemplate",
            "metadata": metadata,
            "spec": {"provider": provider, "query": query},
        },
        {"apiVersion": version, "kind": "Canary", "metadata": metadata, "spec": spec},
    ]


def show(rows: list[Row], rate: float) -> None:
    """A line for each rollout."""
    print(f"\nload {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores, {rate:g} requests/s offered")
    heads = {"seconds": 9, "on air s": 10, "requests": 10, "failed": 8, "calls": 7, "CPU s": 7}
    print(f"{'':<10}{'version':<9}{'outcome':<12}" + "".join(f"{head:>{width}}" for head, width in heads.items()))
    for row in rows:
        took = f"{row.seconds:>9.1f}{row.on_air:>10.1f}{row.requests:>10,}{row.failed:>8}{row.calls:>7}{row.cpu:>7.1f}"
        print(f"{row.who:<10}{row.version:<9}{row.outcome:<12}{took}")


if __name__ == "__main__":
    main()
