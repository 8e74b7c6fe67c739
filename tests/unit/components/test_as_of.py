"""Each sentence of "As of time t" in api.md, one test each."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tidegate_api.errors import TidegateError
from tidegate_api.feature import Feature
from tidegate_api.feature_view import FeatureView, JoinKey
from tidegate_components.duck import connect
from tidegate_components.events.landing import LandedFile, Landing
from tidegate_components.features.compute import join_file
from tidegate_components.features.errors import BadFeaturesError
from tidegate_components.features.join import check_values, join_views
from tidegate_components.features.source import open_source
from tidegate_components.models.inputs import VIEWS_KEY
from unit.components.feature_case import EVENTS, aggregate_view, as_of, at, event, write_events
from unit.components.shop import parsed, view_body


def test_a_window_holds_its_far_end_and_not_its_near_one(tmp_path: Path) -> None:
    view = aggregate_view(write_events(tmp_path, [event(1, 0, 1), event(1, 10, 2)]))
    assert [row["sum"] for row in as_of(view, (1, 10), (1, 10.000001), (1, 20), (1, 0))] == [1, 2, 2, None]


def test_an_empty_window_gives_default_or_null_and_counts_give_zero(tmp_path: Path) -> None:
    source = write_events(tmp_path, [event(1, 0, 1)])
    (row,) = as_of(aggregate_view(source, sum={"default": 7}), (2, 5))
    assert row == {"count": 0, "sum": 7, "mean": None, "min": None, "max": None, "last": None, "distinct": 0, "rows": 0}
    (row,) = as_of(aggregate_view(source, count={"default": 5}), (2, 5))
    assert row["count"] == 5


def test_nulls_are_skipped_by_all_but_a_count_without_column(tmp_path: Path) -> None:
    view = aggregate_view(write_events(tmp_path, [event(1, 0, None), event(1, 1, 4), event(1, 2, None)]))
    (row,) = as_of(view, (1, 5))
    assert row == {"count": 1, "sum": 4, "mean": 4, "min": 4, "max": 4, "last": 4, "distinct": 1, "rows": 3}


def test_events_that_fail_where_do_not_count(tmp_path: Path) -> None:
    cheap = {"aggregate": {"function": "count", "window": "10s", "where": "price < 3"}}
    view = aggregate_view(write_events(tmp_path, [event(1, 0, 1), event(1, 1, 5), event(1, 1, None)]), rows=cheap)
    assert as_of(view, (1, 5))[0]["rows"] == 1


@pytest.mark.parametrize("as_known", [False, True])
def test_a_sum_beyond_64_bits_names_its_feature(as_known: bool, tmp_path: Path) -> None:
    pq.write_table(
        pa.table({"user_id": [1] * 9, "event_time": [at(0)] * 9, "ingested_at": [at(0)] * 9, "price": [2**60 + 1] * 9}),
        tmp_path / "events.parquet",
    )
    whole = {function: {"type": "Int64"} for function in ("sum", "min", "max", "last")}
    view = aggregate_view(tmp_path, created=True, **whole)
    with pytest.raises(BadFeaturesError, match=r"spec.features\[sum\] is .*expected values of the declared types"):
        as_of(view, (1, 5), as_known=as_known)


def test_where_sees_nan_which_no_file_tells_of_in_its_statistics(tmp_path: Path) -> None:
    """As a number that is greater than all others; sums without it are those of the rest."""
    asked = {
        name: {"aggregate": {"function": function, "column": "price", "window": "10s", "where": where}}
        for name, function, where in (("count", "count", "isnan(price)"), ("rows", "count", "price > 100"),
                                      ("sum", "sum", "NOT isnan(price)"))
    }  # fmt: skip
    view = aggregate_view(write_events(tmp_path, [event(1, 0, 1), event(1, 1, float("nan")), event(1, 2, 3)]), **asked)
    (row,) = as_of(view, (1, 5))
    assert (row["count"], row["rows"], row["sum"]) == (1, 1, 4)


def test_last_takes_the_newest_then_the_latest_created_then_the_greatest(tmp_path: Path) -> None:
    events = [event(1, 0, 9, 8), event(1, 1, 2, 5), event(1, 1, 3, 5), event(1, 1, 8, 4), event(1, 1, 7)]
    view = aggregate_view(write_events(tmp_path, events), created=True)
    assert as_of(view, (1, 9))[0]["last"] == 3


def test_identical_rows_are_separate_events(tmp_path: Path) -> None:
    (row,) = as_of(aggregate_view(write_events(tmp_path, [event(1, 0, 2)] * 3)), (1, 5))
    assert (row["count"], row["sum"], row["distinct"]) == (3, 6, 1)


def test_created_breaks_ties_only_unless_as_known_is_asked(tmp_path: Path) -> None:
    view = aggregate_view(write_events(tmp_path, [event(1, 0, 2, 0), event(1, 1, 3, 7)]), created=True)
    assert as_of(view, (1, 5))[0]["sum"] == 5
    assert [row["sum"] for row in as_of(view, (1, 5), (1, 7), as_known=True)] == [2, 5]


def test_without_created_an_event_is_known_when_it_happens(tmp_path: Path) -> None:
    view = aggregate_view(write_events(tmp_path, [event(1, 0, 2, 99)]))
    assert as_of(view, (1, 5), as_known=True)[0]["sum"] == 2


def test_ttl_changes_no_aggregate(tmp_path: Path) -> None:
    source = write_events(tmp_path, [event(1, 0, 2)])
    assert as_of(aggregate_view(source, ttl="1s"), (1, 9)) == as_of(aggregate_view(source, ttl="1d"), (1, 9))


def sql_view(source: Path, created: bool = False) -> Any:
    body = view_body("v", "user_id", [{"name": "price", "type": "Float64"}], str(source))
    body["spec"] |= {"sql": "SELECT * FROM source WHERE price > 0", "ttl": "10s"}
    if created:
        body["spec"]["source"]["createdTimestamp"] = "ingested_at"
    return parsed(body)


@pytest.mark.parametrize("as_known", [False, True])
def test_a_sql_row_holds_from_its_own_time_until_the_ttl_inclusive(tmp_path: Path, as_known: bool) -> None:
    view = sql_view(write_events(tmp_path, [event(1, 0, 1), event(1, 4, 2), event(1, 5, -1)]))
    asked = [(1, -0.5), (1, 0), (1, 4), (1, 14), (1, 14.000001)]
    assert [row["price"] for row in as_of(view, *asked, as_known=as_known)] == [None, 1, 2, 2, None]


def test_among_equal_sql_rows_the_newest_created_wins(tmp_path: Path) -> None:
    view = sql_view(write_events(tmp_path, [event(1, 0, 5, 3), event(1, 0, 1, 4), event(1, 0, 9)]), created=True)
    assert as_of(view, (1, 6))[0]["price"] == 1
    assert as_of(view, (1, 3), as_known=True)[0]["price"] == 5


def test_times_with_a_zone_and_naive_times_are_the_same_instants(tmp_path: Path) -> None:
    view = aggregate_view(write_events(tmp_path, [event(1, 0, 2)]))
    zoned = pa.table(
        {"user_id": [1], "t": pa.array([at(5)], pa.timestamp("us")).cast(pa.timestamp("us", "Asia/Tokyo"))}
    )
    assert join_views(zoned, "t", [view])["v__sum"].to_pylist() == [2]


def test_null_keys_and_null_times_in_the_log_belong_to_nobody(tmp_path: Path) -> None:
    view = aggregate_view(write_events(tmp_path, [event(None, 0, 2), event(1, None, 3)]))
    assert [row["rows"] for row in as_of(view, (None, 5), (1, 5))] == [0, 0]


def test_rows_keep_their_order_and_every_column(tmp_path: Path) -> None:
    view = aggregate_view(write_events(tmp_path, [event(2, 0, 2)]))
    entities = pa.table({"note": ["c", "a", "b"], "user_id": [2, 1, 2], "t": [at(5), at(6), at(1)]})
    joined = join_views(entities, "t", [view])
    assert joined.select(["note", "user_id", "t"]).equals(entities)
    assert joined["v__rows"].to_pylist() == [1, 0, 1]


def test_a_source_without_a_column_is_refused_by_name(tmp_path: Path) -> None:
    view = aggregate_view(
        write_events(tmp_path, [event(1, 0, 1)]),
        sum={"aggregate": {"function": "sum", "column": "cost", "window": "1s"}},
    )
    with pytest.raises(
        BadFeaturesError, match=r"FeatureView v: spec.features\[sum\].aggregate.column is 'cost'.*price"
    ):
        as_of(view, (1, 1))


def test_a_condition_that_does_not_bind_is_refused(tmp_path: Path) -> None:
    odd = {"aggregate": {"function": "count", "window": "1s", "where": "colour = 'red'"}}
    with pytest.raises(BadFeaturesError, match=r"spec.features\[rows\].aggregate is .*colour"):
        as_of(aggregate_view(write_events(tmp_path, [event(1, 0, 1)]), rows=odd), (1, 1))


def test_of_a_landing_only_what_commits_list_is_read_and_other_folders_are_whole(tmp_path: Path) -> None:
    landing = Landing(tmp_path)
    landing.open()
    listed, stray = landing.stage("clicks", "2026-01-01", 0), landing.stage("clicks", "2026-01-01", 1)
    landing.commit({}, (LandedFile(str(listed.relative_to(tmp_path)), "clicks", 1),))
    for file in (listed, stray):
        (write_events(tmp_path / "one", [event(1, 0, 2)]) / "events.parquet").rename(file)
    assert as_of(aggregate_view(tmp_path / "clicks"), (1, 5))[0]["count"] == 1
    assert as_of(aggregate_view(write_events(tmp_path / "plain", [event(1, 0, 2)] * 2)), (1, 5))[0]["count"] == 2


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"type": "Timestamp"}, "expected values of the declared types"),
        ({"aggregate": {"function": "sum", "column": "event_time", "window": "9s"}}, "that fit the source and types"),
    ],
)
def test_an_aggregate_that_does_not_fit_its_type_is_refused(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    view = aggregate_view(write_events(tmp_path, [event(1, 0, 1)]), sum=change)
    with pytest.raises(BadFeaturesError, match=words):
        opened_and_checked(view)


def test_a_fraction_is_not_rounded_into_a_whole_number(tmp_path: Path) -> None:
    source = write_events(tmp_path, [event(1, 0, 1.0), event(1, 1, 1.5)])
    for function in ("sum", "max", "last"):
        whole = {"type": "Int64", "aggregate": {"function": function, "column": "price", "window": "9s"}}
        with pytest.raises(BadFeaturesError, match=r"features\[sum\].type is 'Int64', expected Float64, .*e.g. 1.5"):
            as_of(aggregate_view(source, sum=whole), (1, 5))
    rounder = write_events(tmp_path / "whole", [event(1, 0, 1.0), event(1, 1, 2.0)])
    whole = {"type": "Int64", "aggregate": {"function": "sum", "column": "price", "window": "9s"}}
    assert as_of(aggregate_view(rounder, sum=whole), (1, 5))[0]["sum"] == 3


def opened_and_checked(view: FeatureView) -> None:
    with connect() as db:
        open_source(db, view)
        check_values(db, view)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"default": 3.5}, r"3.5, expected a number of type Int64, or none"),
        ({"default": True}, r"True, expected a value of type Int64"),
        ({"type": "String", "default": 0}, r"0, expected a value of type String"),
        ({"type": "Timestamp", "default": "noon"}, r"'noon', expected Invalid isoformat"),
        ({"type": "List<Int64>", "default": [1, "x"]}, r"expected a value of type Int64"),
        ({"name": "SUM"}, r"letter case aside \(two are called sum\)"),
        ({"name": "User_ID"}, r"a name that is no join key's \(see user_id\)"),
    ],
)
def test_a_feature_that_contradicts_itself_or_others_is_refused(
    tmp_path: Path, change: dict[str, Any], words: str
) -> None:
    with pytest.raises(TidegateError, match=words):
        aggregate_view(tmp_path, count=change)


@pytest.mark.parametrize(
    ("kind", "given", "default"),
    [
        ("Float64", -1, -1.0),
        ("Int64", 3.0, 3),
        ("Timestamp", "2026-01-02T02:00:00+02:00", datetime(2026, 1, 2, tzinfo=UTC)),
        ("List<Float64>", [1], [1.0]),
    ],
)
def test_a_default_is_read_as_its_type(tmp_path: Path, kind: str, given: object, default: object) -> None:
    feature = next(f for f in aggregate_view(tmp_path, sum={"type": kind, "default": given}).spec.features
                   if f.name == "sum")  # fmt: skip
    assert (repr(feature.default), Feature.model_validate(feature.to_dict()).default) == (repr(default), default)


def test_a_source_without_events_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadFeaturesError, match="expected at least one event, found 0 rows"):
        as_of(aggregate_view(write_events(tmp_path, [])), (1, 1))
    with pytest.raises(BadFeaturesError, match="expected Parquet files at"):
        as_of(aggregate_view(tmp_path / "nowhere"), (1, 1))


def test_entities_without_a_join_key_or_time_are_refused(tmp_path: Path) -> None:
    view = aggregate_view(write_events(tmp_path, [event(1, 0, 1)]))
    with pytest.raises(BadFeaturesError, match="expected a column user_id for view v"):
        join_views(pa.table({"t": [at(1)]}), "t", [view])
    with pytest.raises(BadFeaturesError, match="column t in row 1 is None, expected a time in every row"):
        join_views(pa.table({"user_id": [1], "t": pa.array([None], EVENTS.field("event_time").type)}), "t", [view])


@pytest.mark.parametrize(
    ("column", "words"),
    [
        ({"user_id": [1, 1.7]}, r"column user_id in row 2 is 1.7, expected a value of type Int64"),
        ({"user_id": [1.0, float("nan")]}, r"column user_id in row 2 is nan, expected a value of type Int64"),
        ({"user_id": ["1", "abc"]}, r"column user_id in row 2 is 'abc', expected a value of type Int64"),
        ({"user_id": ["1.7", "1"]}, r"column user_id in row 1 is '1.7', expected a value of type Int64"),
        ({"user_id": [at(1), at(1)]}, r"column user_id.* expected .*of type Int64"),
        ({"t": ["2026-01-01", "2026-01-02"]}, r"column t is 'string', expected a timestamp"),
        ({"v__sum": [1, 2]}, r"column v__sum is 'there already', expected no column of a feature that the join adds"),
    ],
)
def test_entities_that_do_not_fit_are_refused_by_file_column_and_row(
    tmp_path: Path, column: dict[str, Any], words: str
) -> None:
    view, entities = aggregate_view(write_events(tmp_path / "source", [event(1, 0, 1)])), tmp_path / "e.parquet"
    pq.write_table(pa.table({"user_id": [1, 2], "t": [at(1), at(2)]} | column), entities)
    with pytest.raises(BadFeaturesError, match=f"^entities {entities}: {words}"):
        join_file(entities, "t", [view], tmp_path / "out.parquet")


def test_keys_of_another_type_that_keep_their_value_are_joined(tmp_path: Path) -> None:
    view = aggregate_view(write_events(tmp_path, [event(1, 0, 4)]))
    for users in ([1.0, None], ["1", " 01 "], pa.array([1, 1], pa.uint8()), pa.array([None, None], pa.null())):
        joined = join_views(pa.table({"user_id": users, "t": [at(1)] * 2}), "t", [view])
        assert joined["v__sum"].to_pylist()[0] in (4, None)


def test_fractions_as_text_keys_are_refused_where_the_source_has_none(tmp_path: Path) -> None:
    """pandas makes 1.0 of 1 where some row has no id; its text is not that of 1."""
    events = pa.table({"user_id": ["1"], "event_time": [at(0)], "price": [4.0], "ingested_at": [at(0)]})
    (tmp_path / "source").mkdir()
    pq.write_table(events, tmp_path / "source" / "events.parquet")
    view = aggregate_view(tmp_path / "source")
    entity = view.spec.entity.model_copy(update={"join_keys": [JoinKey(name="user_id", type="String")]})
    texts = view.model_copy(update={"spec": view.spec.model_copy(update={"entity": entity})})
    for users, found in (([1, None], 4.0), (["1", None], 4.0)):
        joined = join_views(pa.table({"user_id": users, "t": [at(1)] * 2}), "t", [texts])
        assert joined["v__sum"].to_pylist() == [found, None]
    with pytest.raises(BadFeaturesError, match="column user_id is 'DOUBLE', expected VARCHAR, as the source"):
        join_views(pa.table({"user_id": [1.0, None], "t": [at(1)] * 2}), "t", [texts])


@pytest.mark.parametrize("content", [b"", b"user_id,t\n1,2026-01-01\n", b"PAR1 garbage PAR1"])
def test_an_entities_file_that_is_no_parquet_is_refused(tmp_path: Path, content: bytes) -> None:
    view, entities = aggregate_view(write_events(tmp_path / "source", [event(1, 0, 1)])), tmp_path / "e.parquet"
    entities.write_bytes(content)
    with pytest.raises(BadFeaturesError, match=f"^entities {entities}: content is .*expected a Parquet file"):
        join_file(entities, "t", [view], tmp_path / "out.parquet")


def test_columns_of_an_earlier_join_stay_known_as_a_view_s(tmp_path: Path) -> None:
    first = aggregate_view(write_events(tmp_path / "source", [event(1, 0, 1)]))
    second = first.model_copy(update={"metadata": first.metadata.model_copy(update={"name": "w"})})
    pq.write_table(pa.table({"user_id": [1], "t": [at(1)]}), tmp_path / "e.parquet")
    join_file(tmp_path / "e.parquet", "t", [first], tmp_path / "one.parquet")
    join_file(tmp_path / "one.parquet", "t", [second], tmp_path / "both.parquet")
    told = json.loads(pq.read_schema(tmp_path / "both.parquet").metadata[VIEWS_KEY])
    assert [one["column"] for one in told if one["feature"] == "sum"] == ["v__sum", "w__sum"]


def test_what_the_join_reads_or_did_not_write_is_not_replaced(tmp_path: Path) -> None:
    view, entities = aggregate_view(write_events(tmp_path / "source", [event(1, 0, 1)])), tmp_path / "e.parquet"
    pq.write_table(pa.table({"user_id": [1], "t": [at(1)]}), entities)
    (tmp_path / "notes.txt").write_text("ours")
    for out in (entities, tmp_path / "source" / "events.parquet", tmp_path / "notes.txt"):
        before = out.read_bytes()
        with pytest.raises(BadFeaturesError, match=r"features join: --out is .*expected nothing there, or what an ear"):
            join_file(entities, "t", [view], out)
        assert out.read_bytes() == before
    for _ in range(2):
        join_file(entities, "t", [view], tmp_path / "out.parquet")


READS_MORE = {
    "SELECT user_id, event_time, (SELECT content FROM read_text('/etc/hostname')) AS sum FROM source": "read_text()",
    "SELECT * FROM source JOIN '/tmp/other.parquet' USING (user_id)": "/tmp/other.parquet",
    'SELECT s.* FROM source s, "/tmp/a.csv", (WITH "/tmp/a.csv" AS (SELECT 1) SELECT 1)': "/tmp/a.csv",
    "SELECT * FROM information_schema.tables": "information_schema.tables",
    "DROP TABLE source": "Only SELECT",
}


@pytest.mark.parametrize(("sql", "what"), READS_MORE.items())
def test_the_sql_of_a_view_reads_its_source_alone(sql: str, what: str, tmp_path: Path) -> None:
    """A view is written by whoever may write FeatureViews, and computed with the rights of a pod."""
    features = [{"name": "sum", "type": "String"}]
    view = aggregate_view(write_events(tmp_path, [event(1, 0, 1)]), sql=sql, ttl="1d", features=features)
    with pytest.raises(BadFeaturesError, match=f"spec.sql is '{re.escape(what)}.*expected (a SELECT over|one SELECT)"):
        as_of(view, (1, 1))


def test_the_condition_of_an_aggregate_reads_its_source_alone(tmp_path: Path) -> None:
    where = {"aggregate": {"function": "count", "window": "10s", "where": "EXISTS (SELECT 1 FROM glob('/etc/*'))"}}
    view = aggregate_view(write_events(tmp_path, [event(1, 0, 1)]), rows=where)
    with pytest.raises(BadFeaturesError, match=r"features\[rows\].aggregate.where is 'glob\(\)'"):
        as_of(view, (1, 1))


@pytest.mark.parametrize(
    ("where", "words"),
    [
        ("random() < 0.5", "random"),
        ("event_time < now()", "now"),
        ("event_time < current_timestamp", "current_timestamp"),
        ("1) OR (1=1", "one SELECT that parses"),
    ],
)
def test_a_condition_that_depends_on_clock_or_chance_or_is_none_is_refused(
    where: str, words: str, tmp_path: Path
) -> None:
    odd = {"aggregate": {"function": "count", "window": "1s", "where": where}}
    with pytest.raises(BadFeaturesError, match=words):
        as_of(aggregate_view(write_events(tmp_path, [event(1, 0, 1)]), rows=odd), (1, 1))


@pytest.mark.parametrize("keys", [pa.array([1.0, 1.4, 2.0]), pa.array(["1", "01", "2"]), pa.array(["1", "x", "2"])])
def test_keys_of_the_source_that_would_become_another_are_refused(keys: pa.Array, tmp_path: Path) -> None:
    source = write_events(tmp_path, [event(1, 0, 1), event(1, 0, 1), event(2, 0, 1)]) / "events.parquet"
    rows = pq.read_table(source)
    pq.write_table(rows.set_column(0, "user_id", keys), source)
    with pytest.raises(BadFeaturesError, match=r"entity.joinKeys\[0\].type is 'Int64', expected a type that user_id"):
        as_of(aggregate_view(tmp_path), (1, 5))


def test_sql_may_name_steps_of_its_own_and_make_rows(tmp_path: Path) -> None:
    cheap = "WITH cheap AS (SELECT * FROM source WHERE price < 3) SELECT *, n FROM cheap, range(1) r(n)"
    sql = f"SELECT user_id, event_time, price + n AS last FROM ({cheap})"
    features = [{"name": "last", "type": "Float64"}]
    view = aggregate_view(write_events(tmp_path, [event(1, 0, 1)]), sql=sql, ttl="1d", features=features)
    assert as_of(view, (1, 1))[0]["last"] == 1


def test_an_output_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    view, entities = aggregate_view(write_events(tmp_path / "source", [event(1, 0, 1)])), tmp_path / "e.parquet"
    pq.write_table(pa.table({"user_id": [1], "t": [at(1)]}), entities)
    with pytest.raises(BadFeaturesError, match="features join: --out is"):
        join_file(entities, "t", [view], entities / "out.parquet")


def whole_view(folder: Path, *values: int) -> Any:
    """A sum as Int64 and as Float64, of one user's events one second apart."""
    times = pa.array([at(second) for second in range(len(values))], pa.timestamp("us"))
    pq.write_table(pa.table({"user_id": [1] * len(values), "event_time": times, "n": values}), folder / "n.parquet")
    features = [
        {"name": name, "type": name, "aggregate": {"function": "sum", "column": "n", "window": "9s"}}
        for name in ("Int64", "Float64")
    ]
    return lambda *names: parsed(view_body("v", "user_id", [f for f in features if f["name"] in names], str(folder)))


def test_a_sum_may_pass_through_what_int64_cannot_hold(tmp_path: Path) -> None:
    view = whole_view(tmp_path, 2**63 - 1, 2**63 - 1, -(2**63) + 1)
    assert as_of(view("Int64"), (1, 3))[0]["Int64"] == 2**63 - 1


def test_a_sum_that_int64_cannot_hold_is_refused(tmp_path: Path) -> None:
    view = whole_view(tmp_path, 2**63 - 1, 2**63 - 1)
    assert as_of(view("Float64"), (1, 2))[0]["Float64"] == 2.0**64
    with pytest.raises(
        BadFeaturesError, match=r"FeatureView v: spec.features\[Int64\] is .*out of range.*declared types"
    ):
        as_of(view("Int64"), (1, 2))


def test_no_entities_give_no_rows(tmp_path: Path) -> None:
    assert as_of(aggregate_view(write_events(tmp_path, [event(1, 0, 1)]))) == []


def test_an_unknown_engine_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(BadFeaturesError, match="--engine is 'flink', expected duckdb or spark"):
        join_views(pa.table({"t": [at(1)]}), "t", [], engine="flink")


def test_times_in_nanoseconds_as_pandas_writes_them_are_read_as_microseconds(tmp_path: Path) -> None:
    source = write_events(tmp_path, [event(1, 0, 1), event(1, 10, 2)])
    usual = aggregate_view(source)
    entities = pa.table({"user_id": [1, 1], "t": pa.array([at(10), at(11)], pa.timestamp("us"))})
    wanted = join_views(entities, "t", [usual])["v__sum"]
    for zone in (None, "UTC"):
        nanos = pa.timestamp("ns", zone)
        table = pq.read_table(source / "events.parquet")
        pq.write_table(table.set_column(1, "event_time", table["event_time"].cast(nanos)), source / "events.parquet")
        assert join_views(entities.set_column(1, "t", entities["t"].cast(nanos)), "t", [usual])["v__sum"] == wanted
