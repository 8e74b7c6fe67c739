"""The point-in-time join: each entity row gets each view's features as of its own time, and nothing later."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tidegate_api.feature_view import FeatureView
from tidegate_components.duck import connect
from tidegate_components.features.as_of import PART, features_as_of
from tidegate_components.features.errors import BadFeaturesError
from tidegate_components.features.source import Connection, cut_to_micros, open_source, view_error
from tidegate_components.features.spark import Computing, spark_features
from tidegate_components.features.sql import SQL_TYPES, as_of_query, micros, quoted

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["column_name", "join_views"]


def column_name(view: str, feature: str) -> str:
    """The column of a view's feature in a training set."""
    return f"{view}__{feature}"


def join_views(
    entities: pa.Table,
    timestamp: str,
    views: Sequence[FeatureView],
    *,
    engine: str = "duckdb",
    as_known: bool = False,
    claims: dict[str, Path] | None = None,
    part: int = PART,
) -> pa.Table:
    """Append one column `VIEW__FEATURE` per feature to `entities`, as of column `timestamp`; rows keep their order.

    `as_known` counts only events that were known by then; `part` bounds the rows that are in DuckDB's memory at a time.
    Raises BadFeaturesError where `entities` lacks a join key or a timestamp, where a view does not fit its source, and
    for an unknown engine. Semantics: "As of time t" in docs/feature-views.md.
    """
    joined = entities
    with _computing(engine, as_known, part) as compute:
        for view in views:
            with connect() as db:
                _register(db, entities, timestamp, view)
                files = open_source(db, view, claims)
                computed = compute(db, view, files)
            for feature in view.spec.features:
                joined = joined.append_column(column_name(view.metadata.name, feature.name), computed[feature.name])
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


def _register(db: Connection, entities: pa.Table, timestamp: str, view: FeatureView) -> None:
    keys = view.spec.entity.join_keys
    for column in [timestamp, *(key.name for key in keys)]:
        if column not in entities.column_names:
            raise _bad_entities(column, f"a column {column} for view {view.metadata.name}", entities.column_names)
    if entities[timestamp].null_count:
        raise _bad_entities(timestamp, "a time in every row", f"{entities[timestamp].null_count} empty times")
    db.register("given", entities.select(sorted({timestamp, *(key.name for key in keys)})))
    cast = ", ".join(f"CAST({quoted(k.name)} AS {SQL_TYPES[k.type]}) AS {quoted(k.name)}" for k in keys)
    db.execute(
        f"CREATE TEMP TABLE entities AS SELECT row_number() OVER () AS tg_row,"  # noqa: S608
        f" {micros(timestamp)} AS tg_as_of, {cast} FROM ({cut_to_micros(db, 'SELECT * FROM given')})"
    )


def _compute(db: Connection, view: FeatureView, as_known: bool, part: int) -> pa.Table:
    import duckdb

    try:
        if as_known and view.spec.source.created_timestamp:  # else an event is known when it happens
            return db.sql(f"SELECT * FROM ({as_of_query(view, as_known)}) ORDER BY tg_row").to_arrow_table()  # noqa: S608
        return features_as_of(db, view, part)
    except duckdb.Error as error:
        raise view_error(view, "features", str(error).splitlines()[0], "values of the declared types") from error


def _bad_entities(column: str, expected: str, value: object) -> BadFeaturesError:
    return BadFeaturesError(
        resource="entities",
        field=f"column {column}",
        value=value,
        expected=expected,
        remedy="add the column to the entities file or leave out the view",
    )
