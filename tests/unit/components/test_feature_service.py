"""What a service is given is what the store holds, and what it logs replays without a difference."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tidegate_api.feature_view import FeatureView
from tidegate_components.features.encoding import entity_of, key_of
from tidegate_components.features.errors import BadFeaturesError
from tidegate_components.features.materialize import materialize
from tidegate_components.features.online import OnlineStore, open_store
from tidegate_components.features.read import get_features, parse_key
from tidegate_components.features.replay import replay
from tidegate_components.features.serving import FeatureService, KafkaLog, ParquetLog
from unit.components.shop import parsed
from unit.components.test_materialize import NOW, ago, make_view, recent

ASKED = NOW + timedelta(minutes=10)


@pytest.fixture
def store(redis_url: str) -> OnlineStore:
    return open_store(redis_url)


@pytest.fixture
def views(tmp_path: Path, store: OnlineStore) -> list[FeatureView]:
    """Of users, materialized before the newest event; and of items, some minutes later."""
    users = make_view(tmp_path / "users", [recent(1, 5, 2), recent(2, 4, 3), recent(3, 1, 9, 1)])
    body = make_view(tmp_path / "items", [recent(7, 5, 2), recent(8, 4, 3)]).to_dict()
    body["spec"]["entity"] = {"name": "item", "joinKeys": [{"name": "item_id", "type": "Int64"}]}
    events = pq.read_table(tmp_path / "items" / "events.parquet").rename_columns({"user_id": "item_id"})
    pq.write_table(events, tmp_path / "items" / "events.parquet")
    items = parsed(body)
    materialize(users, store, ago(2))
    materialize(items, store, NOW)
    return [users, items]


def ask(service: FeatureService) -> list[dict[str, Any]]:
    """One user and three items, then a user that became known after the watermark, and one that nobody knows."""
    found = service.read("r1", [{"user_id": 1, "item_id": item} for item in (7, 8, 9)])
    service.read("r2", [{"user_id": 3, "item_id": 7}])
    service.read("r3", [{"user_id": 99, "item_id": 99}])
    return found


def at_asked() -> datetime:
    return ASKED


def test_each_row_has_a_column_per_feature_and_defaults_where_nothing_is_stored(
    views: list[FeatureView], store: OnlineStore
) -> None:
    users, items = (view.metadata.name for view in views)
    found = ask(FeatureService(views, store))
    assert [row[f"{items}__count"] for row in found] == [1, 1, 0]
    assert [row[f"{users}__sum"] for row in found] == [2.0, 2.0, 2.0]
    assert found[2][f"{items}__sum"] is None


def test_what_is_logged_replays_without_a_difference(
    tmp_path: Path, views: list[FeatureView], store: OnlineStore
) -> None:
    log = ParquetLog(tmp_path / "log", views)
    ask(FeatureService(views, store, log, at_asked))
    log.close()
    for found in replay(str(tmp_path / "log"), views):
        assert found.rows == 5
        assert [feature.unequal for feature in found.features] == [0, 0, 0]
    users, items = replay(str(tmp_path / "log"), views)
    assert (users.unstored, items.unstored) == (2, 2)
    assert users.staleness["max"] == timedelta(hours=2, minutes=10).total_seconds()


class Sent:
    """The part of a Kafka producer that a log uses."""

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []

    def produce(self, topic: str, value: str, key: str) -> None:
        self.messages.append(json.loads(value))

    def poll(self, seconds: float) -> None:
        pass

    def flush(self) -> None:
        pass


def test_the_event_log_replays_as_the_file_does(tmp_path: Path, views: list[FeatureView], store: OnlineStore) -> None:
    sent = Sent()
    log = KafkaLog(sent, "events")
    ask(FeatureService(views, store, log, at_asked))
    log.close()
    assert {message["type"] for message in sent.messages} == {"feature_log"}
    rows = [message | {"features": json.dumps(message["features"])} for message in sent.messages]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "landed.parquet")
    for found in replay(str(tmp_path / "landed.parquet"), views):
        assert found.rows == 5
        assert [feature.unequal for feature in found.features] == [0, 0, 0]


def test_a_wrong_definition_in_serving_is_found_in_its_feature(
    tmp_path: Path, views: list[FeatureView], store: OnlineStore
) -> None:
    """The seeded bug: the definition says the mean, what is stored was the sum of two prices."""
    materialize(make := make_view(tmp_path / "bug", [recent(1, 5, 2), recent(1, 4, 6)]), store, NOW)
    log = ParquetLog(tmp_path / "log", [make])
    FeatureService([make], store, log, at_asked).read("r", [{"user_id": 1}])
    log.close()
    body = make.to_dict()
    body["spec"]["features"][1]["aggregate"]["function"] = "mean"
    (found,) = replay(str(tmp_path / "log"), [parsed(body)])
    assert [(feature.feature, feature.unequal) for feature in found.features] == [("count", 0), ("sum", 1), ("last", 0)]


@pytest.mark.parametrize("nobody", [None, float("nan")])
def test_a_null_is_nobody_s_key_as_offline(
    tmp_path: Path, views: list[FeatureView], store: OnlineStore, nobody: Any
) -> None:
    users, items = (view.metadata.name for view in views)
    log = ParquetLog(tmp_path / "log", views)
    (found,) = FeatureService(views, store, log, at_asked).read("r", [{"user_id": nobody, "item_id": 7}])
    log.close()
    assert (found[f"{users}__count"], found[f"{items}__count"]) == (0, 1)
    for replayed in replay(str(tmp_path / "log"), views):
        assert [feature.unequal for feature in replayed.features] == [0, 0, 0]


def test_the_text_none_is_somebody_s_key(tmp_path: Path) -> None:
    view = keyed(tmp_path, "String")
    assert len({key_of(view, (key,)) for key in (None, "None", "nan", "*", "")}) == 5


@pytest.mark.parametrize("key", ["abc", 1.5, b"1"])
def test_a_key_of_another_type_is_refused_before_anything_is_logged(
    views: list[FeatureView], store: OnlineStore, key: Any
) -> None:
    with pytest.raises(BadFeaturesError, match=r"key user_id is .*, expected a value of type Int64"):
        FeatureService(views, store).read("r", [{"user_id": key, "item_id": 7}])


def test_a_row_without_a_join_key_is_refused_by_name(views: list[FeatureView], store: OnlineStore) -> None:
    with pytest.raises(BadFeaturesError, match="'item_id'"):
        FeatureService(views, store).read("r", [{"user_id": 1}])


TIME = datetime(2026, 1, 2, 3, tzinfo=UTC)


@pytest.mark.parametrize(
    ("kind", "text", "same"),
    [
        ("Bool", "true", [True]),
        ("Float64", "10", [10.0, 10]),
        ("Int64", "7", [7, 7.0]),
        ("String", "a b", ["a b"]),
        ("Timestamp", "2026-01-02T03:00:00Z", [TIME, TIME.replace(tzinfo=None), int(TIME.timestamp()) * 10**6]),
        ("Timestamp", "2026-01-02T05:00:00+02:00", [TIME.astimezone(timezone(timedelta(hours=2)))]),
    ],
)
def test_a_key_has_one_text_whoever_writes_or_reads_it(tmp_path: Path, kind: str, text: str, same: list[Any]) -> None:
    view = keyed(tmp_path, kind)
    asked = parse_key(view, text)
    assert {key_of(view, (value,)) for value in same} == {key_of(view, asked)}
    assert entity_of(view, key_of(view, asked)) == asked


@pytest.mark.parametrize(("kind", "text"), [("Bool", "yes"), ("Float64", "x"), ("Timestamp", "noon"), ("Int64", "1.7")])
def test_a_key_of_another_type_is_refused(tmp_path: Path, kind: str, text: str) -> None:
    with pytest.raises(BadFeaturesError, match=rf"key is '{text}', expected user_id \({kind}\); correct --key"):
        parse_key(keyed(tmp_path, kind), text)


def test_a_part_with_a_comma_is_quoted(tmp_path: Path) -> None:
    view = keyed(tmp_path, "String", "Int64")
    assert parse_key(view, '"a, ""b""",7') == ('a, "b"', 7)
    with pytest.raises(BadFeaturesError, match="expected user_id"):
        parse_key(view, "a, b,7")


def test_what_is_materialized_for_a_key_of_any_type_is_found_by_its_text(tmp_path: Path, store: OnlineStore) -> None:
    for kind, values, text in [
        ("Bool", pa.array([True, False]), "true"),
        ("Float64", pa.array([10.0, 2.5]), "10"),
        ("Timestamp", pa.array([TIME, NOW], pa.timestamp("us", tz="UTC")), "2026-01-02T03:00:00Z"),
    ]:
        view = keyed(tmp_path, kind)
        table = pa.table({"user_id": values, "price": [1.0, 2.0]})
        times = pa.array([ago(1), ago(1)], pa.timestamp("us", tz="UTC"))
        table = table.append_column("event_time", times).append_column("ingested_at", times)
        pq.write_table(table, tmp_path / "events.parquet")
        materialize(view, store, NOW)
        assert get_features(view, store, [parse_key(view, text)])[0]["features"]["count"] == 1


def keyed(folder: Path, *kinds: str) -> FeatureView:
    body = make_view(folder, [recent(1, 5, 2)]).to_dict()
    keys = [{"name": name, "type": kind} for name, kind in zip(("user_id", "place"), kinds, strict=False)]
    body["spec"]["entity"]["joinKeys"] = keys
    return parsed(body)
