"""Versions as people handle them, on a real MLflow server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import yaml
from typer.testing import CliRunner

from tidegate_components.packaging.batch import score_files
from tidegate_components.packaging.fetch import fetch
from tidegate_components.packaging.score import open_package
from tidegate_components.packaging.signature import PRIVATE, PUBLIC, keygen, sign
from tidegate_components.registry.connection import connected
from tidegate_components.registry.lineage import View, lineage
from tidegate_components.registry.mlflow_registry import Registered, register
from tidegate_components.registry.status import StatusError, archive, promote, roll_back
from tidegate_components.registry.versions import NoSuchVersionError, find, list_versions, side_by_side
from tidegate_pipelines.cli import app
from unit.components.packaged import CONFIG, NAME, list_anew, manifest, tiny_package

pytestmark = pytest.mark.xdist_group("mlflow")  # one server for all

runner = CliRunner()


@pytest.fixture
def model(request: pytest.FixtureRequest) -> str:
    """A registered model of the test's own."""
    return request.node.name.replace("_", "-")[:50].strip("-")


def package_of(folder: Path, name: str, run: str, data: str = "0") -> Path:
    """A package of model `name` that differs by its run and training data."""
    package = tiny_package(folder / run)
    (package / "repository" / NAME).rename(package / "repository" / name)
    config = package / CONFIG.replace(NAME, name)
    config.write_text(config.read_text().replace(NAME, name))
    (package / "model.json").write_text(
        json.dumps(manifest(name=name, run=run, version=run, dataDigest=f"sha256:{data * 64}"))
    )
    list_anew(package)
    return package


def registered(url: str, package: Path, auc: float, **params: str) -> Registered:
    return register(url, package, open_package(package).digest, "challenger", params, {"auc": auc})


def alias(url: str, model: str, name: str, version: str, outcome: str = "promoted") -> None:
    """What the operator does after a rollout."""
    with connected(url) as client:
        client.set_registered_model_alias(model, name, version)
        client.set_model_version_tag(model, version, "tidegate.outcome", outcome)


@pytest.fixture
def three(mlflow_url: str, model: str, tmp_path: Path) -> list[Registered]:
    return three_versions(mlflow_url, model, tmp_path)


READ_ONLY = "read-ranker"


@pytest.fixture(scope="module")
def read_only(mlflow_url: str, tmp_path_factory: pytest.TempPathFactory) -> list[Registered]:
    """Made once, for tests that change nothing."""
    return three_versions(mlflow_url, READ_ONLY, tmp_path_factory.mktemp("versions"))


def three_versions(mlflow_url: str, model: str, tmp_path: Path) -> list[Registered]:
    """Three versions; 1 and 2 were promoted, 2 is champion, 3 is challenger."""
    made = [
        registered(mlflow_url, package_of(tmp_path, model, f"run-{n}", str(n)), 0.7 + n / 100, epochs=str(n), seed="7")
        for n in (1, 2, 3)
    ]
    alias(mlflow_url, model, "champion", made[0].version)
    alias(mlflow_url, model, "champion", made[1].version)
    return made


def test_status_follows_the_aliases(mlflow_url: str, read_only: list[Registered]) -> None:
    found = list_versions(mlflow_url, READ_ONLY)
    assert [(one.version, one.status, one.aliases) for one in found] == [
        ("3", "staging", ["challenger"]), ("2", "production", ["champion"]), ("1", "registered", []),
    ]  # fmt: skip
    third = found[0]
    assert (third.digest, third.metrics, third.params) == (
        read_only[2].digest,
        {"auc": 0.73},
        {"epochs": "3", "seed": "7"},
    )
    assert (third.data_digest, third.code_version, third.run) == ("sha256:" + "3" * 64, "code-1", "run-3")
    assert third.feature_views == {"items": "f" * 64}
    assert find(mlflow_url, READ_ONLY, "@champion") == find(mlflow_url, READ_ONLY, read_only[1].digest) == found[1]


def test_promoting_moves_challenger_and_never_champion(mlflow_url: str, model: str, three: list[Registered]) -> None:
    assert promote(mlflow_url, model, "1").aliases == ["challenger"]
    assert [one.status for one in list_versions(mlflow_url, model)] == ["registered", "production", "staging"]
    with connected(mlflow_url) as client:
        tags = {
            str(v.version): v.tags.get("tidegate.status") for v in client.search_model_versions(f"name = '{model}'")
        }
    assert tags == {"1": "staging", "2": None, "3": None}


def test_rolling_back_points_at_the_version_promoted_before(
    mlflow_url: str, model: str, three: list[Registered]
) -> None:
    assert roll_back(mlflow_url, model).version == "1"
    assert find(mlflow_url, model, "@champion").version == "2"
    promote(mlflow_url, model, "3")
    archive(mlflow_url, model, "1")
    with pytest.raises(
        StatusError, match=r"expected an earlier version that a rollout promoted.*tidegate model promote"
    ):
        roll_back(mlflow_url, model)


def test_a_version_that_an_alias_names_is_not_archived(mlflow_url: str, model: str, three: list[Registered]) -> None:
    with pytest.raises(StatusError, match=r"aliases is \['champion'\].*roll another version out first"):
        archive(mlflow_url, model, "2")
    with pytest.raises(StatusError, match=r"aliases is \['challenger'\].*tidegate model promote"):
        archive(mlflow_url, model, "@challenger")
    assert archive(mlflow_url, model, "1").status == "archived"
    assert promote(mlflow_url, model, "1").status == "staging"


def test_two_versions_side_by_side(mlflow_url: str, read_only: list[Registered]) -> None:
    found = side_by_side(mlflow_url, READ_ONLY, "@champion", "@challenger")
    assert found.metrics == {"auc": (0.72, 0.73)}
    assert found.params == {"epochs": ("2", "3")}
    assert found.feature_views == {}
    assert set(found.facts) == {"digest", "data_digest", "run", "status"}


def test_what_is_not_there_is_named_with_what_is(mlflow_url: str, read_only: list[Registered]) -> None:
    with pytest.raises(NoSuchVersionError, match=rf"name is 'nope', expected a registered model \(.*{READ_ONLY}"):
        list_versions(mlflow_url, "nope")
    for reference in ("9", "@nobody", "sha256:12"):
        with pytest.raises(NoSuchVersionError, match=rf"version is '{reference}', expected a version \(1, 2, 3\)"):
            find(mlflow_url, READ_ONLY, reference)


def test_a_signature_is_kept_also_one_that_came_later(
    mlflow_url: str, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keygen(tmp_path / "keys")
    package = package_of(tmp_path, model, "run-1")
    first = registered(mlflow_url, package, 0.7)
    assert not find(mlflow_url, model, "1").signed
    sign(package, tmp_path / "keys" / PRIVATE)
    assert registered(mlflow_url, package, 0.7) == first
    assert find(mlflow_url, model, "1").signed
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_url)
    assert fetch(first.package_uri, first.digest, tmp_path / "into", tmp_path / "keys" / PUBLIC).is_dir()


def test_a_prediction_leads_back_to_the_events(mlflow_url: str, model: str, tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    package = package_of(tmp_path, model, "run-1", "5")
    registered(mlflow_url, package, 0.7)
    pq.write_table(pa.table({"user_id": [1], "item_id": [2], "price": [0.5]}), tmp_path / "in.parquet")
    score_files(open_package(package), tmp_path / "in.parquet", tmp_path / "scores.parquet")
    view = {"apiVersion": "tidegate.dev/v1alpha1", "kind": "FeatureView", "metadata": {"name": "items"}, "spec": VIEW}
    (tmp_path / "views").mkdir()
    (tmp_path / "views" / "items.yaml").write_text(yaml.safe_dump(view))
    words = ["model", "lineage", "--predictions", str(tmp_path / "scores.parquet"), "--views", str(tmp_path / "views")]
    said = runner.invoke(app, [*words, "--mlflow-uri", mlflow_url])
    assert said.exit_code == 0, said.output
    lines = said.output.splitlines()
    assert [line.split("<- ")[-1].split()[0] for line in lines] == [
        "predictions", "model", "package", "training", "run", "view", "events",
    ]  # fmt: skip
    assert "sha256:" + "5" * 64 in lines[3]
    assert "which has changed since" in lines[5]
    assert "pvc://lake/interactions" in lines[6]
    traced = lineage(mlflow_url, model, "1", {"items": View("f" * 64, "pvc://lake/x")})
    assert [(v.name, v.source, v.unchanged) for v in traced.views] == [("items", "pvc://lake/x", True)]


VIEW: dict[str, Any] = {
    "entity": {"name": "item", "joinKeys": [{"name": "item_id", "type": "Int64"}]},
    "source": {"parquet": {"uri": "pvc://lake/interactions"}, "eventTimestamp": "event_time"},
    "features": [{"name": "clicks_7d", "type": "Int64", "aggregate": {"function": "count", "window": "7d"}}],
    "offline": {"uri": "pvc://lake/features/item"},
    "online": {"redis": {"url": "redis://redis:6379/0"}},
    "materialization": {"schedule": "*/15 * * * *"},
}


def test_the_command_line_tells_all_of_it(mlflow_url: str, model: str, three: list[Registered]) -> None:
    def run(*words: str) -> str:
        done = runner.invoke(app, ["model", *words, "--mlflow-uri", mlflow_url])
        assert done.exit_code == 0, done.output
        return done.output

    header, newest, *_ = run("list", model).splitlines()
    assert header.split() == ["MODEL", "VERSION", "STATUS", "ALIASES", "AUC", "CREATED", "DIGEST"]
    assert newest.split()[1:5] == ["3", "staging", "challenger", "0.7300"]
    assert {one["version"] for one in json.loads(run("list", model, "--json"))} == {"1", "2", "3"}
    shown = run("show", model, "@champion")
    assert "status          production" in shown
    assert three[1].digest in shown
    assert json.loads(run("show", model, "2", "--json"))["metrics"] == {"auc": 0.72}
    assert "+0.01" in run("diff", model, "@champion", "@challenger")
    assert "are the same" in run("diff", model, "2", "@champion")
    assert "challenger of" in run("promote", model, "1")
    assert "is archived" in run("archive", model, "3")
    assert "version 1 (staging)" in run("rollback", model)


def test_the_command_line_registers_what_was_packaged(mlflow_url: str, model: str, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text('{"settings": {"training": {"seed": 7, "epochs": 2}, "name": "x"}}')
    words = ["model", "register", str(package_of(tmp_path, model, "run-1")), "--run", str(tmp_path / "run")]
    done = runner.invoke(app, [*words, "--mlflow-uri", mlflow_url, "--json"])
    assert done.exit_code == 0, done.output
    found = find(mlflow_url, model, json.loads(done.stdout)["version"])
    assert (found.status, found.metrics) == ("staging", {"auc": 0.7})
    assert found.params == {"training.seed": "7", "training.epochs": "2", "name": "x"}


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["show", "nope", "1"], 2, "expected a registered model"),
        (["archive", "nope", "1"], 2, "`tidegate model list` shows what there is"),
        (["lineage"], 2, "expected NAME VERSION, or --predictions FILE"),
        (["lineage", "--predictions", "/nowhere.parquet"], 2, "expected Parquet that `tidegate model score` wrote"),
    ],
)
def test_wrong_words_are_answered_with_a_sentence(mlflow_url: str, words: list[str], code: int, said: str) -> None:
    done = runner.invoke(app, ["model", *words, "--mlflow-uri", mlflow_url])
    assert (done.exit_code, said in done.output) == (code, True), done.output


def test_a_registry_that_does_not_answer_is_failure_and_not_bad_input() -> None:
    done = runner.invoke(app, ["model", "list", "--mlflow-uri", "http://127.0.0.1:1"])
    assert (done.exit_code, "check the address and that the server is up" in done.output) == (1, True)
