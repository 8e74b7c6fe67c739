"""Tables and files are scored as the server would score them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from tidegate_components.packaging.batch import SCORED_KEY, Form, Progress, score_files, scored_by
from tidegate_components.packaging.layout import PackageError
from tidegate_components.packaging.score import PackagedModel, ScoringError, open_package, score_table
from tidegate_pipelines.cli import app
from unit.components.packaged import ROWS, tiny_package

runner = CliRunner()


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_package(tmp_path_factory.mktemp("score") / "package")


@pytest.fixture(scope="module")
def model(package: Path) -> PackagedModel:
    return open_package(package)


def rows(count: int, seed: int = 1) -> pa.Table:
    rng = np.random.default_rng(seed)
    return pa.table({
        "request": np.arange(count),
        "user_id": rng.integers(0, ROWS, count),
        "item_id": rng.integers(0, ROWS, count).astype(np.int32),
        "price": rng.normal(size=count),
        "note": [f"row {i}" for i in range(count)],
    })  # fmt: skip


def by_hand(package: Path, table: pa.Table) -> np.ndarray:
    import onnx
    from onnx import numpy_helper

    graph = onnx.load(str(next(package.rglob("model.onnx")))).graph
    held = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    pooled = held["table"][table["user_id"].to_numpy()] + held["table"][table["item_id"].to_numpy()]
    logit = pooled @ held["weights"][:, 0] + table["price"].to_numpy().astype(np.float32)
    return 1 / (1 + np.exp(-logit))


def test_a_table_is_scored_in_order_whatever_its_columns_are_called_beside(package: Path) -> None:
    table = rows(10_000)
    found = score_table(package, table)
    assert (found.dtype, found.shape) == (np.float32, (10_000,))
    np.testing.assert_allclose(found, by_hand(package, table), atol=1e-6)
    shuffled = table.select(table.column_names[::-1])
    np.testing.assert_array_equal(score_table(package, shuffled), found)
    assert score_table(package, table.slice(0, 0)).shape == (0,)


def test_a_table_that_lacks_a_column_or_has_another_kind_is_told_so(model: PackagedModel) -> None:
    with pytest.raises(ScoringError, match=r"model tiny-ranker \(run-tiny\): columns is .*expected a column price"):
        model.score(rows(3).drop_columns(["price"]))
    with pytest.raises(ScoringError, match="price is 'string', expected numbers"):
        model.score(rows(3).set_column(3, "price", pa.array(["a", "b", "c"])))
    with pytest.raises(ScoringError, match=r"rows is .*expected rows that the model can score"):
        model.score(rows(3).set_column(1, "user_id", pa.array([1, 2, ROWS + 1])))


@pytest.mark.parametrize("value", [float("inf"), float("-inf"), 1e39])
def test_a_number_beyond_float32_is_named_by_the_row_of_its_file(
    model: PackagedModel, tmp_path: Path, value: float
) -> None:
    table = rows(2500)
    numbers = table["price"].to_numpy().copy()
    numbers[2300] = value
    source = written(table.set_column(3, "price", pa.array(numbers)), tmp_path / "in.parquet")
    with pytest.raises(ScoringError, match=r"price in row 2301 is .*expected a number, or null"):
        score_files(model, source, tmp_path / "out.parquet", Form(part_rows=1000))
    assert not (tmp_path / "out.parquet").exists()


def test_a_damaged_package_scores_nothing(package: Path, tmp_path: Path) -> None:
    import shutil

    broken = Path(shutil.copytree(package, tmp_path / "broken"))
    (broken / "report.html").write_text("<p>another")
    with pytest.raises(PackageError, match=r"report\.html"):
        score_table(broken, rows(3))


def written(table: pa.Table, path: Path, group: int = 1000) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, row_group_size=group)
    return path


def test_a_file_keeps_its_rows_order_columns_and_metadata(model: PackagedModel, tmp_path: Path) -> None:
    table = rows(12_345).replace_schema_metadata({"mine": "kept"})
    done = score_files(model, written(table, tmp_path / "in.parquet"), tmp_path / "out.parquet", Form(part_rows=3000))
    found = pq.read_table(tmp_path / "out.parquet")
    assert (done.rows, done.reused, done.files, found.num_rows) == (12_345, 0, 1, 12_345)
    assert found.drop_columns(["score"]).equals(table)
    np.testing.assert_array_equal(found["score"].to_numpy(), model.score(table))
    assert found.schema.metadata[b"mine"] == b"kept"
    assert scored_by(tmp_path / "out.parquet")["package"] == model.digest
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.parquet", "out.parquet"]


def test_some_columns_and_another_name_for_the_score(model: PackagedModel, tmp_path: Path) -> None:
    source = written(rows(500), tmp_path / "in.parquet")
    score_files(model, source, tmp_path / "out.parquet", Form("p_click", ("request", "note")))
    found = pq.read_table(tmp_path / "out.parquet")
    assert found.column_names == ["request", "note", "p_click"]
    np.testing.assert_array_equal(found["p_click"].to_numpy(), model.score(rows(500)))


def test_a_folder_becomes_a_folder_and_only_what_is_new_is_scored_again(model: PackagedModel, tmp_path: Path) -> None:
    for day in ("1", "2"):
        written(rows(700, int(day)), tmp_path / "in" / f"day={day}" / "part.parquet")
    assert score_files(model, tmp_path / "in", tmp_path / "out").rows == 1400
    written(rows(50, 3), tmp_path / "in" / "day=3" / "part.parquet")
    written(rows(701, 9), tmp_path / "in" / "day=1" / "part.parquet")
    done = score_files(model, tmp_path / "in", tmp_path / "out")
    assert (done.rows, done.reused, done.files) == (1451, 700, 3)
    for day, seed, count in (("1", 9, 701), ("2", 2, 700), ("3", 3, 50)):
        found = pq.read_table(tmp_path / "out" / f"day={day}" / "part.parquet", partitioning=None)
        np.testing.assert_array_equal(found["score"].to_numpy(), model.score(rows(count, seed)))


def test_no_rows_and_no_row_groups_give_no_rows(model: PackagedModel, tmp_path: Path) -> None:
    score_files(model, written(rows(0), tmp_path / "in.parquet"), tmp_path / "out.parquet")
    found = pq.read_table(tmp_path / "out.parquet")
    assert (found.num_rows, found.column_names[-1]) == (0, "score")


def test_a_column_named_like_the_score_is_not_overwritten(model: PackagedModel, tmp_path: Path) -> None:
    table = rows(5).append_column("score", pa.array([0.0] * 5))
    source = written(table, tmp_path / "in.parquet")
    with pytest.raises(ScoringError, match="--score-column is 'score', expected a name that no column has"):
        score_files(model, source, tmp_path / "out.parquet")
    score_files(model, source, tmp_path / "out.parquet", Form("score", ("request",)))


@pytest.mark.parametrize("out", ["in.parquet", "in.parquet/x.parquet", "notes.txt", "folder"])
def test_what_is_not_scores_is_never_overwritten(model: PackagedModel, tmp_path: Path, out: str) -> None:
    source = written(rows(5), tmp_path / "in.parquet")
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "notes.txt").write_text("mine")
    with pytest.raises(ScoringError, match="--out is"):
        score_files(model, source, tmp_path / out)
    assert (tmp_path / "notes.txt").read_text() == (tmp_path / "folder" / "notes.txt").read_text() == "mine"
    assert pq.read_table(source).equals(rows(5))


class StopError(Exception):
    """Ends a run in its middle."""


def stopping_after(count: int) -> Callable[[Progress], None]:
    def tell(now: Progress) -> None:
        if now.rows >= count:
            raise StopError

    return tell


def test_an_interrupted_run_keeps_its_parts_and_only_those_of_the_same_input(
    model: PackagedModel, tmp_path: Path
) -> None:
    source, out = written(rows(10_000), tmp_path / "in.parquet"), tmp_path / "out.parquet"
    with pytest.raises(StopError):
        score_files(model, source, out, Form(part_rows=1000), stopping_after(5500))
    assert not out.exists()
    again = score_files(model, source, out, Form(part_rows=1000))
    assert 4000 <= again.reused < 10_000
    np.testing.assert_array_equal(pq.read_table(out)["score"].to_numpy(), model.score(rows(10_000)))
    with pytest.raises(StopError):
        score_files(model, written(rows(10_000, 2), source), out, Form(part_rows=1000), stopping_after(5500))
    other = written(rows(10_000, 3), source)
    done = score_files(model, other, out, Form(part_rows=1000))
    assert done.reused == 0
    np.testing.assert_array_equal(pq.read_table(out)["score"].to_numpy(), model.score(rows(10_000, 3)))


RUN = """
import sys
from pathlib import Path
from tidegate_components.packaging.batch import Form, score_files
from tidegate_components.packaging.score import open_package
model = open_package(Path(sys.argv[1]))
tell = lambda now: print(now.rows, flush=True)
score_files(model, Path(sys.argv[2]), Path(sys.argv[3]), Form(part_rows=5000), tell)
"""


def test_kill_9_at_any_moment_loses_no_row_and_repeats_no_finished_part(package: Path, tmp_path: Path) -> None:
    table = rows(150_000)
    source, out = written(table, tmp_path / "in.parquet", 5000), tmp_path / "out.parquet"
    command = [sys.executable, "-c", RUN, str(package), str(source), str(out)]
    kept = 0
    for reached in (1, 40_000, 90_000):
        child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
        assert child.stdout is not None
        first = int(next(child.stdout))
        assert first == 5000
        while first < reached:
            first = int(next(child.stdout))
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        assert not out.exists()
        parts = [
            pq.read_metadata(p).num_rows for p in sorted((tmp_path / ".out.parquet.parts").rglob("part-*.parquet"))
        ]
        assert set(parts) <= {5000}, "a part is whole or not there"
        assert len(parts) >= kept
        kept = len(parts)
    assert kept >= 17
    model = open_package(package)
    done = score_files(model, source, out, Form(part_rows=5000))
    assert done.reused >= kept * 5000
    found = pq.read_table(out)
    assert found.drop_columns(["score"]).equals(table)
    np.testing.assert_array_equal(found["score"].to_numpy(), model.score(table))


def test_two_runs_do_not_write_one_output(model: PackagedModel, tmp_path: Path) -> None:
    source = written(rows(3000), tmp_path / "in.parquet")

    def second(_: Progress) -> None:
        with pytest.raises(ScoringError, match="expected a place that no other run writes to"):
            score_files(model, source, tmp_path / "out.parquet")

    score_files(model, source, tmp_path / "out.parquet", tell=second)


def test_the_command_line_scores_and_says_how_fast(package: Path, tmp_path: Path) -> None:
    source, out = written(rows(2000), tmp_path / "in.parquet"), tmp_path / "out.parquet"
    command = ["model", "score", "--package", str(package), "--in", str(source), "--out", str(out)]
    start = time.monotonic()
    done = runner.invoke(app, [*command, "--columns", "request", "--json"])
    said = json.loads(done.stdout)
    assert (done.exit_code, said["rows"], said["reused"]) == (0, 2000, 0)
    assert 0 < said["seconds"] < time.monotonic() - start
    assert said["rowsPerSecond"] == pytest.approx(2000 / said["seconds"])
    assert pq.read_schema(out).names == ["request", "score"]
    assert SCORED_KEY in pq.read_schema(out).metadata
    again = runner.invoke(app, [*command, "--columns", "request"])
    assert "2,000 rows, 2,000 of them by an earlier run" in again.output
    wrong = runner.invoke(app, [*command, "--columns", "nope"])
    assert (wrong.exit_code, "expected a column nope" in wrong.output) == (2, True)


def test_only_a_package_by_the_given_key_scores(package: Path, tmp_path: Path) -> None:
    from tidegate_components.packaging.signature import PUBLIC, keygen

    keygen(tmp_path)
    source = written(rows(5), tmp_path / "in.parquet")
    command = ["model", "score", "--package", str(package), "--in", str(source), "--out", str(tmp_path / "out.parquet")]
    done = runner.invoke(app, [*command, "--key", str(tmp_path / PUBLIC)])
    assert (done.exit_code, "SHA256SUMS.sig is 'missing'" in done.output) == (2, True)
    assert not (tmp_path / "out.parquet").exists()
