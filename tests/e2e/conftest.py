"""The real thing: node, Triton, gateway, Prometheus, Redis, MLflow and the operator, all in pods."""

from __future__ import annotations

import sys
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).parents[2]
sys.path.insert(0, str(REPOSITORY / "dev"))

from live import MODEL, Live, Trained, register_versions, run_pipeline  # noqa: E402

from tidegate_demo.install import everything  # noqa: E402
from tidegate_dev import paths  # noqa: E402
from tidegate_dev.progress import Progress  # noqa: E402


@pytest.fixture(scope="session")
def live() -> Live:
    """A cluster with everything installed from this checkout; what stands already is kept."""
    installed = everything(Progress(plain=True))
    return Live(installed.cluster, installed.addresses)


@pytest.fixture(scope="session")
def pipeline_run(live: Live) -> dict[str, Any]:
    """One run of the compiled DAG on this machine, into the registry of the cluster; later runs come from the cache."""
    root = paths.state() / "e2e" / "pipeline"
    given = {"mlflow_uri": live.addresses.mlflow, "model_name": MODEL, "alias": "trained", "epochs": "2"}
    given |= {"views": str(REPOSITORY / "manifests" / "examples"), "gate_margin": "1", "deploy_to": f"{root}/gitops"}
    return {"root": root, "given": given} | run_pipeline(root, given)


@pytest.fixture(scope="session")
def trained(live: Live, pipeline_run: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Versions of one trained model in the registry: two good ones, and one that fails on users it has never seen."""
    return register_versions(live, pipeline_run, tmp_path_factory.mktemp("packages"))


@pytest.fixture(scope="module")
def shop(live: Live) -> Iterator[Live]:
    """A namespace of its own that admits restricted pods only; it is empty again when its resources are deleted."""
    name = f"shop-{uuid.uuid4().hex[:6]}"
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    live.cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
    yield replace(live, cluster=replace(live.cluster, namespace=name))
    live.cluster.kubectl.run("delete", "namespace", name, "--wait=false")
