"""Serving next to raw onnxruntime, FastAPI and MLServer: `python benchmarks/serving.py [--rounds N] [--seconds N]`.

A DeepFM packaged by `tidegate` with its defaults, asked in two ways: 500 rows a request by 8 clients, one row by 32.
Server and load share the first two cores of this machine, on loopback. A client asks again once it is answered; every
request asks the same rows. Triton is the CPU build of images/triton, without a container. FastAPI (JSON, pydantic,
uvicorn with its default of one worker and with one for each core) and MLServer run the same ONNX in environments of
their own. Raw onnxruntime is a loop in one process, two threads, no wire: the most that the two cores can do.
Contenders take turns, round after round; a ratio is taken within a round, and the median of the rounds is shown. "by
CPU" is raw onnxruntime's CPU seconds a request to the server's and the load's together: what the first ratio is where
nothing else runs. --instances, --max-batch-size and --max-queue-delay-us are what spec.runtime would set.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import astuple
from pathlib import Path

import numpy as np
from servers.bodies import answered
from servers.load import Seen, load
from servers.ranker import Asked, asked, made, onnx_of
from servers.running import CORES, HERE, Server, fastapi_server, mlserver_server, raw_python, triton_server

from tidegate_components.packaging.serving import ServingSettings, lay_repository

LOADS = ((500, 8), (1, 32))
"""Rows a request, clients."""
RAW, FASTAPI = "raw onnxruntime", "FastAPI, 1 worker JSON"
Found = dict[tuple[str, int], list[Seen]]


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--seconds", type=int, default=8, help="of each load, after two of warming up")
    arguments.add_argument("--peers", nargs="*", default=["fastapi", "mlserver"], help="of fastapi and mlserver")
    arguments.add_argument("--package", type=Path, help="where one lies, or is to be made; else in a scratch folder")
    arguments.add_argument("--instances", type=int)
    arguments.add_argument("--max-batch-size", type=int)
    arguments.add_argument("--max-queue-delay-us", type=int)
    given = arguments.parse_args()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])
    settings = ServingSettings(given.instances, given.max_batch_size, given.max_queue_delay_us)
    with tempfile.TemporaryDirectory() as scratch:
        folder = given.package or Path(scratch, "ranker")
        package = folder / "package" if (folder / "package").exists() else made(folder)
        lay_repository(package, Path(scratch), settings)
        found: Found = {}
        for number in range(given.rounds):
            for name, rows, seen in one_round(package, Path(scratch), given.peers, given.seconds):
                found.setdefault((name, rows), []).append(seen)
            show(found, number + 1)


def one_round(package: Path, scratch: Path, peers: list[str], seconds: int) -> Iterator[tuple[str, int, Seen]]:
    """Every contender under every load, one after the other."""
    requests = {rows: asked(package, rows) for rows, _ in LOADS}
    for rows, request in requests.items():
        yield RAW, rows, raw(onnx_of(package), request, scratch, seconds)
    servers: list[tuple[str, AbstractContextManager[Server]]] = [
        ("Triton", triton_server(package, scratch / "repository", scratch / "triton.log"))
    ]
    if "fastapi" in peers:
        for workers, name in ((1, "FastAPI, 1 worker"), (CORES, f"FastAPI, {CORES} workers")):
            servers.append((name, fastapi_server(package, scratch / f"fastapi-{workers}.log", workers)))
    if "mlserver" in peers:
        servers.append(("MLServer", mlserver_server(package, scratch / "mlserver.log")))
    for name, starting in servers:
        with starting as server:
            for protocol, rows, seen in under_load(server, requests, seconds):
                yield f"{name} {protocol}", rows, seen


def under_load(server: Server, requests: dict[int, Asked], seconds: int) -> Iterator[tuple[str, int, Seen]]:
    for protocol, call in server.calls.items():
        for rows, clients in LOADS:
            request = call(requests[rows])
            np.testing.assert_allclose(answered(request).ravel(), requests[rows].scores, atol=1e-4)
            yield protocol, rows, load(request, server.pid, clients, seconds)


def raw(onnx: Path, request: Asked, scratch: Path, seconds: int) -> Seen:
    np.savez(scratch / "rows.npz", ids=request.ids, dense=request.dense)
    command = [raw_python(), str(HERE / "raw_loop.py"), str(onnx), str(scratch / "rows.npz"), str(seconds)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=seconds + 60)
    return Seen(**json.loads(done.stdout))


def show(found: Found, rounds: int) -> None:
    """The medians of the rounds so far."""
    print(f"\nload {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores, median of {rounds} rounds")
    heads = ("requests/s", "p50 ms", "p99 ms", "CPU s / 1000", "load's CPU", "to raw", "by CPU", "to FastAPI", "failed")
    for rows, clients in LOADS:
        print(f"{f'{rows} rows, {clients} clients':<24}" + "".join(f"{head:>14}" for head in heads))
        for name in [name for name, count in found if count == rows]:
            rate, p50, p99, cpu, load_cpu, failed = (
                statistics.median(one) for one in zip(*map(astuple, found[name, rows]), strict=True)
            )
            compared = (name, RAW, rate_of), (RAW, name, cpu_of), (name, FASTAPI, rate_of)
            ratios = "".join(f"{paired(found, a, b, rows, figure):>14.2f}" for a, b, figure in compared)
            took = f"{rate:>14,.0f}{p50 * 1e3:>14.2f}{p99 * 1e3:>14.2f}{cpu:>14.3f}{load_cpu:>14.3f}"
            print(f"{name:<24}{took}{ratios}{failed:>14.0f}")


def rate_of(seen: Seen) -> float:
    return seen.rate


def cpu_of(seen: Seen) -> float:
    return seen.cpu + seen.load_cpu


def paired(found: Found, one: str, other: str, rows: int, figure: Callable[[Seen], float]) -> float:
    """One's figure to the other's, within a round; the median of the rounds."""
    pairs = zip(found[one, rows], found.get((other, rows), []), strict=False)
    return statistics.median([figure(a) / figure(b) for a, b in pairs] or [float("nan")])


if __name__ == "__main__":
    main()
