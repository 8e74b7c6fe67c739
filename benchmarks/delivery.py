"""Requests that fail while models change, and how fast harm is off the air: `python benchmarks/delivery.py [--json]`.

    dev/cluster up && dev/cluster platform
    KUBECONFIG=/run/tidegate/kubeconfig python benchmarks/delivery.py --rate 200 --requests 100000

Needs the development cluster on this machine; what it lacks is installed, and the model is trained if it is not in the
cache (three minutes). Everything happens to one ModelDeployment in a namespace of its own, which goes at the end. A
client outside the cluster sends requests through the gateway in an open loop all the while, and tries none again. A
phase is over when nothing moves any more: no rollout, no revision that drains, every pod ready and none going. Its
requests are those since the phase before it ended. The last phase, "at rest", lasts until there are --requests.

Harm: the rollout of a version that fails on unseen users, with three of ten requests from such. The verdict falls at
the first look after the interval that shows the harm. Where that interval ended is not in the status once the verdict
is, so it is computed as the operator does: the last point of the grid that lay 2 s back when the verdict fell (a sample
takes so long to reach Prometheus). The status gives whole seconds, as the grid is. "to 0" is from there until a watch
on the API server told of an HTTPRoute in which the broken revision has weight 0, "on air" from when the watch told that
it has one. Clocks are this machine's, on which the operator runs too.

The exit code is 1 where a request failed in a phase that takes nothing away by force.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "dev"))
sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "e2e"))

import psutil
from live import (
    Live,
    Trained,
    Version,
    own_namespace,
    register_versions,
    registry,
    request_bodies,
    run_pipeline,
    stable_is,
    training_run,
    whole_cluster,
)

from tidegate_demo.traffic import Counts, Running, traffic
from tidegate_operators.rollout.steps import SETTLE, grid_floor

NAME, ALIAS = "ranker", "delivery"
WEIGHTS = (1, 5, 20, 100)
CANARY = {"strategy": {"canary": {"steps": [{"setWeight": weight} for weight in WEIGHTS]}}}
SWITCH = {"strategy": {"blueGreen": {"scaleDownDelay": "15s"}}, "analysis": {"metrics": []}}
LONGEST = 3600.0
"""Seconds after which traffic ends by itself."""
NEW_USERS = 0.3


@dataclass(frozen=True)
class Row:
    """One phase; `failures` by HTTP status or kind of error."""

    phase: str
    forced: bool
    seconds: float
    requests: int
    failed: int
    failures: dict[str, int]


@dataclass(frozen=True)
class Harm:
    """One rollout of the broken version, in seconds but for the counts."""

    on_air: float
    interval: float
    to_verdict: float
    to_zero: float
    requests: int
    failed: int


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--rate", type=float, default=200.0, help="requests a second")
    arguments.add_argument("--requests", type=int, default=100_000, help="at the least, over all phases")
    arguments.add_argument("--harms", type=int, default=3, help="how often the broken version is rolled out")
    arguments.add_argument("--json", action="store_true", help="print the rows as JSON")
    given = arguments.parse_args()
    live = whole_cluster()
    with tempfile.TemporaryDirectory() as scratch, own_namespace(live) as shop:
        trained = trained_versions(shop, Path(scratch))
        shop.name_version(trained.first, ALIAS)
        shaped(shop, 1, CANARY)
        rows = phases(shop, trained, Path(scratch), given.rate, given.requests)
        harms = list(harmed(shop, trained, Path(scratch), given.rate, given.harms))
    if given.json:
        print(json.dumps({"rows": [asdict(row) for row in rows], "harms": [asdict(harm) for harm in harms]}))
    else:
        show(rows, harms, given.rate)
    sys.exit(any(row.failed for row in rows if not row.forced))


def trained_versions(live: Live, scratch: Path) -> Trained:
    """Versions of one trained model in the registry, as the end-to-end tests have them."""
    root, given = training_run(live)
    run_pipeline(root, given)
    packages = scratch / "packages"
    first, second, broken, reading = register_versions(live, {"root": root}, packages)
    return Trained(first, second, broken, reading, packages)


def shaped(shop: Live, replicas: int, how: dict[str, Any]) -> None:
    """So many pods, and how the next rollout goes; over when they are there."""
    applied(shop, replicas, how)
    shop.wait_for(NAME, lambda found: found.status.stable is not None, 180, "a revision serves")
    at_rest(shop, replicas)


def applied(shop: Live, replicas: int, how: dict[str, Any]) -> None:
    """So many pods, no more and no fewer, of whatever the alias names."""
    bounds = {"minReplicas": replicas, "maxReplicas": replicas, "targets": [{"queueTime": "50ms"}]}
    shop.deploy(NAME, registry(ALIAS), scaling=bounds, **how)


def at_rest(shop: Live, replicas: int, without: frozenset[str] = frozenset()) -> None:
    """Wait until nothing moves: no rollout, none that drains, so many pods, all ready, none going or of those."""

    def holds() -> tuple[bool, str]:
        status, pods = shop.deployment(NAME).status, shop.pods(NAME)
        moving = status.canary is not None or bool(status.retiring)
        still = len(pods) == replicas and all(ready(pod) for pod in pods) and not without & names(pods)
        return still and not moving, f"{status.message} Pods: {sorted(names(pods))}"

    shop.cluster.wait(holds, 300, f"{replicas} pods and nothing that moves")


def ready(pod: dict[str, Any]) -> bool:
    """Whether a pod answers, and is to go on doing so."""
    holds = {condition["type"]: condition["status"] for condition in pod["status"].get("conditions", [])}
    return holds.get("Ready") == "True" and "deletionTimestamp" not in pod["metadata"]


def names(pods: list[dict[str, Any]]) -> frozenset[str]:
    return frozenset(pod["metadata"]["name"] for pod in pods)


def phases(shop: Live, trained: Trained, scratch: Path, rate: float, least: int) -> list[Row]:
    """One phase after the other under the same traffic, and rest until there are enough requests."""
    bodies = request_bodies(shop, trained, scratch / "bodies.jsonl")
    rows: list[Row] = []
    with traffic(shop.target(NAME), bodies, rate, LONGEST, scratch / "counts.json") as running:
        before = Counts()
        for phase, act, forced in all_phases(shop, trained, running, least):
            begin = time.monotonic()
            act()
            now = running.counts()
            rows.append(row(phase, forced, time.monotonic() - begin, now, before))
            print(rows[-1], file=sys.stderr, flush=True)
            before = now
    last = row("the last half second", False, 0.0, running.counts(), before)
    return [*rows, last] if last.failed else rows


def row(phase: str, forced: bool, seconds: float, now: Counts, before: Counts) -> Row:
    failures = dict(now.failures - before.failures)
    return Row(phase, forced, seconds, now.sent - before.sent, now.failed - before.failed, failures)


def all_phases(
    shop: Live, trained: Trained, running: Running, least: int
) -> Iterator[tuple[str, Callable[[], None], bool]]:
    """What is done to the deployment, and whether it takes something away by force."""
    yield "canary 1, 5, 20, 100 % promoted", lambda: rolled_out(shop, trained.second), False
    yield "undo", lambda: undone(shop, trained), False
    yield "blue-green switch", lambda: rolled_out(shop, trained.reading, SWITCH), False
    yield "undo of the switch", lambda: undone(shop, trained), False
    yield "1 -> 3 pods", lambda: shaped(shop, 3, CANARY), False
    yield "3 -> 1 pods", lambda: shaped(shop, 1, CANARY), False
    yield "1 -> 2 pods", lambda: shaped(shop, 2, CANARY), False
    yield "restart of both pods", lambda: restarted(shop), False
    yield "operator killed", lambda: operator_killed(shop), False
    yield "one pod of two deleted", lambda: pod_deleted(shop), False
    yield "gateway restarted", lambda: gateway_restarted(shop), False
    yield "one pod of two killed at once", lambda: pod_deleted(shop, "--force", "--grace-period=0"), True
    yield "one Triton of two killed (SIGKILL)", lambda: triton_killed(shop), True
    yield "at rest", lambda: enough(shop, running, least), False


def rolled_out(shop: Live, version: Version, how: dict[str, Any] = CANARY) -> None:
    shaped(shop, 1, how)
    shop.name_version(version, ALIAS)
    shop.wait_for(NAME, stable_is(version), 600, f"version {version.number} is promoted")
    at_rest(shop, 1)


def undone(shop: Live, trained: Trained) -> None:
    shop.plugin("undo", NAME, "--to", trained.first.number)
    shop.wait_for(NAME, stable_is(trained.first), 120, "the first version is back")
    at_rest(shop, 1)


def restarted(shop: Live) -> None:
    before = names(shop.pods(NAME))
    shop.plugin("restart", NAME)
    at_rest(shop, len(before), without=before)


def operator_killed(shop: Live) -> None:
    """Over when another one leads."""
    before = shop.leader()
    shop.kill_operator()
    shop.cluster.wait(lambda: (shop.leader() not in (before, ""), shop.leader()), 120, "another operator leads")
    at_rest(shop, 2)


def pod_deleted(shop: Live, *how: str) -> None:
    before = names(shop.pods(NAME))
    gone = min(before)
    shop.cluster.kubectl.run("delete", "pod", gone, "-n", shop.namespace, "--wait=false", *how)
    at_rest(shop, len(before), without=frozenset([gone]))


def triton_killed(shop: Live) -> None:
    """Nothing drains: its pod counts as ready until kubelet notices. Over when its container was started again."""
    pod = shop.pods(NAME)[0]
    inside = [each for each in psutil.process_iter(["name"]) if pod["metadata"]["uid"] in control_group(each.pid)]
    next(each for each in inside if each.info["name"] == "tritonserver").kill()

    def holds() -> tuple[bool, str]:
        found = next(each for each in shop.pods(NAME) if each["metadata"]["uid"] == pod["metadata"]["uid"])
        return restarts(found) > restarts(pod), f"{restarts(found)} restarts"

    shop.cluster.wait(holds, 60, "Triton is started again")
    at_rest(shop, 2)


def control_group(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cgroup").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def restarts(pod: dict[str, Any]) -> int:
    return sum(container["restartCount"] for container in pod["status"]["containerStatuses"])


def gateway_restarted(shop: Live) -> None:
    """Over when the old pod has gone."""
    words = ("-n", "gateways", "pods", "-l", "app.kubernetes.io/name=gateway")
    before = names(shop.cluster.kubectl.get(*words)["items"])
    shop.cluster.kubectl.run("rollout", "restart", "-n", "gateways", "deployment/gateway")

    def holds() -> tuple[bool, str]:
        pods = shop.cluster.kubectl.get(*words)["items"]
        return bool(pods) and all(map(ready, pods)) and not before & names(pods), str(sorted(names(pods)))

    shop.cluster.wait(holds, 180, "the gateway's pod is a new one")


def enough(shop: Live, running: Running, least: int) -> None:
    shop.cluster.wait(lambda: (running.counts().sent >= least, str(running.counts())), LONGEST, f"{least} requests")


def harmed(shop: Live, trained: Trained, scratch: Path, rate: float, times: int) -> Iterator[Harm]:
    """Roll the broken version out; in between the alias goes back to what serves, or it would not be tried again."""
    bodies = request_bodies(shop, trained, scratch / "harm.jsonl", new_users=NEW_USERS)
    for number in range(times):
        shop.name_version(trained.first, ALIAS)
        shaped(shop, 1, CANARY)
        shop.wait_for(NAME, lambda found: found.status.rejected is None, 60, "nothing is rejected any more")
        with traffic(shop.target(NAME), bodies, rate, LONGEST, scratch / f"harm-{number}.json") as running:
            yield one_harm(shop, trained, running)


def one_harm(shop: Live, trained: Trained, running: Running) -> Harm:
    with weights_watched(shop) as seen:
        shop.name_version(trained.broken, ALIAS)
        shop.wait_for(NAME, lambda found: found.status.canary is not None, 60, "the rollout starts")
        found = shop.wait_for(NAME, lambda found: found.status.canary is None, 600, "the rollout ends")
    verdict, interval = found.status.verdict, found.spec.analysis.interval
    if verdict is None or verdict.outcome != "rolledBack":
        raise SystemExit(f"The broken version was not rolled back: {found.status.message}")
    backend = f"{NAME}-{verdict.revision.hash}"
    first = next(at for at, weights in seen if weights.get(backend))
    zero = next(at for at, weights in seen if at > first and not weights.get(backend))
    ended = grid_floor(verdict.at - SETTLE, interval)
    counts, spans = running.counts(), (zero - first, interval, verdict.at - ended, zero - ended)
    on_air, length, to_verdict, to_zero = (span.total_seconds() for span in spans)
    harm = Harm(on_air, length, to_verdict, to_zero, counts.sent, counts.failed)
    print(harm, file=sys.stderr, flush=True)
    return harm


@dataclass
class Watched:
    """What a watch tells of the HTTPRoute: the weight of each Service that it leads to, and when that was told."""

    told: list[tuple[datetime, dict[str, int]]] = field(default_factory=list)

    def __iter__(self) -> Iterator[tuple[datetime, dict[str, int]]]:
        return iter(list(self.told))

    def listen(self, lines: Iterator[str]) -> None:
        for line in lines:
            at, route = datetime.now(UTC), json.loads(line)["object"]
            backends = [backend for rule in route["spec"]["rules"] for backend in rule["backendRefs"]]
            self.told.append((at, {backend["name"]: backend["weight"] for backend in backends}))


@contextmanager
def weights_watched(shop: Live, route: str = NAME) -> Iterator[Watched]:
    kubectl, events = shop.cluster.kubectl, ("--watch", "--output-watch-events", "-o", "json")
    command = [kubectl.program, "get", "httproute", route, "-n", shop.namespace, *events]
    watched, environment = Watched(), os.environ | {"KUBECONFIG": kubectl.kubeconfig}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    listener = threading.Thread(target=watched.listen, args=(process.stdout,))
    listener.start()
    try:
        yield watched
    finally:
        process.terminate()
        process.wait(timeout=10)
        listener.join()


def show(rows: list[Row], harms: list[Harm], rate: float) -> None:
    print(f"\nload {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores, {rate:g} requests/s offered")
    print(f"{'phase':<34}{'seconds':>10}{'requests':>10}{'failed':>8}")
    for each in [*rows, total(rows)]:
        told = "".join(f"  {count} x {what}" for what, count in each.failures.items())
        print(f"{each.phase:<34}{each.seconds:>10.1f}{each.requests:>10,}{each.failed:>8}{told}")
    print(
        f"\n{'harm':<6}{'on air s':>10}{'interval s':>12}{'to verdict s':>14}{'to 0 s':>8}{'requests':>10}{'failed':>8}"
    )
    for number, harm in enumerate(harms, 1):
        took = f"{harm.on_air:>10.1f}{harm.interval:>12.0f}{harm.to_verdict:>14.0f}{harm.to_zero:>8.2f}"
        print(f"{number:<6}{took}{harm.requests:>10,}{harm.failed:>8}")


def total(rows: list[Row]) -> Row:
    failures = sum((Counter(each.failures) for each in rows), Counter[str]())
    sums = sum(each.seconds for each in rows), sum(each.requests for each in rows), sum(each.failed for each in rows)
    return Row("all", False, *sums, failures=dict(failures))


if __name__ == "__main__":
    main()
