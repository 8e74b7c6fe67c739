"""The DAG on this machine, by kfp.local: what is wrong is said. A whole run is in tests/e2e/test_pipeline_run.py."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import yaml

QUICK = ["epochs=1", "embedding_dim=4", "hidden=8"]


def tidegate(*args: str, **env: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from tidegate_pipelines.cli import main; main()", *args]
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("TIDEGATE_", "MLFLOW_"))}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=clean | env)


def run(root: Path, shop: Path, *params: str) -> subprocess.CompletedProcess[str]:
    given = [f"data={shop}/events", f"views={shop}/views", *QUICK, *params]
    options = [part for text in given for part in ("--param", text)]
    return tidegate("pipeline", "run", "ctr_training", "--root", str(root), "--json", *options)


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
