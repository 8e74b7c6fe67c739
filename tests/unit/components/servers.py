"""Real servers for tests: each on a free port, in a process group of its own that ends with the test."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running(
    command: list[str], is_up: Callable[[], bool], log: Path, seconds: float = 300, **environment: str
) -> Iterator[None]:
    with log.open("wb") as out:
        process = subprocess.Popen(
            command, stdout=out, stderr=subprocess.STDOUT, start_new_session=True, env={**os.environ, **environment}
        )
    try:
        _wait(process, is_up, log, seconds)
        yield
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(20)


def _wait(process: subprocess.Popen[bytes], is_up: Callable[[], bool], log: Path, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not is_up():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, f"not up in {seconds} s: {log.read_text()}"
        time.sleep(0.05)


@contextmanager
def redis_server(folder: Path, *options: str) -> Iterator[str]:
    """A Redis of one's own; its url."""
    binary = shutil.which("redis-server")
    if binary is None:
        pytest.fail("redis-server is missing: apt-get install redis-server")
    port = free_port()
    command = [binary, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder), *options]
    with running(command, lambda: _listens(port), folder / "redis.log"):
        yield f"redis://127.0.0.1:{port}/0"


def serve_all_slots(url: str, seconds: float = 20) -> None:
    """Give every slot to a Redis Cluster's only node, and wait until it says so."""
    import redis

    client = redis.Redis.from_url(url)
    client.execute_command("CLUSTER ADDSLOTSRANGE", 0, 16383)
    deadline = time.monotonic() + seconds
    while client.execute_command("CLUSTER INFO").get("cluster_state") != "ok":
        assert time.monotonic() < deadline, "the cluster does not take its slots"
        time.sleep(0.05)


@contextmanager
def mlflow_server(folder: Path) -> Iterator[str]:
    """An MLflow tracking server on sqlite that proxies artifacts; its address."""
    port = free_port()
    command = [
        sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1",
        "--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--artifacts-destination", str(folder / "artifacts"),
    ]  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    with running(command, lambda: _healthy(url), folder / "mlflow.log", MLFLOW_SERVER_ENABLE_JOB_EXECUTION="false"):
        yield url


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _healthy(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
