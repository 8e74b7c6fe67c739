"""Training, the serving twin, ONNX: one model, three forms."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from tidegate_api.errors import TidegateError
from tidegate_components.evaluation.gate import GateError, judge, require
from tidegate_components.evaluation.report import render_report
from tidegate_components.models.arrays import read_set, read_sets
from tidegate_components.models.config import with_settings
from tidegate_components.models.inputs import TrainingSetError
from tidegate_components.packaging.onnx_export import onnx_scores
from tidegate_components.training.loop import train
from tidegate_components.training.split import split_by_time
from unit.components.trained import CONFIG, Trained


def test_the_same_seed_gives_the_same_weights(trained: Trained, tmp_path: Path) -> None:
    train(trained.sets[0], trained.sets[1], tmp_path / "again", CONFIG)
    with (
        np.load(tmp_path / "again" / "weights.npz") as again,
        np.load(trained.folder / "model" / "weights.npz") as first,
    ):
        assert all(np.array_equal(again[name], first[name]) for name in first.files)


def test_the_model_has_learned_from_the_validation_set_too(trained: Trained) -> None:
    from tidegate_components.models.scoring import Scorer

    assert Scorer.load(trained.folder / "model").inputs == read_sets(*trained.sets[:2])[1]


def test_a_model_of_another_release_is_refused_with_a_sentence(trained: Trained, tmp_path: Path) -> None:
    from tidegate_components.models.scoring import Scorer

    old = tmp_path / "model"
    shutil.copytree(trained.folder / "model", old)
    config = json.loads((old / "config.json").read_text())
    del config["format"]
    (old / "config.json").write_text(json.dumps(config))
    with pytest.raises(TidegateError, match="format is 1, expected 2; train it anew"):
        Scorer.load(old)


def test_the_chosen_epoch_is_the_best_on_rows_that_the_trial_has_not_seen(trained: Trained, tmp_path: Path) -> None:
    """Labels turned around in the validation set: each epoch makes it worse, so patience ends the trial early."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    table = pq.read_table(trained.sets[1])
    turned = table.set_column(table.column_names.index("label"), "label", pc.subtract(1, table["label"]))
    pq.write_table(turned.cast(table.schema), tmp_path / "turned.parquet")
    patient = with_settings(CONFIG, {"training.epochs": 20, "training.early_stopping.patience": 1})
    tried = train(trained.sets[0], tmp_path / "turned.parquet", tmp_path / "model", patient)
    assert len(tried) < 20
    assert all(epoch.validation_auc < 0.5 < epoch.validation_logloss for epoch in tried)


def test_clicks_are_read_as_a_share_of_the_impressions_of_their_view(trained: Trained) -> None:
    _, inputs = read_set(trained.sets[0])
    kinds = {numeric.column: numeric.kind for numeric in inputs.numerics}
    assert kinds["item-popularity__clicks_30d"] == "share"
    assert kinds["item-popularity__impressions_30d"] == "evidence"
    shares = [numeric for numeric in inputs.numerics if numeric.kind == "share"]
    rested_on = [inputs.numerics[numeric.evidence].column for numeric in shares]
    assert rested_on == [numeric.column.replace("clicks", "impressions") for numeric in shares]


def test_what_the_layers_see_is_standardized(trained: Trained) -> None:
    import torch

    from tidegate_components.models.numbers import read_numbers

    rows, inputs = read_set(trained.sets[0])
    seen = read_numbers(inputs.numerics, torch.from_numpy(rows.dense)).numpy()
    scaled = (seen - [n.mean for n in inputs.numerics]) / [n.std for n in inputs.numerics]
    np.testing.assert_allclose(scaled.mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(scaled.std(axis=0), 1, atol=1e-4)


def test_training_and_test_share_no_instant_and_the_past_comes_first(trained: Trained) -> None:
    import pyarrow.parquet as pq

    times = [pq.read_table(part)["event_time"].to_pylist() for part in trained.sets]
    assert max(times[0]) < min(times[1]) <= max(times[1]) < min(times[2])


def test_onnx_agrees_with_torch_for_any_id_and_any_batch(trained: Trained) -> None:
    from tidegate_components.models.scoring import Scorer

    scorer = Scorer.load(trained.folder / "model")
    onnx = trained.package / "repository" / "ctr-ranker" / "1" / "model.onnx"
    rows, _ = read_set(trained.sets[2], scorer.inputs)
    ids = rows.ids.copy()
    ids[:20] *= np.arange(-3, 17)[:, None] * 1_000_003
    for size in (1, 7, len(ids)):
        expected = scorer.scores(ids[:size], rows.dense[:size])
        np.testing.assert_allclose(onnx_scores(onnx, ids[:size], rows.dense[:size]), expected, atol=1e-5)


def test_without_folding_only_unknown_ids_fail(trained: Trained, tmp_path: Path) -> None:
    from tidegate_components.packaging.package import package_model
    from unit.components.trained import PROVENANCE

    args = (trained.folder / "model", trained.sets[2], trained.folder / "report.html", tmp_path / "package", PROVENANCE)
    package_model(*args, unknown_ids="error")
    onnx = tmp_path / "package" / "repository" / "ctr-ranker" / "1" / "model.onnx"
    rows, _ = read_set(trained.sets[2])
    assert np.isfinite(onnx_scores(onnx, rows.ids[:5], rows.dense[:5])).all()
    strangers = rows.ids[:5].copy()
    strangers[2, 0] = 10_000
    with pytest.raises(Exception, match=r"INVALID_ARGUMENT|out of bounds|invalid index"):
        onnx_scores(onnx, strangers, rows.dense[:5])


def test_a_set_of_one_class_is_refused(trained: Trained, tmp_path: Path) -> None:
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    table = pq.read_table(trained.sets[0])
    pq.write_table(table.filter(pc.equal(table["label"], 1)), tmp_path / "ones.parquet")
    with pytest.raises(TrainingSetError, match="expected rows with label 0 and rows with label 1"):
        read_set(tmp_path / "ones.parquet")


def test_samples_of_one_instant_cannot_be_split(trained: Trained, tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    pq.write_table(pq.read_table(trained.sets[0]).slice(0, 1), tmp_path / "one.parquet")
    with pytest.raises(TrainingSetError, match="give samples of a longer time"):
        split_by_time(tmp_path / "one.parquet", *(tmp_path / f"{n}.parquet" for n in "abc"))


def test_the_report_says_who_wins_and_by_what(trained: Trained) -> None:
    page = render_report(trained.evaluation, "ctr-ranker", {"data": "<shop>"})
    assert trained.evaluation.headline.replace("&", "&amp;") in page
    assert "&lt;shop&gt;" in page
    assert "<script" not in page
    assert all(name in page for name in ("AUC", "GAUC", "LogLoss", "Calibration", "NDCG@10", "Popularity"))


def test_the_manifest_names_every_column_with_its_view(trained: Trained) -> None:
    manifest = json.loads((trained.package / "model.json").read_text())
    ids, dense = manifest["inputs"]
    assert [f["name"] for f in ids["features"]][:2] == ["user_id", "item_id"]
    assert {f["view"] for f in dense["features"]} == {"user-activity", "item-popularity"}
    assert all(len(f["schemaHash"]) == 64 for f in dense["features"])


@pytest.mark.parametrize(
    ("challenger", "champion", "passed", "words"),
    [
        ({"auc": 0.7}, {}, True, "no champion"),
        ({"auc": 0.7}, {"auc": 0.702}, True, "passes: challenger AUC 0.7000, champion version 3 0.7020"),
        ({"auc": 0.7}, {"auc": 0.703}, False, "worse than champion version 3 by more than the margin"),
        ({"auc": float("nan")}, {"auc": 0.5}, False, "cannot be judged"),
        ({}, {}, False, "cannot be judged"),
    ],
)
def test_the_gate(challenger: dict[str, float], champion: dict[str, float], passed: bool, words: str) -> None:
    verdict = judge(challenger, champion, 0.0025, "champion version 3")
    assert verdict.passed is passed
    assert words in verdict.sentence
    if not passed:
        with pytest.raises(GateError, match="raise gate_margin"):
            require(verdict, "ctr-ranker")
