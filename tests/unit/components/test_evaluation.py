"""`tidegate evaluate`: what it writes, what it refuses, and how it compares."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import log_loss, roc_auc_score
from typer.testing import CliRunner

from tidegate_pipelines.cli_evaluate import app

runner = CliRunner()


def predictions(rows: int = 2000, seed: int = 1, noise: float = 0.0) -> dict[str, Any]:
    """Seeded impressions of fifty users; `noise` makes the score worse and leaves the rest."""
    rng = np.random.default_rng(seed)
    appeal, users = rng.normal(size=rows), rng.integers(0, 50, rows)
    labels = (rng.random(rows) < 1 / (1 + np.exp(1 - appeal))).astype(np.int64)
    blurred = appeal + noise * np.random.default_rng(99).normal(size=rows)
    return {
        "label": labels, "score": 1 / (1 + np.exp(1 - blurred)), "user_id": users, "request": np.arange(rows),
        "gender": np.where(users % 2, "f", "m"), "age": 18 + users % 45, "w": rng.integers(1, 5, rows) / 2.0,
    }  # fmt: skip


def write(path: Path, **changes: Any) -> Path:
    pq.write_table(pa.table({**predictions(), **changes}), path)
    return path


def evaluate(folder: Path, *words: str, file: Path | None = None) -> Any:
    file = file or write(folder / "p.parquet")
    command = ["evaluate", "--predictions", str(file), "--label", "label", "--score", "score", "--out"]
    return runner.invoke(app, [*command, str(folder / "out"), "--bootstrap", "200", *words])


def metrics(folder: Path) -> Any:
    return json.loads((folder / "out" / "metrics.json").read_text(), parse_constant=pytest.fail)


def test_the_figures_are_those_of_scikit_learn(tmp_path: Path) -> None:
    done = evaluate(tmp_path, "--group", "user_id", "--weight", "w")
    assert done.exit_code == 0, done.output
    given, found = predictions(), metrics(tmp_path)
    labels, scores, weights = (given[name] for name in ("label", "score", "w"))
    wanted = {
        "auc": roc_auc_score(labels, scores, sample_weight=weights),
        "logloss": log_loss(labels, scores, sample_weight=weights),
        "calibration": weights @ scores / (weights @ labels),
    }
    for name, value in wanted.items():
        assert math.isclose(found[name]["value"], value, rel_tol=1e-9)
        assert found[name]["low"] < value < found[name]["high"]
    assert (found["rows"], found["groups"], len(found["reliability"])) == (2000, 50, 10)
    assert "verdict" not in found


def test_without_groups_what_needs_them_is_null_and_says_why(tmp_path: Path) -> None:
    assert evaluate(tmp_path).exit_code == 0
    assert metrics(tmp_path)["gauc"] == {"value": None, "low": None, "high": None, "reason": "no --group was given"}


def test_one_class_only_is_told_and_not_a_crash(tmp_path: Path) -> None:
    file = write(tmp_path / "p.parquet", label=np.zeros(2000, dtype=np.int64))
    done = evaluate(tmp_path, "--group", "user_id", file=file)
    assert done.exit_code == 0, done.output
    found = metrics(tmp_path)
    assert found["auc"]["reason"] == "one class only: every label is 0"
    assert [found[name]["value"] for name in ("auc", "gauc", "calibration", "normalized_entropy")] == [None] * 4
    assert found["logloss"]["value"] > 0


def test_slices_cover_every_row(tmp_path: Path) -> None:
    genders = [*predictions()["gender"][:-1], None]
    file = write(tmp_path / "p.parquet", gender=genders, share=np.linspace(0, 1, 2000))
    done = evaluate(
        tmp_path, "--group", "user_id", "--slice", "gender", "--slice", "share", "--slice", "age", file=file
    )
    assert done.exit_code == 0, done.output
    found = metrics(tmp_path)["slices"]
    by_column = {name: [one for one in found if one["column"] == name] for name in ("gender", "share", "age")}
    assert [one["name"] for one in by_column["gender"]] == ["gender = f", "gender = m", "gender = (none)"]
    assert len(by_column["share"]) == 5
    assert all(sum(one["rows"] for one in parts) == 2000 for parts in by_column.values())
    assert by_column["gender"][0]["auc"]["low"] < by_column["gender"][0]["auc"]["value"]
    assert by_column["gender"][2]["auc"]["value"] is None


def test_the_categories_of_pandas_are_plain_values(tmp_path: Path) -> None:
    """As `train --keep` writes a column of an input that pandas has written."""
    given = predictions()
    coded = {**given, "gender": pa.array(given["gender"]).dictionary_encode()}
    pq.write_table(pa.table(coded), tmp_path / "p.parquet")
    words = ("--group", "user_id", "--slice", "gender", "--reference", str(tmp_path / "p.parquet"))
    done = evaluate(tmp_path, *words, file=tmp_path / "p.parquet")
    assert done.exit_code == 0, done.output
    found = metrics(tmp_path)
    assert [one["name"] for one in found["slices"]] == ["gender = f", "gender = m"]
    assert "gender" in {one["column"] for one in found["drift"]["columns"]}


def test_ids_of_64_bits_times_and_decimals_are_taken_as_they_are(tmp_path: Path) -> None:
    given = predictions()
    wide = pa.array(2**63 + given["user_id"].astype(np.uint64), pa.uint64())
    times = pa.array(1_767_225_600_000_000 + np.arange(2000) * 60_000_000, pa.timestamp("us", tz="UTC"))
    scores = pa.array(given["score"]).cast(pa.decimal128(18, 17), safe=False)
    file = write(tmp_path / "p.parquet", user_id=wide, at=times, score=scores, big=np.arange(2000) + 2**60)
    done = evaluate(tmp_path, "--group", "user_id", "--slice", "at", "--slice", "big", file=file)
    assert done.exit_code == 0, done.output
    names = [one["name"] for one in metrics(tmp_path)["slices"]]
    assert metrics(tmp_path)["groups"] == 50
    assert names[0] == "at 2026-01-01 00:00:00+00:00 to 2026-01-01 06:39:00+00:00"
    assert len(names) == 10
    assert names[5].startswith(f"big {2**60} to 11529215046068"), "with all digits"


@pytest.mark.parametrize(
    ("changes", "words", "sentence"),
    [
        ({"label": [0, 2, 1] + [0] * 1997}, [], "column label, row 2 is 2.0, expected 0 or 1"),
        ({"score": [0.5, math.nan] + [0.5] * 1998}, [], "column score, row 2 is nan, expected a prob"),
        ({"score": [None] + [0.5] * 1999}, [], "column score, row 1 is None, expected a probability"),
        ({"score": [1.5] + [0.5] * 1999}, [], "is 1.5, expected a probability from 0 to 1"),
        ({"score": ["high"] * 2000}, [], "column score is 'string', expected numbers"),
        ({"w": [-1.0] * 2000}, ["--weight", "w"], "column w, row 1 is -1.0, expected a finite weight"),
        ({"w": [0.0] * 2000}, ["--weight", "w"], "expected a weight above 0 in some row"),
        ({"user_id": [None] + [1] * 1999}, ["--group", "user_id"], "expected a group in every row"),
        ({"user_id": [1.0, math.nan] * 1000}, ["--group", "user_id"], "row 2 is nan, expected a group in every row"),
        ({}, ["--group", "who"], "column is 'who', expected one of the columns age, gender, label"),
        ({"gender": [["f"]] * 2000}, ["--slice", "gender"], "column gender is 'list<element: string>', expected plain"),
        ({"user_id": [[1]] * 2000}, ["--group", "user_id"], "expected plain values, no lists or structs"),
        ({}, ["--margin", "auc=-1"], "--margin is 'auc=-1', expected METRIC=LOSS with one of auc, gauc"),
        ({}, ["--margin", "speed=1"], "expected METRIC=LOSS"),
        ({}, ["--confidence", "1"], "--confidence is 1.0, expected from 0.5 to below 1"),
        ({}, ["--baseline", "nowhere.parquet"], "expected a Parquet file, folder or glob; check the path"),
    ],
)
def test_what_is_wrong_is_said_with_file_column_and_row(
    changes: dict[str, Any], words: list[str], sentence: str, tmp_path: Path
) -> None:
    done = evaluate(tmp_path, *words, file=write(tmp_path / "p.parquet", **changes))
    assert done.exit_code == 2, done.output
    assert sentence in done.stderr
    assert not (tmp_path / "out").exists()


def test_an_empty_or_broken_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 no")
    pq.write_table(pa.table(predictions()).slice(0, 0), tmp_path / "empty.parquet")
    for name, words in (("broken", "expected readable Parquet"), ("empty", "expected at least one row")):
        done = evaluate(tmp_path, file=tmp_path / f"{name}.parquet")
        assert (done.exit_code, words in done.stderr) == (2, True), done.stderr


def test_a_better_challenger_passes_and_a_worse_one_fails_with_one(tmp_path: Path) -> None:
    good, bad = write(tmp_path / "good.parquet"), tmp_path / "bad.parquet"
    pq.write_table(pa.table(predictions(noise=2.0)), bad)
    done = evaluate(tmp_path, "--group", "user_id", "--baseline", str(bad), file=good)
    assert done.exit_code == 0, done.output
    verdict = metrics(tmp_path)["verdict"]
    assert verdict["passed"]
    assert verdict["sentence"].startswith("The challenger passes: AUC 0.7")
    assert verdict["metrics"]["auc"]["p_value"] < 1e-6
    done = evaluate(tmp_path, "--group", "user_id", "--baseline", str(good), file=bad)
    assert done.exit_code == 1
    assert "it is worse than the baseline, AUC" in metrics(tmp_path)["verdict"]["sentence"]
    page = (tmp_path / "out" / "report.html").read_text()
    assert "The challenger fails" in page
    assert "Is it as good as the baseline?" in page


def test_an_objective_that_cannot_be_judged_does_not_pass(tmp_path: Path) -> None:
    file = write(tmp_path / "p.parquet")
    done = evaluate(tmp_path, "--baseline", str(file), "--margin", "gauc=0.01", file=file)
    assert done.exit_code == 1
    assert "its GAUC cannot be judged on these rows" in metrics(tmp_path)["verdict"]["sentence"]


def test_a_margin_without_a_baseline_is_refused(tmp_path: Path) -> None:
    """It would be a gate that always opens."""
    given = ["--predictions", str(tmp_path / "p.parquet"), "--label", "l", "--score", "s", "--out", str(tmp_path / "o")]
    said = CliRunner().invoke(app, ["evaluate", *given, "--margin", "auc=0.1"])
    assert said.exit_code == 2
    assert "expected a baseline to compare with" in said.stderr


def test_a_baseline_in_another_order_is_joined_by_its_key(tmp_path: Path) -> None:
    order = np.random.default_rng(3).permutation(2000)
    pq.write_table(pa.table(predictions()).take(order), tmp_path / "b.parquet")
    words = ["--group", "user_id", "--baseline", str(tmp_path / "b.parquet")]
    done = evaluate(tmp_path, *words)
    assert done.exit_code == 2
    assert "write both files from the same rows, or give --key" in done.stderr
    assert evaluate(tmp_path, *words, "--key", "request").exit_code == 0
    found = metrics(tmp_path)["verdict"]["metrics"]["auc"]
    assert (found["difference"], found["low"], found["high"], found["p_value"]) == (0, 0, 0, 1)


def test_a_baseline_of_other_rows_is_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table(predictions()).slice(0, 10), tmp_path / "b.parquet")
    done = evaluate(tmp_path, "--baseline", str(tmp_path / "b.parquet"))
    assert (done.exit_code, "expected the 2000 rows of predictions p.parquet" in done.stderr) == (2, True)
    pq.write_table(pa.table({**predictions(), "request": np.arange(2000) + 1}), tmp_path / "b.parquet")
    done = evaluate(tmp_path, "--baseline", str(tmp_path / "b.parquet"), "--key", "request")
    assert (done.exit_code, "expected the key 0 of row 1" in done.stderr) == (2, True), done.stderr


def test_groups_may_be_texts_and_scores_single_precision(tmp_path: Path) -> None:
    users = [f"user-{user}" for user in predictions()["user_id"]]
    scores = pa.array(predictions()["score"], pa.float32())
    evaluate(tmp_path, "--group", "user_id", file=write(tmp_path / "t.parquet", user_id=users))
    texts = metrics(tmp_path)["gauc"]
    evaluate(tmp_path, "--group", "user_id", file=write(tmp_path / "f.parquet", score=scores))
    assert metrics(tmp_path)["gauc"]["value"] == pytest.approx(texts["value"], abs=1e-4)


def test_json_is_the_file_and_progress_goes_elsewhere(tmp_path: Path) -> None:
    done = evaluate(tmp_path, "--json")
    assert json.loads(done.stdout) == metrics(tmp_path)
    assert "2,000 rows" in done.stderr


def test_the_report_stands_alone_and_speaks_plainly(tmp_path: Path) -> None:
    evaluate(tmp_path, "--group", "user_id", "--slice", "gender")
    page = (tmp_path / "out" / "report.html").read_text()
    assert "A clicked row is ranked above one that was not clicked in" in page
    assert "gender = f" in page
    assert not any(word in page for word in ("<script", "http://", "https://", "nan"))


def test_drift_against_earlier_rows_is_in_the_report_and_evidentlys_beside_it(tmp_path: Path) -> None:
    earlier = {**predictions(seed=2), "age": predictions()["age"] + 30}
    pq.write_table(pa.table(earlier), tmp_path / "earlier.parquet")
    done = evaluate(tmp_path, "--group", "user_id", "--reference", str(tmp_path / "earlier.parquet"))
    assert done.exit_code == 0, done.output
    drift = {one["column"]: one["psi"] for one in metrics(tmp_path)["drift"]["columns"]}
    assert drift["age"] > 0.25
    assert drift["score"] < 0.1
    assert "moved far: act" in (tmp_path / "out" / "report.html").read_text()
    assert (tmp_path / "out" / "drift.html").stat().st_size > 10_000
