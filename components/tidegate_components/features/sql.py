"""FeatureView -> DuckDB SQL. The meaning of every word is "As of time t" in docs/feature-views.md.

All times inside are Int64 UTC microseconds. A query reads the relations `source` (the view's events as they are) and
`entities` (`tg_row`, `tg_as_of` and the join keys); it gives one row per entity row: `tg_row` and a column per feature.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from tidegate_api.feature import Aggregate, Feature
from tidegate_api.feature_view import FeatureView
from tidegate_components.duck import literal, quoted

__all__ = [
    "EVERY_EVENT",
    "SQL_TYPES",
    "as_of_query",
    "bound_query",
    "cast_or_default",
    "events_query",
    "in_micros",
    "micros",
    "quoted",
    "range_query",
    "ranking",
    "same_key",
    "value_of",
]

SQL_TYPES = {
    "Int64": "BIGINT",
    "Float64": "DOUBLE",
    "String": "VARCHAR",
    "Bool": "BOOLEAN",
    "Timestamp": "TIMESTAMP",
}
SQL_TYPES |= {f"List<{name}>": f"{sql}[]" for name, sql in SQL_TYPES.items()}

EVERY_EVENT = "1"
"""The value of a count without a column."""

_NEVER = -(2**63) + 1


def micros(column: str) -> str:
    """SQL for a timestamp column (naive is UTC, or with a zone) as UTC microseconds."""
    return f"epoch_us({quoted(column)})"


def as_of_query(view: FeatureView, as_known: bool = False) -> str:
    """The query that gives each row of `entities` its features as of `tg_as_of`.

    For a view with `sql` also `tg_holds_from`, the time of the row that was picked (null: none).

    `as_known` also leaves out events that were created after `tg_as_of`; it joins by range, else windows do the work.
    """
    return range_query(view, as_known) if as_known or view.spec.sql is not None else _windowed(view)


def bound_query(view: FeatureView) -> str:
    """The view's whole query over no entities: it binds where every expression fits the source and its feature."""
    keys = "".join(f", CAST(NULL AS {SQL_TYPES[k.type]}) AS {quoted(k.name)}" for k in view.spec.entity.join_keys)
    nobody = f"SELECT CAST(0 AS BIGINT) AS tg_row, CAST(0 AS BIGINT) AS tg_as_of{keys} WHERE false"
    return f"WITH entities AS ({nobody}) SELECT * FROM ({range_query(view)})"  # noqa: S608


def range_query(view: FeatureView, as_known: bool = False) -> str:
    """The same rows as as_of_query, by a join of entities and events: for every engine, not the fastest with few."""
    return _newest_row(view, as_known) if view.spec.sql is not None else _joined(view, as_known)


def events_query(view: FeatureView, values: Sequence[str] | None = None) -> str:
    """The view's events: keys, `tg_at`, `tg_known`, `tg_created`, and `tg_N` per feature, null where `where` fails.

    For a view with `sql`: the rows that it yields. `values` are other expressions for the `tg_N`.
    """
    spec = view.spec
    at = micros(spec.source.event_timestamp)
    stamp = micros(spec.source.created_timestamp) if spec.source.created_timestamp else "NULL"
    columns = [
        *(f"CAST({quoted(k.name)} AS {SQL_TYPES[k.type]}) AS {quoted(k.name)}" for k in spec.entity.join_keys),
        f"{at} AS tg_at",
        f"coalesce({stamp}, {_NEVER}) AS tg_created",
        f"coalesce({stamp}, {at}) AS tg_known",
        *(f"{value} AS tg_{i}" for i, value in enumerate(map(value_of, spec.features) if values is None else values)),
    ]
    origin = f"({spec.sql})" if spec.sql is not None else "source"
    there = " AND ".join(f"{quoted(column)} IS NOT NULL" for column in needed_columns(view))
    return f"SELECT {', '.join(columns)} FROM {origin} AS source WHERE {there}"  # noqa: S608


def needed_columns(view: FeatureView) -> list[str]:
    """The columns without which a row is no event of any entity, so that it counts for nothing."""
    return [*(key.name for key in view.spec.entity.join_keys), view.spec.source.event_timestamp]


def value_of(feature: Feature) -> str:
    """What a feature takes from one event, null where its `where` fails."""
    aggregate = feature.aggregate
    if aggregate is None:
        return f"CAST({quoted(feature.name)} AS {SQL_TYPES[feature.type]})"
    column = quoted(aggregate.column) if aggregate.column else EVERY_EVENT
    return f"CASE WHEN ({aggregate.where}) THEN {column} END" if aggregate.where else column


def _aggregates(view: FeatureView) -> list[tuple[int, Feature, Aggregate]]:
    return [(i, feature, feature.aggregate) for i, feature in enumerate(view.spec.features) if feature.aggregate]


def _keys(view: FeatureView) -> str:
    return ", ".join(quoted(key.name) for key in view.spec.entity.join_keys)


def same_key(view: FeatureView) -> str:
    """The condition that `s` and `e` are of one entity; null is nobody's key."""
    return " AND ".join(f"s.{quoted(key.name)} = e.{quoted(key.name)}" for key in view.spec.entity.join_keys)


def _windowed(view: FeatureView) -> str:
    aggregates = _aggregates(view)
    windows = sorted({aggregate.window for _, _, aggregate in aggregates})
    by_time = f"PARTITION BY {_keys(view)} ORDER BY tg_at RANGE BETWEEN"
    named = ", ".join(f"w{n} AS ({by_time} {in_micros(w)} PRECEDING AND 1 PRECEDING)" for n, w in enumerate(windows))
    features = ", ".join(_column(i, f, a, f" OVER w{windows.index(a.window)}") for i, f, a in aggregates)
    return f"""
WITH events AS ({events_query(view)}),
timeline AS (
    SELECT NULL AS tg_row, * EXCLUDE (tg_known) FROM events
    UNION ALL BY NAME SELECT tg_row, {_keys(view)}, tg_as_of AS tg_at FROM entities
),
computed AS (SELECT tg_row, {features} FROM timeline WINDOW {named})
SELECT * FROM computed WHERE tg_row IS NOT NULL
"""  # noqa: S608


def _joined(view: FeatureView, as_known: bool) -> str:
    aggregates = _aggregates(view)
    longest = in_micros(max(aggregate.window for _, _, aggregate in aggregates))
    known = "AND s.tg_known <= e.tg_as_of" if as_known else ""
    features = ", ".join(
        _column(i, f, a, f" FILTER (tg_at >= tg_as_of - {in_micros(a.window)})") for i, f, a in aggregates
    )
    return f"""
WITH events AS ({events_query(view)})
SELECT e.tg_row, {features}
FROM entities e LEFT JOIN events s
    ON {same_key(view)} AND s.tg_at < e.tg_as_of AND s.tg_at >= e.tg_as_of - {longest} {known}
GROUP BY e.tg_row
"""  # noqa: S608


def _newest_row(view: FeatureView, as_known: bool) -> str:
    names = [quoted(feature.name) for feature in view.spec.features]
    fields = ", ".join(f"{name} := s.tg_{i}" for i, name in enumerate(names))
    order = ranking(["s.tg_at", "s.tg_created", *(f"s.tg_{i}" for i in range(len(names)))])
    longest = in_micros(view.spec.ttl) if view.spec.ttl is not None else 2**62
    known = "AND s.tg_known <= e.tg_as_of" if as_known else ""
    columns = ", ".join(cast_or_default(f"pick.{name}", f) for name, f in zip(names, view.spec.features, strict=True))
    return f"""
WITH events AS ({events_query(view)}),
newest AS (
    SELECT e.tg_row, max(s.tg_at) AS tg_holds_from,
        arg_max(struct_pack({fields}), {order}) AS pick
    FROM entities e JOIN events s
        ON {same_key(view)} AND s.tg_at <= e.tg_as_of AND e.tg_as_of - s.tg_at <= {longest} {known}
    GROUP BY e.tg_row
)
SELECT e.tg_row, n.tg_holds_from, {columns}
FROM entities e LEFT JOIN newest n ON n.tg_row = e.tg_row
"""  # noqa: S608


def _column(index: int, feature: Feature, aggregate: Aggregate, over: str) -> str:
    """One feature: the aggregate over its window, or the default where no value was in it."""
    value = f"tg_{index}"
    call = {
        "count": f"count({value})",
        "sum": f"sum({value})",
        "mean": f"avg({value})",
        "min": f"min({value})",
        "max": f"max({value})",
        "distinct": f"count(DISTINCT {value})",
        "last": f"arg_max({value}, row({value} IS NOT NULL, tg_at, tg_created, {value}))",
    }[aggregate.function]
    if aggregate.function in {"count", "distinct"}:
        return cast_or_default(f"nullif({call}{over}, 0)", feature)
    return cast_or_default(f"{call}{over}", feature)


def cast_or_default(value: str, feature: Feature) -> str:
    """The feature's column: the value in the declared type, or the default where it is null."""
    otherwise = 0 if feature.aggregate and feature.aggregate.function in {"count", "distinct"} else None
    kind = SQL_TYPES[feature.type]
    default = _literal(otherwise if feature.default is None else feature.default)
    return f"coalesce(CAST({value} AS {kind}), CAST({default} AS {kind})) AS {quoted(feature.name)}"


def _literal(value: object) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, list):
        return "[" + ", ".join(_literal(item) for item in value) + "]"
    return literal(value)


def ranking(columns: Sequence[str]) -> str:
    """What rows are compared by, column after column; null is below every value, in any engine."""
    return "row(" + ", ".join(f"{column} IS NOT NULL, {column}" for column in columns) + ")"


def in_micros(duration: timedelta) -> int:
    """A duration as whole microseconds."""
    return duration // timedelta(microseconds=1)
