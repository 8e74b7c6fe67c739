"""Landing: files and offsets become true together, for one writer at a time."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tidegate_components.events.land_stream import land_file
from tidegate_components.events.landing import LandedFile, Landing, LandingError, landed_files
from tidegate_components.events.tables import BadEventsError
from unit.components.kafka_case import impression, landed


def test_offsets_and_files_are_read_back_as_committed(tmp_path: Path) -> None:
    landing = Landing(tmp_path)
    assert dict(landing.open().offsets) == {}
    landing.commit({"events/0": 7}, (LandedFile("clicks/date=2026-01-01/x.parquet", "clicks", 3),), {"no type": 1})
    newest = Landing(tmp_path).newest()
    assert (newest.offsets, newest.quarantined) == ({"events/0": 7}, {"no type": 1})
    assert landed_files(tmp_path, "clicks") == [tmp_path / "clicks/date=2026-01-01/x.parquet"]


def test_the_writer_that_started_last_goes_on_and_the_other_stops(tmp_path: Path) -> None:
    first, second = Landing(tmp_path), Landing(tmp_path)
    first.open()
    first.commit({"events/0": 1})
    assert second.open().offsets == {"events/0": 1}
    with pytest.raises(LandingError, match=r"another writer.*one writer at a time; stop one of the two"):
        first.commit({"events/0": 2})
    second.commit({"events/0": 3})
    assert Landing(tmp_path).newest().offsets == {"events/0": 3}


def test_what_a_killed_writer_left_is_swept_and_what_it_committed_stays(tmp_path: Path) -> None:
    killed = Landing(tmp_path)
    killed.open()
    kept = killed.stage("clicks", "2026-01-01", 0)
    kept.write_bytes(b"kept")
    killed.commit({"events/0": 1}, (LandedFile(str(kept.relative_to(tmp_path)), "clicks", 1),))
    killed.stage("clicks", "2026-01-01", 1).write_bytes(b"half")
    Landing(tmp_path).open()
    assert list(tmp_path.rglob("*.parquet")) == [kept]


def test_a_broken_commit_is_named(tmp_path: Path) -> None:
    Landing(tmp_path).open()
    (tmp_path / "_log" / "0000000000.json").write_text("{")
    with pytest.raises(LandingError, match=r"commit 0 is .*restore the file from a backup"):
        Landing(tmp_path).newest()


BROKEN = {
    b"": "not JSON",
    b"\xff\xfe": "not UTF-8",
    b"{": "not JSON",
    b"[1]": "not a JSON object",
    b"{}": "no type",
    b'{"type": "refund"}': "unknown type",
    b'{"type": "click"}': "click: missing click_id",
    json.dumps({**impression(1), "item_id": 3.7}).encode(): "impression: item_id is no integer",
    json.dumps({**impression(1), "item_id": "seven"}).encode(): "impression: item_id is no integer",
    json.dumps({**impression(1), "event_time": "yesterday"}).encode(): "impression: event_time is no time",
    json.dumps({**impression(1), "event_time": 12}).encode(): "impression: event_time is no time",
    b'{"type":"purchase","order_id":"o","user_id":1,"item_id":2,"event_time":"2026-01-01","amount":1e999}':
        "purchase: amount is no number",
}  # fmt: skip


def test_every_message_that_is_no_event_is_quarantined_with_its_reason_and_bytes(tmp_path: Path) -> None:
    source = tmp_path / "events.jsonl"
    source.write_bytes(b"\n".join([*BROKEN, json.dumps(impression(5)).encode()]) + b"\n")
    report = land_file(source, tmp_path / "lake")
    assert report.rows == {"impressions": 1}
    assert report.messages == len(BROKEN) + 1
    assert dict(landed(tmp_path / "lake", "quarantine", "message, reason")) == BROKEN


@pytest.mark.parametrize(
    "text", ["2026-01-31T12:00:00Z", "2026-01-31T13:00:00+01:00", "2026-01-31 12:00:00", 1769860800000]
)
def test_times_are_read_as_utc(text: str | int, tmp_path: Path) -> None:
    source = tmp_path / "events.jsonl"
    source.write_text(json.dumps({**impression(1), "event_time": text}))
    land_file(source, tmp_path / "lake")
    assert landed(tmp_path / "lake", "impressions", "epoch_ms(event_time)") == [(1769860800000,)]


def test_a_whole_number_that_pandas_wrote_as_a_float_is_one(tmp_path: Path) -> None:
    source = tmp_path / "events.jsonl"
    source.write_text(json.dumps({**impression(1), "position": 2.0}) + "\n")
    assert land_file(source, tmp_path / "lake").quarantined == {}
    assert landed(tmp_path / "lake", "impressions", "position") == [(2,)]


def test_lines_that_have_landed_land_no_second_time(tmp_path: Path) -> None:
    source = tmp_path / "events.jsonl"
    source.write_text("".join(json.dumps(impression(number)) + "\n" for number in range(3)))
    assert land_file(source, tmp_path / "lake").messages == 3
    with source.open("a") as more:
        more.write(json.dumps(impression(3)) + "\n")
    assert land_file(source, tmp_path / "lake").messages == 1
    assert landed(tmp_path / "lake", "impressions", "event_id") == [("e0",), ("e1",), ("e2",), ("e3",)]


def test_the_data_version_stays_where_nothing_came(tmp_path: Path) -> None:
    source, lake = tmp_path / "events.jsonl", tmp_path / "lake"
    source.write_text(json.dumps(impression(1)) + "\n")
    land_file(source, lake)
    first = Landing(lake).digest()
    land_file(source, lake)
    assert Landing(lake).digest() == first
    with source.open("a") as more:
        more.write(json.dumps(impression(2)) + "\n")
    land_file(source, lake)
    assert Landing(lake).digest() != first


def lines_of(path: Path, *numbers: int) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps(impression(number)) + "\n" for number in numbers))
    return path


@pytest.mark.parametrize("count", [2, 40])
def test_another_file_of_the_same_name_lands_whole_and_each_once(count: int, tmp_path: Path) -> None:
    days = [lines_of(tmp_path / f"day{day}" / "events.jsonl", *range(day * 100, day * 100 + count)) for day in (1, 2)]
    assert [land_file(path, tmp_path / "lake").messages for path in [*days, *days]] == [count, count, 0, 0]
    assert len(set(landed(tmp_path / "lake", "impressions", "source, source_offset"))) == 2 * count


def test_a_csv_that_grew_by_a_row_of_other_types_goes_on_where_it_was(tmp_path: Path) -> None:
    source = tmp_path / "events.csv"
    source.write_text("type,request_id,item_id,user_id,event_time\nimpression,1,1,1,2026-01-01T10:00:00Z\n")
    land_file(source, tmp_path / "lake")
    with source.open("a") as more:
        more.write("impression,r2,seven,1,2026-01-01T10:00:00Z\n")
    assert land_file(source, tmp_path / "lake").quarantined == {"impression: item_id is no integer": 1}


@pytest.mark.parametrize("left", [1, 3, 20])
def test_a_file_that_lost_lines_which_have_landed_is_refused(left: int, tmp_path: Path) -> None:
    land_file(lines_of(tmp_path / "events.jsonl", *range(30)), tmp_path / "lake")
    with pytest.raises(BadEventsError, match=f"messages is {left}, expected at least the 30 that have landed"):
        land_file(lines_of(tmp_path / "events.jsonl", *range(left)), tmp_path / "lake")


def test_a_folder_of_other_things_is_no_landing(tmp_path: Path) -> None:
    theirs = tmp_path / "clicks" / "date=2026-01-01" / "part-0.parquet"
    theirs.parent.mkdir(parents=True)
    theirs.write_bytes(b"theirs")
    with pytest.raises(LandingError, match=r"folder is 'clicks', expected a landing .*or an empty folder; land into"):
        Landing(tmp_path).open()
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [theirs]


def test_sweeping_leaves_files_that_are_not_of_a_landing(tmp_path: Path) -> None:
    Landing(tmp_path).open()
    theirs = [tmp_path / "clicks" / "date=2026-01-01" / "part-0.parquet", tmp_path / "_log" / ".gitkeep"]
    theirs[0].parent.mkdir(parents=True)
    for path in theirs:
        path.write_bytes(b"theirs")
    Landing(tmp_path).open()
    assert all(path.exists() for path in theirs)
