"""Real servers for tests: each on a free port, in a process group of its own that ends with the test."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["free_port", "free_ports", "running"]


def free_port() -> int:
    """A port that nobody had a moment ago."""
    return free_ports(1)[0]


def free_ports(count: int) -> list[int]:
    """Ports that nobody had a moment ago, each another."""
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]
    finally:
        for probe in probes:
            probe.close()


@contextmanager
def running(
    command: list[str], is_up: Callable[[], bool], log: Path, seconds: float = 300, **environment: str
) -> Iterator[None]:
    """Run a server until the block ends, which begins once it is up; fails with its log where it does not come up."""
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
