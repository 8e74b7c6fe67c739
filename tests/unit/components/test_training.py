"""Training runs: the same rows for any number of ranks, unbroken or resumed, and what a run leaves behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from typer.testing import CliRunner

from tidegate_components.evaluation.metrics import gauc
from tidegate_components.models.arrays import read_set
from tidegate_components.models.config import Config, ConfigError, Schedule, parse_config, with_settings
from tidegate_components.models.inputs import TrainingSetError
from tidegate_components.models.scoring import Scorer
from tidegate_components.training.batches import Part, ahead, batches, steps_of
from tidegate_components.training.incremental import grown
from tidegate_components.training.launch import LaunchError, launch
from tidegate_components.training.launch import _ranks as started
from tidegate_components.training.rows import ParquetRows
from tidegate_components.training.run import Order
from tidegate_components.training.schedule import factor
from tidegate_pipelines.cli import app
from unit.components.ranking_case import config, sets, table


def quiet(_: str) -> None:
    return


def order(folder: Path, said: Config, **more: Any) -> Order:
    train, valid = folder / "train.parquet", folder / "valid.parquet"
    if not train.exists():
        sets(folder)
    return Order(**{"config": said, "train": train, "valid": valid, "out": folder / "run", **more})


def predictions(run: Path) -> np.ndarray[Any, Any]:
    scores: np.ndarray[Any, Any] = np.sort(pq.read_table(run / "predictions.parquet")["score"].to_numpy())
    return scores


def rows_of(folder: Path) -> ParquetRows:
    from tidegate_components.models.fitting import fit_inputs

    train, _ = sets(folder)
    return ParquetRows([train], fit_inputs(config(), [train]))


def test_a_pass_shows_every_row_once_and_a_seed_names_its_order(tmp_path: Path) -> None:
    rows = rows_of(tmp_path)
    first, again, other = (
        np.concatenate([block.ids.T for block in batches(rows, 128, seed, Part())]) for seed in ((1, 0), (1, 0), (1, 1))
    )
    as_it_lies = np.concatenate([block.ids.T for block in batches(rows, 128, None, Part())])
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    for seen in (first, other):
        assert sorted(map(tuple, seen)) == sorted(map(tuple, as_it_lies))


@pytest.mark.parametrize("world", [2, 3, 4])
def test_the_ranks_together_see_the_rows_of_one_process_step_by_step(world: int, tmp_path: Path) -> None:
    rows = rows_of(tmp_path)
    alone = list(batches(rows, 132, (1, 0), Part()))
    parts = [list(batches(rows, 132, (1, 0), Part(rank, world))) for rank in range(world)]
    assert {len(part) for part in parts} == {steps_of(rows.count, 132)} == {len(alone)}
    for whole, *shares in zip(alone, *parts, strict=True):
        assert len({len(share) for share in shares}) == 1, "ranks wait for each other batch by batch"
        together = np.concatenate([share.ids.T[share.weights > 0] for share in shares])
        assert sorted(map(tuple, together)) == sorted(map(tuple, whole.ids.T)), "no row is left out or counts twice"
        mean = np.mean([(share.weights * share.labels).mean() for share in shares])
        assert mean == pytest.approx((whole.weights * whole.labels).mean())


def test_going_on_inside_a_pass_gives_the_batches_that_were_left(tmp_path: Path) -> None:
    rows = rows_of(tmp_path)
    whole, rest = (list(batches(rows, 128, (1, 0), Part(), skip)) for skip in (0, 3))
    assert all(np.array_equal(a.ids, b.ids) for a, b in zip(whole[3:], rest, strict=True))


def test_an_error_while_reading_ahead_reaches_the_reader() -> None:
    def broken() -> Iterator[int]:
        yield 1
        raise OSError("disk")

    found = ahead(broken())
    assert next(found) == 1
    with pytest.raises(OSError, match="disk"):
        next(found)


def test_a_schedule_rises_then_falls_to_its_floor() -> None:
    said = Schedule(kind="cosine", warmup_steps=4, floor=0.1)
    factors = [factor(said, step, 20) for step in range(21)]
    assert factors[:4] == [0.25, 0.5, 0.75, 1.0]
    assert factors[4:] == sorted(factors[4:], reverse=True)
    assert factors[-1] == pytest.approx(0.1)
    assert factor(Schedule(kind="linear"), 5, 10) == pytest.approx(0.5)
    assert factor(Schedule(), 9, 10) == 1.0


def test_a_run_leaves_model_figures_sample_and_predictions(tmp_path: Path) -> None:
    sets(tmp_path)
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(config(epochs=2).model_dump(mode="json")))
    names = {"config": "c.yaml", "train": "train.parquet", "valid": "valid.parquet", "out": "run"}
    given = [text for option, name in names.items() for text in (f"--{option}", str(tmp_path / name))]
    said = CliRunner().invoke(app, ["train", *given, "--keep", "user", "--keep", "item", "--json"])
    assert said.exit_code == 0, said.output
    figures = json.loads(said.stdout)
    assert figures == json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert figures["rows"] == 2000
    assert figures["examples_per_second"] > 0
    assert figures["peak_memory_bytes"] > 100e6
    assert 0.55 < figures["auc"] < 1
    sample = pq.read_table(tmp_path / "run" / "sample.parquet")
    assert sample.num_rows == 500
    twin = Scorer.load(tmp_path / "run" / "model")
    rows, _ = read_set(tmp_path / "run" / "sample.parquet", twin.inputs)
    np.testing.assert_allclose(np.sort(twin.scores(rows.ids, rows.dense)), predictions(tmp_path / "run"), atol=1e-6)
    kept = pq.read_table(tmp_path / "run" / "predictions.parquet")
    assert kept.column_names == ["label", "score", "user", "item"]
    assert kept.select(["user", "item"]).equals(pq.read_table(tmp_path / "valid.parquet").select(["user", "item"]))
    facts = json.loads((tmp_path / "run" / "run.json").read_text())
    assert facts["name"] == "ctr-ranker"
    assert facts["data_digest"].startswith("sha256:")


def test_bad_input_ends_with_a_sentence_and_exit_code_2(tmp_path: Path) -> None:
    sets(tmp_path)
    (tmp_path / "c.yaml").write_text("inputs: {categorical: [shop]}")
    given = ["--config", str(tmp_path / "c.yaml"), "--train", str(tmp_path / "train.parquet")]
    said = CliRunner().invoke(app, ["train", *given, "--valid", str(tmp_path / "none"), "--out", str(tmp_path / "run")])
    assert said.exit_code == 2
    assert "a column shop, which the configuration declares" in said.stderr
    valid = ["--valid", str(tmp_path / "valid.parquet"), "--out", str(tmp_path / "run"), "--keep", "who"]
    said = CliRunner().invoke(app, ["train", *given, *valid])
    assert said.exit_code == 2
    assert "keep is 'who', expected a column to keep" in said.stderr


def _with_column(path: Path, name: str, values: Any) -> None:
    rows = pq.read_table(path)
    pq.write_table(rows.set_column(rows.column_names.index(name), name, pa.array(values)), path, row_group_size=100)


@pytest.mark.parametrize(
    ("column", "at", "value", "words"),
    [
        ("label", 250, 2.0, r"label in row 251 is 2.0, expected labels of 0 and 1"),
        ("label", 0, "yes", r"label is 'string', expected labels of 0 and 1"),
        ("price", 250, float("inf"), r"column price in row 251 is 'infinity', expected a finite number"),
        ("age", 250, -1, r"age in row 251 is -1.0, expected a weight of 0 or more"),
        ("item", 250, 1 << 40, r"item is '1,099,511,627,776', expected ids below .*; say lookup: hash"),
    ],
)
def test_a_value_that_cannot_be_learned_from_is_named_and_nothing_is_left(
    column: str, at: int, value: Any, words: str, tmp_path: Path
) -> None:
    train, _ = sets(tmp_path)
    values = pq.read_table(train)[column].to_pylist()
    values = [str(each) for each in values] if isinstance(value, str) else values
    values = [1 if each is None else each for each in values] if column == "age" else values
    values[at] = value
    _with_column(train, column, values)
    weight = {"weight": column} if column == "age" else {}
    inputs = {"numeric": ["price"], "categorical": ["item"], **weight}
    said = parse_config({"inputs": inputs, "training": {"epochs": 1}})
    with pytest.raises(TrainingSetError, match=words):
        launch(order(tmp_path, said), "local", 1, quiet)
    assert not (tmp_path / "run").exists()


def test_tables_that_no_memory_holds_are_refused_before_they_are_made(tmp_path: Path) -> None:
    huge = {"column": "item", "lookup": "hash", "rows": 1 << 30}
    said = parse_config({"inputs": {"categorical": [huge]}, "model": {"embedding_dim": 1024}})
    with pytest.raises(TrainingSetError, match=r"input item: table is '.* GiB', expected tables that fit into .* GiB"):
        launch(order(tmp_path, said), "local", 1, quiet)


def test_a_folder_of_somebody_else_is_refused_before_training(tmp_path: Path) -> None:
    (tmp_path / "run" / "model").mkdir(parents=True)
    (tmp_path / "run" / "model" / "theirs.txt").write_text("keep")
    with pytest.raises(LaunchError, match="expected a folder, or nothing there yet"):
        launch(order(tmp_path, config()), "local", 1, quiet)


def test_a_run_among_its_own_data_is_refused(tmp_path: Path) -> None:
    train, valid = sets(tmp_path)
    days = tmp_path / "days"
    days.mkdir()
    train.rename(days / "monday.parquet")
    said = Order(config(), days, valid, days / "run")
    with pytest.raises(LaunchError, match=r"expected a folder outside of .*days"):
        launch(said, "local", 1, quiet)
    pq.write_table(pq.read_table(days / "monday.parquet").drop_columns(["price"]), days / "tuesday.parquet")
    with pytest.raises(TrainingSetError, match=r"tuesday.parquet: columns .* a column price"):
        launch(replace(said, out=tmp_path / "run"), "local", 1, quiet)


def test_a_number_that_is_nan_is_as_one_that_is_null(tmp_path: Path) -> None:
    train, _ = sets(tmp_path)
    prices = pq.read_table(train)["price"].to_pylist()
    said, found = config(epochs=1), []
    for missing in (None, float("nan")):
        _with_column(train, "price", [missing if each is None else each for each in prices])
        figures = launch(order(tmp_path, said), "local", 1, quiet)
        found.append((figures["logloss"], figures["auc"]))
    assert found[0] == found[1]


def test_a_glob_is_the_files_that_it_names(tmp_path: Path) -> None:
    train, valid = sets(tmp_path)
    days = tmp_path / "days"
    days.mkdir()
    train.rename(days / "monday.parquet")
    (days / "notes.txt").write_text("not a row")
    found = {}
    for name, where in (("file", days / "monday.parquet"), ("glob", days / "mon*.parquet")):
        found[name] = launch(Order(config(epochs=1), where, valid, tmp_path / name), "local", 1, quiet)
        facts = json.loads((tmp_path / name / "run.json").read_text())
        found[name] = {"logloss": found[name]["logloss"], "digest": facts["data_digest"]}
    assert found["file"] == found["glob"]


def test_a_finished_run_is_said_to_be_replaced(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "metrics.json").write_text("{}")
    heard: list[str] = []
    launch(order(tmp_path, config(epochs=1)), "local", 1, heard.append)
    assert "holds a finished run, which this one replaces" in heard[0]


def test_a_ranking_term_orders_the_rows_of_a_user_better(tmp_path: Path) -> None:
    """What the term asks for it gets, on the rows that it learns from."""

    def share_in_order(name: str, **training: Any) -> float:
        said = order(tmp_path, config(epochs=4, seed=5, **training), out=tmp_path / name)
        launch(said, "local", 1, quiet)
        twin = Scorer.load(said.out / "model")
        rows, _ = read_set(said.train, twin.inputs)
        return gauc(rows.labels, twin.scores(rows.ids, rows.dense), rows.ids[:, twin.inputs.id_columns.index("user")])

    assert share_in_order("with", ranking={"within": "user", "weight": 2.0}) > share_in_order("without") + 0.01


def test_a_ranking_term_within_no_input_is_named(tmp_path: Path) -> None:
    said = order(tmp_path, config(ranking={"within": "request"}))
    with pytest.raises(ConfigError, match=r"training.ranking.within is 'request', expected an input with one id: user"):
        launch(said, "local", 1, quiet)


_UNBROKEN = {"epochs": 2, "checkpoint_steps": 2}


def test_a_killed_run_goes_on_to_the_same_figures(tmp_path: Path) -> None:
    """kill -9 in the middle of the second epoch, after a checkpoint; the same scores to the last bit."""
    said = config("wide_deep", **_UNBROKEN)
    launch(order(tmp_path, said, out=tmp_path / "unbroken"), "local", 1, quiet)
    code = f"""
import os, signal
from pathlib import Path
from tidegate_components.training import checkpoint, loop
from tidegate_components.training.launch import launch
from tidegate_components.training.worker import read_order
kept = checkpoint.save
def save(folder, learner, position):
    found = kept(folder, learner, position)
    if (position.epoch, position.step) == (1, 4):
        os.kill(os.getpid(), signal.SIGKILL)
    return found
checkpoint.save = save
launch(read_order(Path({str(tmp_path / "order.json")!r})), "local", 1, print)
"""
    from tidegate_components.training.worker import write_order

    broken = order(tmp_path, said)
    write_order(tmp_path / "order.json", broken)
    died = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, check=False)
    assert died.returncode == -signal.SIGKILL, died.stderr
    assert not (tmp_path / "run" / "metrics.json").exists()
    launch(replace(broken, resume=True), "local", 1, quiet)
    assert np.array_equal(predictions(tmp_path / "run"), predictions(tmp_path / "unbroken"))
    with pytest.raises(Exception, match="expected that of this run"):
        launch(replace(broken, resume=True, config=with_settings(said, {"training.seed": 8})), "local", 1, quiet)


@pytest.mark.parametrize("launcher", ["torchrun", "horovod"])
def test_two_ranks_learn_what_one_does(launcher: str, tmp_path: Path) -> None:
    if launcher == "horovod":
        pytest.importorskip("horovod.torch", reason="Horovod is not built here: dev/horovod does it")
    said = config("deepfm", epochs=2)
    one = launch(order(tmp_path, said, out=tmp_path / "one"), "local", 1, quiet)
    two = launch(order(tmp_path, said), launcher, 2, quiet)
    assert two["ranks"] == len(two["peak_memory_bytes_by_rank"]) == 2
    assert two["rows"] == one["rows"]
    np.testing.assert_allclose(predictions(tmp_path / "run"), predictions(tmp_path / "one"), atol=1e-4)
    tables = [pq.read_table(tmp_path / name / "predictions.parquet") for name in ("one", "run")]
    assert tables[0]["label"].equals(tables[1]["label"]), "in the order of the validation rows, none left out"


def test_a_rank_that_is_killed_costs_nothing_but_time(tmp_path: Path) -> None:
    """kill -9 of one rank after the first checkpoint: torchrun starts both again, and they go on from it."""
    said = config("wide_deep", epochs=16, early_stopping={"patience": 16})
    launch(order(tmp_path, said, out=tmp_path / "one"), "local", 1, quiet)
    broken = order(tmp_path, said, restarts=1)
    killed: list[int] = []
    watcher = threading.Thread(target=_kill_a_rank, args=(tmp_path / "run" / "checkpoints", killed))
    watcher.start()
    launch(broken, "torchrun", 2, quiet)
    watcher.join()
    assert len(killed) == 1
    np.testing.assert_allclose(predictions(tmp_path / "run"), predictions(tmp_path / "one"), atol=1e-3)


def _kill_a_rank(checkpoints: Path, killed: list[int], seconds: float = 120) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until and not killed:
        time.sleep(0.05)
        for rank in _ranks() if list(checkpoints.glob("trial-*")) else []:
            rank.kill()
            killed.append(rank.pid)
            break


def _ranks() -> list[psutil.Process]:
    """The workers among the descendants of this process; torchrun, their parent, has their arguments in its own."""
    found = []
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            said = child.cmdline()
            if "--engine" in said and "torch.distributed.run" not in said:
                found.append(child)
    return found


def test_ranks_that_fail_are_told_and_what_cannot_be_shared_or_started_is_refused(tmp_path: Path) -> None:
    said = order(tmp_path, config())
    with pytest.raises(LaunchError, match="2 ranks is 'exit code 7', expected 0 from each"):
        started([sys.executable, "-c", "raise SystemExit(7)"], "sharded", said, 2, quiet)
    assert not said.out.exists()
    with pytest.raises(ConfigError, match="batch_size is 127, expected a multiple of the 2 ranks"):
        launch(order(tmp_path, config(batch_size=127)), "torchrun", 2, quiet)
    with pytest.raises(LaunchError, match="launcher is 'slurm', expected one of local, torchrun"):
        launch(said, "slurm", 1, quiet)


def test_an_update_keeps_old_ids_and_gives_new_ones_rows(tmp_path: Path) -> None:
    """Nothing is learned where the new day's learning rates are nothing: scores of yesterday stay to the bit."""
    said = config("wide_deep", epochs=2)
    launch(order(tmp_path, said), "local", 1, quiet)
    pq.write_table(table(400, 9, items=60), tmp_path / "today.parquet")
    still = with_settings(said, {"training.learning_rate": 1e-30, "training.sparse.learning_rate": 1e-30})
    today = order(tmp_path, still, train=tmp_path / "today.parquet", out=tmp_path / "next", start=tmp_path / "run")
    launch(today, "local", 1, quiet)
    old, new = (Scorer.load(tmp_path / name / "model") for name in ("run", "next"))
    assert new.inputs.bag("item").rows > old.inputs.bag("item").rows
    assert new.inputs.bag("item").vocabulary[: old.inputs.bag("item").rows] == old.inputs.bag("item").vocabulary
    rows, _ = read_set(tmp_path / "valid.parquet", old.inputs)
    known = np.isin(rows.ids[:, 2], old.inputs.bag("item").vocabulary)
    lists = rows.ids[:, old.inputs.columns_of("seen")]
    known &= (np.isin(lists, old.inputs.bag("item").vocabulary) | (lists < 0)).all(axis=1)
    assert known.sum() > 200
    before, after = (one.scores(rows.ids[known], rows.dense[known]) for one in (old, new))
    np.testing.assert_allclose(after, before, atol=1e-6)


def test_a_model_of_another_form_is_not_gone_on_from(tmp_path: Path) -> None:
    launch(order(tmp_path, config("dlrm")), "local", 1, quiet)
    other = order(tmp_path, config("dcn_v2"), out=tmp_path / "next", start=tmp_path / "run")
    with pytest.raises(Exception, match="go on from a model of the same configuration"):
        launch(other, "local", 1, quiet)
    inputs = Scorer.load(tmp_path / "run" / "model").inputs
    with pytest.raises(Exception, match="inputs is"):
        grown(inputs, replace(inputs, numerics=()))


def test_tables_of_many_rows_are_spread_over_the_ranks(tmp_path: Path) -> None:
    from safetensors import safe_open

    small = {"model.embedding_dim": 4, "model.bottom": [4], "training.checkpoint_steps": 6}
    said = with_settings(config("dlrm"), small)
    data = said.model_dump(mode="json")
    data["inputs"]["categorical"][1]["rows"] = 4_200_000
    from tidegate_components.models.config import parse_config

    launch(order(tmp_path, parse_config(data)), "torchrun", 2, quiet)
    (newest,) = (p for p in (tmp_path / "run" / "checkpoints").glob("trial-00001-*"))
    held = {}
    for path in sorted(newest.glob("tables-*")):
        with safe_open(path, framework="pt") as stored:
            names = [key for key in stored.keys() if key.startswith("city@")]  # noqa: SIM118 - it is no mapping
            held |= {key: stored.get_slice(key).get_shape()[0] for key in names}
    assert sorted(key for key in held if key.endswith("weights")) == ["city@0@weights", "city@2100001@weights"]
    assert sum(rows for key, rows in held.items() if key.endswith("weights")) == 4_200_002
    assert os.path.exists(tmp_path / "run" / "metrics.json")


def test_an_update_that_forgets_too_much_is_refused(tmp_path: Path) -> None:
    """The new day says the opposite of all days before."""
    import pyarrow.compute as pc

    said = config("wide_deep", epochs=3)
    launch(order(tmp_path, said), "local", 1, quiet)
    day = table(1000, 9)
    pq.write_table(day.set_column(0, "label", pc.subtract(1, day["label"]).cast("int8")), tmp_path / "today.parquet")
    today = {"train": tmp_path / "today.parquet", "valid": tmp_path / "today.parquet", "start": tmp_path / "run"}
    with pytest.raises(Exception, match=r"forgetting is .* on its own rows, .* before the update"):
        launch(order(tmp_path, said, out=tmp_path / "next", **today), "local", 1, quiet)
    assert not (tmp_path / "next" / "metrics.json").exists()


def test_a_loss_that_is_no_number_ends_the_run(tmp_path: Path) -> None:
    wild = config("dcn_v2", learning_rate=1e30, epochs=3)
    with pytest.raises(Exception, match=r"lower training\.learning_rate"):
        launch(order(tmp_path, wild), "local", 1, quiet)
    assert not (tmp_path / "run" / "metrics.json").exists()
