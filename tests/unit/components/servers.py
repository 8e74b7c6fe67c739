"""The servers that unit tests speak to: Redis and MLflow."""

from __future__ import annotations

import shutil
import socket
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from processes import free_port, running


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
