"""Each contender as a server on loopback, in a process group of its own that ends with the block."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import httpx

from servers.bodies import grpc_call, json_call, v2_call
from servers.installed import FASTAPI, MLSERVER, peer, triton
from servers.load import Call
from servers.ranker import NAME, Asked, onnx_of

HERE = Path(__file__).parent
CORES = 2


@dataclass(frozen=True)
class Server:
    """A server that is ready: its process, and how it is asked, by protocol."""

    pid: int
    calls: dict[str, Callable[[Asked], Call]]


@contextmanager
def triton_server(package: Path, repository: Path, log: Path) -> Iterator[Server]:
    """Triton as a pod starts it, on `repository`."""
    home, (http, grpc, metrics) = triton(), _ports(3)
    server = home / "pytriton" / "tritonserver"
    command = [
        str(server / "bin" / "tritonserver"), f"--backend-directory={server}/backends",
        f"--cache-directory={server}/caches", f"--model-repository={repository}", "--model-control-mode=explicit",
        f"--load-model={NAME}", f"--http-port={http}", f"--grpc-port={grpc}", f"--metrics-port={metrics}",
        "--http-address=127.0.0.1", "--grpc-address=127.0.0.1", "--metrics-address=127.0.0.1",
    ]  # fmt: skip
    environment = {"LD_LIBRARY_PATH": f"{home}/nvidia_pytriton.libs:/usr/lib/x86_64-linux-gnu"}
    url = f"http://127.0.0.1:{http}"
    with _running(command, f"{url}/v2/models/{NAME}/versions/1/ready", log, environment) as pid:
        calls = {"HTTP": partial(v2_call, url), "gRPC": partial(grpc_call, f"http://127.0.0.1:{grpc}")}
        yield Server(pid, calls)


@contextmanager
def fastapi_server(package: Path, log: Path, workers: int) -> Iterator[Server]:
    """uvicorn with uvloop and httptools; one worker is its default."""
    (port,) = _ports(1)
    command = [str(peer(FASTAPI)), "-m", "uvicorn", "fastapi_app:app", f"--app-dir={HERE}"]
    command += [f"--port={port}", f"--workers={workers}", "--no-access-log", "--log-level=warning"]
    url = f"http://127.0.0.1:{port}"
    with _running(command, f"{url}/ready", log, {"MODEL": str(onnx_of(package))}) as pid:
        yield Server(pid, {"JSON": partial(json_call, url)})


@contextmanager
def mlserver_server(package: Path, log: Path) -> Iterator[Server]:
    """MLServer with its defaults but for the workers: one for each core."""
    http, grpc, metrics = _ports(3)
    folder = log.parent / "mlserver"
    folder.mkdir(exist_ok=True)
    (folder / "settings.json").write_text(json.dumps({
        "host": "127.0.0.1", "http_port": http, "grpc_port": grpc, "metrics_port": metrics, "debug": False,
        "parallel_workers": CORES,
    }))  # fmt: skip
    (folder / "model-settings.json").write_text(
        json.dumps({"name": NAME, "implementation": "mlserver_app.Ranker", "parameters": {"version": "1"}})
    )
    command = [str(peer(MLSERVER).with_name("mlserver")), "start", str(folder)]
    environment = {"MODEL": str(onnx_of(package)), "PYTHONPATH": str(HERE)}
    with _running(command, f"http://127.0.0.1:{http}/v2/models/{NAME}/ready", log, environment) as pid:
        yield Server(pid, {"gRPC": partial(grpc_call, f"http://127.0.0.1:{grpc}")})


def raw_python() -> str:
    """The interpreter of the in-process loop: FastAPI's."""
    return str(peer(FASTAPI))


def _ports(count: int) -> list[int]:
    """Free ports, held together so that they differ."""
    probes = [socket.socket() for _ in range(count)]
    for probe in probes:
        probe.bind(("127.0.0.1", 0))
    ports = [int(probe.getsockname()[1]) for probe in probes]
    for probe in probes:
        probe.close()
    return ports


@contextmanager
def _running(command: list[str], ready: str, log: Path, environment: dict[str, str]) -> Iterator[int]:
    with log.open("wb") as out:
        process = subprocess.Popen(
            command, stdout=out, stderr=subprocess.STDOUT, process_group=0, env=os.environ | environment
        )
    try:
        _wait(process, ready, log)
        yield process.pid
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(20)


def _wait(process: subprocess.Popen[bytes], ready: str, log: Path, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not _answers(ready):
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"{process.args} is not ready:\n{log.read_text()[-3000:]}")
        time.sleep(0.1)


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=2).status_code == 200
    except httpx.HTTPError:
        return False
