"""`kubectl apply` of a wrong resource is refused by the API server itself, with a sentence."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from kubernetes import client
from kubernetes.client.exceptions import ApiException

from rollouts import SPEC
from wrong_specs import REFUSED_DEPLOYMENTS, REFUSED_VIEWS, SCHEDULES, VIEW, Change

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


@pytest.mark.parametrize(("change", "sentence"), REFUSED_DEPLOYMENTS, ids=[said for _, said in REFUSED_DEPLOYMENTS])
def test_a_wrong_model_deployment_is_refused(
    api: client.ApiClient, namespace: str, change: Change, sentence: str
) -> None:
    spec = copy.deepcopy(SPEC)
    change(spec)
    assert sentence in (_refusal(api, namespace, "ModelDeployment", spec) or "")


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
