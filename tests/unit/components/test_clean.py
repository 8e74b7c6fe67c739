"""Cleaning: every row goes on or is quarantined, by the same rules on either engine."""

from __future__ import annotations

import json
import random
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from tidegate_components.events.clean import CleanReport, clean
from tidegate_components.events.rules import BadRulesError, read_rules
from tidegate_components.events.tables import BadEventsError
from tidegate_components.storage import content_digest, parquet_files

START = datetime(2026, 1, 1, tzinfo=UTC)
TIME = pa.timestamp("us", tz="UTC")
SCHEMA = pa.schema(
    [("id", pa.string()), ("kind", pa.string()), ("price", pa.float64()), ("event_time", TIME), ("known", TIME)]
)
RULES = {
    "tables": {
        "orders": [
            {"missing": "id"},
            {"range": {"column": "price", "min": 0, "max": 10}},
            {"allowed": {"column": "kind", "values": ["a", "b's"], "required": True}},
            {"time_order": {"earlier": "event_time", "later": "known", "tolerance": "1m"}},
            {"where": "price = 5 AND kind = 'a'", "reason": "free sample"},
            {"duplicate": "id"},
        ]
    }
}


def orders(count: int, seed: int = 1) -> list[dict[str, Any]]:
    r = random.Random(seed)
    return [
        {
            "id": r.choice([None, *(f"o{n}" for n in range(count // 2))]),
            "kind": r.choice(["a", "b's", "a", "b's", "x", None]),
            "price": r.choice([None, -0.5, 0.0, 5.0, 9.75, 10.0, 10.5, float("nan")]),
            "event_time": START + timedelta(minutes=r.randrange(5)),
            "known": START + timedelta(minutes=r.randrange(5)),
        }
        for _ in range(count)
    ]


def reason_of(row: dict[str, Any]) -> str | None:
    """The row rules again, in plain Python. NaN is greater than every number, as in both engines."""
    price = row["price"]
    if row["id"] is None:
        return "missing id"
    if price is not None and not 0 <= price <= 10:
        return "price out of range"
    if row["kind"] not in {"a", "b's"}:
        return "kind not allowed"
    if row["event_time"] > row["known"] + timedelta(minutes=1):
        return "event_time after known"
    return "free sample" if price == 5 and row["kind"] == "a" else None


def write(folder: Path, rows: list[dict[str, Any]], parts: int = 1) -> Path:
    (folder / "orders").mkdir(parents=True)
    for part in range(parts):
        pq.write_table(pa.Table.from_pylist(rows[part::parts], SCHEMA), folder / "orders" / f"{part}.parquet")
    return folder


def cleaned(folder: Path, rows: list[dict[str, Any]], engine: str = "duckdb", parts: int = 1) -> tuple[Any, ...]:
    (folder.parent / "rules.yaml").write_text(yaml.safe_dump(RULES))
    raw = write(folder / "raw", rows, parts)
    rules = read_rules(folder.parent / "rules.yaml")
    report = clean(raw, folder / "out", folder / "bad", rules, engine)[0]
    assert report.digest == content_digest(next((folder / "out").glob("orders*")))
    return replace(report, digest=""), _rows(folder / "out"), _rows(folder / "bad")


def _rows(folder: Path) -> Counter[str]:
    tables = [pq.read_table(file) for file in parquet_files(folder)]
    return Counter(str(sorted(row.items())) for table in tables for row in table.to_pylist())


@pytest.mark.parametrize("seed", range(4))
def test_cleaning_equals_plain_python(seed: int, tmp_path: Path) -> None:
    rows = orders(400, seed)
    report, _, _ = cleaned(tmp_path, rows)
    reasons = Counter(filter(None, map(reason_of, rows)))
    whole = [row["id"] for row in rows if reason_of(row) is None]
    reasons["duplicate"] = len(whole) - len(set(whole))
    assert report == CleanReport("orders", 400, len(set(whole)), dict(sorted(reasons.items())))


def test_nan_that_a_file_does_not_tell_of_in_its_statistics_breaks_a_range(tmp_path: Path) -> None:
    """Least and greatest number of a Parquet file leave NaN out: DuckDB must not conclude that there is none."""
    whole = {"id": "o1", "kind": "a", "price": 1.0, "event_time": START, "known": START}
    report, good, bad = cleaned(tmp_path, [whole, whole | {"id": "o2", "price": float("nan")}])
    assert report.reasons == {"price out of range": 1}
    assert (good.total(), bad.total()) == (1, 1)


def test_a_table_of_text_without_a_row_is_named(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "clicks.csv").write_text("click_id,request_id,item_id,event_time\n")
    with pytest.raises(BadEventsError, match=r"table clicks is '0 clean rows of 0, .*at least one clean row"):
        clean(tmp_path / "raw", tmp_path / "out", tmp_path / "bad")


def test_shuffled_and_split_rows_are_judged_the_same(tmp_path: Path) -> None:
    rows = orders(300)
    mixed = random.Random(3).sample(rows, len(rows))
    assert cleaned(tmp_path / "a", rows) == cleaned(tmp_path / "b", mixed, parts=4)


@pytest.mark.xdist_group("spark")  # one JVM for all
def test_spark_gives_what_duckdb_gives_on_the_same_files(tmp_path: Path) -> None:
    rows = orders(300)
    assert cleaned(tmp_path / "a", rows, "duckdb", 2) == cleaned(tmp_path / "b", rows, "spark", 2)


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
@pytest.mark.parametrize("before", [0, 30_000])
def test_a_written_time_is_read_or_quarantined_as_it_was_written(kind: str, before: int, tmp_path: Path) -> None:
    """Also where the bad one comes after the rows by which DuckDB guesses types."""
    times = ["2026-01-01T00:00:00Z"] * before + ["2026-01-01T01:00:00+01:00", "1767225600000", "soon"]
    rows = [{"id": f"o{number}", "event_time": time} for number, time in enumerate(times)]
    raw = tmp_path / "raw"
    raw.mkdir()
    lines = [",".join(row.values()) for row in [{"id": "id", "event_time": "event_time"}, *rows]]
    if kind == "jsonl":
        lines = [json.dumps({**row, "event_time": int(t) if (t := row["event_time"]).isdigit() else t}) for row in rows]
    (raw / f"orders.{kind}").write_text("\n".join(lines) + "\n")
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"tables": {"orders": [{"missing": "id"}]}}))
    into = raw / "clean"
    for _ in range(2):  # what an earlier run wrote is no table
        (report,) = clean(raw, into, raw / "bad", read_rules(tmp_path / "rules.yaml"))
    assert (report.rows_in, report.rows_out, report.reasons) == (before + 3, before + 2, {"event_time is no time": 1})
    assert set(pq.read_table(into / "orders.parquet")["event_time"].to_pylist()) == {START}
    assert pq.read_table(raw / "bad" / "orders.parquet")["event_time"].to_pylist() == ["soon"]


def test_a_table_without_a_rule_keeps_its_times_as_they_are_written(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    write(raw, orders(10))
    (raw / "others.csv").write_text("event_time\nsoon\n2026-01-01T00:00:00Z\n")
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"tables": {"orders": [{"missing": "id"}]}}))
    clean(raw, tmp_path / "out", tmp_path / "bad", read_rules(tmp_path / "rules.yaml"))
    assert pq.read_table(tmp_path / "out" / "others.parquet")["event_time"].to_pylist()[0] == "soon"


def test_a_row_that_breaks_a_rule_does_not_make_its_good_twin_a_duplicate(tmp_path: Path) -> None:
    good = {"id": "o", "kind": "a", "price": 1.0, "event_time": START + timedelta(minutes=1), "known": START}
    bad = {**good, "price": 99.0, "event_time": START}
    report, _, _ = cleaned(tmp_path, [bad, good])
    assert (report.rows_out, report.reasons) == (1, {"price out of range": 1})


@pytest.mark.parametrize(
    ("rule", "sentence"),
    [
        ({"missing": "id", "where": "x"}, "a rule says missing, where, expected exactly one"),
        ({"rnge": {"column": "x"}}, "tables.orders.0.rnge is .*expected nothing: there is no such field"),
        ({"where": "x = 1"}, "needs a `reason`"),
    ],
)
def test_a_wrong_rule_is_named_by_file_and_field(rule: dict[str, Any], sentence: str, tmp_path: Path) -> None:
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"tables": {"orders": [rule]}}))
    with pytest.raises(BadRulesError, match=sentence):
        read_rules(tmp_path / "rules.yaml")


def test_a_table_that_a_rule_is_about_must_be_there(tmp_path: Path) -> None:
    raw = write(tmp_path / "raw", orders(5))
    with pytest.raises(BadEventsError, match="tables is 'none with a rule'"):
        clean(raw, tmp_path / "out", tmp_path / "bad")
    with pytest.raises(BadEventsError, match=r"tables is 'no impressions', expected impressions.parquet"):
        clean(raw, tmp_path / "out", tmp_path / "bad", read_rules())


@pytest.mark.parametrize("engine", ["duckdb", pytest.param("spark", marks=pytest.mark.xdist_group("spark"))])
def test_a_table_without_a_rule_is_copied_and_said(engine: str, tmp_path: Path) -> None:
    rows = [{**row, "id": "o1", "price": 1.0} for row in orders(3)]
    raw = write(tmp_path / "raw", rows)
    users = pa.table({"user_id": [1, 1, None], "age": [30, -1, None]})
    pq.write_table(users, raw / "users.parquet")
    (raw / "notes").mkdir()
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"tables": {"orders": [{"missing": "id"}]}}))
    rules = read_rules(tmp_path / "rules.yaml")
    reports = clean(raw, tmp_path / "out", tmp_path / "bad", rules, engine)
    assert [(r.table, r.rows_in, r.rows_out, r.copied) for r in reports] == [
        ("orders", 3, 3, False), ("users", 3, 3, True)
    ]  # fmt: skip
    copied = next((tmp_path / "out").glob("users*"))
    assert pq.read_table(copied) == users
    again = clean(tmp_path / "out", tmp_path / "out2", tmp_path / "bad", rules, engine)
    assert [r.table for r in again] == ["orders", "users"]


@pytest.mark.parametrize("out", ["raw", "raw/..", "."])
def test_what_is_read_is_never_replaced(out: str, tmp_path: Path) -> None:
    raw = write(tmp_path / "raw", orders(5))
    with pytest.raises(BadEventsError, match=r"folder to write is .* expected another folder"):
        clean(raw, tmp_path / out, tmp_path / "bad")
    assert list(raw.rglob("*.parquet"))


ODD = {"order": ["a", "a", None], "user age": [30, 30, 30], "user-activity__as_of": [START, START, START]}


@pytest.mark.parametrize("engine", ["duckdb", pytest.param("spark", marks=pytest.mark.xdist_group("spark"))])
def test_tables_and_columns_may_have_any_name(engine: str, tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    pq.write_table(pa.table(ODD), tmp_path / "raw" / "my-orders.parquet")
    said = [
        {"missing": "order"},
        {"range": {"column": "user age", "min": 0, "max": 130, "required": True}},
        {"allowed": {"column": "user age", "values": [30]}},
        {"time_order": {"earlier": "user-activity__as_of", "later": "user-activity__as_of"}},
        {"duplicate": ["order", "user age"]},
    ]
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"tables": {"my-orders": said}}))
    rules = read_rules(tmp_path / "rules.yaml")
    report = clean(tmp_path / "raw", tmp_path / "out", tmp_path / "bad", rules, engine)[0]
    assert (report.rows_out, report.reasons) == (1, {"duplicate": 1, "missing order": 1})


@pytest.mark.parametrize("engine", ["duckdb", pytest.param("spark", marks=pytest.mark.xdist_group("spark"))])
def test_a_table_may_have_a_reason_of_its_own(engine: str, tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    returns = pa.table({"id": [1, None, 2, 2], "price": [5.0, 5.0, 99.0, 6.0], "Reason": ["gift", None, None, "gift"]})
    pq.write_table(returns, tmp_path / "raw" / "returns.parquet")
    said = [{"missing": "id"}, {"range": {"column": "price", "min": 0, "max": 10}}, {"duplicate": ["id"]}]
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"tables": {"returns": said}}))
    (report,) = clean(tmp_path / "raw", tmp_path / "out", tmp_path / "bad", read_rules(tmp_path / "rules.yaml"), engine)
    assert (report.rows_out, report.reasons) == (2, {"missing id": 1, "price out of range": 1})
    bad = pq.read_table(tmp_path / "bad").sort_by("price")
    assert bad.column_names == ["id", "price", "Reason", "quarantine_reason"]
    assert bad["quarantine_reason"].to_pylist() == ["missing id", "price out of range"]


@pytest.mark.parametrize("engine", ["duckdb", pytest.param("spark", marks=pytest.mark.xdist_group("spark"))])
@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ({"where": "price ==== 5", "reason": "x"}, "price ==== 5"),
        ({"where": "nowhere = 5", "reason": "x"}, "nowhere = 5"),
        ({"range": {"column": "kind", "min": 0}}, "kind out of range"),
    ],
)
def test_a_rule_that_cannot_be_judged_is_named_by_file_and_place(
    rule: dict[str, Any], said: str, engine: str, tmp_path: Path
) -> None:
    raw = write(tmp_path / "raw", [{**row, "kind": "text"} for row in orders(5)])
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"tables": {"orders": [{"missing": "id"}, rule]}}))
    rules = read_rules(tmp_path / "rules.yaml")
    with pytest.raises(BadRulesError, match=rf"rules.yaml: tables.orders.1 is '{said}', expected .*{engine} says"):
        clean(raw, tmp_path / "out", tmp_path / "bad", rules, engine)
