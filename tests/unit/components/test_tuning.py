"""Searches that go on, and the past replayed day by day."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from typer.testing import CliRunner

from tidegate_components.models.config import ConfigError
from tidegate_components.models.inputs import VIEWS_KEY, TrainingSetError
from tidegate_components.training.backtest import _check_same, backtest, split_days
from tidegate_components.training.tuning import Search, read_space, search, trials_of
from tidegate_pipelines.cli import app
from unit.components.ranking_case import config, sets, table

SPACE = {
    "training.learning_rate": {"low": 0.001, "high": 0.1, "log": True},
    "model.hidden": {"choices": [[16], [16, 8]]},
}


def wanted(folder: Path) -> Search:
    said = config("dcn_v2", epochs=2)
    (folder / "space.yaml").write_text(yaml.safe_dump(SPACE))
    return Search(said, read_space(folder / "space.yaml", said), *sets(folder), folder / "out")


def test_a_search_goes_on_until_so_many_trials_ended(tmp_path: Path) -> None:
    given = wanted(tmp_path)
    ended: list[int] = []
    assert len(search(given, 2, 1, lambda trial: ended.append(trial.number))) == 2
    found = search(given, 3, 1, lambda trial: ended.append(trial.number))
    assert ended == [0, 1, 2]
    values = [trial.value for trial in found if trial.value is not None]
    assert values == sorted(values)
    assert all(set(trial.settings) == set(SPACE) for trial in found)
    assert len(trials_of(given)) == 3


def test_a_journal_is_gone_on_with_by_its_own_search_alone(tmp_path: Path) -> None:
    given = wanted(tmp_path)
    search(given, 1, 1, lambda _: None)
    for other, what in (
        (replace(given, config=config("deepfm", epochs=2)), "another config made"),
        (replace(given, train=given.valid), "another train made"),
    ):
        with pytest.raises(ConfigError, match=what):
            search(other, 1, 1, lambda _: None)
    (tmp_path / "none.yaml").write_text("")
    with pytest.raises(ConfigError, match="at least one setting"):
        read_space(tmp_path / "none.yaml", given.config)


def test_trials_of_several_processes_share_one_journal(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(wanted(tmp_path).config.model_dump(mode="json")))
    given = ["--config", tmp_path / "c.yaml", "--space", tmp_path / "space.yaml", "--train", tmp_path / "train.parquet"]
    given += ["--valid", tmp_path / "valid.parquet", "--out", tmp_path / "out", "--trials", 2, "--jobs", 2]
    uri = f"sqlite:///{tmp_path}/ml.db"
    said = CliRunner().invoke(app, ["tune", *map(str, given), "--mlflow-uri", uri, "--json"])
    assert said.exit_code == 0, said.output
    best = json.loads(said.stdout)["best"]
    assert len(json.loads(said.stdout)["trials"]) == 2
    written = yaml.safe_load((tmp_path / "out" / "best.yaml").read_text())
    assert written["training"]["learning_rate"] == pytest.approx(best["settings"]["training.learning_rate"])
    from mlflow.tracking import MlflowClient

    client = MlflowClient(uri, uri)
    assert json.loads(client.get_registered_model("ctr-ranker").tags["tidegate.best_settings"]) == best["settings"]
    runs = client.search_runs([client.get_experiment_by_name("ctr-ranker-tuning").experiment_id])
    assert len([run for run in runs if "tidegate.trial" in run.data.tags]) == 2


@pytest.mark.parametrize(
    ("space", "words"),
    [
        ({"training.rate": {"choices": [1]}}, "training.rate is 1, expected the dotted path of a field"),
        ({"model.dropout": {"low": 0.1}}, "say either choices, or low and high"),
        ({"model.embedding_dim": {"low": 3, "high": 9}}, "model.embedding_dim is 3"),
    ],
)
def test_a_wrong_space_is_named(space: dict[str, object], words: str, tmp_path: Path) -> None:
    (tmp_path / "space.yaml").write_text(yaml.safe_dump(space))
    with pytest.raises(ConfigError, match=words):
        read_space(tmp_path / "space.yaml", config())


def days(folder: Path) -> Path:
    rows = table(1800, 5)
    seconds = np.sort(np.random.default_rng(1).integers(0, 3 * 86400, 1800))
    times = pa.array(seconds.astype("datetime64[s]") + np.timedelta64(20_000, "D"))
    pq.write_table(rows.append_column("event_time", times), folder / "all.parquet")
    return folder / "all.parquet"


def test_days_are_cut_at_midnight_and_the_last_tenth_of_each_is_held_out(tmp_path: Path) -> None:
    data = days(tmp_path)
    found = split_days(data, "event_time", tmp_path / "days")
    assert found == ["2024-10-04", "2024-10-05", "2024-10-06"]
    parts = {name: pq.read_table(tmp_path / "days" / found[1] / f"{name}.parquet") for name in ("learn", "held")}
    assert max(parts["learn"]["event_time"].to_pylist()) < min(parts["held"]["event_time"].to_pylist())
    assert 0.08 < parts["held"].num_rows / (parts["held"].num_rows + parts["learn"].num_rows) < 0.12
    total = sum(pq.read_metadata(path).num_rows for path in (tmp_path / "days").rglob("*.parquet"))
    assert total == 1800


def test_days_keep_what_the_set_says_of_its_feature_views(tmp_path: Path) -> None:
    """Else a model of the replay would read no number of any view, and nobody would see it."""
    views = b'[{"column": "user__clicks", "view": "it\'s"}]'
    table = pq.read_table(days(tmp_path)).replace_schema_metadata({VIEWS_KEY: views})
    pq.write_table(table, tmp_path / "all.parquet")
    for day in split_days(tmp_path / "all.parquet", "event_time", tmp_path / "days"):
        assert pq.read_schema(tmp_path / "days" / day / "learn.parquet").metadata[VIEWS_KEY] == views


def test_both_modes_are_judged_on_the_same_days(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(config("wide_deep", epochs=2).model_dump(mode="json")))
    given = ["--config", tmp_path / "c.yaml", "--data", days(tmp_path), "--out", tmp_path / "out", "--group", "item"]
    said = CliRunner().invoke(app, ["backtest", *map(str, given), "--mode", "both", "--json"])
    assert said.exit_code == 0, said.output
    report = json.loads(said.stdout)
    full, incremental = ([(day["day"], day["rows"]) for day in report[mode]] for mode in ("full", "incremental"))
    assert full == incremental
    assert [day for day, _ in full] == ["2024-10-05", "2024-10-06"]
    assert report["full"][0]["auc"] == report["incremental"][0]["auc"], "the first day has nothing to go on from"
    assert report["incremental"][1]["learned_rows"] < report["full"][1]["learned_rows"]
    assert report["comparison"]["verdict"]["sentence"]
    assert report["comparison"]["gauc"]["low"] < report["comparison"]["gauc"]["high"], "each row comes with its group"
    assert (tmp_path / "out" / "comparison" / "report.html").is_file()


def test_a_column_of_numbers_is_no_time(tmp_path: Path) -> None:
    with pytest.raises(TrainingSetError, match="price is 'float', expected times"):
        split_days(days(tmp_path), "price", tmp_path / "days")


@pytest.mark.parametrize(
    ("group", "words"),
    [
        ("usr", "group is 'usr', expected a column other than label, score, day"),
        ("user", "user is 'null in [0-9]+ rows', expected a group in every row"),
    ],
)
def test_a_group_that_rows_lack_is_named_before_anything_is_learned(group: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(TrainingSetError, match=words):
        backtest(config(), days(tmp_path), "full", tmp_path / "out", "event_time", print, group)
    assert not (tmp_path / "out").exists()


def test_a_single_day_cannot_be_replayed(tmp_path: Path) -> None:
    pq.write_table(pq.read_table(days(tmp_path)).slice(0, 100), tmp_path / "one.parquet")
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(config().model_dump(mode="json")))
    given = ["--config", tmp_path / "c.yaml", "--data", tmp_path / "one.parquet", "--out", tmp_path / "out"]
    said = CliRunner().invoke(app, ["backtest", *map(str, given), "--mode", "full"])
    assert said.exit_code == 2
    assert "expected rows of at least two days" in said.stderr


def test_a_backtest_goes_on_with_its_own_configuration_and_data_alone(tmp_path: Path) -> None:
    pq.write_table(table(30), tmp_path / "rows.parquet")
    _check_same(config(), tmp_path / "rows.parquet", "event_time", tmp_path / "out")
    _check_same(config(), tmp_path / "rows.parquet", "event_time", tmp_path / "out")
    with pytest.raises(ConfigError, match="another config made this one"):
        _check_same(config("dlrm"), tmp_path / "rows.parquet", "event_time", tmp_path / "out")
