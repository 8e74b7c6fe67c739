"""A real broker and a real Redis: what is stored is what the batch path says as of the same time, and it is on time."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from confluent_kafka import Producer

from kafka_broker import Broker
from processes import free_port
from tidegate_api.feature_view import FeatureView
from tidegate_components.features.online import OnlineStore, open_store
from unit.components.stream_case import message, offline, row, same, streamed, twin, write_rows

pytestmark = pytest.mark.xdist_group("kafka")

COMMAND = [sys.executable, "-c", "from tidegate_pipelines.cli import main; main()", "features", "stream"]
PATIENCE = 90.0


@pytest.fixture
def store(redis_url: str) -> OnlineStore:
    return open_store(redis_url)


class Shop:
    """Produces events of now, keyed by user, and remembers them as the batch path would read them."""

    def __init__(self, servers: str, topic: str, settings: dict[str, Any] | None = None) -> None:
        self.topic, self.rows = topic, list[dict[str, Any]]()
        self.producer = Producer({"bootstrap.servers": servers, "linger.ms": 0, **(settings or {})})
        if settings:
            self.producer.init_transactions(60)

    def send(self, user: int, price: float | None = 1.0, kind: str = "click", age_ms: int = 0) -> None:
        now = time.time_ns() // 1_000_000
        self.rows.append(row(user, now - age_ms, now, price, kind))
        one = message(self.rows[-1])
        self.producer.produce(self.topic, one.value, key=one.key, timestamp=one.timestamp)
        self.producer.poll(0)

    def raw(self, key: str, *values: bytes | None) -> None:
        for value in values:
            self.producer.produce(self.topic, value, key=key)
        self.flush()

    def flush(self) -> None:
        assert self.producer.flush(30) == 0


def write_view(folder: Path, view: FeatureView) -> Path:
    body = {"apiVersion": "tidegate.dev/v1alpha1", **view.to_dict()}
    body.pop("status", None)
    (folder / "view.yaml").write_text(yaml.safe_dump(body))
    return folder / "view.yaml"


def start(folder: Path, view: FeatureView, url: str, *more: str) -> subprocess.Popen[str]:
    options = [str(write_view(folder, view)), "--online", url, "--state", str(folder / "state"), "--json", *more]
    compiled = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    with (folder / "log").open("a") as log:
        return subprocess.Popen([*COMMAND, *options], stdout=subprocess.PIPE, stderr=log, text=True, env=compiled)


@contextmanager
def streaming(folder: Path, view: FeatureView, url: str, *more: str) -> Iterator[subprocess.Popen[str]]:
    process = start(folder, view, url, *more)
    try:
        yield process
    except AssertionError:
        print(process.poll(), (folder / "log").read_text())
        raise
    finally:
        process.kill()
        process.communicate(timeout=30)


def finished(folder: Path, view: FeatureView, url: str) -> dict[str, Any]:
    """Run until idle; the last line of progress."""
    process = start(folder, view, url, "--until-idle", "2s")
    out, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, (folder / "log").read_text()
    progress: dict[str, Any] = json.loads(out.splitlines()[-1])
    return progress


def until(is_so: Callable[[], bool], seconds: float = PATIENCE) -> float:
    """Wait for a condition; how long it took."""
    begin = time.monotonic()
    while not is_so():
        assert time.monotonic() - begin < seconds, "not in time"
        time.sleep(0.01)
    return time.monotonic() - begin


def stored(store: OnlineStore, view: FeatureView, user: int) -> tuple[int, dict[str, Any]] | None:
    """As-of time and features by name."""
    ((found,),) = store.read([(view, [(user,)])])
    names = [feature.name for feature in view.spec.features]
    return None if found is None else (found.as_of, dict(zip(names, found.values, strict=True)))


def counted(store: OnlineStore, view: FeatureView, user: int, feature: str) -> int:
    found = stored(store, view, user)
    return int(found[1][feature]) if found else 0


def assert_as_offline(store: OnlineStore, view: FeatureView, users: Sequence[int], shop: Shop, folder: Path) -> None:
    """Every stored value equals the batch path's, as known at the as-of time that it carries."""
    write_rows(folder / "events", shop.rows)
    found = {user: value for user in users if (value := stored(store, view, user)) is not None}
    assert set(found) == set(users)
    expected = offline(twin(view, folder / "events"), [(user, found[user][0]) for user in users])
    for user, values in zip(users, expected, strict=True):
        assert same(found[user][1], values), (user, found[user], values)


def test_an_event_is_in_redis_within_two_seconds_as_the_batch_path_has_it(
    kafka: Broker, store: OnlineStore, redis_url: str, tmp_path: Path
) -> None:
    kafka.create("timely", 2)
    view, shop = streamed("timely", ("1h", "3h"), kafka.address, "timely"), Shop(kafka.address, "timely")
    with streaming(tmp_path, view, redis_url):
        shop.send(0)
        until(lambda: counted(store, view, 0, "count_1h") == 1)
        took = []
        for turn in range(1, 4):
            for user in range(1, 6):
                shop.send(user, float(user), random.choice(("click", "buy")))
            shop.send(6, 2.0, age_ms=4_000_000)
            shop.flush()
            took.append(until(lambda turn=turn: counted(store, view, 5, "count_1h") == turn))  # type: ignore[misc]
            took.append(until(lambda turn=turn: counted(store, view, 6, "count_3h") == turn))  # type: ignore[misc]
            assert_as_offline(store, view, range(6), shop, tmp_path)
        assert min(took[::2]) < 2, "but for a machine that is busy: benchmarks/features_stream.py tells the whole story"
        assert min(took[1::2]) < 2
        assert counted(store, view, 6, "count_1h") == 0, "an event that comes late counts in the windows it belongs to"


def test_values_fall_when_events_leave_the_window_without_any_new_event(
    kafka: Broker, store: OnlineStore, redis_url: str, tmp_path: Path
) -> None:
    kafka.create("falling", 1)
    view, shop = streamed("falling", ("2s", "1h"), kafka.address, "falling"), Shop(kafka.address, "falling")
    with streaming(tmp_path, view, redis_url):
        shop.send(1)
        until(lambda: counted(store, view, 1, "count_1h") == 1)
        shop.send(1)
        until(lambda: counted(store, view, 1, "count_2s") == 1)
        until(lambda: counted(store, view, 1, "count_2s") == 0, 4)
        assert counted(store, view, 1, "count_1h") == 2
        assert_as_offline(store, view, [1], shop, tmp_path)


def test_killed_again_and_again_every_event_counts_once(
    kafka: Broker, store: OnlineStore, redis_url: str, tmp_path: Path
) -> None:
    kafka.create("killed-stream", 2)
    view = streamed("killed", ("1h", "3h"), kafka.address, "killed-stream")
    shop, moments = Shop(kafka.address, "killed-stream"), random.Random(3)
    users = range(10)
    for kill in range(4):
        with streaming(tmp_path, view, redis_url) as process:
            goal = counted(store, view, 0, "count_1h") + moments.randrange(2, 8)
            while counted(store, view, 0, "count_1h") < goal:
                for user in users:
                    shop.send(user, float(moments.randrange(5)))
                assert process.poll() is None, (tmp_path / "log").read_text()
                time.sleep(moments.random() * 0.1)
            process.send_signal(signal.SIGKILL)
            process.wait(30)
        if kill == 1:
            _lose(tmp_path / "state")
    shop.flush()
    finished(tmp_path, view, redis_url)
    each = len(shop.rows) // len(users)
    assert [counted(store, view, user, "count_1h") for user in users] == [each] * len(users)
    assert_as_offline(store, view, users, shop, tmp_path)


def _lose(folder: Path) -> None:
    """The disk is gone: the state comes back from the changelog."""
    for path in sorted(folder.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()


def test_events_of_a_transaction_count_once_it_is_committed(
    kafka: Broker, store: OnlineStore, redis_url: str, tmp_path: Path
) -> None:
    kafka.create("transacted", 1)
    view = streamed("transacted", ("1h",), kafka.address, "transacted")
    shop = Shop(kafka.address, "transacted", {"transactional.id": "shop"})
    with streaming(tmp_path, view, redis_url):
        for number, end in enumerate((shop.producer.commit_transaction, shop.producer.abort_transaction) * 2):
            shop.producer.begin_transaction()
            shop.send(1)
            shop.flush()
            end(30)
            if end == shop.producer.abort_transaction:
                shop.rows.pop()
            until(lambda number=number: counted(store, view, 1, "count_1h") == number // 2 + 1)  # type: ignore[misc]
        before = store.watermark(view)
        until(lambda: store.watermark(view) != before)
        assert_as_offline(store, view, [1], shop, tmp_path)


def test_broken_messages_are_counted_by_reason_and_the_rest_goes_on(
    kafka: Broker, store: OnlineStore, redis_url: str, tmp_path: Path
) -> None:
    kafka.create("broken", 2)
    view, shop = streamed("broken", ("1h",), kafka.address, "broken"), Shop(kafka.address, "broken")
    shop.send(1)
    good = {"user_id": 1, "event_time": "2026-01-01T00:00:00Z", "kind": "view"}
    wrong: list[Any] = [{**good, "user_id": "x"}, {**good, "event_time": "soon"}, {**good, "price": "dear"}, [1]]
    wrong += [{key: good[key] for key in good if key != "user_id"}]
    shop.raw("1", b"{", b"\xff", None, *(json.dumps(body).encode() for body in wrong), json.dumps(good).encode())
    shop.raw("2", json.dumps(good).encode())
    shop.send(1)
    shop.flush()
    progress = finished(tmp_path, view, redis_url)
    assert progress["broken"] == {
        "not JSON": 1, "not UTF-8": 1, "empty message": 1, "user_id is no Int64": 1, "event_time is no Timestamp": 1,
        "price is no Float64": 1, "not a JSON object": 1, "no user_id": 1, "not keyed by user_id": 1,
    }  # fmt: skip
    assert (progress["messages"], progress["events"]) == (12, 2)
    assert "partition" in (tmp_path / "log").read_text()
    assert counted(store, view, 1, "count_1h") == 2


def test_it_stops_on_sigterm_tells_metrics_and_moves_the_watermark(
    kafka: Broker, store: OnlineStore, redis_url: str, tmp_path: Path
) -> None:
    kafka.create("told", 1)
    view, shop, port = streamed("told", ("1h",), kafka.address, "told"), Shop(kafka.address, "told"), free_port()
    with streaming(tmp_path, view, redis_url, "--metrics-port", str(port)) as process:
        shop.send(1)
        until(lambda: store.watermark(view) is not None)
        until(lambda: counted(store, view, 1, "count_1h") == 1)
        before = store.watermark(view)
        until(lambda: store.watermark(view) != before)
        metrics = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5).read().decode()
        assert 'tidegate_feature_stream_events_total{view="told"} 1.0' in metrics
        assert "tidegate_feature_stream_lag_seconds" in metrics
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=30)
        assert process.returncode == 0
        assert json.loads(out.splitlines()[-1])["events"] == 1


def test_a_topic_that_is_not_there_or_keyed_otherwise_is_refused(kafka: Broker, redis_url: str, tmp_path: Path) -> None:
    kafka.create("other-keys", 2)
    shop = Shop(kafka.address, "other-keys")
    event = {"user_id": 1, "event_time": "2026-01-01T00:00:00Z", "kind": "click"}
    shop.raw("r1", *[json.dumps(event).encode()] * 120)
    for topic, sentence in (("nowhere", "create the topic"), ("other-keys", "none keyed by user_id")):
        process = start(tmp_path, streamed("refused", ("1h",), kafka.address, topic), redis_url)
        process.communicate(timeout=PATIENCE)
        assert process.returncode == 2
        assert sentence in (tmp_path / "log").read_text()
