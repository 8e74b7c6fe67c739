"""Validating: a gate that opens only for tables that are as expected, on either engine."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from tidegate_components.events.expectations import read_expectations
from tidegate_components.events.rules import BadRulesError
from tidegate_components.events.tables import BadEventsError
from tidegate_components.events.validate import Validation, validate
from tidegate_pipelines.cli import app
from unit.components.shop import write_shop

GOOD = [
    {"rows": {"min": 3000, "max": 3000}},
    {"rule": {"missing": "user_id"}},
    {"rule": {"duplicate": ["request_id", "item_id"]}},
    {"rule": {"range": {"column": "age", "min": 0, "max": 130}}},
    {"mean": {"column": "item_id", "min": 0, "max": 1e6}},
]
BAD = [
    {"rows": {"min": 3001}},
    {"rule": {"duplicate": "request_id"}, "max_rate": 0.0},
    {"rule": {"where": "item_id >= 0", "reason": "an item"}, "max_rate": 0.5},
    {"refers": {"columns": ["request_id", "item_id"], "to": "clicks"}},
]


def checked(folder: Path, impressions: list[object], engine: str = "duckdb") -> Validation:
    path = folder / "expect.yaml"
    path.write_text(yaml.safe_dump({"tables": {"impressions": impressions}}))
    raw = folder / "raw"
    return validate(raw if raw.exists() else write_shop(raw), read_expectations(path), engine)


def test_tables_as_expected_pass(tmp_path: Path) -> None:
    assert checked(tmp_path, list(GOOD)).passed


def test_each_broken_expectation_is_told_with_what_was_observed(tmp_path: Path) -> None:
    checks = checked(tmp_path, [*GOOD, *BAD]).checks
    assert [check.passed for check in checks] == [True] * len(GOOD) + [False, checks[6].observed == 0, False, False]
    assert checks[len(GOOD)].observed == 3000
    assert checks[-2].observed == 1
    assert checks[-1].expected == "share of rows whose request_id, item_id is not in clicks"


@pytest.mark.xdist_group("spark")  # one JVM for all
def test_spark_observes_what_duckdb_observes(tmp_path: Path) -> None:
    assert checked(tmp_path, [*GOOD, *BAD]) == checked(tmp_path, [*GOOD, *BAD], "spark")


def test_a_missing_table_is_named(tmp_path: Path) -> None:
    (tmp_path / "expect.yaml").write_text(yaml.safe_dump({"tables": {"refunds": []}}))
    with pytest.raises(BadEventsError, match="tables is 'no refunds'"):
        validate(write_shop(tmp_path / "raw"), read_expectations(tmp_path / "expect.yaml"))


@pytest.mark.parametrize(("expected", "code"), [(GOOD, 0), (BAD, 1), ([{"rows": {}, "mean": {"column": "x"}}], 2)])
def test_the_command_says_by_its_exit_code_how_it_went(expected: list[object], code: int, tmp_path: Path) -> None:
    (tmp_path / "expect.yaml").write_text(yaml.safe_dump({"tables": {"impressions": expected}}))
    report = tmp_path / "report.html"
    arguments = ["--expect", tmp_path / "expect.yaml", "--in", write_shop(tmp_path / "raw"), "--report", report]
    done = CliRunner().invoke(app, ["events", "validate", *map(str, arguments), "--json"])
    assert done.exit_code == code
    if code < 2:
        assert json.loads(report.with_suffix(".json").read_text())["passed"] is (code == 0)
        assert "<h1>" in report.read_text()


def test_columns_may_have_any_name(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "my-orders.csv").write_text("order,user age\na,30\nb,40\n")
    expected = [
        {"rows": {"min": 2}},
        {"mean": {"column": "user age", "min": 35, "max": 35}},
        {"refers": {"columns": ["order", "user age"], "to": "my-orders"}},
        {"rule": {"duplicate": ["order", "user age"]}},
    ]
    (tmp_path / "expect.yaml").write_text(yaml.safe_dump({"tables": {"my-orders": expected}}))
    assert validate(tmp_path / "raw", read_expectations(tmp_path / "expect.yaml")).passed


@pytest.mark.parametrize(
    "expected",
    [
        {"rule": {"where": "=", "reason": "x"}},
        {"mean": {"column": "gender"}},
        {"rule": {"range": {"column": "gender", "min": 1}}},
    ],
)
def test_an_expectation_that_cannot_be_observed_is_named_by_file_and_place(expected: object, tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "impressions.csv").write_text("gender\nmale\n")
    with pytest.raises(BadRulesError, match=r"expect.yaml: tables.impressions.1 is .*duckdb says: "):
        checked(tmp_path, [{"rows": {}}, expected])
