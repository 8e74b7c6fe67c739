"""A real API server with the CRDs of this checkout, and a namespace of its own for each test module."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from kubernetes import client, config, watch

from tidegate_operators.adapters.cluster import Cluster

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def api() -> client.ApiClient:
    """The API server that KUBECONFIG names; `dev/with-cluster` brings one up."""
    if not os.environ.get("KUBECONFIG"):
        pytest.fail("KUBECONFIG is not set: run `make test`, or dev/with-cluster pytest tests/integration")
    config.load_kube_config()
    found = client.ApiClient()
    for file in sorted((REPOSITORY / "manifests" / "crds").glob("*s.yaml")):
        body = yaml.safe_load(file.read_text())
        _apply_crd(found, body)
        _wait_until_established(found, body["metadata"]["name"])
    return found


def _wait_until_established(api: client.ApiClient, name: str) -> None:
    """Watch the CRD until the API server serves its kind."""
    definitions = client.ApiextensionsV1Api(api)
    only = f"metadata.name={name}"
    for event in watch.Watch().stream(
        definitions.list_custom_resource_definition, field_selector=only, timeout_seconds=30
    ):
        conditions = event["object"].status.conditions or []
        if any(item.type == "Established" and item.status == "True" for item in conditions):
            return
    pytest.fail(f"{name} was not established within 30 s")


def _apply_crd(api: client.ApiClient, body: dict[str, object]) -> None:
    name = body["metadata"]["name"]  # type: ignore[index]
    api.call_api(
        f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{name}",
        "PATCH",
        body=body,
        query_params=[("fieldManager", "tests"), ("force", "true")],
        header_params={"Content-Type": "application/apply-patch+yaml", "Accept": "application/json"},
        auth_settings=["BearerToken"],
        _preload_content=False,
    )


@pytest.fixture(scope="module")
def namespace(api: client.ApiClient) -> Iterator[str]:
    """A namespace that goes when the module's tests are over."""
    name = f"test-{uuid.uuid4().hex[:8]}"
    core = client.CoreV1Api(api)
    core.create_namespace({"metadata": {"name": name}})
    yield name
    core.delete_namespace(name, propagation_policy="Background")


@pytest.fixture(scope="session")
def cluster(api: client.ApiClient) -> Cluster:
    """The operator's own adapter on that API server."""
    return Cluster(api)
