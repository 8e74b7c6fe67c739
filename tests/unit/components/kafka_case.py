"""Events for Kafka tests: made by number, so that what should land is known without reading it back."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import duckdb
from confluent_kafka import Producer

from tidegate_components.events.landing import landed_files

START = 1_763_712_000_000


def impression(number: int) -> dict[str, Any]:
    return {
        "type": "impression", "event_id": f"e{number}", "request_id": f"r{number // 10}", "item_id": number % 10,
        "user_id": number % 997, "event_time": START + number * 1000, "position": number % 10,
    }  # fmt: skip


def produce(address: str, topic: str, messages: Iterable[dict[str, Any] | bytes]) -> None:
    producer = Producer({"bootstrap.servers": address, "linger.ms": 20, "queue.buffering.max.messages": 1_000_000})
    for message in messages:
        producer.produce(topic, message if isinstance(message, bytes) else json.dumps(message))
        producer.poll(0)
    assert producer.flush(60) == 0


def landed(folder: Path, table: str, columns: str = "*") -> list[tuple[Any, ...]]:
    """The rows that the landing's commits list, in an order of their own."""
    files = [str(path) for path in landed_files(folder, table) or []]
    with duckdb.connect() as db:
        return db.execute(f"SELECT {columns} FROM read_parquet(?) ORDER BY ALL", [files]).fetchall() if files else []
