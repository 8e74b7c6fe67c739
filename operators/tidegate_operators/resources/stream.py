"""ConfigMap and Deployment that keep a FeatureView with a Kafka source current, from the components image."""

from __future__ import annotations

from typing import Any

from tidegate_api.feature_view import FeatureView
from tidegate_operators.resources.materialization import components_container, definition, definition_object, job_name
from tidegate_operators.resources.metadata import (
    DEFINITION_LABEL,
    FEATURE_VIEW_LABEL,
    metadata,
    restricted_pod,
)
from tidegate_operators.resources.platform import Platform

__all__ = ["STREAM_METRICS", "stream_objects"]

STREAM_METRICS = (
    "tidegate_feature_stream_watermark_seconds",
    "tidegate_feature_stream_newest_event_time_seconds",
    "tidegate_feature_stream_rows_written_total",
)
"""What a stream exports with the label `view`: its watermark and newest event time (Unix), and the values written."""

_METRICS_PORT = 9090
_STATE = "/state"


def stream_objects(view: FeatureView, platform: Platform) -> list[dict[str, Any]]:
    """The definition as a file, and one pod that streams it.

    One pod, recreated: the state of a partition has one owner. It lies in an emptyDir, for the engine keeps a changelog
    of it in Kafka, from which a new pod restores it.
    """
    labels = {"app.kubernetes.io/name": "feature-stream", FEATURE_VIEW_LABEL: view.metadata.name}
    return [
        definition_object(view),
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": metadata(view, f"{view.metadata.name}-stream", labels),
            "spec": {
                "replicas": 0 if view.spec.materialization.suspend else 1,
                "strategy": {"type": "Recreate"},
                "selector": {"matchLabels": labels},
                "template": _template(view, platform, labels | {DEFINITION_LABEL: definition(view)}),
            },
        },
    ]


def _template(view: FeatureView, platform: Platform, labels: dict[str, str]) -> dict[str, Any]:
    scraped = {"prometheus.io/scrape": "true", "prometheus.io/port": str(_METRICS_PORT)}
    volumes = [
        {"name": "view", "configMap": {"name": job_name(view)}},
        {"name": "tmp", "emptyDir": {}},
        {"name": "state", "emptyDir": {}},
    ]
    pod = restricted_pod() | {"containers": [_container(view, platform)], "volumes": volumes}
    return {"metadata": {"labels": labels, "annotations": scraped}, "spec": pod}


def _container(view: FeatureView, platform: Platform) -> dict[str, Any]:
    command = ["tidegate", "features", "stream", "/view/view.yaml", "--online", "$(REDIS_URL)", "--state", _STATE]
    return components_container(view, platform, [{"name": "state", "mountPath": _STATE}]) | {
        "name": "stream",
        "command": [*command, "--metrics-port", str(_METRICS_PORT), "--json"],
        "ports": [{"name": "metrics", "containerPort": _METRICS_PORT}],
        "readinessProbe": {"httpGet": {"path": "/metrics", "port": "metrics"}, "periodSeconds": 5},
    }
