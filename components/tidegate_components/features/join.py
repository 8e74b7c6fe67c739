"""The point-in-time join: each entity row gets each view's features as of its own time, and nothing later."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tidegate_api.feature_view import FeatureView
from tidegate_components.features.errors import BadFeaturesError
from tidegate_components.features.source import cut_to_micros, open_source, view_error
from tidegate_components.features.sql import as_of_query, micros, quoted

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
    as_known: bool = False,
    claims: dict[str, Path] | None = None,
) -> pa.Table:
    """Append one column `VIEW__FEATURE` per feature to `entities`, as of column `timestamp`; rows keep their order.

    `as_known` counts only events that were known by then. Raises BadFeaturesError where `entities` lacks a join key or
    a timestamp, and where a view does not fit its source. Semantics: "As of time t" in docs/feature-views.md.
    """
    import duckdb

    joined = entities
    for view in views:
        with duckdb.connect() as db:
            _register(db, entities, timestamp, view)
            open_source(db, view, claims)
            computed = _compute(db, view, as_known)
        for feature in view.spec.features:
            joined = joined.append_column(column_name(view.metadata.name, feature.name), computed[feature.name])
    return joined


def _register(db: Any, entities: pa.Table, timestamp: str, view: FeatureView) -> None:
    from tidegate_components.features.sql import SQL_TYPES

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


def _compute(db: Any, view: FeatureView, as_known: bool) -> pa.Table:
    import duckdb

    try:
        return db.sql(f"SELECT * FROM ({as_of_query(view, as_known)}) ORDER BY tg_row").to_arrow_table()  # noqa: S608
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
