"""The gate on the same rows, and what explains a model."""

from __future__ import annotations

import json
import os
import shutil
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from kfp import dsl
from typer.testing import CliRunner

from tidegate_components.evaluation.champion import Known, judge_on_rows
from tidegate_components.evaluation.explain import attributions, input_names, permutation_importance
from tidegate_components.evaluation.gate import GateError
from tidegate_components.models.arrays import Arrays, read_set
from tidegate_components.models.scoring import Scorer
from tidegate_components.steps import kfp_components as steps
from tidegate_pipelines.cli_evaluate import app
from unit.components.trained import Trained

RECORDED = {"auc": 0.7}


def champion_of(trained: Trained, **changes: str) -> Known:
    return Known("4", {"auc": 0.69}, **{"package_uri": str(trained.package), "digest": trained.digest, **changes})


def test_a_challenger_that_is_the_champion_passes_with_no_difference(trained: Trained) -> None:
    found = judge_on_rows(champion_of(trained), RECORDED, 0.001, trained.folder / "model", trained.sets[2])
    assert found.verdict.passed
    assert "champion version 4 0." in found.verdict.sentence
    assert found.compared["auc"].difference == pytest.approx(0, abs=1e-4)


def test_a_challenger_that_ranks_worse_on_the_same_rows_fails_whatever_was_recorded(
    trained: Trained, tmp_path: Path
) -> None:
    scorer = Scorer.load(trained.folder / "model")
    rng = np.random.default_rng(1)
    for table in scorer.tables.values():
        table.data += table.data.new_tensor(rng.normal(0, 0.5, table.shape))
    scorer.save(tmp_path / "worse")
    found = judge_on_rows(champion_of(trained), {"auc": 0.99}, 0.001, tmp_path / "worse", trained.sets[2])
    assert not found.verdict.passed
    assert "champion version 4" in found.verdict.sentence
    assert found.verdict.sentence.startswith("The challenger fails: it is")


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"package_uri": "/nowhere"}, "champion could not score these rows: package /nowhere"),
        ({"digest": "sha256:" + "0" * 64}, "champion could not score these rows"),
    ],
)
def test_without_the_champions_package_recorded_aucs_decide_and_the_sentence_says_so(
    trained: Trained, changes: dict[str, str], why: str
) -> None:
    known = champion_of(trained, **changes)
    found = judge_on_rows(known, RECORDED, 0.001, trained.folder / "model", trained.sets[2])
    assert found.verdict.passed
    assert "Only recorded AUCs were compared" in found.verdict.sentence
    assert why in found.verdict.sentence
    assert not found.compared


def test_a_column_that_only_the_champion_reads_leaves_recorded_aucs(trained: Trained, tmp_path: Path) -> None:
    scorer = Scorer.load(trained.folder / "model")
    lacking = pq.read_table(trained.sets[2]).drop_columns([scorer.inputs.numeric_columns[0]])
    pq.write_table(lacking, tmp_path / "lacking.parquet")
    found = judge_on_rows(champion_of(trained), RECORDED, 0.001, trained.folder / "model", tmp_path / "lacking.parquet")
    assert found.verdict.passed
    assert f"expected a column {scorer.inputs.numeric_columns[0]}" in found.verdict.sentence


def test_a_package_behind_mlflows_artifact_proxy_is_read_through_the_given_server(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    shutil.copytree(trained.package, tmp_path / "api/2.0/mlflow-artifacts/artifacts/1/run/artifacts/package")
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        known = champion_of(trained, package_uri="mlflow-artifacts:/1/run/artifacts/package")
        address = f"http://127.0.0.1:{server.server_port}"
        found = judge_on_rows(known, RECORDED, 0.001, trained.folder / "model", trained.sets[2], address)
        server.shutdown()
    assert found.compared, found.verdict.sentence
    assert "MLFLOW_TRACKING_URI" not in os.environ


def test_the_gate_step_shows_what_was_compared(trained: Trained, tmp_path: Path) -> None:
    def artifact(kind: Any, path: Path) -> Any:
        return kind(name=path.name, uri=str(path), metadata={})

    known = champion_of(trained)
    champion = json.dumps({
        "version": "4", "metrics": {"auc": 0.69}, "package_uri": known.package_uri, "digest": known.digest,
    })  # fmt: skip
    verdict = artifact(dsl.Markdown, tmp_path / "verdict")
    rows = artifact(dsl.Model, trained.folder / "model"), artifact(dsl.Dataset, trained.sets[2])
    sentence = steps.gate.python_func(
        json.dumps({"wide_deep": RECORDED}), champion, 0.01, "ctr-ranker", verdict, *rows
    )  # fmt: skip
    text = Path(verdict.path).read_text()
    assert text.startswith(f"**Passed.** {sentence}")
    assert "| logloss |" in text
    with pytest.raises(GateError, match="cannot be judged"):
        steps.gate.python_func(json.dumps({"wide_deep": {}}), json.dumps({"version": ""}), 0.01, "m", verdict)


def by_the_first_number(ids: Any, dense: Any) -> Any:
    return 1 / (1 + np.exp(-dense[:, 0]))


def test_only_what_is_read_is_important(trained: Trained) -> None:
    scorer = Scorer.load(trained.folder / "model")
    rows, inputs = read_set(trained.sets[2], scorer.inputs)
    dense = np.random.default_rng(2).normal(size=rows.dense.shape).astype(np.float32)
    seeded = Arrays(rows.ids, dense, (dense[:, 0] > 0).astype(np.float32))
    found = permutation_importance(by_the_first_number, seeded, inputs, repeats=3)
    assert found[0].name == inputs.numeric_columns[0]
    assert found[0].low > 0.3
    assert all(one.loss == 0 for one in found[1:])


def test_an_attribution_is_the_score_less_the_score_without_the_input(trained: Trained) -> None:
    scorer = Scorer.load(trained.folder / "model")
    rows, inputs = read_set(trained.sets[2], scorer.inputs)
    some = Arrays(rows.ids[:40], rows.dense[:40], rows.labels[:40])
    found = attributions(scorer, some)
    names = input_names(inputs)
    assert found.shape == (40, len(names))
    ids = some.ids.copy()
    ids[:, inputs.columns_of("item")] = -1
    wanted = scorer.scores(some.ids, some.dense) - scorer.scores(ids, some.dense)
    np.testing.assert_allclose(found[:, names.index("item")], wanted, atol=1e-6)
    dense = some.dense.copy()
    dense[:, 1] = np.median(some.dense[:, 1])
    wanted = scorer.scores(some.ids, some.dense) - scorer.scores(some.ids, dense)
    np.testing.assert_allclose(found[:, names.index(inputs.numeric_columns[1])], wanted, atol=1e-6)


def test_explain_writes_report_importance_and_attributions(trained: Trained, tmp_path: Path) -> None:
    command = ["explain", "--model", str(trained.folder / "model"), "--data", str(trained.sets[2]), "--rows", "200"]
    done = CliRunner().invoke(app, [*command, "--repeats", "2", "--out", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    found = json.loads((tmp_path / "out" / "explanation.json").read_text())
    assert (found["rows"], len(found["importance"])) == (200, len(found["mean_effect"]))
    table = pq.read_table(tmp_path / "out" / "attributions.parquet")
    assert table.num_rows == 200
    assert set(found["mean_effect"]) <= set(table.column_names)
    assert "What does it look at?" in (tmp_path / "out" / "report.html").read_text()


def test_a_folder_that_is_no_model_is_refused(trained: Trained, tmp_path: Path) -> None:
    command = ["explain", "--model", str(tmp_path), "--data", str(trained.sets[2]), "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(app, command)
    assert (done.exit_code, "expected the folder that training wrote" in done.stderr) == (2, True)


def test_the_training_report_tells_intervals_differences_and_importance(trained: Trained) -> None:
    evaluation = trained.evaluation
    low, high = evaluation.intervals["wide_deep"]["auc"]
    assert low < evaluation.metrics["wide_deep"]["auc"] < high
    assert set(evaluation.differences) == {"popularity", "logistic_regression"}
    page = (trained.folder / "report.html").read_text()
    assert "Could the difference be chance?" in page
    assert "Has the data moved since training?" in page
    assert {"label", *(name for name, *_ in evaluation.importance if "__" in name)} == {n for n, *_ in evaluation.drift}
    assert all(name in page for name, *_ in evaluation.importance)
