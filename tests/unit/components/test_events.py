"""Events: nothing is lost on the way from a log to samples, and what is wrong is said."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from tidegate_components.duck import connect
from tidegate_components.events.clean import clean
from tidegate_components.events.ingest import ingest
from tidegate_components.events.join import join_samples
from tidegate_components.events.lake import land
from tidegate_components.events.land_stream import land_file
from tidegate_components.events.rows import has_kinds
from tidegate_components.events.tables import TABLES, BadEventsError
from tidegate_pipelines.cli import app
from unit.components.shop import START, event_tables, write_shop


def test_cleaning_keeps_or_quarantines_every_row_with_a_reason(tmp_path: Path) -> None:
    ratings = event_tables()["ratings"]
    broken = ratings.slice(0, 1).set_column(4, "rating", pa.array([9.0]))
    tables = {"ratings": pa.concat_tables([ratings, broken, ratings.slice(5, 2)])}
    reports = {r.table: r for r in clean(write_shop(tmp_path / "raw", **tables), tmp_path / "out", tmp_path / "bad")}

    report = reports["ratings"]
    assert (report.rows_in, report.rows_out) == (3003, 3000)
    assert report.reasons == {"duplicate": 2, "rating out of range": 1}
    dropped = pq.read_table(tmp_path / "bad" / "ratings.parquet")
    assert sorted(dropped["reason"].to_pylist()) == ["duplicate", "duplicate", "rating out of range"]


def test_a_table_without_a_declared_column_is_named(tmp_path: Path) -> None:
    clicks = event_tables()["clicks"].drop_columns(["item_id"])
    with pytest.raises(BadEventsError, match=r"table clicks is .* expected a column item_id; check the folder"):
        ingest(str(write_shop(tmp_path / "raw", clicks=clicks)), tmp_path / "out", required=TABLES)


def test_an_empty_table_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadEventsError, match="table impressions is '0 rows', expected at least one row"):
        ingest(
            str(write_shop(tmp_path / "raw", impressions=event_tables()["impressions"].slice(0, 0))), tmp_path / "out"
        )


def test_every_impression_becomes_one_sample_whatever_its_clicks_are(tmp_path: Path) -> None:
    tables = event_tables()
    late = tables["clicks"].set_column(2, "event_time", pc.add(tables["clicks"]["event_time"], timedelta(hours=1)))
    twice = pa.concat_tables([late, tables["clicks"]])
    assert join_samples(write_shop(tmp_path / "raw", clicks=twice), tmp_path / "s.parquet") == 3000
    samples = pq.read_table(tmp_path / "s.parquet")
    assert sum(samples["label"].to_pylist()) == tables["clicks"].num_rows
    assert samples.filter(pc.equal(samples["label"], 1))["click_time"].null_count == 0


def test_a_click_before_its_impression_is_no_label(tmp_path: Path) -> None:
    tables = event_tables()
    early = pa.array([START - timedelta(days=1)] * tables["clicks"].num_rows, pa.timestamp("us", tz="UTC"))
    clicks = tables["clicks"].set_column(2, "event_time", early)
    join_samples(write_shop(tmp_path / "raw", clicks=clicks), tmp_path / "s.parquet")
    assert sum(pq.read_table(tmp_path / "s.parquet")["label"].to_pylist()) == 0


def test_repeated_impressions_are_refused_with_the_remedy(tmp_path: Path) -> None:
    impressions = event_tables()["impressions"]
    doubled = pa.concat_tables([impressions, impressions.slice(7, 1)])
    with pytest.raises(BadEventsError, match=r"2 times in request r7.*events clean"):
        join_samples(write_shop(tmp_path / "raw", impressions=doubled), tmp_path / "s.parquet")


def test_landing_the_same_events_again_touches_nothing(tmp_path: Path) -> None:
    raw = write_shop(tmp_path / "raw")
    first = land(raw, tmp_path / "lake")
    landed = tmp_path / "lake" / "interactions" / "part-0.parquet"
    before = landed.stat().st_mtime_ns
    assert land(raw, tmp_path / "lake") == first
    assert landed.stat().st_mtime_ns == before


def test_movielens_comes_whole_and_can_end_today(tmp_path: Path) -> None:
    rows = ingest("movielens-100k", tmp_path / "ml", "2026-01-31")
    assert rows == {"impressions": 100_000, "clicks": 55_375, "ratings": 100_000, "interactions": 255_375}
    newest = pc.max(pq.read_table(tmp_path / "ml" / "ratings.parquet")["event_time"]).as_py()
    assert newest.isoformat() == "2026-01-31T00:00:00"


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_tables_of_any_format_become_the_same_parquet(tmp_path: Path, kind: str) -> None:
    raw = write_shop(tmp_path / "raw")
    rows = ingest(str(raw), tmp_path / "as-parquet")
    other = tmp_path / "other"
    other.mkdir()
    formats = {"csv": "FORMAT csv", "jsonl": "FORMAT json", "parquet": "FORMAT parquet"}
    with connect() as db:
        for name in rows:
            source, target = tmp_path / "as-parquet" / f"{name}.parquet", other / f"{name}.{kind}"
            db.execute(f"COPY (SELECT * FROM '{source}') TO '{target}' ({formats[kind]})")
    assert ingest(str(other), tmp_path / "out") == rows
    for name in rows:
        found, wanted = (pq.read_table(tmp_path / folder / f"{name}.parquet") for folder in ("out", "as-parquet"))
        assert found.to_pylist() == wanted.to_pylist()
        assert found.schema.field("event_time").type == pa.timestamp("us", tz="UTC")


def test_a_time_that_is_none_is_named_by_file_column_and_row(tmp_path: Path) -> None:
    (tmp_path / "clicks.csv").write_text("request_id,item_id,event_time\nr1,1,2026-01-01T00:00:00Z\nr2,2,yesterday\n")
    with pytest.raises(BadEventsError, match=r"clicks.csv: column event_time in row 2 is 'yesterday'"):
        ingest(str(tmp_path / "clicks.csv"), tmp_path / "out")


def test_a_time_in_epoch_milliseconds_is_a_time(tmp_path: Path) -> None:
    (tmp_path / "clicks.csv").write_text("request_id,item_id,event_time\nr1,1,1767225600000\n")
    ingest(str(tmp_path / "clicks.csv"), tmp_path / "out")
    (row,) = pq.read_table(tmp_path / "out" / "clicks.parquet").to_pylist()
    assert row["event_time"] == datetime(2026, 1, 1, tzinfo=UTC)


EVENTS = [
    {"type": "impression", "request_id": "r1", "item_id": 1, "user_id": 7, "event_time": "2026-01-01T10:00:00Z"},
    {"type": "click", "request_id": "r1", "item_id": 1, "click_id": "c1", "event_time": "2026-01-01T10:00:05Z"},
    {"type": "purchase", "user_id": 7, "item_id": 1, "event_time": "2026-01-01T10:00:09Z"},
]


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_file_whose_rows_are_events_lands_as_a_topic_does_and_once(tmp_path: Path, kind: str) -> None:
    columns = {name: [event.get(name) for event in EVENTS] for name in dict.fromkeys(k for e in EVENTS for k in e)}
    path = tmp_path / f"events.{kind}"
    pq.write_table(pa.table(columns), path) if kind == "parquet" else pacsv.write_csv(pa.table(columns), path)
    assert has_kinds(path)
    landed = land_file(path, tmp_path / "lake")
    assert landed.rows == {"impressions": 1, "clicks": 1}
    assert landed.quarantined == {"purchase: missing order_id": 1}
    assert land_file(path, tmp_path / "lake").messages == 0


def ingested(source: Path, to: Path) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["events", "ingest", "--from", str(source), "--to", str(to)])
    return done.exit_code, done.stderr


def test_json_lines_without_a_type_are_a_table(tmp_path: Path) -> None:
    source = tmp_path / "impressions.jsonl"
    source.write_text('{"request_id": "r1", "item_id": 1, "event_time": "2026-01-01T10:00:00Z"}\n')
    assert ingested(source, tmp_path / "out") == (0, "")
    assert pq.read_table(tmp_path / "out" / "impressions.parquet").num_rows == 1


@pytest.mark.parametrize("lines", ["hello\nyou\n", '{"type": "refund"}\n{"type": "click"}\n'])
def test_a_file_without_one_event_fails_and_says_why(lines: str, tmp_path: Path) -> None:
    (tmp_path / "events.jsonl").write_text(lines)
    code, said = ingested(tmp_path / "events.jsonl", tmp_path / "lake")
    assert code == 1
    assert 'events.jsonl: messages is "2 new, all quarantined: {' in said


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_a_value_that_does_not_fit_is_named_however_deep_in_the_file(kind: str, tmp_path: Path) -> None:
    when, formats = "2026-01-01 00:00:00", {"csv": "FORMAT csv", "jsonl": "FORMAT json"}
    for name, last in {"late": "'yesterday' AS t, '1' AS n", "odd": f"'{when}' AS t, 'one' AS n"}.items():
        rows = f"SELECT '{when}' AS event_time, '1' AS n FROM range(60000) UNION ALL SELECT {last}"
        with connect() as db:
            db.execute(f"COPY ({rows}) TO '{tmp_path / name}.{kind}' ({formats[kind]})")
    code, said = ingested(tmp_path / f"late.{kind}", tmp_path / "out")
    assert (code, f"late.{kind}: column event_time in row 60001 is 'yesterday'" in said) == (2, True)
    if kind == "csv":
        code, said = ingested(tmp_path / "odd.csv", tmp_path / "out")
        assert (code, "odd.csv: content is " in said, "60002" in said) == (2, True, True)


@pytest.mark.parametrize("content", [b"", b"garbage, not Parquet"])
def test_parquet_that_is_none_is_named(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "clicks.parquet").write_bytes(content)
    code, said = ingested(tmp_path / "clicks.parquet", tmp_path / "out")
    assert (code, "clicks.parquet: content is " in said) == (2, True)


@pytest.mark.parametrize("name", ["nowhere", "events.jsonl", "clicks.csv"])
def test_a_source_that_is_not_there_is_named(name: str, tmp_path: Path) -> None:
    code, said = ingested(tmp_path / name, tmp_path / "out")
    assert (code, f"{name}: file or folder is 'not there'" in said) == (2, True)


BIG = 18446744073709551614


def _written(file: Path, rows: list[dict[str, Any]]) -> None:
    if file.suffix == ".jsonl":
        file.write_text("\n".join(map(json.dumps, rows)))
        return
    lines = [rows[0].keys(), *(row.values() for row in rows)]
    file.write_text("\n".join(",".join(map(str, line)) for line in lines))


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_ids_of_64_bits_keep_every_digit(kind: str, tmp_path: Path) -> None:
    rows = [{"request_id": "r", "item_id": BIG + k, "event_time": "2026-01-01T00:00:00Z"} for k in (0, 1)]
    _written(tmp_path / f"impressions.{kind}", rows)
    assert ingest(str(tmp_path), tmp_path / "lake") == {"impressions": 2}
    found = pq.read_table(tmp_path / "lake" / "impressions.parquet")["item_id"]
    assert (found.type, sorted(found.to_pylist())) == (pa.uint64(), [BIG, BIG + 1])


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_an_id_that_a_fraction_beside_it_would_round_is_named(kind: str, tmp_path: Path) -> None:
    rows = [{"item_id": item, "event_time": "2026-01-01T00:00:00Z"} for item in (7.0, 9007199254740993)]
    _written(tmp_path / f"impressions.{kind}", rows)
    with pytest.raises(BadEventsError, match=r"column item_id in row 2 is '9007199254740993', expected an id that is"):
        ingest(str(tmp_path), tmp_path / "lake")


def test_a_fraction_in_one_file_rounds_no_id_of_another(tmp_path: Path) -> None:
    folder = tmp_path / "raw" / "impressions"
    folder.mkdir(parents=True)
    for name, item in (("a", 9007199254740993), ("b", 7.0)):
        _written(folder / f"{name}.csv", [{"item_id": item, "event_time": "2026-01-01T00:00:00Z"}])
    with pytest.raises(BadEventsError, match=r"a.csv: column item_id in row 1 is '9007199254740993'"):
        ingest(str(tmp_path / "raw"), tmp_path / "lake")


def test_texts_and_numbers_in_one_column_are_texts(tmp_path: Path) -> None:
    times = ["2026-01-01T00:00:00Z", 1767225600000]
    rows = [{"user_id": user, "event_time": time} for user, time in zip(["u1", 5], times, strict=True)]
    _written(tmp_path / "impressions.jsonl", rows)
    ingest(str(tmp_path), tmp_path / "lake")
    found = pq.read_table(tmp_path / "lake" / "impressions.parquet").to_pylist()
    assert [row["user_id"] for row in found] == ["u1", "5"]
    assert found[0]["event_time"] == found[1]["event_time"]


@pytest.mark.parametrize("place", [3, 30_000])
@pytest.mark.parametrize("row", ["r,1,t,extra", "r,1"])
def test_a_csv_row_with_a_field_too_many_or_too_few_is_named(row: str, place: int, tmp_path: Path) -> None:
    lines = ["request_id,item_id,note", *["r,1,t"] * (place - 2), row, "r,2,t"]
    (tmp_path / "impressions.csv").write_text("\n".join(lines))
    with pytest.raises(
        BadEventsError, match=rf"impressions.csv: line {place} is '\d fields', expected 3, as the header"
    ):
        ingest(str(tmp_path), tmp_path / "lake")
    assert not (tmp_path / "lake").exists()


def test_csv_with_semicolons_quotes_and_hashes_is_read_as_it_stands(tmp_path: Path) -> None:
    (tmp_path / "notes.csv").write_text('id;note\n#1;"a; ""b"""\n2;"two\nlines"\n')
    ingest(str(tmp_path), tmp_path / "lake")
    found = pq.read_table(tmp_path / "lake" / "notes.parquet").to_pylist()
    assert found == [{"id": "#1", "note": 'a; "b"'}, {"id": "2", "note": "two\nlines"}]
