"""One look of the operator at a FeatureView, against a cluster that is kept in memory."""

from __future__ import annotations

from datetime import timedelta

import pytest

from cluster_in_memory import (
    CRON,
    PLATFORM,
    VIEW,
    Memory,
    Named,
    condition,
    neighbours_of,
    no_claim,
    unplaced,
)
from rollouts import START
from tidegate_api.errors import TidegateError
from tidegate_api.feature_view import FeatureView
from tidegate_operators.adapters.errors import RefusedError
from tidegate_operators.handlers import feature_view, triggers
from tidegate_operators.handlers.aliases import AliasWatch
from tidegate_operators.handlers.neighbours import Neighbours
from tidegate_operators.rollout.observed import Announcement


def test_a_view_whose_schedule_is_refused_says_so_and_still_materializes() -> None:
    memory = Memory(refused="CronJob")
    with pytest.raises(RefusedError):
        feature_view.reconcile(FeatureView.parse(VIEW), neighbours_of(memory), START)
    ready = condition(memory, "Ready")
    assert (ready["status"], ready["reason"], ready["message"]) == ("False", "InvalidSpec", CRON)
    assert Announcement("Warning", "InvalidSpec", CRON) in memory.said
    assert "Job" in {kind for kind, _ in memory.objects}


def test_a_view_whose_claim_is_missing_names_the_field_and_the_remedy() -> None:
    memory = Memory(pods=(unplaced(no_claim("lake")),))
    feature_view.reconcile(FeatureView.parse(VIEW), neighbours_of(memory), START)
    ready = condition(memory, "Ready")
    assert ready["reason"] == "Unschedulable"
    assert ready["message"] == (
        "spec.source.parquet.uri names the PersistentVolumeClaim lake, which namespace shop does not have: "
        "create the claim or correct spec.source.parquet.uri."
    )


class Metrics:
    """The port of Prometheus: the value of each metric, whatever its labels."""

    def __init__(self, **values: float) -> None:
        self.values = values

    def scalar(self, query: str, at: object) -> float | None:
        assert 'namespace="shop",view="user-activity"' in query
        return next((value for name, value in self.values.items() if name in query), None)


def _topic_view() -> FeatureView:
    source = {"kafka": {"bootstrapServers": "kafka:9092", "topic": "events"}, "eventTimestamp": "event_time"}
    return FeatureView.parse(VIEW | {"spec": VIEW["spec"] | {"source": source}})  # type: ignore[operator]


def test_a_streamed_view_is_as_ready_and_fresh_as_its_stream_says() -> None:
    memory = Memory()
    metrics = Metrics(
        watermark=START.timestamp(), newest_event_time=(START - timedelta(seconds=9)).timestamp(), rows_written=12
    )
    neighbours = Neighbours(memory, metrics, Named(), PLATFORM)  # type: ignore[arg-type]
    feature_view.reconcile(_topic_view(), neighbours, START)
    assert condition(memory, "Ready")["status"] == "True"
    assert memory.status["watermark"].startswith("2026-01-01T00:00:00")
    assert (memory.status["rows"], memory.status["newestEventTime"][:19]) == (12, "2025-12-31T23:59:51")
    assert ("CronJob", "user-activity-scheduled") not in memory.objects


def test_a_stream_that_ends_again_and_again_says_its_last_word() -> None:
    ended = {"exitCode": 2, "message": '{"view": "x"}\nError: topic events has 3 partitions and no keys'}
    waiting = {"reason": "CrashLoopBackOff", "message": "back-off 40s"}
    status = {"containerStatuses": [{"state": {"waiting": waiting}, "lastState": {"terminated": ended}}]}
    pod = {"metadata": {"name": "p", "namespace": "shop"}, "status": status}
    memory = Memory(pods=(pod,))
    feature_view.reconcile(_topic_view(), Neighbours(memory, Metrics(), Named(), PLATFORM), START)  # type: ignore[arg-type]
    assert condition(memory, "Materialized")["message"] == "Error: topic events has 3 partitions and no keys"


def test_an_object_that_an_older_crd_let_in_is_said_to_be_wrong() -> None:
    memory = Memory()
    memory.objects["FeatureView", "user-activity"] = VIEW | {"spec": {}}
    triggers.reconcile(("FeatureView", "shop", "user-activity"), neighbours_of(memory), AliasWatch())
    assert [said.reason for said in memory.said] == ["InvalidSpec"]
    ready = condition(memory, "Ready")
    assert (ready["status"], ready["reason"]) == ("False", "InvalidSpec")
    serving = {"conditions": [{"type": "Ready", "status": "True"}]}
    memory.objects["FeatureView", "user-activity"] |= {"status": serving}
    memory.status = {}
    triggers.reconcile(("FeatureView", "shop", "user-activity"), neighbours_of(memory), AliasWatch())
    assert memory.status == {}, "what an earlier release said of it stays"
    with pytest.raises(TidegateError):
        FeatureView.parse(VIEW | {"spec": {}})
