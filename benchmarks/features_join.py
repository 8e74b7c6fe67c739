"""The point-in-time join next to its peers, on this machine: `python benchmarks/features_join.py [--rows N]`.

Entities and five times as many events over 60 days, uniform and Zipf keys, Parquet to Parquet. Peers: a bare ASOF join
of DuckDB on the same files, which is not exact where events tie and knows no windows; and Feast on its DuckDB and its
Dask store (installed aside by uv, with what it asks for). Every contender runs in a process of its own; the best of
`--repeat` runs counts, after its imports. A numpy oracle counts the rows that are wrong, on data with ties and TTL
edges.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from peers.environment import python_with

FEAST = "feast[duckdb]==0.67.0"
FUNCTIONS = ("count", "sum", "mean", "min", "max", "last", "distinct")
START, DAY = 1_767_225_600_000_000, 86_400_000_000
TTL_DAYS = 7
Row = dict[str, float]


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument(
        "--rows", type=int, default=1_000_000, help="entity rows, events are five times as many; 0: only Feast"
    )
    arguments.add_argument("--feast-rows", type=int, default=1_000_000, help="entity rows for Feast; 0 leaves it out")
    arguments.add_argument("--keys", nargs="+", choices=["uniform", "zipf"], default=["uniform", "zipf"])
    arguments.add_argument("--repeat", type=int, default=3)
    arguments.add_argument("--contender", nargs="*", help=argparse.SUPPRESS)
    given = arguments.parse_args()
    if given.contender:
        print(json.dumps(CONTENDERS[given.contender[0]](*given.contender[1:])))
        return
    with tempfile.TemporaryDirectory() as folder:
        for keys in given.keys if given.rows else ():
            own(Path(folder), given.rows, keys, given.repeat)
        if given.feast_rows:
            with_feast(Path(folder), given.feast_rows, given.repeat)


def own(folder: Path, rows: int, keys: str, repeat: int) -> None:
    data = made(folder / keys, rows, keys)
    bare = contend("bare", str(data), repeat=repeat)
    show(f"{keys} keys, {rows:,} x {5 * rows:,}", "bare ASOF", {
        "bare DuckDB ASOF": bare,
        "tidegate, sql view": contend("newest", str(data), repeat=repeat),
        "tidegate, seven aggregates": contend("windows", str(data), repeat=repeat),
    })  # fmt: skip


def with_feast(folder: Path, rows: int, repeat: int) -> None:
    data = made(folder / "ties", rows, "ties")
    show(f"newest row within {TTL_DAYS} days, coarse times that tie, {rows:,} x {5 * rows:,}", "tidegate", {
        "tidegate, sql view": contend("newest", str(data), repeat=repeat),
        "bare DuckDB ASOF": contend("bare", str(data), repeat=repeat),
        "Feast on DuckDB": contend("feast", str(data), "duckdb", repeat=1),
        "Feast on Dask": contend("feast", str(data), "file", repeat=1),
    })  # fmt: skip


def show(title: str, against: str, rows: dict[str, Row]) -> None:
    first = next(iter(rows.values()))["seconds"]
    print(f"\n{title}; load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    print(f"{'':<30}{'wall s':>9}{'CPU s':>9}{'peak GB':>9}{'wrong rows':>12}  wall / {against}")
    for name, row in rows.items():
        if "failed" in row:
            print(f"{name:<30}{row['failed']}")
            continue
        wrong = f"{row['wrong']:,.0f}" if "wrong" in row else ""
        ratio = row["seconds"] / first
        figures = f"{row['seconds']:>9.2f}{row['cpu']:>9.2f}{row['memory']:>9.2f}{wrong:>12}"
        print(f"{name:<30}{figures}  {ratio:.2f}", flush=True)


def contend(name: str, *arguments: str, repeat: int) -> Any:
    python = python_with(FEAST) if name == "feast" else [sys.executable]
    command = [*python, __file__, "--contender", name, *arguments, str(repeat)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        return {"failed": done.stderr.strip().splitlines()[-1][:80]}
    answer = json.loads(done.stdout.splitlines()[-1])
    if name != "windows":
        answer["wrong"] = wrong_rows(Path(arguments[0]), Path(answer.pop("out")), answer.pop("column"))
    return answer


def measured(work: Callable[[], object], repeat: str) -> Row:
    """Seconds and CPU of the best run; memory of all. What it imports was imported before."""
    best: Row = {"seconds": float("inf")}
    for _ in range(int(repeat)):
        before, start = time.process_time(), time.monotonic()
        work()
        row = {"seconds": time.monotonic() - start, "cpu": time.process_time() - before}
        best = min(best, row, key=lambda each: each["seconds"])
    return {**best, "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6}


def made(folder: Path, rows: int, keys: str) -> Path:
    """`entities.parquet` and `events.parquet`; with `ties` times are whole hours, so that events tie and TTLs end on
    the hour of an entity row, and the created timestamp tells which of equals is newer."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder.mkdir()
    rng = np.random.default_rng(1)
    users = max(1, rows // 10)
    weights = np.cumsum(1 / np.arange(1, users + 1) if keys == "zipf" else np.ones(users))
    unit = DAY // 24 if keys == "ties" else 1

    def drawn(count: int) -> dict[str, Any]:
        user = np.searchsorted(weights, rng.random(count) * weights[-1]) + 1
        times = START + rng.integers(0, 60 * DAY // unit, count) * unit
        return {"user_id": user, "event_time": pa.array(times, pa.timestamp("us", "UTC"))}

    pq.write_table(pa.table({**drawn(rows), "row": np.arange(rows)}), folder / "entities.parquet")
    price = np.round(rng.random(5 * rows) * 100, 2)
    created = pa.array(START + rng.permutation(5 * rows), pa.timestamp("us", "UTC"))
    pq.write_table(pa.table({**drawn(5 * rows), "created": created, "price": price}), folder / "events.parquet")
    return folder


def wrong_rows(folder: Path, out: Path, column: str) -> int:
    """Rows of `out` that are missing or whose price is not the newest within the TTL, by sorting and searchsorted."""
    import numpy as np
    import pyarrow.parquet as pq

    asked, events = pq.read_table(folder / "entities.parquet"), pq.read_table(folder / "events.parquet")
    times, since = (table["event_time"].cast("int64").to_numpy() - START for table in (events, asked))
    user, entity = events["user_id"].to_numpy(), asked["user_id"].to_numpy()
    order = np.lexsort((events["created"].cast("int64").to_numpy(), times, user))
    place = np.searchsorted(user[order] * (100 * DAY) + times[order], entity * (100 * DAY) + since, "right") - 1
    newest = order[np.maximum(place, 0)]
    there = (place >= 0) & (user[newest] == entity) & (since - times[newest] <= TTL_DAYS * DAY)
    right = np.where(there, events["price"].to_numpy()[newest], np.nan)
    table = pq.read_table(out, columns=["row", column])
    found = np.full(len(entity), -1.0)
    found[table["row"].to_numpy()] = table[column].to_numpy()
    return int((~np.isclose(found, right, rtol=0, atol=0, equal_nan=True)).sum())


def bare(folder: str, repeat: str) -> Any:
    """As one would write it: no order of equals; the TTL is checked on the row that was found."""
    import duckdb

    near = f"e.event_time - s.event_time <= INTERVAL {TTL_DAYS} DAY"
    query = f"""SELECT e.*, CASE WHEN {near} THEN s.price END AS price FROM '{folder}/entities.parquet' e
        ASOF LEFT JOIN '{folder}/events.parquet' s ON e.user_id = s.user_id AND e.event_time >= s.event_time"""
    row = measured(lambda: duckdb.sql(f"COPY ({query}) TO '{folder}/bare.parquet'"), repeat)
    return {**row, "out": f"{folder}/bare.parquet", "column": "price"}


def newest(folder: str, repeat: str) -> Any:
    features = [{"name": "price", "type": "Float64"}]
    row = joined(folder, repeat, features, sql="SELECT * FROM source")
    return {**row, "out": f"{folder}/ours.parquet", "column": "v__price"}


def windows(folder: str, repeat: str) -> Any:
    features = [
        {"name": f, "type": "Int64" if f in {"count", "distinct"} else "Float64",
         "aggregate": {"function": f, "column": "price", "window": f"{TTL_DAYS}d"}}
        for f in FUNCTIONS
    ]  # fmt: skip
    return joined(folder, repeat, features)


def joined(folder: str, repeat: str, features: list[dict[str, Any]], **more: Any) -> Row:
    from tidegate_components.features.compute import join_file, parse_views

    for module in ("duckdb", "pandas", "pyarrow.dataset", "pyarrow.compute"):
        importlib.import_module(module)
    source = {"parquet": {"uri": f"{folder}/events.parquet"}, "eventTimestamp": "event_time"}
    if Path(folder).name == "ties":
        source["createdTimestamp"] = "created"
    spec = {
        "entity": {"name": "user", "joinKeys": [{"name": "user_id", "type": "Int64"}]}, "source": source,
        "features": features, "ttl": f"{TTL_DAYS}d", "offline": {"uri": folder},
        "online": {"redis": {"url": "redis://localhost"}}, "materialization": {"schedule": "0 * * * *"}, **more,
    }  # fmt: skip
    body = {"apiVersion": "tidegate.dev/v1alpha1", "kind": "FeatureView", "metadata": {"name": "v"}, "spec": spec}
    views, out = parse_views(json.dumps([body])), Path(folder) / "ours.parquet"
    return measured(lambda: join_file(Path(folder) / "entities.parquet", "event_time", views, out), repeat)


def feast(folder: str, store: str, repeat: str) -> Any:
    """Runs in an environment of its own."""
    import datetime as dt

    import pandas as pd
    import pyarrow.parquet as pq
    from feast import Entity, FeatureStore, FeatureView, Field, FileSource, RepoConfig, ValueType
    from feast.types import Float64

    repo = Path(folder) / f"feast-{store}"
    repo.mkdir()
    config = RepoConfig(
        project="bench", provider="local", registry=str(repo / "registry.db"), offline_store={"type": store},
        online_store={"type": "sqlite", "path": str(repo / "online.db")}, entity_key_serialization_version=3,
    )  # fmt: skip
    source = FileSource(
        path=f"{folder}/events.parquet", timestamp_field="event_time", created_timestamp_column="created"
    )
    user = Entity(name="user", join_keys=["user_id"], value_type=ValueType.INT64)
    view = FeatureView(
        name="v", entities=[user], ttl=dt.timedelta(days=TTL_DAYS), schema=[Field(name="price", dtype=Float64)],
        source=source, online=False,
    )  # fmt: skip
    features = FeatureStore(config=config)
    features.apply([user, view])
    out = repo / "out.parquet"

    def work() -> None:
        entities = pd.read_parquet(f"{folder}/entities.parquet").rename(columns={"event_time": "event_timestamp"})
        pq.write_table(features.get_historical_features(entities, ["v:price"]).to_arrow(), out)

    return {**measured(work, repeat), "out": str(out), "column": "price"}


CONTENDERS: dict[str, Callable[..., Any]] = {"bare": bare, "newest": newest, "windows": windows, "feast": feast}

if __name__ == "__main__":
    main()
