"""`kubectl apply` of a wrong resource is refused by the API server itself, with a sentence."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest
from kubernetes import client
from kubernetes.client.exceptions import ApiException

from rollouts import SPEC

pytestmark = pytest.mark.integration

Change = Callable[[dict[str, Any]], object]

VIEW: dict[str, Any] = {
    "entity": {"name": "user", "joinKeys": [{"name": "user_id", "type": "Int64"}]},
    "source": {"parquet": {"uri": "pvc://lake/interactions"}, "eventTimestamp": "event_time"},
    "features": [{"name": "clicks_7d", "type": "Int64", "aggregate": {"function": "count", "window": "7d"}}],
    "offline": {"uri": "pvc://lake/features/user"},
    "online": {"redis": {"url": "redis://redis:6379/0"}},
    "materialization": {"schedule": "*/15 * * * *"},
}


def _refusal(
    api: client.ApiClient, namespace: str, kind: str, spec: dict[str, Any], name: str = "ctr-ranker"
) -> str | None:
    """What the API server says to a strict dry run; none where it accepts."""
    plural = {"ModelDeployment": "modeldeployments", "FeatureView": "featureviews"}[kind]
    body = {"apiVersion": "tidegate.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec}
    try:
        client.CustomObjectsApi(api).create_namespaced_custom_object(
            "tidegate.dev", "v1alpha1", namespace, plural, body, dry_run="All", field_validation="Strict"
        )
    except ApiException as error:
        return str(json.loads(error.body)["message"])
    return None


def _set(*path: str | int, to: Any) -> Change:
    def change(spec: dict[str, Any]) -> None:
        node: Any = spec
        for key in path[:-1]:
            node = node.setdefault(key, {}) if isinstance(node, dict) else node[key]
        node[path[-1]] = to

    return change


REFUSED: list[tuple[Change, str]] = [
    (_set("strategy", "blueGreen", to={}), "exactly one strategy"),
    (_set("strategy", to={"shadow": {"percent": 5}}), "strategy canary only"),
    (_set("strategy", "canary", "steps", to=[{"setWeight": 20}, {"setWeight": 5}]), "must not fall"),
    (_set("strategy", "canary", "steps", to=[{"setWeight": 20, "pause": {}}]), "exactly one of setWeight and pause"),
    (_set("scaling", "minReplicas", to=7), "minReplicas must not exceed maxReplicas"),
    (_set("scaling", "targets", to=[{"queueTime": "5ms", "cpuUtilization": 70}]), "exactly one of queueTime"),
    (_set("model", "package", to={"uri": "x", "digest": "sha256:" + "a" * 64}), "exactly one of registry and package"),
    (_set("model", to={"package": {"uri": "x", "digest": "sha256:12"}}), "digest"),
    (_set("routing", "protocols", to=["GRPC"]), "grpcHostnames"),
    (_set("routing", "protocols", to=["HTTP", "HTTP"]), "Duplicate value"),
    (_set("analysis", "interval", to="15 s"), "should match"),
    (_set("analysis", "errorLevel", to=1.5), "less than"),
    (_set("analysis", "metrics", to=[{"name": "ctr", "role": "guard", "margin": 0}]), "exactly one of errorRate"),
    (_set("analysis", "metrics", to=[{"name": "errors", "role": "guard", "errorRate": {}}]), "needs a margin"),
    (_set("replicas", to=3), 'unknown field "spec.replicas"'),
]


@pytest.mark.parametrize(("change", "sentence"), REFUSED, ids=[sentence for _, sentence in REFUSED])
def test_a_wrong_model_deployment_is_refused(
    api: client.ApiClient, namespace: str, change: Change, sentence: str
) -> None:
    spec = copy.deepcopy(SPEC)
    change(spec)
    assert sentence in (_refusal(api, namespace, "ModelDeployment", spec) or "")


REFUSED_VIEWS: list[tuple[Change, str]] = [
    (_set("features", 0, "aggregate", to={"function": "sum", "window": "7d"}), "column is required"),
    (_set("features", 0, to={"name": "clicks_7d", "type": "Int64"}), "each feature has an aggregate"),
    (_set("online", "redis", to={}), "exactly one of url and urlFrom"),
    (_set("features", 0, "type", to="Decimal"), "Unsupported value"),
    (_set("features", 0, "aggregate", "window", to="a week"), "should match"),
    (_set("sources", to=[]), "unknown field"),
]


@pytest.mark.parametrize(("change", "sentence"), REFUSED_VIEWS, ids=[sentence for _, sentence in REFUSED_VIEWS])
def test_a_wrong_feature_view_is_refused(api: client.ApiClient, namespace: str, change: Change, sentence: str) -> None:
    spec = copy.deepcopy(VIEW)
    change(spec)
    assert sentence in (_refusal(api, namespace, "FeatureView", spec) or "")


def test_right_resources_are_accepted(api: client.ApiClient, namespace: str) -> None:
    assert _refusal(api, namespace, "ModelDeployment", SPEC) is None
    assert _refusal(api, namespace, "FeatureView", VIEW) is None


def test_a_name_too_long_for_its_revisions_is_refused(api: client.ApiClient, namespace: str) -> None:
    assert "at most 54 characters" in (_refusal(api, namespace, "ModelDeployment", SPEC, "a" * 55) or "")
