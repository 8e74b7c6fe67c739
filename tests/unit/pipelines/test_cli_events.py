"""`tidegate events` as a user types it."""

from __future__ import annotations

import json
from pathlib import Path

from typer.testing import CliRunner

from tidegate_pipelines.cli import app
from unit.components.kafka_case import impression

COMMANDS = ("ingest", "clean", "validate", "join")


def test_from_json_lines_to_samples(tmp_path: Path) -> None:
    clicked = {"type": "click", "click_id": "c", "request_id": "r0", "item_id": 3, "event_time": "2026-01-01"}
    lines = [*(impression(number) for number in range(10)), {**clicked, "event_time": impression(5)["event_time"]}]
    (tmp_path / "events.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    landed = told("ingest", "--from", str(tmp_path / "events.jsonl"), "--to", str(tmp_path / "lake"))
    assert (landed["messages"], landed["digest"][:7]) == (11, "sha256:")
    cleaned = told("clean", "--in", str(tmp_path / "lake"), "--out", str(tmp_path / "clean"))
    assert {report["table"]: report["rows_out"] for report in cleaned} == {"impressions": 10, "clicks": 1}
    tables = [f"--{name}={tmp_path / 'clean' / name}.parquet" for name in ("impressions", "clicks")]
    joined = told("join", *tables, "--out", str(tmp_path / "samples.parquet"))
    assert (joined["rows"], joined["counts"]["positives"]) == (10, 1)


def test_a_wrong_duration_ends_with_2_and_a_sentence(tmp_path: Path) -> None:
    command = ["events", "join", "--in", str(tmp_path), "--attribution-window", "week", "--out", str(tmp_path / "s")]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 2
    assert "duration is 'week', expected a number with s, m, h or d" in done.output


def test_every_command_shows_an_example_and_its_exit_codes() -> None:
    for command in COMMANDS:
        shown = CliRunner().invoke(app, ["events", command, "--help"], env={"COLUMNS": "200"}).output
        assert f"Example: tidegate events {command}" in shown
        assert "Exit codes: 0" in shown


def told(*command: str) -> dict:  # type: ignore[type-arg]
    done = CliRunner().invoke(app, ["events", *command, "--json"])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)  # type: ignore[no-any-return]
