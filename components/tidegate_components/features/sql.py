"""FeatureView -> DuckDB SQL. The meaning of every word is "As of time t" in docs/feature-views.md.

All times inside are Int64 UTC microseconds. A query reads the relations `source` (the view's events as they are) and
`entities` (`row_id`, `as_of` and the join keys); it gives one row per entity row: `row_id` and one column per feature.
"""

from __future__ import annotations

from tidegate_api.feature_view import Feature, FeatureView

__all__ = ["SQL_TYPES", "as_of_query", "events_query", "micros", "quoted"]

SQL_TYPES = {
    "Int64": "BIGINT",
    "Float64": "DOUBLE",
    "String": "VARCHAR",
    "Bool": "BOOLEAN",
    "Timestamp": "TIMESTAMP",
}
_SQL_TYPES_OF_LISTS = {f"List<{name}>": f"{sql}[]" for name, sql in SQL_TYPES.items()}
SQL_TYPES |= _SQL_TYPES_OF_LISTS

_NEVER = -(2**63) + 1


def quoted(name: str) -> str:
    """A SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def micros(column: str) -> str:
    """SQL for a timestamp column (naive is UTC, or with a zone) as UTC microseconds."""
    return f"epoch_us({quoted(column)})"


def as_of_query(view: FeatureView, as_known: bool = False) -> str:
    """The query that gives each entity row its features as of `as_of`.

    `as_known` also leaves out events that were created after `as_of`; it joins by range, else windows do the work.
    """
    if view.spec.sql is not None:
        return _newest_row(view, as_known)
    return _joined(view) if as_known else _windowed(view)


def events_query(view: FeatureView) -> str:
    """The view's events: keys, `at`, `known`, `created` and one column `vN` per feature, null where `where` fails.

    For a view with `sql`, the rows it yields, each feature under its own name.
    """
    spec = view.spec
    created = f"coalesce({micros(spec.source.created_timestamp)}, {_NEVER})" if spec.source.created_timestamp else "0"
    known = f"coalesce({micros(spec.source.created_timestamp)}, at)" if spec.source.created_timestamp else "at"
    keys = [f"CAST({quoted(k.name)} AS {SQL_TYPES[k.type]}) AS {quoted(k.name)}" for k in spec.entity.join_keys]
    columns = [f"{_value(f)} AS v{i}" for i, f in enumerate(spec.features)]
    origin = f"({spec.sql})" if spec.sql is not None else "source"
    there = " AND ".join(f"{quoted(k.name)} IS NOT NULL" for k in spec.entity.join_keys)
    times = f"{micros(spec.source.event_timestamp)} AS at, {created} AS created, {known} AS known"
    return f"SELECT {', '.join([*keys, times, *columns])} FROM {origin} AS source WHERE {there} AND at IS NOT NULL"  # noqa: S608


def _value(feature: Feature) -> str:
    aggregate = feature.aggregate
    if aggregate is None:
        return f"CAST({quoted(feature.name)} AS {SQL_TYPES[feature.type]})"
    column = quoted(aggregate.column) if aggregate.column else "1"
    return f"CASE WHEN ({aggregate.where}) THEN {column} END" if aggregate.where else column


def _windowed(view: FeatureView) -> str:
    keys = [quoted(key.name) for key in view.spec.entity.join_keys]
    blanks = ", ".join(f"NULL AS v{i}" for i in range(len(view.spec.features)))
    windows = sorted({f.aggregate.window for f in view.spec.features if f.aggregate})
    named = ", ".join(
        f"w{i} AS (PARTITION BY {', '.join(keys)} ORDER BY at"
        f" RANGE BETWEEN {_us(window)} PRECEDING AND 1 PRECEDING)"
        for i, window in enumerate(windows)
    )
    features = ", ".join(
        f"{_result(f, _aggregate(f, i), f' OVER w{windows.index(f.aggregate.window)}')} AS {quoted(f.name)}"
        for i, f in enumerate(view.spec.features)
        if f.aggregate
    )
    return f"""
WITH events AS ({events_query(view)}),
timeline AS (
    SELECT NULL AS row_id, * EXCLUDE (known) FROM events
    UNION ALL BY NAME SELECT row_id, {", ".join(keys)}, as_of AS at, 0 AS created, {blanks} FROM entities
),
computed AS (SELECT row_id, {features} FROM timeline WINDOW {named})
SELECT * FROM computed WHERE row_id IS NOT NULL
"""  # noqa: S608


def _joined(view: FeatureView) -> str:
    keys = [quoted(key.name) for key in view.spec.entity.join_keys]
    same = " AND ".join(f"s.{key} = e.{key}" for key in keys)
    longest = max(_us(f.aggregate.window) for f in view.spec.features if f.aggregate)
    features = ", ".join(
        f"{_result(f, _aggregate(f, i), f' FILTER (at >= e.as_of - {_us(f.aggregate.window)})')} AS {quoted(f.name)}"
        for i, f in enumerate(view.spec.features)
        if f.aggregate
    )
    return f"""
WITH events AS ({events_query(view)})
SELECT e.row_id, {features}
FROM entities e LEFT JOIN events s
    ON {same} AND s.at < e.as_of AND s.at >= e.as_of - {longest} AND s.known <= e.as_of
GROUP BY e.row_id
"""  # noqa: S608


def _newest_row(view: FeatureView, as_known: bool) -> str:
    keys = [quoted(key.name) for key in view.spec.entity.join_keys]
    same = " AND ".join(f"s.{key} = e.{key}" for key in keys)
    names = [quoted(f.name) for f in view.spec.features]
    values = ", ".join(f"v{i} AS {name}" for i, name in enumerate(names))
    holds = f"s.at <= e.as_of AND e.as_of - s.at <= {_us(view.spec.ttl)}"
    known = " AND s.known <= e.as_of" if as_known else ""
    picked = ", ".join(f"pick.{name}" for name in names)
    return f"""
WITH events AS ({events_query(view)}),
picked AS (
    SELECT e.row_id, arg_max(struct_pack({", ".join(f"{n} := s.v{i}" for i, n in enumerate(names))}),
        row(s.at, s.created, {", ".join(f"s.v{i}" for i in range(len(names)))})) AS pick
    FROM entities e JOIN events s ON {same} AND {holds}{known} GROUP BY e.row_id
)
SELECT e.row_id, {picked} FROM entities e LEFT JOIN picked p ON p.row_id = e.row_id
""" if values else ""  # noqa: S608


def _aggregate(feature: Feature, index: int) -> str:
    value = f"v{index}"
    assert feature.aggregate is not None  # noqa: S101
    return {
        "count": f"count({value})",
        "sum": f"sum({value})",
        "mean": f"avg({value})",
        "min": f"min({value})",
        "max": f"max({value})",
        "distinct": f"count(DISTINCT {value})",
        "last": f"arg_max({value}, row(at, created, {value}))",
    }[feature.aggregate.function]


def _result(feature: Feature, call: str, over: str) -> str:
    kind = SQL_TYPES[feature.type]
    assert feature.aggregate is not None  # noqa: S101
    counts = feature.aggregate.function in {"count", "distinct"}
    default = _literal(0 if feature.default is None and counts else feature.default)
    empty = f"nullif({call}{over}, 0)" if counts else f"{call}{over}"
    return f"coalesce(CAST({empty} AS {kind}), CAST({default} AS {kind}))"


def _literal(value: object) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, list):
        return "[" + ", ".join(_literal(item) for item in value) + "]"
    return "'" + str(value).replace("'", "''") + "'"


def _us(window: object) -> int:
    from datetime import timedelta

    assert isinstance(window, timedelta)  # noqa: S101
    return window // timedelta(microseconds=1)
