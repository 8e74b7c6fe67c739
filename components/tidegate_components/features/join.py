"""The point-in-time join: each entity row gets each view's features as of its own time, and nothing later."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tidegate_api.feature_view import FeatureView, JoinKey
from tidegate_components.duck import column_types, connect
from tidegate_components.features.as_of import PART, features_as_of
from tidegate_components.features.errors import BadFeaturesError
from tidegate_components.features.source import (
    Connection,
    cut_to_micros,
    misfit,
    naming_values,
    open_source,
    rows_of,
)
from tidegate_components.features.spark import Computing, spark_features
from tidegate_components.features.sql import SQL_TYPES, as_of_query, events_query, micros, quoted, range_query
from tidegate_components.features.values import arrow_type

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["check_values", "column_name", "join_views"]


_FRACTIONS = ("DOUBLE", "FLOAT")
_ANY_NUMBER = "^ *[+-]?[0-9]+ *$"


def column_name(view: str, feature: str) -> str:
    """The column of a view's feature in a training set."""
    return f"{view}__{feature}"


def join_views(  # noqa: PLR0913  one call, by keyword: what to join, and how
    entities: pa.Table,
    timestamp: str,
    views: Sequence[FeatureView],
    *,
    engine: str = "duckdb",
    as_known: bool = False,
    claims: dict[str, Path] | None = None,
    part: int = PART,
    name: str = "entities",
) -> pa.Table:
    """Append one column `VIEW__FEATURE` per feature to `entities`, as of column `timestamp`; rows keep their order.

    `as_known` counts only events that were known by then; `part` bounds the rows that are in DuckDB's memory at a time.
    Raises BadFeaturesError where `entities` (errors call them `name`) lack a join key or a timestamp or have one that
    does not fit, have a column that is to be added, where a view does not fit its source, and for an unknown engine.
    Semantics: "As of time t" in docs/feature-views.md.
    """
    _check_entities(entities, timestamp, views, name)
    joined = entities
    with _computing(engine, as_known, part) as compute:
        for view in views:
            with connect() as db:
                files = open_source(db, view, claims)
                _register(db, entities, timestamp, view, name)
                computed = compute(db, view, files)
            for feature in view.spec.features:
                values = computed[feature.name].cast(arrow_type(feature.type))  # a time that is naive is UTC
                joined = joined.append_column(column_name(view.metadata.name, feature.name), values)
    return joined


@contextmanager
def _computing(engine: str, as_known: bool, part: int) -> Iterator[Computing]:
    if engine == "duckdb":
        yield lambda db, view, files: _compute(db, view, as_known, part)
    elif engine == "spark":
        with spark_features(as_known) as compute:
            yield compute
    else:
        raise BadFeaturesError(
            resource="features join", field="--engine", value=engine, expected="duckdb or spark",
            remedy="name one of these",
        )  # fmt: skip


def check_values(db: Connection, view: FeatureView) -> None:
    """Compute the features of the newest event's entity, just after it, from the open source; types meet values there.

    Raises BadFeaturesError where a value does not fit its feature's type.
    """
    keys = ", ".join(quoted(key.name) for key in view.spec.entity.join_keys)
    newest = f"SELECT tg_at, {keys} FROM ({events_query(view)}) ORDER BY tg_at DESC LIMIT 1"  # noqa: S608
    entities = f"SELECT CAST(1 AS BIGINT) AS tg_row, tg_at + 1 AS tg_as_of, {keys} FROM ({newest})"  # noqa: S608
    with naming_values(view, lambda one: db.execute(range_query(one)).fetchall()):
        db.execute(f"CREATE OR REPLACE TEMP TABLE entities AS {entities}")
        db.execute(range_query(view)).fetchall()


def _check_entities(entities: pa.Table, timestamp: str, views: Sequence[FeatureView], name: str) -> None:
    """Every column is there and has its values, and none stands where a feature is to be."""
    columns = entities.column_names
    if timestamp not in columns:
        raise _bad(name, f"column {timestamp}", columns, f"a column {timestamp}", "name another by --timestamp")
    for view in views:
        for column in (key.name for key in view.spec.entity.join_keys):
            if column not in columns:
                wanted = f"a column {column} for view {view.metadata.name}"
                raise _bad(name, f"column {column}", columns, wanted, "add the column or leave out the view")
        for column in (column_name(view.metadata.name, feature.name) for feature in view.spec.features):
            if column in columns:
                raise _bad(name, f"column {column}", "there already", "no column of a feature that the join adds",
                           "drop or rename the column, or leave out the view")  # fmt: skip
    _check_times(entities, timestamp, name)


def _check_times(entities: pa.Table, timestamp: str, name: str) -> None:
    import pyarrow as pa

    times = entities[timestamp]
    if not (pa.types.is_timestamp(times.type) or pa.types.is_date(times.type)):
        raise _bad(name, f"column {timestamp}", str(times.type), "a timestamp",
                   "name another column by --timestamp, or write its values as timestamps")  # fmt: skip
    if times.null_count:
        row = times.is_null().index(True).as_py() + 1
        raise _bad(name, f"column {timestamp} in row {row}", None, "a time in every row",
                   "give the row a time or leave it out")  # fmt: skip


def _register(db: Connection, entities: pa.Table, timestamp: str, view: FeatureView, name: str) -> None:
    keys = view.spec.entity.join_keys
    db.register("given", entities.select(sorted({timestamp, *(key.name for key in keys)})))
    given = cut_to_micros(db, "SELECT * FROM given")
    for key in keys:
        _check_key(db, key, given, name)
        _check_text_key(db, key, given, rows_of(view), name)
    cast = ", ".join(f"CAST({quoted(k.name)} AS {SQL_TYPES[k.type]}) AS {quoted(k.name)}" for k in keys)
    db.execute(
        f"CREATE TEMP TABLE entities AS SELECT row_number() OVER () AS tg_row,"  # noqa: S608
        f" {micros(timestamp)} AS tg_as_of, {cast} FROM ({given})"
    )


def _check_key(db: Connection, key: JoinKey, given: str, name: str) -> None:
    """Every value of a key stays what it is in the key's declared type."""
    remedy = "correct the value, or leave it empty where nobody is meant"
    found = misfit(db, key, given, number=_ANY_NUMBER)
    if found is None:
        return
    row, value = found
    where = f" in row {row}" if row else ""
    raise _bad(name, f"column {key.name}{where}", value, f"a value of type {key.type}", remedy)


def _check_text_key(db: Connection, key: JoinKey, given: str, source: str, name: str) -> None:
    """Numbers with a fraction make other texts than integers do: 1.0 would meet no 1."""
    if key.type != "String":
        return
    kinds = [column_types(db, f"({query})")[key.name] for query in (given, source)]
    if kinds[0] in _FRACTIONS and kinds[1] not in _FRACTIONS:
        expected = f"{kinds[1]}, as the source of the view has it: the text of 1.0 is not that of 1"
        raise _bad(name, f"column {key.name}", kinds[0], expected, "write the ids as integers or as texts")


def _compute(db: Connection, view: FeatureView, as_known: bool, part: int) -> pa.Table:
    def computed(one: FeatureView) -> pa.Table:
        if as_known and one.spec.source.created_timestamp:  # else an event is known when it happens
            return db.sql(f"SELECT * FROM ({as_of_query(one, as_known)}) ORDER BY tg_row").to_arrow_table()  # noqa: S608
        return features_as_of(db, one, part)

    with naming_values(view, computed):
        return computed(view)


def _bad(name: str, field: str, value: object, expected: str, remedy: str) -> BadFeaturesError:
    return BadFeaturesError(resource=name, field=field, value=value, expected=expected, remedy=remedy)
