"""A real broker: whatever is killed when, every event lands exactly once."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from kafka_broker import Broker
from tidegate_components.events.kafka import KafkaError, Limits, parse_address
from tidegate_components.events.land_stream import Landed, land_kafka
from unit.components.kafka_case import impression, landed, produce

pytestmark = pytest.mark.xdist_group("kafka")


def test_every_kind_lands_in_its_table_by_date_and_the_rest_in_quarantine(kafka: Broker, tmp_path: Path) -> None:
    kafka.create("kinds", 2)
    common = {"user_id": 1, "item_id": 2, "event_time": "2026-01-31T23:59:59Z"}
    messages = [
        {"type": "impression", "request_id": "r", **common, "context": {"slot": "top"}},
        {"type": "click", "click_id": "c", "request_id": "r", **common, "event_time": "2026-02-01T00:00:01Z"},
        {"type": "add_to_cart", "click_id": "c", **common},
        {"type": "purchase", "order_id": "o", "click_id": "c", "amount": 9.5, **common},
        {"type": "feature_log", "request_id": "r", "event_time": "2026-01-31", "features": {"clicks_7d": 3}},
        {"type": "refund"},
    ]
    produce(kafka.address, "kinds", messages)
    report = _land(kafka, "kinds", tmp_path)
    assert report.rows == {"impressions": 1, "clicks": 1, "carts": 1, "purchases": 1, "feature_log": 1}
    assert report.quarantined == {"unknown type": 1}
    assert landed(tmp_path, "impressions", "request_id, context") == [("r", '{"slot":"top"}')]
    assert [path.parent.name for path in tmp_path.glob("clicks/*/*.parquet")] == ["date=2026-02-01"]
    assert landed(tmp_path, "quarantine", "message") == [(b'{"type": "refund"}',)]


def test_killed_at_random_moments_every_event_is_there_once(kafka: Broker, tmp_path: Path) -> None:
    kafka.create("killed", 3)
    events = 24_000
    produce(kafka.address, "killed", (impression(number) for number in range(events)))
    lake, moments, kills = tmp_path / "lake", random.Random(7), 0
    for _ in range(40):
        if not _killed_after(_ingest(kafka, "killed", lake), lake, moments):
            break
        kills += 1
    assert kills >= 4
    assert _land(kafka, "killed", lake).messages == 0
    assert landed(lake, "impressions", "event_id") == sorted((f"e{number}",) for number in range(events))
    assert len(set(landed(lake, "impressions", "source_partition, source_offset"))) == events


def test_following_goes_on_until_it_is_asked_to_stop(kafka: Broker, tmp_path: Path) -> None:
    kafka.create("followed", 1)
    seen = threading.Event()
    reports: list[Landed] = []
    stop = threading.Event()

    def told(landed: Landed) -> None:
        reports.append(landed)
        seen.set()

    def follow() -> None:
        address = parse_address(f"kafka://{kafka.address}/followed")
        land_kafka(address, tmp_path, follow=True, stop=stop.is_set, told=told, limits=Limits(seconds=0.2))

    thread = threading.Thread(target=follow)
    thread.start()
    try:
        for number in range(2):
            seen.clear()
            produce(kafka.address, "followed", [impression(number)])
            assert seen.wait(60)
    finally:
        stop.set()
        thread.join(60)
    assert reports[-1].rows == {"impressions": 2}


def test_uncommitted_messages_of_a_transaction_do_not_land(kafka: Broker, tmp_path: Path) -> None:
    from confluent_kafka import Producer

    kafka.create("transactions", 1)
    producer = Producer({"bootstrap.servers": kafka.address, "transactional.id": "shop"})
    producer.init_transactions(60)
    for number, end in enumerate((producer.abort_transaction, producer.commit_transaction)):
        producer.begin_transaction()
        producer.produce("transactions", json.dumps(impression(number)))
        producer.flush(60)
        end(60)
    assert _land(kafka, "transactions", tmp_path).messages == 1
    assert landed(tmp_path, "impressions", "event_id") == [("e1",)]


def test_a_topic_made_anew_is_refused(kafka: Broker, tmp_path: Path) -> None:
    kafka.create("anew", 1)
    produce(kafka.address, "anew", map(impression, range(5)))
    _land(kafka, "anew", tmp_path)
    log = tmp_path / "_log" / "0000000001.json"
    log.write_text(log.read_text().replace('"anew/0": 5', '"anew/0": 50'))
    with pytest.raises(KafkaError, match=r"topic anew: partition 0 is 'landed up to 50, but the topic holds 0 to 5'"):
        _land(kafka, "anew", tmp_path)


def test_an_unknown_topic_and_a_broker_that_is_away_are_told_apart(kafka: Broker, tmp_path: Path) -> None:
    assert _ended(_ingest(kafka, "unknown", tmp_path)) == 2
    with pytest.raises(KafkaError, match="topic is 'nowhere"):
        _land(kafka, "nowhere", tmp_path)


def _land(kafka: Broker, topic: str, into: Path) -> Landed:
    return land_kafka(parse_address(f"kafka://{kafka.address}/{topic}"), into)


def _ingest(kafka: Broker, topic: str, into: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", "from tidegate_pipelines.cli import main; main()", "events", "ingest"]
    command += ["--from", f"kafka://{kafka.address}/{topic}", "--to", str(into), "--batch-rows", "2000"]
    compiled = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    compiled.setdefault("PYTHONPYCACHEPREFIX", str(into.parent / "compiled"))  # the next start is ten times faster
    return subprocess.Popen(command, env=compiled, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _killed_after(process: subprocess.Popen[bytes], into: Path, moments: random.Random) -> bool:
    """Kill the process once a random number of files has come or gone since it began; False where it ended before."""
    goal = moments.randrange(1, 8)
    seen, changes = _names(into), 0
    while changes < goal:
        if process.poll() is not None:
            assert process.returncode == 0
            return False
        now = _names(into)
        changes, seen = changes + (now != seen), now
        time.sleep(moments.random() * 0.003)
    os.kill(process.pid, signal.SIGKILL)
    process.wait(30)
    return True


def _names(folder: Path) -> set[str]:
    return {str(path) for path in folder.rglob("*")}


def _ended(process: subprocess.Popen[bytes]) -> int:
    return process.wait(120)
