"""What happened, read back from the API server, Prometheus, Redis and MLflow; nothing from the demo's own memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tidegate_api.feature_view import FeatureView
from tidegate_api.model_deployment import HistoryEntry, ModelDeployment
from tidegate_components.features.online import open_store
from tidegate_components.features.replay import replay
from tidegate_components.features.replay_report import to_json
from tidegate_demo.cluster import Cluster
from tidegate_dev import paths

__all__ = ["Addresses", "counted_until", "facts", "requests_of", "timeline"]

_WINDOW = "6h"


@dataclass(frozen=True)
class Addresses:
    """Where the neighbours answer, as URLs."""

    redis: str
    mlflow: str
    prometheus: str
    gateway: str


def facts(cluster: Cluster, addresses: Addresses, name: str, views: Sequence[str], log: Path) -> dict[str, Any]:
    """Everything that demo.json says. log: what serving logged of the features that it used."""
    deployment = ModelDeployment.parse(cluster.get("modeldeployment", name))
    found = [FeatureView.parse(cluster.get("featureview", view)) for view in views]
    return {
        "deployment": {"name": name, "phase": deployment.status.phase, "message": deployment.status.message},
        "versions": [_version(entry, addresses, name) for entry in deployment.status.history],
        "champion": _alias(addresses, name, "champion"),
        "challenger": _alias(addresses, name, "challenger"),
        "autoscalers": _autoscalers(cluster, name),
        "views": [_view(view, addresses) for view in found],
        "featureReplay": to_json(replay(str(log), found, {"lake": paths.lake()})),
        "timeline": timeline(cluster, name),
        "addresses": {"mlflow": addresses.mlflow, "prometheus": addresses.prometheus, "gateway": addresses.gateway},
    }


def _version(entry: HistoryEntry, addresses: Addresses, name: str) -> dict[str, Any]:
    """A rollout that ended, with the requests that its revision answered and what the registry was told."""
    sent, failed = requests_of(addresses, name, entry.revision.hash)
    version = int(entry.revision.version or 0)
    return {
        "version": version,
        "outcome": entry.outcome,
        "failedRequests": failed,
        "requests": sent,
        "revision": entry.revision.hash,
        "digest": entry.revision.digest,
        "reason": entry.reason,
        "message": entry.message,
        "startedAt": entry.started_at.isoformat(),
        "endedAt": entry.ended_at.isoformat(),
        "registryTags": _tags(addresses, name, version),
    }


def requests_of(addresses: Addresses, name: str, revision: str) -> tuple[int, int]:
    """Requests that a revision was sent, and those that failed, by the gateway's counters."""
    labels = f'tidegate_deployment="{name}",tidegate_revision="{revision}"'
    query = "sum(max_over_time(envoy_cluster_upstream_rq_xx{{{}}}[{}]))"
    sent = _number(addresses, query.format(labels, _WINDOW))
    failed = _number(addresses, query.format(labels + ',envoy_response_code_class="5"', _WINDOW))
    return sent, failed


def counted_until(addresses: Addresses, name: str) -> float:
    """Unix time of the newest counters that Prometheus has read from the gateway; 0 where there are none."""
    return _value(addresses, f'max(timestamp(envoy_cluster_upstream_rq_xx{{tidegate_deployment="{name}"}}))')


def _number(addresses: Addresses, query: str) -> int:
    return round(_value(addresses, query))


def _value(addresses: Addresses, query: str) -> float:
    """What a query of one series yields; 0 where it yields none."""
    answer = httpx.get(f"{addresses.prometheus}/api/v1/query", params={"query": query}).raise_for_status().json()
    result = answer["data"]["result"]
    return float(result[0]["value"][1]) if result else 0.0


def _mlflow(addresses: Addresses, path: str, **parameters: str) -> dict[str, Any]:
    answer = httpx.get(f"{addresses.mlflow}/api/2.0/mlflow/{path}", params=parameters)
    found: dict[str, Any] = answer.raise_for_status().json()
    return found


def _alias(addresses: Addresses, name: str, alias: str) -> int:
    return int(_mlflow(addresses, "registered-models/alias", name=name, alias=alias)["model_version"]["version"])


def _tags(addresses: Addresses, name: str, version: int) -> Mapping[str, str]:
    found = _mlflow(addresses, "model-versions/get", name=name, version=str(version))["model_version"]
    return {tag["key"]: tag["value"] for tag in found.get("tags", []) if tag["key"].startswith("tidegate.")}


def _autoscalers(cluster: Cluster, name: str) -> list[dict[str, Any]]:
    items = cluster.get("hpa", "-l", f"tidegate.dev/deployment={name}")["items"]
    return [
        {
            "name": i["metadata"]["name"],
            "replicas": i["status"].get("currentReplicas", 0),
            "readsItsMetrics": any(
                c["type"] == "ScalingActive" and c["status"] == "True" for c in i["status"].get("conditions", [])
            ),
        }
        for i in items
    ]


def _view(view: FeatureView, addresses: Addresses) -> dict[str, Any]:
    """How a view stands, and how far its values in Redis reach."""
    ready = next(c.status for c in view.status.conditions if c.type == "Ready")
    watermark = open_store(addresses.redis).watermark(view)
    return {
        "name": view.metadata.name,
        "ready": ready == "True",
        "rows": view.status.rows,
        "watermark": view.status.watermark.isoformat() if view.status.watermark else None,
        "watermarkInRedisMicros": watermark.micros if watermark else None,
    }


def timeline(cluster: Cluster, name: str) -> list[dict[str, str]]:
    """The Events of the deployment, in order."""
    selector = f"involvedObject.kind=ModelDeployment,involvedObject.name={name}"
    items = cluster.get("events", "--field-selector", selector)["items"]
    rows = [{"at": i["firstTimestamp"], "reason": i["reason"], "message": i["message"]} for i in items]
    return sorted(rows, key=lambda row: row["at"])
