"""Load by h2load, a process of its own that costs little: a number of clients, each asks again once it is answered."""

from __future__ import annotations

import os
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil

from servers.installed import h2load

_WARM_UP = 2
_OK = 200


@dataclass(frozen=True)
class Call:
    """One request as it goes over the wire; HTTP/2 without TLS where it is gRPC's."""

    url: str
    body: bytes
    headers: tuple[str, ...] = ()
    grpc: bool = False


@dataclass(frozen=True)
class Seen:
    """What a load met. CPU seconds are for a thousand requests: the server's with its children, the load's own."""

    rate: float
    p50: float
    p99: float
    cpu: float
    load_cpu: float
    failed: int


def load(call: Call, server: int, clients: int, seconds: int) -> Seen:
    """Warm up, then ask for `seconds`."""
    ask(call, clients, _WARM_UP)
    before = np.array([_cpu_seconds(server), _children_seconds()])
    status, took = ask(call, clients, seconds)
    cpu = 1e3 * (np.array([_cpu_seconds(server), _children_seconds()]) - before) / len(took)
    good = took[status == _OK]
    p50, p99 = np.percentile(good, [50, 99]) if len(good) else (np.nan, np.nan)
    return Seen(len(good) / seconds, p50, p99, *cpu, len(took) - len(good))


def _children_seconds() -> float:
    """Of the children of this process that have ended: h2load, here."""
    times = os.times()
    return times.children_user + times.children_system


def _cpu_seconds(pid: int) -> float:
    """Of a process and everything that it started."""
    parent = psutil.Process(pid)
    times = [one.cpu_times() for one in (parent, *parent.children(recursive=True))]
    return float(sum(time.user + time.system for time in times))


def ask(call: Call, clients: int, seconds: int) -> tuple[np.ndarray, np.ndarray]:
    """Status and seconds of every request."""
    program, environment = h2load()
    with tempfile.TemporaryDirectory() as folder:
        body, log = Path(folder, "body"), Path(folder, "log")
        body.write_bytes(call.body)
        command = [program, *([] if call.grpc else ["--h1"]), f"--clients={clients}", f"--duration={seconds}"]
        command += [f"--data={body}", f"--log-file={log}", *(f"--header={header}" for header in call.headers)]
        subprocess.run(
            [*command, call.url], env=os.environ | environment, capture_output=True, check=True, timeout=seconds + 60
        )
        rows = np.loadtxt(log, dtype=np.int64, ndmin=2)
    return rows[:, 1], rows[:, 2] / 1e6
