"""A package of a training run: every kind of input, parity on odd rows, int8 and weights beside the model."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from typer.testing import CliRunner

from tidegate_components.models.arrays import Arrays, read_set
from tidegate_components.models.scoring import Scorer
from tidegate_components.packaging.layout import PackageError
from tidegate_components.packaging.onnx_export import onnx_scores
from tidegate_components.packaging.package import Options, known_rows, package_model, parity_rows
from tidegate_components.packaging.quantize import quantize
from tidegate_components.packaging.run_folder import read_run, write_report
from tidegate_components.packaging.score import score_table
from tidegate_components.packaging.signature import PRIVATE, PUBLIC, keygen
from tidegate_components.packaging.verify import verify
from tidegate_pipelines.cli import app
from unit.components.runs import NAME, Run, rich_run

pytestmark = pytest.mark.xdist_group("package")  # made once for all

runner = CliRunner()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return rich_run(tmp_path_factory.mktemp("run") / "dcn_v2", "dcn_v2")


@pytest.fixture(scope="module")
def package(run: Run) -> Path:
    """Made and signed by the command line."""
    keygen(run.folder / "keys")
    out = run.folder.parent / "package"
    words = [
        "model",
        "package",
        "--run",
        str(run.folder),
        "--out",
        str(out),
        "--sign",
        str(run.folder / "keys" / PRIVATE),
    ]
    done = runner.invoke(app, [*words, "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["signedBy"].startswith("ed25519:")
    return out


@pytest.fixture(scope="module")
def rows(run: Run) -> Arrays:
    scorer = Scorer.load(run.folder / "model")
    return read_set(run.folder / "sample.parquet", scorer.inputs)[0]


def test_the_package_says_where_it_comes_from_and_scores_raw_columns_as_torch_does(package: Path, run: Run) -> None:
    manifest = verify(package, key=run.folder / "keys" / PUBLIC)
    assert (manifest.name, manifest.run, manifest.metrics) == (NAME, "run-7", {"auc": 0.7, "examples_per_second": 9.5})
    assert manifest.data_digest.startswith("sha256:")
    np.testing.assert_allclose(score_table(package, run.table), run.scores, atol=1e-5)
    report = (package / "report.html").read_text()
    assert "No evaluation was given with this package" in report
    assert "run-7" in report


def test_no_path_of_the_machine_that_made_it_goes_along(package: Path) -> None:
    data = next(package.rglob("model.onnx")).read_bytes()
    assert b"/work/" not in data
    assert b"site-packages" not in data


def test_a_table_that_several_inputs_share_is_kept_once(package: Path) -> None:
    tables = [t for t in onnx.load(str(next(package.rglob("model.onnx")))).graph.initializer if t.dims[-1:] == [16]]
    shapes = sorted(tuple(table.dims) for table in tables if len(table.dims) == 2)
    assert len(shapes) == len({table.raw_data for table in tables if len(table.dims) == 2})


def test_parity_is_asked_of_ten_thousand_rows_with_all_that_serving_may_meet(
    run: Run, rows: Arrays, package: Path
) -> None:
    scorer = Scorer.load(run.folder / "model")
    odd = parity_rows(rows, scorer.inputs)
    assert len(odd.ids) == 10_000
    limits = np.array([bag.rows for bag in scorer.inputs.bags for _ in bag.columns])
    assert ((odd.ids > limits).all(axis=1)).sum() >= 64, "ids that nobody has seen"
    assert ((odd.ids < 0).all(axis=1)).sum() >= 64, "no id in any column, so empty lists too"
    assert (odd.ids > 2**62).all(axis=1).sum() >= 64, "as large as hashes of texts"
    assert np.isnan(odd.dense).all(axis=1).sum() >= 64
    onnx_file = next(package.rglob("model.onnx"))
    worst = np.abs(onnx_scores(onnx_file, odd.ids, odd.dense) - scorer.scores(odd.ids, odd.dense)).max()
    assert worst <= 1e-5


def test_golden_rows_have_rows_of_their_own(run: Run, rows: Arrays) -> None:
    inputs = Scorer.load(run.folder / "model").inputs
    known = known_rows(rows, inputs)
    assert 100 < len(known.ids) < len(rows.ids)
    assert np.isfinite(known.dense).all()
    assert (known.ids[:, 0] >= 0).all()
    assert np.isin(known.ids[:, 1], inputs.bag("item").vocabulary).all()


def test_int8_is_smaller_and_says_what_it_cost(package: Path, rows: Arrays, tmp_path: Path) -> None:
    onnx_file = Path(shutil.copy(next(package.rglob("model.onnx")), tmp_path / "model.onnx"))
    before = onnx_file.stat().st_size
    found = quantize(onnx_file, rows, 0.001, 1 << 30)
    assert (found.bytes_before, found.bytes_after) == (before, onnx_file.stat().st_size)
    assert found.bytes_after < 0.6 * before
    assert found.tables >= 2
    assert found.products >= 4
    assert abs(found.auc_before - found.auc_after) <= 0.001
    alone = onnx_scores(onnx_file, rows.ids[:1], rows.dense[:1])
    np.testing.assert_allclose(onnx_scores(onnx_file, rows.ids[:500], rows.dense[:500])[:1], alone, atol=1e-6)


def test_int8_that_costs_too_much_is_refused_with_both_aucs_and_sizes(
    package: Path, rows: Arrays, tmp_path: Path
) -> None:
    onnx_file = Path(shutil.copy(next(package.rglob("model.onnx")), tmp_path / "model.onnx"))
    scores = onnx_scores(onnx_file, rows.ids, rows.dense)
    perfect = replace(rows, labels=(scores > np.median(scores)).astype(np.float32))
    with pytest.raises(
        PackageError, match=r"AUC is '1\.00000 before and 0\.99\d+ after int8 \([\d,]+ to [\d,]+ bytes\)'"
    ):
        quantize(onnx_file, perfect, 0.0, 1 << 30)


def test_weights_over_the_limit_of_one_file_lie_beside_the_model(run: Run, tmp_path: Path) -> None:
    found = read_run(run.folder, name="large-ranker")
    options = Options(quantize="int8", max_auc_loss=0.01, external_above=2000)
    report = write_report(found, tmp_path / "report.html")
    package_model(found.model, found.sample, report, tmp_path / "package", found.provenance, options=options)
    manifest = verify(tmp_path / "package")
    assert manifest.name == "large-ranker"
    assert manifest.quantization is not None
    data = next((tmp_path / "package").rglob("model.onnx.data"))
    assert data.stat().st_size > 10_000
    np.testing.assert_allclose(score_table(tmp_path / "package", run.table), run.scores, atol=0.05)


@pytest.mark.parametrize("part", ["model/config.json", "sample.parquet", "metrics.json"])
def test_a_folder_that_is_no_run_is_told_what_it_lacks(run: Run, tmp_path: Path, part: str) -> None:
    folder = Path(shutil.copytree(run.folder, tmp_path / "run"))
    (folder / part).unlink()
    done = runner.invoke(app, ["model", "package", "--run", str(folder), "--out", str(tmp_path / "package")])
    assert (done.exit_code, f"{part} is 'missing'" in done.output) == (2, True)
    assert not (tmp_path / "package").exists()


def test_a_wrong_key_is_told_before_any_work(run: Run, tmp_path: Path) -> None:
    words = ["model", "package", "--run", str(run.folder), "--out", str(tmp_path / "package")]
    done = runner.invoke(app, [*words, "--sign", str(run.folder / "metrics.json")])
    assert (done.exit_code, "no private Ed25519 key" in done.output) == (2, True)
