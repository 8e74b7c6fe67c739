"""Live traffic: inference requests through the gateway at a steady rate, every answer counted.

`python -m tidegate_demo.traffic --help`. It is bounded in rate and time and sends only to the address it is given.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

__all__ = ["Counts", "Target", "traffic"]

_IN_FLIGHT = 64
_TIMEOUT_SECONDS = 10.0
_OK = 200
_REPORT_SECONDS = 0.5


@dataclass(frozen=True)
class Target:
    """Where requests go: the gateway's address, the host that the route matches, and the model."""

    address: str
    host: str
    model: str

    @property
    def url(self) -> str:
        """KServe v2 inference endpoint of the model."""
        return f"http://{self.address}/v2/models/{self.model}/infer"


@dataclass
class Counts:
    """What was sent and how it was answered; `failures` by HTTP status or kind of error."""

    sent: int = 0
    failed: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    slowest_ms: float = 0.0

    def add(self, outcome: str, seconds: float) -> None:
        """Count one answer; outcome is its status, or the name of the error."""
        self.sent += 1
        self.slowest_ms = max(self.slowest_ms, seconds * 1000)
        if outcome != str(_OK):
            self.failed += 1
            self.failures[outcome] += 1

    def to_json(self) -> str:
        """All counts as one JSON object."""
        found = {"sent": self.sent, "failed": self.failed, "failures": self.failures, "slowestMs": self.slowest_ms}
        return json.dumps(found)


async def drive(target: Target, bodies: Sequence[bytes], rate: float, seconds: float, out: Path) -> Counts:
    """Send the bodies in turn at `rate` a second for at most `seconds`, or until SIGTERM; write counts to `out`."""
    counts, stop = Counts(), asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    limit = asyncio.Semaphore(_IN_FLIGHT)
    headers = {"Host": target.host, "Content-Type": "application/json"}
    timeout = aiohttp.ClientTimeout(total=_TIMEOUT_SECONDS)
    connector = aiohttp.TCPConnector(limit=_IN_FLIGHT)
    async with (
        aiohttp.ClientSession(headers=headers, timeout=timeout, connector=connector) as session,
        asyncio.TaskGroup() as group,
    ):
        reporter = group.create_task(_report(counts, out))
        requests = [_Request(session, target.url, body, counts, limit) for body in bodies]
        await _send_all(group, requests, rate, seconds, stop)
        await _drained(limit)
        reporter.cancel()
    _write(counts, out)
    return counts


@dataclass(frozen=True)
class _Request:
    session: aiohttp.ClientSession
    url: str
    body: bytes
    counts: Counts
    limit: asyncio.Semaphore

    async def send(self) -> None:
        start = time.perf_counter()
        try:
            async with self.session.post(self.url, data=self.body) as answer:
                await answer.read()
                outcome = str(answer.status)
        except (aiohttp.ClientError, TimeoutError) as error:
            outcome = type(error).__name__
        finally:
            self.limit.release()
        self.counts.add(outcome, time.perf_counter() - start)


async def _send_all(
    group: asyncio.TaskGroup, requests: Sequence[_Request], rate: float, seconds: float, stop: asyncio.Event
) -> None:
    """Open loop: a request starts when it is due, unless too many are in flight already."""
    begin = time.perf_counter()
    for number, request in enumerate(itertools.cycle(requests)):
        due = begin + number / rate
        if stop.is_set() or due - begin > seconds:
            return
        if (wait := due - time.perf_counter()) > 0:
            await asyncio.sleep(wait)
        await request.limit.acquire()
        group.create_task(request.send())


async def _drained(limit: asyncio.Semaphore) -> None:
    for _ in range(_IN_FLIGHT):
        await limit.acquire()


async def _report(counts: Counts, out: Path) -> None:
    while True:
        await asyncio.sleep(_REPORT_SECONDS)
        _write(counts, out)


def _write(counts: Counts, out: Path) -> None:
    beside = out.with_suffix(".part")
    beside.write_text(counts.to_json())
    beside.replace(out)


class Running:
    """Traffic that another process sends."""

    def __init__(self, out: Path) -> None:
        self._out = out

    def counts(self) -> Counts:
        """What has been counted so far."""
        if not self._out.exists():
            return Counts()
        found = json.loads(self._out.read_text())
        return Counts(found["sent"], found["failed"], Counter(found["failures"]), found["slowestMs"])


@contextmanager
def traffic(target: Target, bodies: Path, rate: float, seconds: float, out: Path) -> Iterator[Running]:
    """Send traffic from a process of its own for as long as the block runs, but never longer than `seconds`."""
    out.unlink(missing_ok=True)
    command = [sys.executable, "-m", "tidegate_demo.traffic", "--address", target.address, "--host", target.host]
    command += ["--model", target.model, "--bodies", str(bodies), "--rate", str(rate), "--seconds", str(seconds)]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    process = subprocess.Popen([*command, "--out", str(out)], env=environment)
    try:
        yield Running(out)
    finally:
        process.terminate()
        process.wait(timeout=2 * _TIMEOUT_SECONDS)


def main() -> None:
    """Read the options and drive."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("address", "host", "model"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--bodies", type=Path, required=True, help="one JSON request body a line")
    parser.add_argument("--rate", type=float, default=100.0, help="requests a second")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--out", type=Path, required=True, help="where the counts are written")
    options = parser.parse_args()
    bodies = [line.encode() for line in options.bodies.read_text().splitlines()]
    target = Target(options.address, options.host, options.model)
    asyncio.run(drive(target, bodies, options.rate, options.seconds, options.out))


if __name__ == "__main__":
    main()
