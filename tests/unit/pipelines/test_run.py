"""The whole DAG on this machine: the compiled YAML by kfp.local, on the shop."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tidegate_components.packaging.verify import verify
from unit.components.sharing import once, shared_folder

QUICK = ["epochs=1", "embedding_dim=4", "hidden=8"]


def tidegate(*args: str, **env: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from tidegate_pipelines.cli import main; main()", *args]
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("TIDEGATE_", "MLFLOW_"))}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=clean | env)


def run(root: Path, shop: Path, *params: str) -> subprocess.CompletedProcess[str]:
    given = [f"data={shop}/events", f"views={shop}/views", *QUICK, *params]
    options = [part for text in given for part in ("--param", text)]
    return tidegate("pipeline", "run", "ctr_training", "--root", str(root), "--json", *options)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, shop: Path) -> tuple[Path, Any, Any]:
    """The same run twice, done once for all parallel test processes."""
    root = shared_folder(tmp_path_factory) / "runs"
    with once(root) as first:
        if first:
            done = [run(root, shop, f"deploy_to={root}/gitops") for _ in range(2)]
            assert [each.returncode for each in done] == [0, 0], done[0].stderr + done[1].stderr
            for number, each in enumerate(done):
                (root / f"{number}.json").write_text(each.stdout)
    return root, *(json.loads((root / f"{number}.json").read_text()) for number in range(2))


def test_a_run_ends_in_a_registered_package_a_report_and_a_manifest(runs: tuple[Path, Any, Any]) -> None:
    root, found, _ = runs
    assert set(found["metrics"]) == {"wide_deep", "popularity", "logistic_regression"}
    version = found["registered"]
    assert version["version"] == "1"
    manifest = verify(Path(version["package_uri"]), version["digest"])
    assert manifest.metrics["auc"] == found["metrics"]["wide_deep"]["auc"]
    assert "<h1>ctr-ranker: evaluation</h1>" in Path(found["report"]).read_text()
    deployment = yaml.safe_load((root / "gitops" / "ctr-ranker.yaml").read_text())
    assert deployment["spec"]["model"]["registry"]["alias"] == "challenger"


def test_a_second_run_repeats_only_what_touches_the_outside(runs: tuple[Path, Any, Any]) -> None:
    _, before, found = runs
    done = {step["title"] for step in found["steps"] if step["state"] == "done"}
    assert done == {"Look at data and views", "Land in the lake", "Read champion", "Register", "Deploy"}
    assert found["registered"] == before["registered"]


def test_a_view_whose_source_lacks_a_column_ends_the_run_by_name(tmp_path: Path, shop: Path) -> None:
    body = yaml.safe_load((shop / "views" / "user-activity.yaml").read_text())
    body["spec"]["features"][0]["aggregate"] = {"function": "sum", "column": "cost", "window": "7d"}
    (tmp_path / "views").mkdir()
    (tmp_path / "views" / "v.yaml").write_text(yaml.safe_dump(body))
    done = run(tmp_path / "root", shop, f"views={tmp_path}/views")
    assert done.returncode == 1
    assert "step Point-in-time features" in done.stderr
    assert "'cost'" in done.stderr
    assert "Traceback" not in done.stderr
