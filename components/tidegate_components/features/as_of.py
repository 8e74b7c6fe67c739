"""The point-in-time join on one machine: DuckDB evaluates and sorts the view's events, the kernel aggregates.

The relations are those of `sql`. Keys are numbered, so that the kernel sees whole numbers whatever the keys are. What
the kernel cannot do (values of a nested type, sums of 128 bits) is computed by SQL. When there is much, events go to
files by key first, and one part of the keys is in memory at a time.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tidegate_api.feature import Aggregate, Feature
from tidegate_api.feature_view import FeatureView
from tidegate_components.duck import column_types, parquet
from tidegate_components.features.kernel import Events, Probes, Wanted, aggregates, newest_rows, tie_groups
from tidegate_components.features.ranges.bounds import Ints
from tidegate_components.features.source import Connection
from tidegate_components.features.sql import (
    EVERY_EVENT,
    as_of_query,
    cast_or_default,
    events_query,
    in_micros,
    quoted,
    ranking,
    same_key,
    value_of,
)
from tidegate_components.features.values import fits

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["PART", "features_as_of"]

PART = 1 << 23
"""Events and entity rows in memory at a time, about; a single key is never divided."""


def features_as_of(db: Connection, view: FeatureView, part: int = PART) -> pa.Table:
    """A column per feature, in the order of `entities`' `tg_row`. Raises duckdb.Error where values do not fit types."""
    import pyarrow as pa

    plan = _plan(db, view)
    with tempfile.TemporaryDirectory() as folder:
        db.execute(f"SET temp_directory = '{folder}/spilled'")
        tables = [_by_kernel(db, view, plan, part, Path(folder))] if plan.kept else []
        tables += [_by_sql(db, _only(view, plan.left))] if plan.left else []
    computed = {name: table[name] for table in tables for name in table.column_names}
    return pa.table({feature.name: computed[feature.name] for feature in view.spec.features})


def _by_sql(db: Connection, view: FeatureView) -> pa.Table:
    return db.sql(f"SELECT * FROM ({as_of_query(view)}) ORDER BY tg_row").to_arrow_table()  # noqa: S608


def _by_kernel(db: Connection, view: FeatureView, plan: _Plan, part: int, folder: Path) -> pa.Table:
    import pyarrow as pa

    _number_keys(db, view)
    parts = _parts(db, _queries(view, plan), part, folder)
    return _in_order(db, plan, pa.concat_tables([_features_of(db, view, plan, queries) for queries in parts]))


@dataclass(frozen=True)
class _Plan:
    """The features that the kernel computes from the expressions `values`, and those that are left to SQL."""

    kept: list[Feature]
    left: list[Feature]
    values: list[str]


class _Queries(NamedTuple):
    """Events `tg_key, tg_at, (tg_created,) tg_N` of the numbered keys; probes `tg_row, tg_at, tg_key`, all of them."""

    events: str
    probes: str


def _plan(db: Connection, view: FeatureView) -> _Plan:
    features = view.spec.features
    if view.spec.sql is not None:
        return _Plan(features, [], [value_of(feature) for feature in features])
    kinds = column_types(db, f"({events_query(view)})")
    fitting = [f.aggregate is not None and fits(f.aggregate.function, kinds[f"tg_{i}"]) for i, f in enumerate(features)]
    kept = [f for f, fit in zip(features, fitting, strict=True) if fit]
    left = [f for f, fit in zip(features, fitting, strict=True) if not fit]
    return _Plan(kept, left, sorted({value_of(feature) for feature in kept} - {EVERY_EVENT}))


def _only(view: FeatureView, features: list[Feature]) -> FeatureView:
    return view.model_copy(update={"spec": view.spec.model_copy(update={"features": features})})


def _queries(view: FeatureView, plan: _Plan) -> _Queries:
    created = ", s.tg_created" if view.spec.source.created_timestamp else ""
    values = "".join(f", s.tg_{i}" for i in range(len(plan.values)))
    return _Queries(
        f"SELECT e.tg_key, s.tg_at{created}{values} "  # noqa: S608
        f"FROM ({events_query(view, plan.values)}) s JOIN tg_keys e ON {same_key(view)}",
        "SELECT e.tg_row, e.tg_as_of AS tg_at, coalesce(s.tg_key, (SELECT count(*) FROM tg_keys)) AS tg_key "  # noqa: S608
        f"FROM entities e LEFT JOIN tg_keys s ON {same_key(view)}",
    )


def _number_keys(db: Connection, view: FeatureView) -> None:
    keys = ", ".join(quoted(key.name) for key in view.spec.entity.join_keys)
    db.execute(
        "CREATE OR REPLACE TEMP TABLE tg_keys AS "  # noqa: S608
        f"SELECT CAST(row_number() OVER () - 1 AS INTEGER) AS tg_key, * FROM (SELECT DISTINCT {keys} FROM entities)"
    )


def _parts(db: Connection, whole: _Queries, part: int, folder: Path) -> Iterator[_Queries]:
    """The queries for a part of the keys each; with more than one part the events lie in `folder` meanwhile."""
    rows = db.execute("SELECT (SELECT count(*) FROM source) + (SELECT count(*) FROM entities)").fetchall()[0][0]
    count = -(-rows // part)
    if count <= 1:
        return iter([whole])
    db.execute("SET memory_limit = '1GiB'")
    stored = _Queries(
        _divided(db, whole.events, count, folder / "events"), _divided(db, whole.probes, count, folder / "probes")
    )
    return (
        _Queries(*(f"{query} WHERE tg_part = {n}" for query in (stored.events, stored.probes))) for n in range(count)
    )


def _divided(db: Connection, query: str, count: int, folder: Path) -> str:
    """Write a query's rows by key to files; returns the query that reads them, with the part as `tg_part`."""
    divided = f"SELECT * REPLACE (tg_key // {count} AS tg_key), tg_key % {count} AS tg_part FROM ({query})"  # noqa: S608
    db.execute(f"COPY ({divided}) TO '{folder}' (FORMAT parquet, PARTITION_BY (tg_part))")
    if not any(folder.rglob("*.parquet")):
        return f"SELECT * FROM ({divided})"  # noqa: S608
    parts = parquet([folder / "*" / "*.parquet"], "hive_partitioning = true")
    return f"SELECT * EXCLUDE (tg_part) FROM {parts}"  # noqa: S608


def _features_of(db: Connection, view: FeatureView, plan: _Plan, queries: _Queries) -> pa.Table:
    """`tg_row` and a column `tg_N` per feature that the kernel computes, of one part of the keys."""
    import pyarrow as pa

    created = ["tg_created"] if view.spec.source.created_timestamp else []
    order = ", ".join(["tg_key", "tg_at", *created])
    found = db.sql(f"{queries.events} ORDER BY {order}").to_arrow_table().combine_chunks()
    asked = db.sql(f"{queries.probes} ORDER BY tg_key, tg_at").to_arrow_table().combine_chunks()
    values = [found[f"tg_{i}"].combine_chunks() for i in range(len(plan.values))]
    columns = {name: _integers(found, name) for name in ("tg_key", "tg_at", *created)}
    events = Events(columns["tg_key"], columns["tg_at"], columns.get("tg_created"), values)
    probes = Probes(_integers(asked, "tg_key"), _integers(asked, "tg_at"))
    computed = _newest(db, view, events, probes) if view.spec.sql is not None else _aggregated(plan, events, probes)
    names = ["tg_row", *(f"tg_{i}" for i in range(len(computed)))]
    return pa.table([asked["tg_row"], *computed], names)


def _integers(table: pa.Table, name: str) -> Ints:
    integers: Ints = table[name].to_numpy()
    return integers


def _aggregated(plan: _Plan, events: Events, probes: Probes) -> list[pa.Array]:
    return aggregates(events, probes, [_wanted(plan, f, f.aggregate) for f in plan.kept if f.aggregate])


def _wanted(plan: _Plan, feature: Feature, aggregate: Aggregate) -> Wanted:
    value = value_of(feature)
    index = None if value == EVERY_EVENT else plan.values.index(value)
    return Wanted(aggregate.function, index, in_micros(aggregate.window))


def _newest(db: Connection, view: FeatureView, events: Events, probes: Probes) -> list[pa.Array]:
    """Each probe's row: the newest that holds; of rows that tie, the greatest."""
    import pyarrow as pa

    rows = newest_rows(events, probes, in_micros(view.spec.ttl) if view.spec.ttl is not None else 2**62)
    groups = tie_groups(events)
    if groups is not None:
        rows = np.where(rows < 0, rows, _greatest(db, events, groups).take(groups.take(rows)))
    return [values.take(pa.array(rows, mask=rows < 0)) for values in events.values]


def _greatest(db: Connection, events: Events, groups: NDArray[np.int32]) -> Ints:
    """The position of the greatest row of each group."""
    import pyarrow as pa

    last = np.flatnonzero(np.diff(groups, append=groups[-1] + 1))
    tied = np.flatnonzero(np.bincount(groups).take(groups) > 1)
    columns = {f"tg_{i}": values.take(pa.array(tied)) for i, values in enumerate(events.values)}
    db.register("tied", pa.table({"tg_group": groups[tied], "tg_position": tied, **columns}))
    query = (
        f"SELECT tg_group, arg_max(tg_position, {ranking(list(columns))}) AS tg_position FROM tied GROUP BY tg_group"  # noqa: S608
    )
    best = db.sql(query).to_arrow_table()
    last[best["tg_group"].to_numpy()] = best["tg_position"].to_numpy()
    return last


def _in_order(db: Connection, plan: _Plan, computed: pa.Table) -> pa.Table:
    """In the order of `tg_row`, in the declared types, with defaults."""
    import pyarrow as pa

    rows = computed["tg_row"].to_numpy()
    place = np.empty(len(rows), dtype=np.int64)
    place[rows - 1] = np.arange(len(rows))
    return pa.table({
        feature.name: _declared(db, feature, computed[f"tg_{i}"].combine_chunks().take(pa.array(place)))
        for i, feature in enumerate(plan.kept)
    })  # fmt: skip


def _declared(db: Connection, feature: Feature, values: pa.Array) -> pa.ChunkedArray:
    """A feature's values in its declared type, with its default."""
    import pyarrow as pa

    db.register("computed", pa.table({"tg_value": values}))
    return db.sql(f"SELECT {cast_or_default('tg_value', feature)} FROM computed").to_arrow_table()[0]  # noqa: S608
