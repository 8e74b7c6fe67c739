"""The sample join on real files: what it says, what it records, and that Kafka and batch give the same."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tidegate_components.events.attribution import Attribution
from tidegate_components.events.join import join_events, tables_in
from tidegate_components.events.land_stream import land_file
from tidegate_components.events.sampling import corrected
from tidegate_components.events.tables import BadEventsError

START = datetime(2026, 1, 1, tzinfo=UTC)


def at(minutes: float) -> str:
    return (START + timedelta(minutes=minutes)).isoformat()


def write(folder: Path, name: str, rows: list[dict[str, Any]]) -> str:
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(folder / f"{name}.jsonl")


def shown(count: int) -> list[dict[str, Any]]:
    return [{"request_id": f"r{n}", "item_id": n, "user_id": 1, "event_time": at(n / 1000)} for n in range(count)]


def clicked(*numbers: int, minutes: float = 1) -> list[dict[str, Any]]:
    return [
        {"click_id": f"c{n}", "request_id": f"r{n}", "item_id": n, "event_time": at(n / 1000 + minutes)}
        for n in numbers
    ]


def labels(path: Path) -> dict[str, int]:
    table = pq.read_table(path)
    return dict(zip(table["request_id"].to_pylist(), table["label"].to_pylist(), strict=True))


def test_landed_events_and_plain_tables_give_the_same_samples(tmp_path: Path) -> None:
    impressions, clicks = shown(50), clicked(3, 7, 7)
    bought = [{"order_id": "o", "user_id": 1, "item_id": 7, "click_id": "c7", "event_time": at(60), "amount": 2.5}]
    lines = [{"type": kind, **row} for kind, rows in
             (("impression", impressions), ("purchase", bought), ("click", clicks)) for row in rows]  # fmt: skip
    land_file(Path(write(tmp_path, "topic", lines)), tmp_path / "lake")
    lake = {"impressions": "impressions", "clicks": "clicks", "conversions": "purchases"}
    join_events({name: str(tmp_path / "lake" / table) for name, table in lake.items()}, tmp_path / "a.parquet")
    plain = {"impressions": impressions, "clicks": clicks, "conversions": bought}
    join_events({name: write(tmp_path, name, rows) for name, rows in plain.items()}, tmp_path / "b.parquet")
    a, b = pq.read_table(tmp_path / "a.parquet"), pq.read_table(tmp_path / "b.parquet")
    shared = [name for name in a.column_names if name in b.column_names]
    assert a.select(shared).to_pylist() == b.select(shared).to_pylist()
    assert sum(a["converted"].to_pylist()) == 1
    assert {"label", "click_id", "conversion_value", "sampling_rate"} <= set(shared)


def test_a_day_without_a_click_has_negatives_alone(tmp_path: Path) -> None:
    (tmp_path / "clicks.csv").write_text("click_id,request_id,item_id,event_time\n")
    tables = {"impressions": write(tmp_path, "impressions", shown(3)), "clicks": str(tmp_path / "clicks.csv")}
    join_events(tables, tmp_path / "s.parquet")
    assert labels(tmp_path / "s.parquet") == {"r0": 0, "r1": 0, "r2": 0}


def test_a_late_click_corrects_its_label_in_the_next_run(tmp_path: Path) -> None:
    tables = {"impressions": write(tmp_path, "impressions", shown(3)), "clicks": write(tmp_path, "clicks", clicked(1))}
    join_events(tables, tmp_path / "s.parquet")
    assert labels(tmp_path / "s.parquet") == {"r0": 0, "r1": 1, "r2": 0}
    write(tmp_path, "clicks", clicked(1) + clicked(2, minutes=600))
    assert join_events(tables, tmp_path / "s.parquet").corrected == 1
    assert labels(tmp_path / "s.parquet") == {"r0": 0, "r1": 1, "r2": 1}


def test_impressions_are_held_back_until_a_missing_click_means_something(tmp_path: Path) -> None:
    rows = [{"request_id": f"r{n}", "item_id": 1, "user_id": 1, "event_time": at(n)} for n in (0, 30, 31)]
    tables = {"impressions": write(tmp_path, "impressions", rows), "clicks": write(tmp_path, "clicks", clicked(9))}
    how = Attribution(delay=timedelta(minutes=30))
    report = join_events(tables, tmp_path / "s.parquet", how, now=START + timedelta(hours=1))
    assert (report.counts["rows_out"], report.counts["held_back"]) == (2, 1)


def test_down_sampling_keeps_every_click_and_records_its_rate(tmp_path: Path) -> None:
    clicks = clicked(*range(0, 20_000, 20))
    tables = {"impressions": write(tmp_path, "impressions", shown(20_000)), "clicks": write(tmp_path, "clicks", clicks)}
    join_events(tables, tmp_path / "s.parquet", Attribution(negative_rate=0.1))
    table = pq.read_table(tmp_path / "s.parquet")
    assert table.schema.metadata[b"tidegate.negative_rate"] == b"0.1"
    assert sum(table["label"].to_pylist()) == 1000
    assert sum(table["weight"].to_pylist()) == pytest.approx(20_000, rel=0.05)
    rate = 1000 / table.num_rows
    assert corrected(rate, 0.1) == pytest.approx(0.05, rel=0.05)


def test_a_missing_value_is_named_by_file_column_and_row(tmp_path: Path) -> None:
    rows = shown(5)
    rows[3]["item_id"] = None
    tables = {"impressions": write(tmp_path, "impressions", rows), "clicks": write(tmp_path, "clicks", clicked(1))}
    with pytest.raises(BadEventsError, match=r"impressions.jsonl: column item_id is 'missing in row 4'"):
        join_events(tables, tmp_path / "s.parquet")
    assert not (tmp_path / "s.parquet").exists()


def test_a_missing_column_and_another_type_are_named(tmp_path: Path) -> None:
    impressions, clicks = write(tmp_path, "impressions", shown(5)), write(tmp_path, "clicks", clicked(1))
    bought = write(tmp_path, "bought", [{"order_id": "o", "event_time": at(1)}])
    with pytest.raises(BadEventsError, match=r"bought.jsonl: columns is .* expected a column click_id"):
        join_events({"impressions": impressions, "clicks": clicks, "conversions": bought}, tmp_path / "s.parquet")
    text = write(tmp_path, "text", [{**clicked(1)[0], "item_id": "one"}])
    with pytest.raises(BadEventsError, match=r"text.jsonl: column item_id is 'VARCHAR', expected BIGINT"):
        join_events({"impressions": impressions, "clicks": text}, tmp_path / "s.parquet")


@pytest.mark.parametrize("column", ["label", "Weight", "click_time"])
def test_impressions_with_a_column_that_the_join_writes_are_refused(column: str, tmp_path: Path) -> None:
    impressions = write(tmp_path, "impressions", [row | {column: "x"} for row in shown(2)])
    addresses = {"impressions": impressions, "clicks": write(tmp_path, "clicks", clicked(0))}
    with pytest.raises(BadEventsError, match=f"column {column} is 'there already', expected no column that the join"):
        join_events(addresses, tmp_path / "out.parquet")


def test_a_file_that_no_commit_lists_is_not_read(tmp_path: Path) -> None:
    lines = [{"type": "impression", **row} for row in shown(3)] + [{"type": "click", **row} for row in clicked(1)]
    land_file(Path(write(tmp_path, "topic", lines)), tmp_path / "lake")
    stray = next((tmp_path / "lake" / "impressions").rglob("*.parquet"))
    stray.with_name("stray.parquet").write_bytes(stray.read_bytes())
    tables = {name: str(tmp_path / "lake" / name) for name in ("impressions", "clicks")}
    assert join_events(tables, tmp_path / "s.parquet").counts["impressions_in"] == 3


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_formats_give_the_same(suffix: str, tmp_path: Path) -> None:
    tables = {"impressions": shown(30), "clicks": clicked(3, 5)}
    lines = {name: write(tmp_path / "a", name, rows) for name, rows in tables.items()}
    for name, address in lines.items():
        duckdb.sql(f"COPY (FROM '{address}') TO '{tmp_path / name}.{suffix}'")
    join_events(lines, tmp_path / "a.parquet")
    join_events({name: f"{tmp_path / name}.{suffix}" for name in tables}, tmp_path / "b.parquet")
    assert pa.Table.equals(pq.read_table(tmp_path / "a.parquet"), pq.read_table(tmp_path / "b.parquet"))


def test_columns_may_have_any_name(tmp_path: Path) -> None:
    log = [{"request_id": "r1", "event_time": at(0), "user-activity__clicks_7d": 3, "item-v__as_of": at(0)}]
    rows = [{**row, "order": 1, 'user "age"': 30, "Place": 5} for row in shown(3)]
    clicks = [{**row, "group": "x", "place": 9} for row in clicked(1)]
    tables = {"impressions": rows + rows[:1], "clicks": clicks + clicks, "feature_log": log + log}
    join_events({name: write(tmp_path, name, rows) for name, rows in tables.items()}, tmp_path / "s.parquet")
    samples = pq.read_table(tmp_path / "s.parquet")
    assert samples["feature_log__user-activity__clicks_7d"].to_pylist() == [None, 3, None]
    assert samples['user "age"'].to_pylist() == [30, 30, 30]
    assert samples["label"].to_pylist() == [0, 1, 0]


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_a_time_that_is_none_is_named_by_file_and_row_however_deep(kind: str, tmp_path: Path) -> None:
    tables = {"impressions": write(tmp_path, "impressions", shown(3)), "clicks": str(tmp_path / f"late.{kind}")}
    row = "'c' || range AS click_id, 'r1' AS request_id, 1 AS item_id"
    rows = f"SELECT {row}, '2026-01-01 00:00:00' AS event_time FROM range(60000)"
    last = f"SELECT {row}, 'yesterday' FROM range(60000, 60001)"
    duckdb.sql(f"COPY ({rows} UNION ALL {last}) TO '{tables['clicks']}'" + (" (FORMAT json)" * (kind == "jsonl")))
    with pytest.raises(BadEventsError, match=rf"late.{kind}: column event_time in row 60001 is 'yesterday'"):
        join_events(tables, tmp_path / "s.parquet")


def test_text_times_are_read_as_ingest_reads_them(tmp_path: Path) -> None:
    texts = {name: [{**row, "event_time": when} for row in rows] for (name, rows), when in zip(
        {"impressions": shown(2), "clicks": clicked(1)}.items(), ("2026-01-01T13:00:00+01:00", "2026-01-01 12:00:30"),
        strict=True)}  # fmt: skip
    join_events({name: write(tmp_path, name, rows) for name, rows in texts.items()}, tmp_path / "s.parquet")
    assert pq.read_table(tmp_path / "s.parquet")["event_time"][0].as_py() == datetime(2026, 1, 1, 12, tzinfo=UTC)
    assert labels(tmp_path / "s.parquet") == {"r0": 0, "r1": 1}
    write(tmp_path, "clicks", [{**clicked(1)[0], "event_time": "soon"}])
    with pytest.raises(BadEventsError, match=r"clicks.jsonl: column event_time in row 1 is 'soon', expected RFC 3339"):
        join_events({name: str(tmp_path / f"{name}.jsonl") for name in texts}, tmp_path / "s.parquet")


@pytest.mark.parametrize("theirs", ["folder", "text", "parquet"])
def test_what_no_earlier_run_wrote_is_not_replaced(theirs: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    if theirs == "folder":
        out.mkdir()
    elif theirs == "text":
        out.write_text("theirs")
    else:
        pq.write_table(pa.table({"label": [1]}), out)
    told: list[str] = []
    tables = {"impressions": write(tmp_path, "impressions", shown(3)), "clicks": write(tmp_path, "clicks", clicked(1))}
    with pytest.raises(BadEventsError, match=r"--out is .*, expected nothing there, or the samples of an earlier run"):
        join_events(tables, out, told=told.append)
    assert told == []
    assert out.exists()


def test_integers_of_any_width_match(tmp_path: Path) -> None:
    impressions = write(tmp_path, "impressions", shown(3))
    narrow = "SELECT * REPLACE (item_id::INTEGER AS item_id)"
    duckdb.sql(f"COPY ({narrow} FROM '{write(tmp_path, 'clicks', clicked(1))}') TO '{tmp_path}/narrow.parquet'")
    join_events({"impressions": impressions, "clicks": f"{tmp_path}/narrow.parquet"}, tmp_path / "s.parquet")
    assert labels(tmp_path / "s.parquet") == {"r0": 0, "r1": 1, "r2": 0}


def test_tables_of_a_folder_may_be_of_any_format_or_landed(tmp_path: Path) -> None:
    write(tmp_path, "impressions", shown(3))
    clicks = write(tmp_path / "more", "clicks", clicked(1))
    duckdb.sql(f"COPY (FROM '{clicks}') TO '{tmp_path}/clicks.csv'")
    lines = [{"type": "impression", **row} for row in shown(3)] + [{"type": "click", **row} for row in clicked(1)]
    land_file(Path(write(tmp_path / "more", "topic", lines)), tmp_path / "lake")
    for folder in (tmp_path, tmp_path / "lake"):
        join_events(tables_in(str(folder)), tmp_path / "s.parquet")
        assert labels(tmp_path / "s.parquet") == {"r0": 0, "r1": 1, "r2": 0}
    with pytest.raises(BadEventsError, match="table impressions is 'no such table'"):
        tables_in(str(tmp_path / "more"))
