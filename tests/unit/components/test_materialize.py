"""Materialization into a real Redis and Parquet: what is stored is what the offline store says as of the same time."""

from __future__ import annotations

import random
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import redis
import yaml

from tidegate_api.feature_view import FeatureView
from tidegate_components.features.encoding import from_micros
from tidegate_components.features.errors import BadFeaturesError, OnlineStoreError, SchemaMismatchError
from tidegate_components.features.materialize import catch_up, materialize, next_interval
from tidegate_components.features.online import OnlineStore, open_store
from tidegate_components.features.read import get_features
from unit.components.feature_case import EVENTS, as_of
from unit.components.shop import parsed, view_body

NOW = datetime.now(UTC).replace(microsecond=0)
"""Values must not expire while a test looks at them, so its events are recent."""


def ago(hours: float) -> datetime:
    return NOW - timedelta(hours=hours)


def recent(user: int, hours: float, price: float, known: float | None = None) -> dict[str, Any]:
    naive = {"event_time": ago(hours), "ingested_at": ago(known) if known is not None else None}
    return {"user_id": user, "price": price} | {k: v and v.replace(tzinfo=None) for k, v in naive.items()}


def make_view(folder: Path, events: list[dict[str, Any]], **spec: Any) -> FeatureView:
    """Count, sum and last of a day, of events written to `folder`; its name is its own, so that tests do not meet."""
    import pyarrow as pa

    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(events, EVENTS), folder / "events.parquet")
    features = [
        {"name": f, "type": t, "aggregate": {"function": f, "column": "price", "window": "24h"}}
        for f, t in (("count", "Int64"), ("sum", "Float64"), ("last", "Float64"))
    ]
    body = view_body(f"v-{uuid.uuid4().hex[:8]}", "user_id", features, str(folder / "events.parquet"))
    body["spec"] |= {"offline": {"uri": str(folder / "offline")}, **spec}
    body["spec"]["source"]["createdTimestamp"] = "ingested_at"
    return parsed(body)


def stored(store: OnlineStore, view: FeatureView, *users: int) -> list[dict[str, Any]]:
    return [row["features"] for row in get_features(view, store, [(user,) for user in users])]


@pytest.fixture
def store(redis_url: str) -> OnlineStore:
    return open_store(redis_url)


def test_both_stores_hold_the_values_as_of_the_end(tmp_path: Path, store: OnlineStore) -> None:
    view = make_view(tmp_path, [recent(1, 5, 2), recent(1, 3, 4), recent(2, 30, 1)])
    done = materialize(view, store, NOW)
    assert (done.rows, done.watermark, done.newest_event_time) == (2, NOW, ago(3))
    assert stored(store, view, 1, 2, 9) == [
        {"count": 2, "sum": 6, "last": 4},
        {"count": 0, "sum": None, "last": None},
        {"count": 0, "sum": None, "last": None},
    ]
    (file,) = (tmp_path / "offline").glob("*.parquet")
    assert pq.read_table(file).select(["user_id", "count", "sum"]).to_pylist()[0] == {
        "user_id": 1,
        "count": 2,
        "sum": 6,
    }


def test_a_user_who_stops_falls_to_zero_in_an_incremental_run(tmp_path: Path, store: OnlineStore) -> None:
    view = make_view(tmp_path, [recent(1, 30, 2), recent(2, 9, 5)])
    materialize(view, store, ago(8))
    assert stored(store, view, 1)[0]["count"] == 1
    start, end = next_interval(view, store, NOW)
    done = materialize(view, store, end, start)
    assert done.rows == 1, "only user 1 changed: the event left the window, user 2's is still in it"
    assert stored(store, view, 1)[0]["count"] == 0


def test_rows_without_a_key_or_a_time_are_counted_by_column(tmp_path: Path, store: OnlineStore) -> None:
    whole = recent(1, 5, 2)
    events = [whole, *[whole | {"user_id": None}] * 3, whole | {"event_time": None}]
    done = materialize(make_view(tmp_path, events), store, NOW)
    assert (done.rows, done.left_out) == (1, {"user_id": 3, "event_time": 1})
    assert done.to_json()["leftOut"] == {"user_id": 3, "event_time": 1}


def test_parts_give_what_one_run_gives(tmp_path: Path, store: OnlineStore) -> None:
    events = [recent(user, hours, hours, hours - user) for user in (1, 2, 3) for hours in (50, 31, 26, 13, 7, 4)]
    once, parts = make_view(tmp_path / "a", events), make_view(tmp_path / "b", events)
    materialize(once, store, NOW)
    materialize(parts, store, ago(40))
    for hours in (30, 11, 6, 0):
        start, _ = next_interval(parts, store, ago(hours))
        materialize(parts, store, ago(hours), start)
    assert stored(store, parts, 1, 2, 3) == stored(store, once, 1, 2, 3)


def test_what_is_stored_equals_the_offline_value_as_known(tmp_path: Path, store: OnlineStore) -> None:
    from unit.components.shop import START

    view = make_view(tmp_path, [recent(1, 5, 2), recent(1, 4, 3, -2), recent(2, 5, 9, 1)])
    materialize(view, store, NOW)
    seconds = (NOW - START).total_seconds()
    assert stored(store, view, 1, 2) == as_of(view, (1, seconds), (2, seconds), as_known=True)


def test_an_older_run_never_overwrites_a_newer_value(tmp_path: Path, store: OnlineStore) -> None:
    view = make_view(tmp_path, [recent(1, 5, 2), recent(1, 1, 4)])
    materialize(view, store, NOW)
    back = materialize(view, store, ago(3))
    assert stored(store, view, 1)[0]["count"] == 2
    assert back.watermark == NOW, "the watermark does not go back either"


def test_the_watermark_moves_only_by_compare_and_set(tmp_path: Path, store: OnlineStore) -> None:
    view = make_view(tmp_path, [recent(1, 5, 2)])
    materialize(view, store, ago(2))
    seen = store.watermark(view)
    materialize(view, store, NOW)
    newest = store.watermark(view)
    assert newest is not None
    assert from_micros(newest.micros) == NOW
    assert not store.advance(view, seen, newest), "someone else moved it since `seen`"


def test_a_run_that_leaves_a_gap_stores_values_and_moves_no_watermark(tmp_path: Path, store: OnlineStore) -> None:
    view = make_view(tmp_path, [recent(1, 5, 2), recent(2, 1, 4)])
    done = materialize(view, store, NOW, ago(2))
    assert (done.watermark, store.watermark(view), done.to_json()["watermark"]) == (None, None, None)
    assert "the watermark stays unset" in done.note
    materialize(view, store, ago(4))
    gap = materialize(view, store, NOW, ago(2))
    assert (gap.watermark, gap.rows) == (ago(4), 1)
    assert "stays at" in gap.to_json()["note"]
    assert stored(store, view, 2)[0]["count"] == 1
    whole = materialize(view, store, NOW, ago(5))
    assert (whole.watermark, whole.note, "note" in whole.to_json()) == (NOW, "", False)


def test_a_changed_definition_needs_a_full_run_first(tmp_path: Path, store: OnlineStore) -> None:
    view = make_view(tmp_path, [recent(1, 5, 2)])
    materialize(view, store, ago(1))
    changed = with_features(view, lambda features: [features[0] | {"default": 7}, *features[1:]])
    assert materialize(changed, store, NOW, ago(2)).watermark is None
    assert materialize(changed, store, NOW).watermark == NOW


def test_max_window_bounds_one_run(tmp_path: Path, store: OnlineStore) -> None:
    materialization = {"schedule": "*/15 * * * *", "maxWindow": "1h"}
    view = make_view(tmp_path, [recent(1, 9, 2)], materialization=materialization)
    materialize(view, store, ago(8))
    assert next_interval(view, store, NOW) == (ago(8), ago(7))


def test_after_an_outage_one_run_catches_up_in_steps_of_max_window(tmp_path: Path, store: OnlineStore) -> None:
    materialization = {"schedule": "*/15 * * * *", "maxWindow": "3h"}
    view = make_view(tmp_path, [recent(1, 30, 2), recent(1, 9, 2)], materialization=materialization)
    materialize(view, store, ago(8))
    told: list[datetime] = []
    done = catch_up(view, store, NOW, lambda step: told.append(step.end))
    assert (told, done.watermark) == ([ago(5), ago(2)], NOW)
    assert stored(store, view, 1)[0]["count"] == 1


@pytest.mark.xdist_group("spark")  # one JVM for all
def test_spark_writes_what_duckdb_writes(tmp_path: Path, store: OnlineStore) -> None:
    events = [recent(user, hours, hours, hours - user) for user in (1, 2, 3) for hours in (31, 26, 13, 4)]
    found = []
    for engine in ("duckdb", "spark"):
        materialization = {"schedule": "*/15 * * * *", "engine": engine}
        view = make_view(tmp_path / engine, events, materialization=materialization)
        done = materialize(view, store, NOW)
        found.append((done.rows, done.quality, stored(store, view, 1, 2, 3)))
    assert found[0] == found[1]


def test_killed_at_any_moment_and_run_again_it_writes_what_an_unbroken_run_writes(
    tmp_path: Path, redis_url: str, store: OnlineStore
) -> None:
    moments = random.Random(3)
    view = make_view(tmp_path, [recent(user, 5, user) for user in range(60_000)])
    (tmp_path / "view.yaml").write_text(yaml.safe_dump(view.to_dict()))
    command = [sys.executable, "-c", "from tidegate_pipelines.cli import main; main()", "features", "materialize"]
    command += [str(tmp_path / "view.yaml"), "--online", redis_url, "--to", NOW.isoformat()]
    client = redis.Redis.from_url(redis_url)
    for _ in range(3):
        client.flushdb()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        goal = moments.randrange(1, 20_000)
        while process.poll() is None and client.dbsize() < goal:
            time.sleep(0.001)
        assert process.poll() is None, "it ended before it could be killed"
        process.kill()
        process.wait(30)
        assert store.watermark(view) is None, "the watermark comes last"
    assert subprocess.run(command, check=True, stdout=subprocess.DEVNULL).returncode == 0
    assert from_micros(store.watermark(view).micros) == NOW  # type: ignore[union-attr]
    users = list(range(0, 60_000, 777))
    assert [row["sum"] for row in stored(store, view, *users)] == users
    (file,) = (tmp_path / "offline").glob("*")
    assert pq.read_table(file).num_rows == 60_000


def test_values_expire_with_the_ttl(tmp_path: Path, redis_url: str, store: OnlineStore) -> None:
    view = make_view(tmp_path, [recent(1, 5, 2)], ttl="30d")
    materialize(view, store, NOW)
    expires = redis.Redis.from_url(redis_url).pexpiretime(f"tidegate:{view.metadata.name}:1")
    assert expires == int((NOW + timedelta(days=30)).timestamp() * 1000) + 1


def with_features(view: FeatureView, change: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]) -> FeatureView:
    body = view.to_dict()
    body["spec"]["features"] = change(body["spec"]["features"])
    return parsed(body)


def test_a_reader_of_fewer_or_moved_features_takes_what_it_knows(tmp_path: Path, store: OnlineStore) -> None:
    view = make_view(tmp_path, [recent(1, 5, 2)])
    materialize(view, store, NOW)
    reader = with_features(view, lambda features: [features[2], features[0]])
    assert stored(store, reader, 1, 9) == [{"last": 2, "count": 1}, {"last": None, "count": 0}]


@pytest.mark.parametrize("change", [{"name": "other"}, {"type": "String"}])
def test_a_value_that_lacks_a_feature_of_the_reader_is_never_decoded(
    tmp_path: Path, store: OnlineStore, change: dict[str, Any]
) -> None:
    view = make_view(tmp_path, [recent(1, 5, 2)])
    materialize(view, store, NOW)
    reader = with_features(view, lambda features: [features[0] | change, *features[1:]])
    with pytest.raises(SchemaMismatchError, match="materialize the view again"):
        stored(store, reader, 1)


def test_a_cluster_is_written_and_read_in_one_go(tmp_path: Path, redis_cluster_url: str) -> None:
    store = open_store(redis_cluster_url)
    view = make_view(tmp_path, [recent(user, 5, user) for user in range(500)])
    materialize(view, store, NOW)
    materialize(view, store, NOW)
    assert [row["sum"] for row in stored(store, view, *range(500))] == list(range(500))


def test_a_store_that_does_not_answer_is_named(tmp_path: Path) -> None:
    with pytest.raises(OnlineStoreError, match=r"redis url is 'redis://127.0.0.1:1/0'.*check the url"):
        open_store("redis://127.0.0.1:1/0")


def test_an_interval_that_runs_backwards_is_refused(tmp_path: Path, store: OnlineStore) -> None:
    with pytest.raises(BadFeaturesError, match="expected from before to"):
        materialize(make_view(tmp_path, [recent(1, 5, 2)]), store, ago(5), NOW)
