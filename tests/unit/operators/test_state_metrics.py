"""What Prometheus reads of resources: what their status says, and nothing of what is over."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from rollouts import START
from stories import Story, canarying, serving
from tidegate_api.feature_view import FeatureView, FeatureViewStatus
from tidegate_api.resource import Condition
from tidegate_operators.handlers.state_metrics import StateMetrics

WHERE = {"namespace": "shop", "name": "ctr-ranker"}


def _shown(metrics: StateMetrics, family: str, **labels: str) -> list[float]:
    """Values of the series with these labels, as a scrape reads them."""
    registry = CollectorRegistry()
    registry.register(metrics)
    scraped = text_string_to_metric_families(generate_latest(registry).decode())
    samples = [sample for found in scraped if found.name == family for sample in found.samples]
    return [sample.value for sample in samples if labels.items() <= sample.labels.items()]


def _of(story: Story) -> StateMetrics:
    metrics = StateMetrics()
    metrics.show_rollout(story.deployment(), story.status)
    return metrics


def test_a_rollout_under_way_shows_its_weight_start_and_evidence_by_metric_and_side() -> None:
    story = canarying()
    story.judged((1, 400), (3, 100), count=3)
    metrics = _of(story)
    assert _shown(metrics, "tidegate_canary_weight_percent", **WHERE) == [story.status.weight]
    (start,) = _shown(metrics, "tidegate_rollout_start_timestamp_seconds", **WHERE)
    assert START.timestamp() < start < story.now.timestamp()
    trials = [_shown(metrics, "tidegate_evidence_trials", metric="errors", side=side) for side in ("stable", "canary")]
    assert trials == [[1200.0], [300.0]]
    assert _shown(metrics, "tidegate_evidence_rate", metric="errors", side="canary") == [0.03]
    assert _shown(metrics, "tidegate_evidence_margin", metric="errors") == [0.01]
    (low,), (middle,), (high,) = (
        _shown(metrics, f"tidegate_evidence_{name}", metric="errors")
        for name in ("difference_low", "difference", "difference_high")
    )
    assert low < middle < high


def test_what_was_shown_of_a_rollout_that_ended_goes() -> None:
    story = canarying()
    story.judged((1, 400), (3, 100))
    metrics = _of(story)
    assert _shown(metrics, "tidegate_evidence_trials")
    story.judged((0, 4000), (900, 1000))
    while story.status.canary is not None:
        story.look()
    metrics.show_rollout(story.deployment(), story.status)
    assert not _shown(metrics, "tidegate_evidence_trials")
    assert not _shown(metrics, "tidegate_rollout_start_timestamp_seconds")
    assert _shown(metrics, "tidegate_canary_weight_percent", **WHERE) == [0]


def test_each_condition_has_one_series_with_the_reason_that_it_has_now() -> None:
    story = serving()
    story.status = story.status.model_copy(update={"conditions": [_condition("True", "Serves")]})
    metrics = _of(story)
    story.status = story.status.model_copy(update={"conditions": [_condition("False", "NoPods")]})
    metrics.show_rollout(story.deployment(), story.status)
    assert _shown(metrics, "tidegate_condition", kind="ModelDeployment", **WHERE) == [1]
    assert _shown(metrics, "tidegate_condition", type="Available", status="False", reason="NoPods") == [1]


def test_an_operator_that_no_longer_leads_shows_nothing() -> None:
    metrics = _of(canarying())
    metrics.clear()
    assert not _shown(metrics, "tidegate_canary_weight_percent")


def _condition(status: Any, reason: str) -> Condition:
    return Condition(type="Available", status=status, reason=reason, last_transition_time=START)


def _view() -> FeatureView:
    features = [{"name": "clicks_7d", "type": "Int64", "aggregate": {"function": "count", "window": "7d"}}]
    return FeatureView.parse(
        {
            "apiVersion": "tidegate.dev/v1alpha1",
            "kind": "FeatureView",
            "metadata": {"name": "user-activity", "namespace": "shop"},
            "spec": {
                "entity": {"name": "user", "joinKeys": [{"name": "user_id", "type": "Int64"}]},
                "source": {"parquet": {"uri": "pvc://lake/i"}, "eventTimestamp": "event_time"},
                "features": features,
                "offline": {"uri": "pvc://lake/f"},
                "online": {"redis": {"url": "redis://redis:6379"}},
                "materialization": {"engine": "duckdb", "schedule": "*/15 * * * *"},
                "freshness": {"target": "30m"},
            },
        }
    )


def test_a_view_shows_its_times_and_the_statistics_of_the_last_run_that_told_any() -> None:
    metrics, view = StateMetrics(), _view()
    newest = START - timedelta(seconds=90)
    status = FeatureViewStatus(watermark=START, newest_event_time=newest)
    metrics.show_view(view, status, [["clicks_7d", 10, 2, 3.5, 1.25, *range(7)]])
    metrics.show_view(view, status, [])
    shown = [
        _shown(metrics, f"tidegate_feature_view_{name}", namespace="shop", name="user-activity")
        for name in ("watermark_timestamp_seconds", "newest_event_timestamp_seconds", "freshness_target_seconds")
    ]
    assert shown == [[START.timestamp()], [newest.timestamp()], [1800.0]]
    of_feature = {"namespace": "shop", "view": "user-activity", "feature": "clicks_7d"}
    assert _shown(metrics, "tidegate_feature_missing_ratio", **of_feature) == [0.2]
    assert _shown(metrics, "tidegate_feature_quantile", quantile="0.5", **of_feature) == [3.0]
    metrics.forget_view("shop", "user-activity")
    assert not _shown(metrics, "tidegate_feature_rows")
