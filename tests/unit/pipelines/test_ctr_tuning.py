"""The tuning DAG: what it compiles to, and a whole run of it by kfp.local with two trials."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from tidegate_components.models.config import ConfigError
from tidegate_components.steps import tasks
from tidegate_components.training.tuning import parse_space, suggest
from tidegate_pipelines.catalogue import compile_pipeline
from tidegate_pipelines.cli import app
from unit.components.ranking_case import config, sets

pytestmark = pytest.mark.xdist_group("pipelines")  # kfp compiles once for all: slow where torch is loaded too

SPACE = {
    "training.learning_rate": {"low": 0.001, "high": 0.1, "log": True},
    "model.hidden": {"choices": [[16], [16, 8]]},
}


@pytest.fixture
def given(tmp_path: Path) -> dict[str, str]:
    train, valid = sets(tmp_path, 400)
    file = tmp_path / "c.yaml"
    file.write_text(yaml.safe_dump(config("dcn_v2", epochs=1).model_dump(mode="json")))
    return {"config": str(file), "train": str(train), "valid": str(valid), "space": json.dumps(SPACE)}


def test_trials_are_a_loop_of_four_at_a_time(tmp_path: Path) -> None:
    compiled = compile_pipeline("ctr_tuning", tmp_path / "t.yaml")
    spec: dict[str, Any] = next(yaml.safe_load_all(compiled.file.read_text()))
    (loop,) = [task for task in spec["root"]["dag"]["tasks"].values() if "parameterIterator" in task]
    assert loop["iteratorPolicy"] == {"parallelismLimit": 4}
    assert loop["parameterIterator"]["items"]["inputParameter"].endswith("suggest-Output")
    assert {"Suggest settings", "Trial", "Choose the best"} <= set(compiled.titles.values())
    assert "pip install" not in compiled.file.read_text()


def test_draws_are_the_same_for_the_same_seed_and_none_comes_twice() -> None:
    space = parse_space(json.dumps(SPACE), config(), "here")
    drawn = suggest(space, 5, seed=1)
    assert suggest(space, 5, seed=1) == drawn
    assert suggest(space, 5, seed=2) != drawn
    assert len(drawn) == 5
    assert all(0.001 <= one["training.learning_rate"] <= 0.1 for one in drawn)
    assert len(suggest({"model.hidden": space["model.hidden"]}, 9, seed=1)) == 2


def test_a_whole_search_runs_here_and_every_trial_is_recorded(given: dict[str, str], tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path}/ml.db"
    params = [f"{name}={value}" for name, value in {**given, "trials": "2", "mlflow_uri": uri}.items()]
    options = [part for text in params for part in ("--param", text)]
    said = CliRunner().invoke(app, ["pipeline", "run", "ctr_tuning", "--root", str(tmp_path), "--json", *options])
    assert said.exit_code == 0, said.output
    report = json.loads(said.stdout)
    assert [step["title"] for step in report["steps"]].count("Trial") == 2
    from mlflow.tracking import MlflowClient

    client = MlflowClient(uri, uri)
    runs = client.search_runs([client.get_experiment_by_name("ctr-ranker-tuning").experiment_id])
    values = [run.data.metrics["logloss"] for run in runs if "tidegate.trial" in run.data.tags]
    assert len(values) == 2
    assert report["best"]["value"] == pytest.approx(min(values))
    tags = client.get_registered_model("ctr-ranker").tags
    assert json.loads(tags["tidegate.best_settings"]) == report["best"]["settings"]


class File:
    """An artifact, as the tasks see one."""

    def __init__(self, path: Path) -> None:
        self.path, self.metadata = str(path), dict[str, Any]()


def test_a_search_without_a_complete_trial_has_no_best(given: dict[str, str], tmp_path: Path) -> None:
    found = tasks.suggest_settings(given["config"], given["space"], 1, (given["train"], given["valid"]), "auc", 7)
    said = json.loads(found[0])
    failed = {"number": 0, "settings": said["settings"], "state": "fail", "value": None, "epochs": 0, "seconds": 1.0}
    with pytest.raises(ConfigError, match=r"trials is \['fail'\], expected one that is complete"):
        tasks.choose_settings(found, [json.dumps(failed)], "auc", "", File(tmp_path / "t"), File(tmp_path / "b"))


def test_a_metric_that_is_none_is_named(given: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="metric is 'loss', expected logloss or auc"):
        tasks.suggest_settings(given["config"], given["space"], 1, (given["train"], given["valid"]), "loss", 7)
