"""Rates of ingest and sample join next to a peer, on this machine: `python benchmarks/events.py [--events N]`.

Ingest: a real broker; peer is a plain confluent-kafka loop with json.loads and pyarrow, without any commit.
Join: files to file; peer is polars' left join of the same files (without repeated rows, which it would multiply).
Every contender runs in a process of its own, so that CPU and memory are its own. The producer is done before.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from kafka_broker import Broker, broker

START = 1_763_712_000_000


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--events", type=int, default=2_000_000)
    arguments.add_argument("--impressions", type=int, default=5_000_000)
    arguments.add_argument("--contender", nargs="*", help=argparse.SUPPRESS)
    given = arguments.parse_args()
    if given.contender:
        print(json.dumps(CONTENDERS[given.contender[0]](*given.contender[1:])))
        return
    with tempfile.TemporaryDirectory() as folder:
        show("ingest from Kafka, 10 partitions", given.events, ingest(Path(folder), given.events))
        show("sample join, Parquet to Parquet", given.impressions, join(Path(folder), given.impressions))


def show(title: str, events: int, rows: dict[str, dict[str, float]]) -> None:
    print(f"\n{title}, {events:,} events, load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    print(f"{'':<34}{'events/s':>12}{'CPU s/M':>10}{'broker s/M':>12}{'peak GB':>10}")
    for name, row in rows.items():
        cpu, broker_cpu = (row[key] / events * 1e6 for key in ("cpu", "broker"))
        print(f"{name:<34}{events / row['seconds']:>12,.0f}{cpu:>10.2f}{broker_cpu:>12.2f}{row['memory']:>10.2f}")


def contend(name: str, *arguments: str) -> dict[str, float]:
    command = [sys.executable, __file__, "--contender", name, *arguments]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    answer: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return answer


def measured(work: Callable[[], object]) -> dict[str, float]:
    """Seconds, CPU and memory of the work; what it imports was imported before."""
    before, start = time.process_time(), time.monotonic()
    work()
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    return {"seconds": time.monotonic() - start, "cpu": time.process_time() - before, "memory": memory, "broker": 0.0}


def ingest(folder: Path, events: int) -> dict[str, dict[str, float]]:
    rows = {}
    with broker(folder) as running:
        running.create("events", 10)
        produce(running, events)
        for name, contender in {
            "tidegate events ingest": "tidegate",
            "confluent-kafka, json, pyarrow": "plain",
        }.items():
            before = running.cpu_seconds()
            rows[name] = contend(contender, running.address, str(folder / contender), str(events))
            rows[name]["broker"] = running.cpu_seconds() - before
    return rows


def produce(running: Broker, events: int) -> None:
    from confluent_kafka import Producer

    settings = {"bootstrap.servers": running.address, "linger.ms": 50, "batch.size": 1 << 20, "compression.type": "lz4"}
    producer = Producer({**settings, "queue.buffering.max.messages": 500_000})
    for number, event in enumerate(made(events)):
        while True:
            try:
                producer.produce("events", json.dumps(event), key=str(number // 10))
                break
            except BufferError:
                producer.poll(0.1)
    producer.flush()


def made(events: int) -> Iterator[dict[str, Any]]:
    draw = random.Random(1)
    for n in range(events):
        common = {"item_id": draw.randrange(100_000), "user_id": draw.randrange(1_000_000), "event_time": START + n}
        if n % 25:
            position = n % 10
            yield {
                "type": "impression",
                "event_id": f"e{n}",
                "request_id": f"r{n // 10}",
                **common,
                "position": position,
            }
        else:
            yield {"type": "click", "click_id": f"c{n}", "request_id": f"r{n // 10}", **common}


def tidegate(address: str, folder: str, events: str) -> dict[str, float]:
    from tidegate_components.events.decode import Decoder
    from tidegate_components.events.kafka import parse_address
    from tidegate_components.events.land_stream import land_kafka

    warm_up()
    Decoder()
    landed: list[int] = []
    row = measured(lambda: landed.append(land_kafka(parse_address(f"kafka://{address}/events"), Path(folder)).messages))
    assert landed == [int(events)]
    return row


def plain(address: str, folder: str, events: str) -> dict[str, float]:
    warm_up()
    return measured(lambda: plain_loop(address, Path(folder), int(events)))


def plain_loop(address: str, folder: Path, events: int) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq
    from confluent_kafka import Consumer

    folder.mkdir()
    consumer = Consumer({"bootstrap.servers": address, "group.id": "plain", "auto.offset.reset": "earliest"})
    consumer.subscribe(["events"])
    seen, rows = 0, []
    while seen < events:
        messages = consumer.consume(10_000, 1.0)
        seen += len(messages)
        rows += [json.loads(message.value()) for message in messages]
        if len(rows) >= 250_000 or seen == events:
            for kind in ("impression", "click"):
                table = pa.Table.from_pylist([row for row in rows if row["type"] == kind])
                pq.write_table(table, folder / f"{kind}-{seen}.parquet", compression="zstd")
            rows = []
    consumer.close()


def warm_up() -> None:
    import confluent_kafka
    import pyarrow.compute
    import pyarrow.parquet

    assert confluent_kafka
    assert pyarrow.compute


def join(folder: Path, impressions: int) -> dict[str, dict[str, float]]:
    import duckdb

    moment = f"make_timestamptz({START}000 + n * 1000)"
    request, click = "'r' || n // 10 AS request_id", "'c' || n AS click_id"
    queries = {
        "impressions": f"""{request}, n AS item_id, n % 100000 AS user_id, {moment} AS event_time
            FROM range({impressions})""",
        "clicks": f"{click}, {request}, n AS item_id, {moment} AS event_time FROM range(0, {impressions}, 25)",
        "conversions": f"""'o' || n AS order_id, {click}, n AS item_id, 1.5 AS amount,
            {moment} + INTERVAL 1 HOUR AS event_time FROM range(0, {impressions}, 125)""",
    }
    duckdb.execute("SET TimeZone = 'UTC'")
    for name, query in queries.items():
        duckdb.sql(f"COPY (SELECT {query} t(n) ORDER BY hash(n)) TO '{folder / name}.parquet'")
    return {"tidegate events join": contend("joined", str(folder)), **peers(folder)}


def peers(folder: Path) -> dict[str, dict[str, float]]:
    try:
        import polars
    except ImportError:
        return {"DuckDB, bare left joins": contend("bare", str(folder))}
    assert polars
    return {"polars, bare left joins": contend("polars", str(folder))}


def joined(folder: str) -> dict[str, float]:
    from tidegate_components.events.join import join_events

    warm_up()
    tables = {name: f"{folder}/{name}.parquet" for name in ("impressions", "clicks", "conversions")}
    return measured(lambda: join_events(tables, Path(folder) / "samples.parquet"))


def bare(folder: str) -> dict[str, float]:
    """No repeated rows, no clock skew, no counts, no order: what the joins alone cost."""
    import duckdb

    query = f"""SELECT i.*, c.click_id IS NOT NULL AS label, v.amount FROM '{folder}/impressions.parquet' i
        LEFT JOIN '{folder}/clicks.parquet' c ON c.request_id = i.request_id AND c.item_id = i.item_id
        LEFT JOIN '{folder}/conversions.parquet' v ON v.click_id = c.click_id"""
    return measured(lambda: duckdb.sql(f"COPY ({query}) TO '{folder}/bare.parquet' (COMPRESSION zstd)"))


def by_polars(folder: str) -> dict[str, float]:
    import polars as pl

    def work() -> None:
        shown, clicked, bought = (
            pl.scan_parquet(f"{folder}/{n}.parquet") for n in ("impressions", "clicks", "conversions")
        )
        both = shown.join(clicked, on=["request_id", "item_id"], how="left")
        both.join(bought, on="click_id", how="left").collect().write_parquet(f"{folder}/polars.parquet")

    return measured(work)


CONTENDERS: dict[str, Callable[..., dict[str, float]]] = {
    "tidegate": tidegate, "plain": plain, "joined": joined, "bare": bare, "polars": by_polars,
}  # fmt: skip

if __name__ == "__main__":
    main()
