"""Replay: what serving used against what the definition gives, at the time that each value carried."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from tidegate_components.events.landing import LandedFile, Landing
from tidegate_components.features.errors import BadFeaturesError
from tidegate_components.features.replay import ViewReplay, replay
from tidegate_components.features.replay_report import write_report
from tidegate_pipelines.cli import app
from unit.components.feature_case import aggregate_view, as_of, at, event, write_events
from unit.components.shop import parsed

EVENTS = [event(1, 0, 1.5), event(1, 4, None), event(1, 8, 2.0), event(2, 3, 7.0), event(1, 9, 5.0, known=30)]
ASKED = [(1, 10.0, 12.0), (2, 10.0, 11.0), (1, 5.0, 6.0), (3, None, 12.0)]
"""User, as-of time of the stored value, time of the request."""


def line(view: Any, user: int, stored: float | None, asked: float) -> dict[str, Any]:
    """What serving that works right would log."""
    values = as_of(view, (user, stored if stored is not None else asked), as_known=True)[0]
    found = {"request_id": f"r-{user}-{asked}", "event_time": at(asked), "user_id": user}
    found["v__as_of"] = None if stored is None else at(stored)
    return found | {f"v__{name}": value for name, value in values.items()}


def logged(tmp_path: Path, **changes: Any) -> tuple[Any, Path]:
    """A log of four requests; `changes` overwrite columns of the first."""
    view = aggregate_view(write_events(tmp_path / "events", EVENTS), created=True)
    lines = [line(view, *asked) for asked in ASKED]
    lines[0] |= changes
    log = tmp_path / "log.parquet"
    pq.write_table(pa.Table.from_pylist(lines), log)
    return view, log


def outcomes(found: list[ViewReplay], feature: str) -> dict[str, int]:
    counts = next(one for one in found[0].features if one.feature == feature).outcomes
    return {outcome: count for outcome, count in counts.items() if count}


def test_serving_that_used_what_was_stored_is_right_however_stale(tmp_path: Path) -> None:
    view, log = logged(tmp_path)
    found = replay(str(log), [view])
    assert all(feature.outcomes["equal"] == 4 and not feature.unequal for feature in found[0].features)
    assert (found[0].rows, found[0].unstored) == (4, 1)
    assert found[0].staleness == {"p50": 1.0, "p95": pytest.approx(1.9), "max": 2.0}


def test_a_wrong_value_is_found_in_its_feature_alone_and_shown(tmp_path: Path) -> None:
    view, log = logged(tmp_path, v__sum=9.0)
    found = replay(str(log), [view])
    assert outcomes(found, "sum") == {"equal": 3, "different": 1}
    assert outcomes(found, "count") == {"equal": 4}
    example = next(one for one in found[0].features if one.feature == "sum").examples[0]
    assert (example["request_id"], example["key"]) == ("r-1-12.0", ["1"])
    assert (example["logged"], example["recomputed"]) == (9.0, 3.5)


def test_missing_and_extra_values_are_told_apart(tmp_path: Path) -> None:
    view, log = logged(tmp_path, v__sum=None)
    assert outcomes(replay(str(log), [view]), "sum") == {"equal": 3, "missing": 1}
    view, log = logged(tmp_path, user_id=3)
    assert outcomes(replay(str(log), [view]), "sum") == {"equal": 3, "extra": 1}


def test_nothing_stored_for_an_entity_that_has_values_is_missing(tmp_path: Path) -> None:
    view, log = logged(tmp_path, v__as_of=None, v__count=0)
    assert outcomes(replay(str(log), [view]), "count") == {"equal": 3, "missing": 1}


def test_floats_may_differ_in_their_last_bits(tmp_path: Path) -> None:
    view, log = logged(tmp_path, v__mean=1.75 * (1 + 1e-15))
    assert outcomes(replay(str(log), [view]), "mean") == {"equal": 4}


def test_a_log_without_the_as_of_time_is_refused_by_name(tmp_path: Path) -> None:
    view, log = logged(tmp_path)
    pq.write_table(pq.read_table(log).drop_columns(["v__as_of"]), log)
    with pytest.raises(BadFeaturesError, match="a column v__as_of, since it logs view v"):
        replay(str(log), [view])


def test_faults_of_composite_keys_of_mixed_types_are_shown(tmp_path: Path) -> None:
    view, log = logged(tmp_path, v__sum=9.0)
    body = view.to_dict()
    body["spec"]["entity"]["joinKeys"] += [{"name": "place", "type": "String"}]
    for file in (log, tmp_path / "events" / "events.parquet"):
        table = pq.read_table(file)
        pq.write_table(table.append_column("place", pa.array(["Ürümqi"] * len(table))), file)
    found = replay(str(log), [parsed(body)])
    example = next(one for one in found[0].features if one.feature == "sum").examples[0]
    assert example["key"] == ["1", "Ürümqi"]


def test_a_sql_row_that_expired_before_the_request_is_rightly_not_there(tmp_path: Path) -> None:
    features = [{"name": "price", "type": "Float64", "default": 1}]
    sql = "SELECT user_id, event_time, price FROM source"
    source = write_events(tmp_path / "events", [event(1, 0, 7.0)])
    view = aggregate_view(source, sql=sql, ttl="10s", features=features)
    columns = {"user_id": 1, "v__as_of": at(8), "v__price": 1.0, "v__stored": False}
    lines = [{"request_id": f"r{asked}", "event_time": at(asked)} | columns for asked in (9, 11)]
    log = tmp_path / "log.parquet"
    pq.write_table(pa.Table.from_pylist(lines), log)
    found = replay(str(log), [view])
    assert outcomes(found, "price") == {"equal": 1, "missing": 1}
    assert found[0].features[0].examples[0]["request_id"] == "r9", "that row was still to be there"


def test_a_log_that_is_no_parquet_is_refused(tmp_path: Path) -> None:
    view, log = logged(tmp_path)
    log.write_text("garbage")
    with pytest.raises(BadFeaturesError, match=r"content is .*expected Parquet, as serving logs it"):
        replay(str(log), [view])


def test_of_a_landed_log_only_what_commits_list_is_replayed(tmp_path: Path) -> None:
    view, log = logged(tmp_path)
    landing = Landing(tmp_path / "landing")
    landing.open()
    listed, stray = landing.stage("feature_log", "2026-01-01", 0), landing.stage("feature_log", "2026-01-01", 1)
    shutil.copy(log, listed)
    landing.commit({}, (LandedFile(str(listed.relative_to(landing.folder)), "feature_log", 4),))
    shutil.copy(log, stray)
    address = landing.folder / "feature_log"
    assert replay(str(address), [view])[0].rows == 4
    assert replay(str(address / "*" / "*.parquet"), [view])[0].rows == 4


def test_the_report_has_null_for_nan_and_times_as_rfc_3339(tmp_path: Path) -> None:
    newest = {"type": "Timestamp", "aggregate": {"function": "last", "column": "event_time", "window": "9s"}}
    view = aggregate_view(write_events(tmp_path / "events", EVENTS), created=True, last=newest)
    used = line(view, 1, 10.0, 12.0) | {"v__sum": float("nan"), "v__last": at(3)}
    pq.write_table(pa.Table.from_pylist([used]), tmp_path / "log.parquet")
    write_report(replay(str(tmp_path / "log.parquet"), [view]), tmp_path / "report")
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    examples = {one["feature"]: one["examples"][0] for one in report["views"][0]["features"] if one["examples"]}
    assert examples["sum"]["logged"] is None
    assert (examples["last"]["logged"], examples["last"]["recomputed"]) == (
        "2026-01-01T00:00:03Z",
        "2026-01-01T00:00:08Z",
    )


def test_the_command_writes_both_reports_and_ends_with_one_where_values_differ(tmp_path: Path) -> None:
    view, log = logged(tmp_path, v__sum=9.0)
    (tmp_path / "view.yaml").write_text(json.dumps(view.to_dict()))
    command = ["features", "replay", "--log", str(log), "--views", str(tmp_path / "view.yaml")]
    done = CliRunner().invoke(app, [*command, "--out", str(tmp_path / "report"), "--json"])
    assert done.exit_code == 1, done.output
    assert json.loads((tmp_path / "report" / "report.json").read_text()) == json.loads(done.stdout)
    assert "1 logged values differ" in (tmp_path / "report" / "report.html").read_text()
