"""Spark gives what DuckDB gives on the same files: every function and type, ties, nulls, time zones, TTL edges."""

from __future__ import annotations

import math
import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tidegate_components.features.join import join_views
from unit.components.feature_case import FUNCTIONS, at
from unit.components.shop import parsed, view_body

COLUMNS = {
    "whole": "Int64",
    "real": "Float64",
    "money": "Float64",
    "text": "String",
    "flag": "Bool",
    "moment": "Timestamp",
}
ODD_ENOUGH = "text ILIKE 'Z%' OR whole // 2 = 1"
WINDOWED = ("real", "money", "text")  # newest rows have all
ADDED = ("whole", "real", "money")
SCHEMA = pa.schema(
    [("user_id", pa.int64()), ("shop", pa.string()), ("event_time", pa.timestamp("us", "Asia/Tokyo")),
     ("ingested_at", pa.timestamp("us")), ("whole", pa.int32()), ("real", pa.float64()), ("money", pa.decimal128(9, 2)),
     ("text", pa.string()), ("flag", pa.bool_()), ("moment", pa.timestamp("us"))]
)  # fmt: skip


def event(draw: random.Random) -> dict[str, Any]:
    v = draw.randint(-4, 4)
    values = {"whole": v, "real": v / 4, "money": v, "text": "zébA漢"[v], "flag": v > 0, "moment": at(v)}
    row = {name: None if draw.random() < 0.2 else value for name, value in values.items()}
    known = None if draw.random() < 0.3 else at(draw.randint(0, 40))
    key = {"user_id": draw.randint(1, 3), "shop": draw.choice(["a", "b", None])}
    return {**key, "event_time": at(draw.randint(0, 30)), "ingested_at": known, **row}


def aggregate_view(source: Path) -> Any:
    kinds = {"count": "Int64", "distinct": "Int64", "mean": "Float64"}
    features = [
        {"name": f"{function}_{column}", "type": kinds.get(function, kind),
         "aggregate": {"function": function, "column": column, "window": "11s"}}
        for column, kind in COLUMNS.items() if column in WINDOWED for function in FUNCTIONS
        if column in ADDED or function not in {"sum", "mean"}
    ]  # fmt: skip
    features += [
        {"name": "mean_4s", "type": "Float64", "default": 7,
         "aggregate": {"function": "mean", "column": "real", "window": "4s", "where": ODD_ENOUGH}},
        {"name": "rows", "type": "Int64", "aggregate": {"function": "count", "window": "4s"}},
    ]  # fmt: skip
    body = view_body("windows", "user_id", features, str(source))
    body["spec"]["entity"]["joinKeys"].append({"name": "shop", "type": "String"})
    body["spec"]["source"]["createdTimestamp"] = "ingested_at"
    return parsed(body)


def sql_view(source: Path, name: str, created: bool) -> Any:
    body = view_body(name, "user_id", [{"name": n, "type": t} for n, t in COLUMNS.items()], str(source))
    body["spec"] |= {"sql": "SELECT * FROM source WHERE whole IS NULL OR whole <> 2", "ttl": "3s"}
    if created:
        body["spec"]["source"]["createdTimestamp"] = "ingested_at"
    return parsed(body)


def same(one: Any, two: Any) -> bool:
    return one == two or (isinstance(one, float) and isinstance(two, float) and math.isclose(one, two))


def unequal(duck: pa.Table, spark: pa.Table) -> list[Any]:
    assert duck.schema == spark.schema
    return [
        (name, one, two)
        for name in duck.column_names
        for one, two in zip(duck[name].to_pylist(), spark[name].to_pylist(), strict=True)
        if not same(one, two)
    ]


@pytest.mark.xdist_group("spark")  # one JVM for all
def test_spark_joins_what_duckdb_joins(tmp_path: Path) -> None:
    draw = random.Random(5)
    for number in range(2):
        rows = [event(draw) for _ in range(150)]
        pq.write_table(pa.Table.from_pylist(rows, SCHEMA), tmp_path / f"{number}.parquet")
    asked = [
        {"user_id": draw.randint(1, 4), "shop": draw.choice(["a", "b", None]), "t": at(draw.randint(0, 45))}
        for _ in range(80)
    ]
    entities = pa.Table.from_pylist(asked, pa.schema([*list(SCHEMA)[:2], pa.field("t", pa.timestamp("us"))]))
    views = [aggregate_view(tmp_path), sql_view(tmp_path, "newest", True), sql_view(tmp_path, "unstamped", False)]
    assert unequal(*(join_views(entities, "t", views, engine=e) for e in ("duckdb", "spark"))) == []
    known = [join_views(entities, "t", views[:2], engine=e, as_known=True) for e in ("duckdb", "spark")]
    assert unequal(*known) == []
