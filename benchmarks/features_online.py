"""Online features next to Feast, on this machine: `python benchmarks/features_online.py [--entities N]`.

Reads: one user and 500 items, five features each, from a Redis on loopback. Materialization: the newest row of N
entities, Parquet to Redis. Feast (installed aside by uv) uses its Redis store and its SDK, as its documentation shows.
Every contender runs in a process of its own, which takes its time after its imports and a few reads to warm up.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from peers.environment import python_with

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

FEAST = "feast[redis]==0.67.0"
FEATURES, SLATE = 5, 500
ENTITIES = ("user", "item")


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--entities", type=int, default=100_000, help="items; and as many users")
    arguments.add_argument("--reads", type=int, default=2000)
    arguments.add_argument("--feast-reads", type=int, default=100, help="0 leaves Feast out")
    arguments.add_argument("--contender", nargs="*", help=argparse.SUPPRESS)
    given = arguments.parse_args()
    if given.contender:
        print(json.dumps(CONTENDERS[given.contender[0]](*given.contender[1:])))
        return

    from unit.components.servers import redis_server

    with tempfile.TemporaryDirectory() as folder, redis_server(Path(folder)) as url:
        made(Path(folder), given.entities)
        rows = {"tidegate": contend("tidegate", folder, url, str(given.entities), str(given.reads))}
        if given.feast_reads:
            rows["Feast"] = contend("feast", folder, url, str(given.entities), str(given.feast_reads))
    show(rows, given.entities)


def show(rows: dict[str, Any], entities: int) -> None:
    ours = rows["tidegate"]
    print(f"\nload {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores; {entities:,} entities, {FEATURES} features")
    heads = ("materialize s", "CPU s", "ratio", "read p50 ms", "p99 ms", "CPU ms", "ratio")
    print(f"{'':<12}" + "".join(f"{head:>15}" for head in heads))
    for name, row in rows.items():
        if "failed" in row:
            print(f"{name:<12}{row['failed']}")
            continue
        written = (row["materialize"], row["materialize_cpu"], row["materialize"] / ours["materialize"])
        read = (row["p50"] * 1e3, row["p99"] * 1e3, row["read_cpu"] * 1e3, row["p99"] / ours["p99"])
        print(f"{name:<12}" + "".join(f"{figure:>15.2f}" for figure in (*written, *read)))


def contend(name: str, *arguments: str) -> Any:
    python = python_with(FEAST) if name == "feast" else [sys.executable]
    done = subprocess.run(
        [*python, __file__, "--contender", name, *arguments], capture_output=True, text=True, check=False
    )
    if done.returncode:
        return {"failed": done.stderr.strip().splitlines()[-1][:100]}
    return json.loads(done.stdout.splitlines()[-1])


def made(folder: Path, entities: int) -> None:
    """A file for users and one for items: a row each, of the last hour."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    rng = np.random.default_rng(1)
    now = int(time.time()) * 1_000_000
    for name in ENTITIES:
        times = pa.array(now - rng.integers(1, 3600, entities) * 1_000_000, pa.timestamp("us", "UTC"))
        values = {f"f{i}": rng.random(entities) for i in range(FEATURES)}
        pq.write_table(
            pa.table({f"{name}_id": np.arange(entities), "event_time": times, **values}), folder / f"{name}.parquet"
        )


def timed(work: Callable[[], object]) -> tuple[float, float]:
    before, start = time.process_time(), time.monotonic()
    work()
    return time.monotonic() - start, time.process_time() - before


def reads(read: Callable[[int, list[int]], object], entities: int, count: int) -> dict[str, float]:
    draw = random.Random(2)
    asked = [(draw.randrange(entities), draw.sample(range(entities), SLATE)) for _ in range(count + 10)]
    for user, items in asked[:10]:
        read(user, items)
    before, times = time.process_time(), []
    for user, items in asked[10:]:
        start = time.perf_counter()
        read(user, items)
        times.append(time.perf_counter() - start)
    times.sort()
    cpu = (time.process_time() - before) / count
    return {"p50": times[count // 2], "p99": times[int(count * 0.99)], "read_cpu": cpu}


def tidegate(folder: str, url: str, entities: str, count: str) -> Any:
    from datetime import UTC, datetime

    from tidegate_api.feature_view import FeatureView
    from tidegate_components.features.materialize import materialize
    from tidegate_components.features.online import open_store

    views = []
    for name in ENTITIES:
        spec = {
            "entity": {"name": name, "joinKeys": [{"name": f"{name}_id", "type": "Int64"}]},
            "source": {"parquet": {"uri": f"{folder}/{name}.parquet"}, "eventTimestamp": "event_time"},
            "sql": "SELECT * FROM source", "ttl": "1d", "offline": {"uri": f"{folder}/offline-{name}"},
            "features": [{"name": f"f{i}", "type": "Float64"} for i in range(FEATURES)],
            "online": {"redis": {"url": url}}, "materialization": {"schedule": "0 * * * *"},
        }  # fmt: skip
        body = {"apiVersion": "tidegate.dev/v1alpha1", "kind": "FeatureView", "metadata": {"name": name}, "spec": spec}
        views.append(FeatureView.parse(body))
    users, items = views
    store = open_store(url)
    materialize(users, store, datetime.now(UTC))
    seconds, cpu = timed(lambda: materialize(items, store, datetime.now(UTC)))

    def read(user: int, slate: list[int]) -> object:
        return store.read([(users, [(user,)]), (items, [(item,) for item in slate])])

    return {"materialize": seconds, "materialize_cpu": cpu, **reads(read, int(entities), int(count))}


def feast(folder: str, url: str, entities: str, count: str) -> Any:
    """Runs in an environment of its own."""
    import datetime as dt

    from feast import Entity, FeatureStore, FeatureView, Field, FileSource, RepoConfig, ValueType
    from feast.types import Float64

    config = RepoConfig(
        project="bench", provider="local", registry=f"{folder}/registry.db", offline_store={"type": "file"},
        online_store={"type": "redis", "connection_string": url.removeprefix("redis://").removesuffix("/0") + ",db=1"},
        entity_key_serialization_version=3,
    )  # fmt: skip
    store, schema = FeatureStore(config=config), [Field(name=f"f{i}", dtype=Float64) for i in range(FEATURES)]
    for name in ENTITIES:
        source = FileSource(path=f"{folder}/{name}.parquet", timestamp_field="event_time")
        entity = Entity(name=name, join_keys=[f"{name}_id"], value_type=ValueType.INT64)
        view = FeatureView(name=f"{name}_v", entities=[entity], ttl=dt.timedelta(days=1), schema=schema, source=source)
        store.apply([entity, view])
    end = dt.datetime.now(dt.UTC)
    start = end - dt.timedelta(hours=2)
    store.materialize(start, end, feature_views=["user_v"])
    seconds, cpu = timed(lambda: store.materialize(start, end, feature_views=["item_v"]))
    wanted = {name: [f"{name}_v:f{i}" for i in range(FEATURES)] for name in ENTITIES}

    def read(user: int, slate: list[int]) -> object:
        rows = [{"item_id": item} for item in slate]
        one = store.get_online_features(wanted["user"], [{"user_id": user}]).to_dict()
        return one, store.get_online_features(wanted["item"], rows).to_dict()

    return {"materialize": seconds, "materialize_cpu": cpu, **reads(read, int(entities), int(count))}


CONTENDERS: dict[str, Callable[..., Any]] = {"tidegate": tidegate, "feast": feast}

if __name__ == "__main__":
    main()
