"""Statistics of features: against numpy, by slice, and what a view expects of them."""

from __future__ import annotations

import json
import urllib.request
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from processes import free_port
from tidegate_api.feature_view import FeatureView
from tidegate_components.duck import connect
from tidegate_components.features.errors import BadFeaturesError
from tidegate_components.features.materialize import materialize
from tidegate_components.features.monitor import measure
from tidegate_components.features.monitor_report import serve_metrics
from tidegate_components.features.online import OnlineStore, open_store
from tidegate_components.features.serving import FeatureService, ParquetLog
from tidegate_components.features.snapshot import snapshot
from tidegate_components.features.statistics import QUANTILES, FeatureStatistics, describe
from tidegate_pipelines.cli import app
from unit.components.shop import parsed, view_body
from unit.components.test_materialize import NOW, ago, make_view, recent


@pytest.fixture
def store(redis_url: str) -> OnlineStore:
    return open_store(redis_url)


def statistics(kind: str, values: list[Any], slices: list[str] | None = None) -> list[FeatureStatistics]:
    aggregate = {"function": "last", "column": "c", "window": "1d"}
    feature = parsed(view_body("v", "user_id", [{"name": "f", "type": kind, "aggregate": aggregate}])).spec.features[0]
    columns: dict[str, Any] = {"f": values} | ({"place": slices} if slices else {})
    with connect() as db:
        db.register("rows", pa.table(columns))
        return describe(db, "rows", [("f", feature)], ["place"] if slices else [])


@settings(max_examples=40)
@given(st.lists(st.none() | st.floats(-1e6, 1e6) | st.just(float("nan")), min_size=1, max_size=50))
def test_numbers_are_numpy_s(values: list[float | None]) -> None:
    (found,) = statistics("Float64", [*values, 0.5])
    there = np.array([value for value in [*values, 0.5] if value is not None and not np.isnan(value)])
    assert (found.rows, found.missing) == (len(values) + 1, len(values) + 1 - len(there))
    assert found.mean == pytest.approx(there.mean(), abs=1e-6)
    assert found.variance == pytest.approx(there.var(), rel=1e-6, abs=1e-6)
    assert found.quantiles == pytest.approx(np.quantile(there, QUANTILES), rel=1e-9, abs=1e-9)


def test_texts_are_counted_and_lists_measured() -> None:
    (text,) = statistics("String", ["a", "b", "a", None])
    assert (text.rows, text.missing, text.distinct, text.mean, text.quantiles) == (4, 1, 2, None, ())
    (lists,) = statistics("List<Int64>", [[1, 2], [], None])
    assert (lists.missing, lists.mean) == (1, 1.0)


def test_each_value_of_a_slice_column_is_told_beside_all_rows() -> None:
    found = statistics("Int64", [1, 3, None, 8], ["DE", "DE", "FR", None])  # type: ignore[list-item]
    assert {(one.slice, one.rows, one.missing, one.mean) for one in found} == {
        ("", 4, 1, 4.0),
        ("place=DE", 2, 0, 2.0),
        ("place=FR", 1, 1, None),
        ("place=null", 1, 0, 8.0),
    }


def expecting(folder: Path, **expect: Any) -> FeatureView:
    view = make_view(folder, [recent(1, 5, 2), recent(2, 4, 6), recent(3, 30, 9)])
    body = view.to_dict()
    body["spec"]["features"][1]["expect"] = expect
    return parsed(body)


@pytest.mark.parametrize(
    ("expect", "said"),
    [
        ({"maxMissing": 0.2}, "feature sum has no value for 1 of 3 entities (33.3%), more than maxMissing 20.0%"),
        ({"min": 3}, "feature sum has min 2, less than the expected 3"),
        ({"max": 5}, "feature sum has max 6, more than the expected 5"),
        ({"minMean": 5}, "feature sum has mean 4, less than the expected 5"),
        ({"maxMean": 4, "maxMissing": 0.5, "min": 2, "max": 6}, None),
    ],
)
def test_a_run_tells_which_expectation_failed_and_writes_all_the_same(
    tmp_path: Path, store: OnlineStore, expect: dict[str, float], said: str | None
) -> None:
    done = materialize(expecting(tmp_path, **expect), store, NOW)
    assert done.quality == ((said,) if said else ())
    assert done.rows == 3
    assert [(one.feature, one.rows, one.missing) for one in done.statistics] == [
        ("count", 3, 0),
        ("sum", 3, 1),
        ("last", 3, 1),
    ]


def test_what_people_read_of_a_view_changes_no_computation(tmp_path: Path) -> None:
    assert expecting(tmp_path, max=5).transform_hash == expecting(tmp_path).transform_hash


def test_a_pod_s_last_word_has_its_size_however_many_the_features(tmp_path: Path, store: OnlineStore) -> None:
    body = make_view(tmp_path, [recent(1, 5, 2)]).to_dict()
    feature = body["spec"]["features"][0]
    body["spec"]["features"] = [feature | {"name": f"a_rather_long_name_of_a_feature_{i}"} for i in range(200)]
    report = materialize(parsed(body), store, NOW).to_report()
    assert len(report.encode()) <= 4096
    assert 20 < len(json.loads(report)["statistics"]) < 200


def test_a_run_replays_what_was_served_since_the_run_before(tmp_path: Path, store: OnlineStore) -> None:
    body = make_view(tmp_path, [recent(1, 5, 2), recent(2, 4, 6)]).to_dict()
    body["spec"]["featureLog"] = {"parquet": {"uri": str(tmp_path / "log")}}
    view = parsed(body)
    assert materialize(view, store, ago(2)).consistency is None, "nothing was logged yet"
    log = ParquetLog(tmp_path / "log", [view])
    service = FeatureService([view], store, log, lambda: ago(1))
    service.read("r", [{"user_id": user} for user in (1, 2, 3)])
    log.close()
    assert materialize(view, store, NOW, ago(2)).consistency == (9, "")
    rows = pq.read_table(next((tmp_path / "log").glob("*.parquet"))).to_pylist()
    rows[0][f"{view.metadata.name}__sum"] = 77.0
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "log" / "seeded.parquet")
    found = materialize(view, store, NOW, ago(2)).consistency
    assert found == (18, "of 18 values that serving used, not as defined: sum 1")


def test_both_stores_are_measured_and_agree(tmp_path: Path, store: OnlineStore) -> None:
    view = make_view(tmp_path, [recent(user, 5, user) for user in range(1, 8)])
    materialize(view, store, ago(4))
    materialize(view, store, NOW, ago(4))
    offline, online = measure(view, store, ["count"])
    assert (offline.store, online.store) == ("offline", "online")
    for there, here in zip(offline.statistics, online.statistics, strict=True):
        assert replace(there, variance=None) == replace(here, variance=None)
        assert there.variance == pytest.approx(here.variance)
    assert {found.slice for found in online.statistics} == {"", "count=1"}
    assert [found.mean for found in online.statistics if found.feature == "sum" and not found.slice] == [4.0]


def test_a_sample_bounds_how_many_online_values_are_looked_at(tmp_path: Path, store: OnlineStore) -> None:
    view = make_view(tmp_path, [recent(user, 5, user) for user in range(1, 8)])
    materialize(view, store, NOW)
    (_, online) = measure(view, store, sample=3)
    assert {found.rows for found in online.statistics} == {3}


def test_a_slice_that_is_no_column_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(BadFeaturesError, match=r"country.*one of user_id, count, sum, last"):
        measure(make_view(tmp_path, [recent(1, 5, 2)]), None, ["country"])


def test_a_snapshot_holds_what_is_stored_with_its_as_of_time(tmp_path: Path, store: OnlineStore) -> None:
    view = make_view(tmp_path, [recent(user, 5, user) for user in range(1, 8)])
    materialize(view, store, NOW)
    assert snapshot(view, store, tmp_path / "snapshot.parquet") == 7
    rows = sorted(pq.read_table(tmp_path / "snapshot.parquet").to_pylist(), key=lambda row: int(row["user_id"]))
    assert rows[2] == {"user_id": 3, "count": 1, "sum": 3.0, "last": 3.0, "as_of": NOW}


def test_the_command_writes_a_page_and_serves_the_same_numbers(tmp_path: Path, redis_url: str) -> None:
    view = make_view(tmp_path, [recent(user, 5, user) for user in range(1, 8)])
    materialize(view, open_store(redis_url), NOW)
    (tmp_path / "view.yaml").write_text(yaml.safe_dump(view.to_dict()))
    words = ["features", "monitor", "--views", str(tmp_path / "view.yaml"), "--online", redis_url, "--json"]
    done = CliRunner().invoke(app, [*words, "--out", str(tmp_path / "report")])
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert [one["store"] for one in told] == ["offline", "online"]
    assert json.loads((tmp_path / "report" / "report.json").read_text()) == told
    assert "<svg" in (tmp_path / "report" / "report.html").read_text()
    port = free_port()
    serve_metrics(port)(measure(view, open_store(redis_url)))
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        metrics = answer.read().decode()
    where = f'feature="sum",slice="",store="online",view="{view.metadata.name}"'
    assert f"tidegate_feature_store_mean{{{where}}} 4.0" in metrics
