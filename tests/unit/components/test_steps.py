"""The components' own functions, called as KFP calls them, with KFP's own artifacts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from kfp import dsl

from tidegate_components.evaluation.gate import GateError
from tidegate_components.events.tables import BadEventsError
from tidegate_components.models.inputs import TrainingSetError
from tidegate_components.steps import kfp_components as steps
from unit.components.shop import write_shop, write_views
from unit.components.trained import Trained


def artifact(kind: Any, path: Path) -> Any:
    return kind(name=path.name, uri=str(path), metadata={})


def test_looking_gives_the_same_for_the_same_content(tmp_path: Path) -> None:
    data, views = write_shop(tmp_path / "events"), write_views(tmp_path / "views")
    first = steps.look.python_func(str(data), str(views))
    assert steps.look.python_func(str(data), str(views)) == first
    (data / "clicks.parquet").write_bytes(b"changed")
    assert steps.look.python_func(str(data), str(views))[0] != first[0]


def test_cleaning_describes_its_artifacts(tmp_path: Path) -> None:
    events = artifact(dsl.Dataset, write_shop(tmp_path / "events"))
    cleaned, quarantine = (artifact(dsl.Dataset, tmp_path / name) for name in ("clean", "quarantine"))
    summary = artifact(dsl.Markdown, tmp_path / "summary")
    steps.clean.python_func(events, cleaned, quarantine, summary)
    assert cleaned.metadata["impressions"] == 3000
    assert cleaned.metadata["digest"].startswith("sha256:")
    assert "| impressions | 3000 | 3000 | 0 | none |" in Path(summary.path).read_text()


def test_validating_writes_the_report_and_closes_the_gate(tmp_path: Path) -> None:
    clean, report = artifact(dsl.Dataset, tmp_path / "clean"), artifact(dsl.HTML, tmp_path / "report")
    write_shop(Path(clean.path))
    steps.validate.python_func(clean, "", report)
    assert "Every expectation is met" in Path(report.path).read_text()
    (tmp_path / "expect.yaml").write_text("tables: {impressions: [{rows: {min: 9000}}]}")
    with pytest.raises(BadEventsError, match=r"impressions: rows 3000', expected each within its bounds"):
        steps.validate.python_func(clean, str(tmp_path / "expect.yaml"), report)
    assert "1 of 1 expectations failed" in Path(report.path).read_text()


def test_evaluating_logs_every_contender(trained: Trained, tmp_path: Path) -> None:
    model = artifact(dsl.Model, trained.folder / "model")
    sets = [artifact(dsl.Dataset, path) for path in trained.sets]
    metrics, report = artifact(dsl.Metrics, tmp_path / "metrics"), artifact(dsl.HTML, tmp_path / "report")
    text = steps.evaluate.python_func(model, *sets, "ctr-ranker", "shop", "code", metrics, report)
    assert metrics.metadata["wide_deep_auc"] == json.loads(text)["wide_deep"]["auc"]
    assert len(metrics.metadata) == 15
    assert "<!doctype html>" in Path(report.path).read_text()


def test_a_failed_gate_writes_its_verdict_and_ends_the_run(tmp_path: Path) -> None:
    verdict = artifact(dsl.Markdown, tmp_path / "verdict")
    champion = json.dumps({"version": "4", "metrics": {"auc": 0.8}})
    with pytest.raises(GateError, match=r"model ctr-ranker: gate is .*worse than champion version 4"):
        steps.gate.python_func(json.dumps({"wide_deep": {"auc": 0.7}}), champion, 0.01, "ctr-ranker", verdict)
    assert Path(verdict.path).read_text().startswith("**Failed.**")


def test_deploying_keeps_what_people_wrote(tmp_path: Path) -> None:
    manifest = artifact(dsl.Artifact, tmp_path / "manifest")
    file = tmp_path / "gitops" / "ctr-ranker.yaml"
    steps.deploy.python_func("{}", "ctr-ranker", "challenger", str(file.parent), "", False, manifest)
    body = yaml.safe_load(file.read_text())
    body["spec"]["scaling"]["maxReplicas"] = 9
    file.write_text("# ours\n" + yaml.safe_dump(body))
    steps.deploy.python_func("{}", "ctr-ranker", "challenger", str(file.parent), "", False, manifest)
    assert file.read_text().startswith("# ours"), "nothing to change: the file is left alone"
    steps.deploy.python_func("{}", "ctr-ranker", "next", str(file.parent), "", False, manifest)
    changed = yaml.safe_load(file.read_text())["spec"]
    assert (changed["model"]["registry"]["alias"], changed["scaling"]["maxReplicas"]) == ("next", 9)


def test_a_wrong_parameter_is_named(trained: Trained, tmp_path: Path) -> None:
    sets = [artifact(dsl.Dataset, path) for path in trained.sets[:2]]
    with pytest.raises(TrainingSetError, match="hidden is 'wide', expected sizes such as 64,32"):
        steps.train.python_func(*sets, artifact(dsl.Model, tmp_path / "model"), "deepfm", 4, "wide", 1, 0.001, 7)
