"""`kubectl apply` of a wrong resource is refused by the API server itself, with a sentence."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from kubernetes import client
from kubernetes.client.exceptions import ApiException

from rollouts import SPEC
from wrong_specs import SCHEDULES, VIEW, WRONG_DEPLOYMENTS, WRONG_VIEWS, Change, setting

pytestmark = pytest.mark.integration


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


LONG = {"header": "x-bucket", "percent": 5, "minDuration": "3h", "maxDuration": "2h"}
REFUSED: list[tuple[Change, str]] = [
    (setting("strategy", "blueGreen", to={}), "exactly one strategy"),
    (setting("strategy", "canary", "steps", to=[{"setWeight": 20}, {"setWeight": 5}]), "must not fall"),
    (
        setting("strategy", "canary", "steps", to=[{"setWeight": 20, "pause": {}}]),
        "exactly one of setWeight, pause and analysis",
    ),
    (setting("scaling", "minReplicas", to=7), "minReplicas must not exceed maxReplicas"),
    (setting("scaling", "targets", to=[{"queueTime": "5ms", "cpuUtilization": 70}]), "exactly one of queueTime"),
    (
        setting("model", "package", to={"uri": "x", "digest": "sha256:" + "a" * 64}),
        "exactly one of registry and package",
    ),
    (setting("model", to={"package": {"uri": "x", "digest": "sha256:12"}}), "digest"),
    (setting("routing", "protocols", to=["GRPC"]), "grpcHostnames"),
    (setting("routing", "protocols", to=["HTTP", "HTTP"]), "Duplicate value"),
    (setting("analysis", "interval", to="15 s"), "should match"),
    (setting("analysis", "errorLevel", to=1.5), "less than"),
    (setting("analysis", "metrics", to=[{"name": "ctr", "role": "guard", "margin": 0}]), "exactly one of errorRate"),
    (setting("analysis", "metrics", to=[{"name": "errors", "role": "guard", "errorRate": {}}]), "needs a margin"),
    (setting("strategy", to={"abTest": LONG}), "minDuration must not exceed maxDuration"),
    (setting("replicas", to=3), 'unknown field "spec.replicas"'),
    *WRONG_DEPLOYMENTS,
]


@pytest.mark.parametrize(("change", "sentence"), REFUSED, ids=[sentence for _, sentence in REFUSED])
def test_a_wrong_model_deployment_is_refused(
    api: client.ApiClient, namespace: str, change: Change, sentence: str
) -> None:
    spec = copy.deepcopy(SPEC)
    change(spec)
    assert sentence in (_refusal(api, namespace, "ModelDeployment", spec) or "")


REFUSED_VIEWS: list[tuple[Change, str]] = [
    (setting("features", 0, "aggregate", to={"function": "sum", "window": "7d"}), "column is required"),
    (setting("features", 0, to={"name": "clicks_7d", "type": "Int64"}), "each feature has an aggregate"),
    (setting("online", "redis", to={}), "exactly one of url and urlFrom"),
    (setting("features", 0, "type", to="Decimal"), "Unsupported value"),
    (setting("features", 0, "aggregate", "window", to="a week"), "should match"),
    (setting("sources", to=[]), "unknown field"),
    *WRONG_VIEWS,
]


@pytest.mark.parametrize(("change", "sentence"), REFUSED_VIEWS, ids=[sentence for _, sentence in REFUSED_VIEWS])
def test_a_wrong_feature_view_is_refused(api: client.ApiClient, namespace: str, change: Change, sentence: str) -> None:
    spec = copy.deepcopy(VIEW)
    change(spec)
    assert sentence in (_refusal(api, namespace, "FeatureView", spec) or "")


def test_right_resources_are_accepted(api: client.ApiClient, namespace: str) -> None:
    assert _refusal(api, namespace, "ModelDeployment", SPEC) is None
    assert _refusal(api, namespace, "FeatureView", VIEW) is None


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_right_schedules_are_accepted(api: client.ApiClient, namespace: str, schedule: str) -> None:
    assert _refusal(api, namespace, "FeatureView", VIEW | {"materialization": {"schedule": schedule}}) is None


def test_addresses_in_object_stores_are_accepted(api: client.ApiClient, namespace: str) -> None:
    assert _refusal(api, namespace, "FeatureView", VIEW | {"offline": {"uri": "s3://features/user"}}) is None


def test_a_name_too_long_for_its_revisions_is_refused(api: client.ApiClient, namespace: str) -> None:
    assert "at most 54 characters" in (_refusal(api, namespace, "ModelDeployment", SPEC, "a" * 55) or "")


def test_a_name_that_a_route_would_have_is_refused(api: client.ApiClient, namespace: str) -> None:
    assert "must not end in -grpc" in (_refusal(api, namespace, "ModelDeployment", SPEC, "ranker-preview") or "")


def test_a_source_cannot_turn_into_another_kind(api: client.ApiClient, namespace: str) -> None:
    views = client.CustomObjectsApi(api)
    where = ("tidegate.dev", "v1alpha1", namespace, "featureviews")
    body = {"apiVersion": "tidegate.dev/v1alpha1", "kind": "FeatureView", "metadata": {"name": "turning"}, "spec": VIEW}
    views.create_namespaced_custom_object(*where, body)
    kafka = {"parquet": None, "kafka": {"bootstrapServers": "kafka:9092", "topic": "clicks"}}
    try:
        with pytest.raises(ApiException) as refused:
            views.patch_namespaced_custom_object(*where, "turning", {"spec": {"source": kafka}})
        assert "make a view of another name" in json.loads(refused.value.body)["message"]
    finally:
        views.delete_namespaced_custom_object(*where, "turning")
