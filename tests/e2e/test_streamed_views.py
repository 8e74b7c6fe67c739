"""A FeatureView over a topic: a pod keeps it current in the real Redis, and its status says so."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from live import Live

from kafka_broker import Broker, broker
from tidegate_api.feature_view import FeatureView
from tidegate_components.features.online import open_store
from tidegate_dev import addresses

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

NAME = f"streamed-{uuid.uuid4().hex[:6]}"
_VIEW: dict[str, Any] = {
    "apiVersion": "tidegate.dev/v1alpha1",
    "kind": "FeatureView",
    "metadata": {"name": NAME},
    "spec": {
        "entity": {"name": "user", "joinKeys": [{"name": "user_id", "type": "Int64"}]},
        "source": {"kafka": {"topic": NAME}, "eventTimestamp": "event_time"},
        "features": [
            {"name": "clicks_1h", "type": "Int64", "aggregate": {"function": "count", "window": "1h"}},
            {"name": "clicks_20s", "type": "Int64", "aggregate": {"function": "count", "window": "20s"}},
        ],
        "ttl": "1d",
        "offline": {"uri": "pvc://lake/streamed"},
        "online": {"redis": {"url": "redis://redis.tidegate-system:6379/0"}},
        "materialization": {"schedule": "*/15 * * * *"},
        "freshness": {"target": "1h"},
    },
}


@pytest.fixture(scope="module")
def kafka(live: Live, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A broker on this machine, at the address by which the cluster's pods reach it."""
    with broker(tmp_path_factory.mktemp("kafka"), addresses.MACHINE) as found:
        found.create(NAME, 2)
        yield found


@pytest.fixture(scope="module")
def view(live: Live, kafka: Broker) -> Iterator[FeatureView]:
    """The view, applied; removed afterwards."""
    _VIEW["spec"]["source"]["kafka"]["bootstrapServers"] = kafka.address
    live.cluster.apply(_VIEW)
    yield FeatureView.parse(live.cluster.get("featureview", NAME))
    live.cluster.kubectl.run("delete", "-n", "default", "featureview", NAME, "--ignore-not-found")


def _click(kafka: Broker, user: int) -> None:
    from confluent_kafka import Producer

    producer = Producer({"bootstrap.servers": kafka.address})
    event = {"user_id": user, "event_time": datetime.now(UTC).isoformat()}
    producer.produce(NAME, json.dumps(event), key=str(user))
    assert producer.flush(30) == 0


def _wait_for_values(live: Live, view: FeatureView, user: int, hour: int, lately: int | None = None) -> None:
    """Until a user has so many clicks of an hour, and of 20 s where it is said."""
    store = open_store(live.addresses.redis)

    def there() -> tuple[bool, str]:
        ((found,),) = store.read([(view, [(user,)])])
        wanted = (hour, found.values[1] if found and lately is None else lately)
        return found is not None and found.values == wanted, str(found)

    live.cluster.wait(there, 180, f"user {user} has {hour} clicks in an hour and {lately} lately")


def test_events_are_in_redis_and_the_view_is_ready_and_fresh(live: Live, kafka: Broker, view: FeatureView) -> None:
    for user in (1, 1, 2):
        _click(kafka, user)
    _wait_for_values(live, view, 1, hour=2)
    live.wait_for_reason("featureview", NAME, "Ready", "Serving")
    assert live.condition("featureview", NAME, "Fresh")["status"] == "True"


def test_what_leaves_a_window_is_gone_without_another_event(live: Live, kafka: Broker, view: FeatureView) -> None:
    _click(kafka, 3)
    _wait_for_values(live, view, 3, hour=1, lately=1)
    _wait_for_values(live, view, 3, hour=1, lately=0)


def test_a_stream_whose_pod_is_killed_goes_on_where_it_was(live: Live, kafka: Broker, view: FeatureView) -> None:
    _click(kafka, 4)
    _wait_for_values(live, view, 4, hour=1)
    where = ("-n", "default", "-l", f"tidegate.dev/feature-view={NAME}")
    live.cluster.kubectl.run("delete", "pod", *where, "--grace-period=0", "--force")
    _click(kafka, 4)
    _wait_for_values(live, view, 4, hour=2)


def test_deleting_the_view_ends_its_stream(live: Live, kafka: Broker, view: FeatureView) -> None:
    live.cluster.kubectl.run("delete", "-n", "default", "featureview", NAME)

    def gone() -> tuple[bool, str]:
        label = f"tidegate.dev/feature-view={NAME}"
        found = live.cluster.get("deployments,configmaps,pods,controllerrevisions", "-l", label)["items"]
        return not found, str([item["metadata"]["name"] for item in found])

    live.cluster.wait(gone, 120, "everything of the view is gone")
