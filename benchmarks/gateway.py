"""What the gateway adds to a request: `python benchmarks/gateway.py [--rounds N] [--seconds N] [--json]`.

    dev/cluster up && dev/cluster platform
    KUBECONFIG=/run/tidegate/kubeconfig python benchmarks/gateway.py

Needs the development cluster on this machine; what it lacks is installed, and the model is trained if it is not in the
cache (three minutes). One ModelDeployment of one pod in a namespace of its own, as `make demo` has it: Triton with the
package's defaults behind the gateway's Envoy. The same request, binary tensors of KServe v2, goes to the pod's Service
and to the gateway in turn, round after round, by h2load from this machine: clients that ask again once they are
answered. Added is the difference of the medians within a round; the median of the rounds is shown.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "dev"))
sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "e2e"))

import numpy as np
from delivery import ALIAS, CANARY, NAME, shaped, trained_versions
from live import Live, own_namespace, request_bodies, whole_cluster
from servers.load import Call, ask

LOADS = ((500, 8), (500, 1), (1, 32), (1, 1))
"""Rows a request, clients."""
_WARM_UP = 2
_OK = 200


@dataclass(frozen=True)
class Row:
    """Medians of the rounds: requests a second and p50 in ms, to the Service and through the gateway; p50 added."""

    rows: int
    clients: int
    direct_rate: float
    gateway_rate: float
    direct_p50_ms: float
    gateway_p50_ms: float
    added: float


def main() -> None:
    """A row for each load."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--seconds", type=int, default=5, help="of each load, after two of warming up")
    arguments.add_argument("--json", action="store_true", help="print the rows as JSON")
    given = arguments.parse_args()
    live = whole_cluster()
    with tempfile.TemporaryDirectory() as scratch, own_namespace(live) as shop:
        body = served(shop, Path(scratch))
        found = [measured(shop, body, rows, clients, given.rounds, given.seconds) for rows, clients in LOADS]
    print(json.dumps([asdict(row) for row in found])) if given.json else show(found)


def served(shop: Live, scratch: Path) -> dict[str, Any]:
    """Bring a trained model up in one pod; returns a request that it answers."""
    trained = trained_versions(shop, scratch)
    shop.name_version(trained.first, ALIAS)
    shaped(shop, 1, CANARY)
    found: dict[str, Any] = json.loads(request_bodies(shop, trained, scratch / "bodies.jsonl").open().readline())
    return found


def call_of(url: str, body: dict[str, Any], rows: int, *headers: str) -> Call:
    """The request's rows, again and again up to so many, as binary tensors."""
    from tritonclient import http

    inputs = []
    for one in body["inputs"]:
        kind = {"INT64": np.int64, "FP32": np.float32}[one["datatype"]]
        values = np.array(one["data"], dtype=kind).reshape(one["shape"])
        values = np.ascontiguousarray(np.resize(values, (rows, *values.shape[1:])))
        tensor = http.InferInput(one["name"], values.shape, one["datatype"])
        tensor.set_data_from_numpy(values)
        inputs.append(tensor)
    data, size = http.InferenceServerClient.generate_request_body(inputs)
    binary = ("content-type: application/octet-stream", f"inference-header-content-length: {size}")
    return Call(url, data, (*binary, *headers))


def measured(shop: Live, body: dict[str, Any], rows: int, clients: int, rounds: int, seconds: int) -> Row:
    """Both ways in turn."""
    target, stable = shop.target(NAME), shop.deployment(NAME).status.stable
    assert stable is not None
    service = shop.cluster.get("service", f"{NAME}-{stable.hash}")["spec"]["clusterIP"]
    direct = call_of(f"http://{service}:8000/v2/models/{target.model}/infer", body, rows)
    through = call_of(target.url, body, rows, f":authority: {target.host}")
    seen = [(one(direct, clients, seconds), one(through, clients, seconds)) for _ in range(rounds)]
    figures = zip(*((a[0], b[0], a[1], b[1], b[1] / a[1] - 1) for a, b in seen), strict=True)
    return Row(rows, clients, *(statistics.median(each) for each in figures))


def one(call: Call, clients: int, seconds: int) -> tuple[float, float]:
    """Requests a second, and p50 in ms; every request must be answered well."""
    ask(call, clients, _WARM_UP)
    status, took = ask(call, clients, seconds)
    if not len(took) or (status != _OK).any():
        raise SystemExit(f"{(status != _OK).sum()} of {len(took)} requests to {call.url} failed")
    return len(took) / seconds, 1e3 * float(np.median(took))


def show(rows: list[Row]) -> None:
    """The rows as a table."""
    print(f"\nload {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    heads = ("clients", "direct 1/s", "gateway 1/s", "direct p50", "gateway p50", "added")
    print(f"{'rows':>6}" + "".join(f"{head:>13}" for head in heads))
    for row in rows:
        rates = f"{row.direct_rate:>13,.0f}{row.gateway_rate:>13,.0f}"
        times = f"{row.direct_p50_ms:>13.2f}{row.gateway_p50_ms:>13.2f}{row.added:>13.0%}"
        print(f"{row.rows:>6}{row.clients:>13}{rates}{times}")


if __name__ == "__main__":
    main()
