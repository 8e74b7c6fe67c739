"""The whole DAG: the compiled YAML by kfp.local on this machine, into the cluster's registry."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from live import MODEL, Live, artifact_of, run_pipeline

from tidegate_components.packaging.verify import verify

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]


def test_a_run_ends_in_a_registered_package_a_report_and_a_manifest(live: Live, pipeline_run: dict[str, Any]) -> None:
    assert set(pipeline_run["metrics"]) == {"wide_deep", "popularity", "logistic_regression"}
    registered = pipeline_run["registered"]
    query = {"name": MODEL, "version": registered["version"]}
    answer = httpx.get(f"{live.addresses.mlflow}/api/2.0/mlflow/model-versions/get", params=query).raise_for_status()
    tags = {tag["key"]: tag["value"] for tag in answer.json()["model_version"]["tags"]}
    assert tags["tidegate.digest"] == registered["digest"]
    manifest = verify(artifact_of(pipeline_run, "package/packaged"), registered["digest"])
    assert manifest.metrics["auc"] == pipeline_run["metrics"]["wide_deep"]["auc"]
    assert f"<h1>{MODEL}: evaluation</h1>" in Path(pipeline_run["report"]).read_text()
    deployment = yaml.safe_load((pipeline_run["root"] / "gitops" / f"{MODEL}.yaml").read_text())
    assert deployment["spec"]["model"]["registry"]["alias"] == "trained"


def test_a_second_run_repeats_only_what_touches_the_outside(pipeline_run: dict[str, Any]) -> None:
    again = run_pipeline(pipeline_run["root"], pipeline_run["given"])
    done = {step["title"] for step in again["steps"] if step["state"] == "done"}
    assert done == {"Look at data and views", "Land in the lake", "Read champion", "Register", "Deploy"}
    assert again["registered"] == pipeline_run["registered"]
