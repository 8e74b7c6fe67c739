"""Streaming a view from Kafka into Redis: `python benchmarks/features_stream.py [--events N] [--singles N]`.

First a backlog as fast as it goes, with the CPU of stream and broker; then single events, each timed from its
event time until the value that counts it is read from Redis (so settle, half a second, is part of it).
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from kafka_broker import Broker, broker
from tidegate_components.features.online import open_store
from unit.components.servers import redis_server
from unit.components.stream_case import streamed
from unit.components.test_stream import Shop, counted, start, streaming, until


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--events", type=int, default=200_000)
    arguments.add_argument("--singles", type=int, default=200)
    given = arguments.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        broker(Path(folder)) as kafka,
        redis_server(Path(folder)) as url,
    ):
        backlog(kafka, url, Path(folder), given.events)
        latency(kafka, url, Path(folder), given.singles)


def backlog(kafka: Broker, url: str, folder: Path, events: int) -> None:
    kafka.create("backlog", 4)
    shop, draw = Shop(kafka.address, "backlog"), random.Random(1)
    for _ in range(events):
        shop.send(draw.randrange(10_000), float(draw.randrange(100)))
    shop.flush()
    broker_before, before = kafka.cpu_seconds(), resource.getrusage(resource.RUSAGE_CHILDREN)
    begin = time.monotonic()
    process = start(folder, streamed("backlog", ("1h", "3h"), kafka.address, "backlog"), url, "--until-idle", "2s")
    out, _ = process.communicate(timeout=3600)
    took = time.monotonic() - begin - 2
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    assert json.loads(out.splitlines()[-1])["events"] == events
    broker_cpu = kafka.cpu_seconds() - broker_before
    print(f"\nbacklog of {events:,} events, 10,000 users, 16 features, 4 partitions; {load()}")
    print(f"  {events / took:,.0f} events/s with its start, {cpu / events * 1e6:.0f} CPU s per million events")
    print(f"  (broker {broker_cpu / events * 1e6:.0f}), peak {after.ru_maxrss / 1e6:.2f} GB")


def latency(kafka: Broker, url: str, folder: Path, singles: int) -> None:
    kafka.create("singles", 4)
    view, store, shop = (
        streamed("singles", ("1h", "3h"), kafka.address, "singles"),
        open_store(url),
        Shop(kafka.address, "singles"),
    )
    took = []
    with streaming(folder, view, url) as process:
        shop.send(0)
        until(lambda: counted(store, view, 0, "count_1h") == 1)
        for user in range(1, singles + 1):
            begin = time.monotonic()
            shop.send(user)
            until(lambda user=user: counted(store, view, user, "count_1h") == 1)
            took.append(time.monotonic() - begin)
        assert subprocess.Popen.poll(process) is None
    cuts = statistics.quantiles(took, n=100)
    print(f"\nevent to Redis, {singles} single events; {load()}")
    print(f"  p50 {cuts[49]:.2f} s, p99 {cuts[98]:.2f} s, most {max(took):.2f} s")


def load() -> str:
    return f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"


if __name__ == "__main__":
    main()
