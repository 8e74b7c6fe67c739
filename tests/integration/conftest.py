"""A real API server with the CRDs of this checkout, and a namespace of its own for each test module."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from kubernetes import client, config

from api_server import establish
from tidegate_operators.adapters.cluster import Cluster

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def api() -> client.ApiClient:
    """The API server that KUBECONFIG names; `dev/with-cluster` brings one up."""
    if not os.environ.get("KUBECONFIG"):
        pytest.fail("KUBECONFIG is not set: run `make test`, or dev/with-cluster pytest tests/integration")
    config.load_kube_config()
    found = client.ApiClient()
    establish(found, sorted((REPOSITORY / "manifests" / "crds").glob("*s.yaml")))
    return found


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
