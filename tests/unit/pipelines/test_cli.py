"""Exit codes and sentences of the command line, and what it may not import."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tidegate_pipelines import remote_run
from tidegate_pipelines.cli import app
from tidegate_pipelines.terminal import print_json, speaking
from unit.components.servers import redis_server

pytestmark = pytest.mark.xdist_group("pipelines")  # kfp compiles once for all: slow where torch is loaded too

VIEWS = Path(__file__).parents[3] / "manifests" / "examples"
runner = CliRunner()


def test_light_commands_import_nothing_heavy() -> None:
    code = (
        "import sys; from tidegate_pipelines.cli import app; from typer.testing import CliRunner;"
        "CliRunner().invoke(app, ['model', 'verify', '/nowhere']);"
        "print([m for m in ('torch', 'mlflow', 'kfp', 'duckdb', 'pandas', 'pyarrow', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["model", "verify", "/nowhere"], "package /nowhere: SHA256SUMS is 'missing'"),
        (["model", "fetch", "--uri", "/nowhere", "--digest", "sha256:0", "--into", "x"], "unreadable: No such file"),
        (
            ["model", "fetch", "--uri", "s3://b/x", "--digest", "sha256:0", "--into", "x"],
            "expected a path, file://PATH",
        ),
        (["features", "validate", "/nowhere.yaml"], "file is '/nowhere.yaml', expected a readable YAML file"),
        (["pipeline", "compile", "nope", "-o", "x.yaml"], "expected one of ctr_training"),
        (["pipeline", "run", "ctr_training", "--param", "epochs=x"], "expected a value of type NUMBER_INTEGER"),
        (
            ["events", "clean", "--in", "/nowhere", "--out", "x"],
            "folder is 'not there', expected a folder of event tables",
        ),
        (
            ["features", "materialize", f"{VIEWS}/user-activity.yaml", "--to", "2999-01-01"],
            "--to is '2999-01-01T00:00:00+00:00', expected at most now",
        ),
        (
            ["features", "materialize", f"{VIEWS}/user-activity.yaml", "--incremental", "--from", "2026-01-01"],
            "expected no --from beside --incremental",
        ),
        (["features", "materialize", str(VIEWS)], "expected one view, found item-popularity, "),
        (["features", "get", "--view", str(VIEWS), "--key", "1"], "expected one view, found item-popularity, "),
        (["features", "stream", str(VIEWS)], "expected one view, found item-popularity, "),
        (
            ["features", "get", "--view", f"{VIEWS}/user-activity.yaml", "--key", "1", "--online", "localhost:1"],
            "redis url is 'localhost:1', expected redis://HOST:PORT/DB",
        ),
        (["features", "monitor", "--views", str(VIEWS), "--every", "abc"], "--every is 'abc', expected a number"),
        (["events", "join", "--out", "x"], "pass --impressions, or --in with a folder that has it"),
    ],
)
def test_bad_input_exits_with_two_and_a_sentence(
    command: list[str], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = runner.invoke(app, command)
    assert done.exit_code == 2, done.output
    assert words in done.stderr


def test_a_view_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "view.yaml").write_bytes(b"\xff\xfe\x00kind: FeatureView")
    for address in (tmp_path, tmp_path / "view.yaml"):
        done = runner.invoke(app, ["features", "validate", str(address)])
        assert (done.exit_code, "expected a readable YAML file" in done.stderr) == (2, True)


def test_an_address_in_a_secret_is_to_be_passed(tmp_path: Path) -> None:
    text = (VIEWS / "user-activity.yaml").read_text()
    secret = "redis: {urlFrom: {secretKeyRef: {name: redis, key: url}}}"
    (tmp_path / "view.yaml").write_text(re.sub(r"redis: \{url: .*?\}", secret, text))
    done = runner.invoke(app, ["features", "get", "--view", str(tmp_path / "view.yaml"), "--key", "1"])
    assert (done.exit_code, "expected --online redis://HOST:PORT/DB" in done.stderr) == (2, True)


def test_a_port_in_use_is_refused() -> None:
    silent = socket.create_server(("127.0.0.1", 0))
    with silent, pytest.raises(remote_run.ServerError, match=r"expected an API that answers .*timed out"):
        remote_run.Server(f"http://127.0.0.1:{silent.getsockname()[1]}")


def test_materialize_and_get(tmp_path: Path, shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tidegate_components.events.lake import land

    monkeypatch.setenv("TIDEGATE_PVC_ROOT", str(tmp_path))
    land(shop / "events", tmp_path / "lake")
    view, report = str(shop / "views" / "user-activity.yaml"), tmp_path / "report"
    with redis_server(tmp_path) as url:
        done = runner.invoke(app, ["features", "materialize", view, "--online", url, "--json", "--report", str(report)])
        assert done.exit_code == 0, done.stderr
        printed, reported = json.loads(done.stdout), json.loads(report.read_text())
        assert [one["feature"] for one in printed.pop("statistics")] == [one[0] for one in reported.pop("statistics")]
        assert printed == reported
        times = {"watermark", "interval", "newestEventTime"}
        assert set(printed) == times | {"rows", "leftOut", "schemaHash", "quality", "consistency"}
        done = runner.invoke(
            app, ["features", "get", "--view", view, "--key", "1", "--key", "999", "--online", url, "--json"]
        )
        assert [row["found"] for row in json.loads(done.stdout)] == [True, False]


def test_a_join_keeps_rows_and_names_columns_by_view(
    tmp_path: Path, shop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pyarrow.parquet as pq

    from tidegate_components.events.lake import land

    monkeypatch.setenv("TIDEGATE_PVC_ROOT", str(tmp_path))
    land(shop / "events", tmp_path / "lake")
    out = tmp_path / "out.parquet"
    entities = ["--entities", str(shop / "events" / "impressions.parquet"), "--timestamp", "event_time"]
    done = runner.invoke(app, ["features", "join", *entities, "--views", str(shop / "views"), "--out", str(out)])
    assert done.exit_code == 0, done.stderr
    table = pq.read_table(out)
    assert table.num_rows == 3000
    assert "item-popularity__clicks_30d" in table.column_names


@pytest.mark.parametrize(
    "command", ["validate", "join", "materialize", "get", "snapshot", "list", "show", "lineage", "monitor", "replay"]
)
def test_every_features_command_tells_its_exit_codes(command: str) -> None:
    assert "Exit codes: 0 " in runner.invoke(app, ["features", command, "--help"]).output


def test_json_has_null_for_nan_and_times_as_rfc_3339(capsys: pytest.CaptureFixture[str]) -> None:
    naive = datetime(2026, 1, 2, 3)
    zoned = naive.replace(tzinfo=timezone(timedelta(hours=2)))
    print_json([{"a": float("nan"), "b": (naive, zoned)}])
    assert json.loads(capsys.readouterr().out) == [{"a": None, "b": ["2026-01-02T03:00:00Z", "2026-01-02T01:00:00Z"]}]


def test_every_command_explains_itself() -> None:
    for group, commands in {
        "pipeline": ["list", "compile", "run", "submit"],
        "model": ["fetch", "verify", "probe"],
        "features": ["validate", "join", "materialize", "get"],
        "events": ["ingest", "clean", "join"],
    }.items():
        for command in commands:
            done = runner.invoke(app, [group, command, "--help"])
            assert done.exit_code == 0
            assert command == "list" or "Example: tidegate" in done.output


def test_a_place_that_cannot_be_written_is_named() -> None:
    result = runner.invoke(app, ["pipeline", "compile", "ctr_training", "-o", "/proc/nowhere/x.yaml"])
    assert result.exit_code == 1
    assert "/proc/nowhere" in result.stderr
    assert "name another place" in result.stderr


def test_a_reader_that_has_read_enough_is_left_to_click_which_ends_quietly(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(BrokenPipeError), speaking():
        raise BrokenPipeError
    assert capsys.readouterr().err == ""
