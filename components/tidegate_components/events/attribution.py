"""The sample join as SQL: exactly one row per impression, whatever its clicks and conversions are like.

Impressions are one by (request_id, item_id): of repeated ones the earliest counts, ties broken by the other values,
by column name. A click is one by click_id (or by request, item and time where there is none), a conversion by order,
item and click (or click and time). A click counts from `skew` before its impression on, since clocks differ; a
conversion from `skew` before its click to `window` after it, both ends included; neither counts after `now`. Each
statement makes one table from those before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from tidegate_components.duck import listed, quoted
from tidegate_components.events.kinds import POSITION_COLUMNS
from tidegate_components.events.sampling import kept_below, sampling_bound

__all__ = ["COUNTS", "Attribution", "added_columns", "statements"]

Columns = Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class Attribution:
    """What belongs together: `window` from click to conversion, `skew` between clocks, `delay` until a missing click
    is a negative, and the share of negatives to keep.
    """

    window: timedelta = timedelta(days=7)
    skew: timedelta = timedelta(minutes=5)
    delay: timedelta = timedelta(0)
    negative_rate: float = 1.0


_CLICK_KEYS = (("click_id",), ("request_id", "item_id", "event_time"))
_CONVERSION_KEYS = (("order_id", "item_id", "click_id"), ("order_id", "click_id"), ("click_id", "event_time"))
_LATER = "{}.event_time > (SELECT now FROM moment)"
"""Not known at `now`: a run as of a time in the past gives what a run at that time gave."""
_OF_CLICKS = ("label", "click_time", "click_id", "clicks")
_OF_CONVERSIONS = ("converted", "conversions", "conversion_time", "conversion_value")
_OF_SAMPLING = ("sampling_rate", "weight")
_LOG_KEYS = (("request_id", "item_id"), ("request_id",))


def statements(columns: Columns, how: Attribution) -> list[str]:
    """The statements, in order, from the tables in `columns` (with their columns) to the table `samples`.

    `impressions` and `clicks` must be there, `conversions` and `feature_log` may be; `moment` has one time, `now`.
    """
    made = [_once("impressions", columns, ("request_id", "item_id")), *_clicks(columns, how)]
    if "conversions" in columns:
        made += [
            _once("conversions", columns, _identity("conversions", columns, _CONVERSION_KEYS)),
            _attributed(columns, how),
        ]
    if "feature_log" in columns:
        made.append(_once("feature_log", columns, _identity("feature_log", columns, _LOG_KEYS)))
    return [*made, _joined(columns), _samples(how)]


def payload(table: str, columns: Columns) -> list[str]:
    """A table's columns without those that say where its row landed."""
    return [column for column in columns[table] if column not in POSITION_COLUMNS]


def _identity(table: str, columns: Columns, choices: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    return next(choice for choice in choices if set(choice) <= set(columns[table]))


def _once(table: str, columns: Columns, keys: tuple[str, ...]) -> str:
    """One row per key: only keys that repeat are sorted, for they are few."""
    names, on = listed(payload(table, columns)), listed(keys)
    rest = listed(["event_time", *sorted(set(payload(table, columns)) - {*keys, "event_time"})])
    repeated = f"SELECT {on} FROM {table} GROUP BY {on} HAVING count(*) > 1"
    same = " AND ".join(f"t.{key} IS NOT DISTINCT FROM r.{key}" for key in keys)
    chosen = f"row_number() OVER (PARTITION BY {on} ORDER BY {rest}) AS tg_place"
    return f"""CREATE TABLE {table}_once AS
        WITH repeated AS ({repeated})
        SELECT {names} FROM {table} t WHERE NOT EXISTS (SELECT 1 FROM repeated r WHERE {same})
        UNION ALL SELECT {names} FROM (
            SELECT {names}, {chosen} FROM {table} t WHERE EXISTS (SELECT 1 FROM repeated r WHERE {same})
        ) AS ranked WHERE tg_place = 1"""


def _clicks(columns: Columns, how: Attribution) -> list[str]:
    click_id = "c.click_id" if "click_id" in columns["clicks"] else "CAST(NULL AS VARCHAR) AS click_id"
    early, later = f"c.event_time < i.event_time - {_interval(how.skew)}", _LATER.format("c")
    matched = f"""CREATE TABLE matched AS
        SELECT i.request_id, i.item_id, c.event_time AS click_time, {click_id},
            {early} AS early, {later} AS later, NOT ({early} OR {later}) AS counts
        FROM impressions_once i JOIN clicks_once c ON c.request_id = i.request_id AND c.item_id = i.item_id"""
    first = """CREATE TABLE first_click AS SELECT request_id, item_id, click_time, click_id, clicks FROM (
        SELECT *, row_number() OVER (PARTITION BY request_id, item_id ORDER BY click_time, click_id) AS place,
            count(*) OVER (PARTITION BY request_id, item_id) AS clicks
        FROM matched WHERE counts) AS ranked WHERE place = 1"""
    return [_once("clicks", columns, _identity("clicks", columns, _CLICK_KEYS)), matched, first]


def _attributed(columns: Columns, how: Attribution) -> str:
    value = (
        "CAST(sum(CAST(v.amount AS DECIMAL(28, 6))) AS DOUBLE)"
        if "amount" in columns["conversions"]
        else "NULL::DOUBLE"
    )
    return f"""CREATE TABLE attributed AS
        SELECT m.request_id, m.item_id, count(*) AS conversions, min(v.event_time) AS conversion_time,
            {value} AS conversion_value
        FROM conversions_once v JOIN matched m ON v.click_id = m.click_id AND m.counts
            AND v.event_time >= m.click_time - {_interval(how.skew)}
            AND v.event_time <= m.click_time + {_interval(how.window)} AND NOT {_LATER.format("v")}
        GROUP BY m.request_id, m.item_id"""


def added_columns(columns: Columns) -> list[str]:
    """The columns of `samples` that no impression brings."""
    logged = [f"feature_log__{name}" for name in columns.get("feature_log", ())]
    return [*_OF_CLICKS, *(_OF_CONVERSIONS if "conversions" in columns else ()), *_OF_SAMPLING, *logged]


def _joined(columns: Columns) -> str:
    chosen = [f"i.{quoted(name)}" for name in payload("impressions", columns)]
    chosen += ["CAST(f.click_time IS NOT NULL AS BIGINT) AS label", "f.click_time"]
    chosen += ["f.click_id"] if "click_id" in columns["clicks"] else []
    chosen.append("coalesce(f.clicks, 0) AS clicks")
    joins = ["LEFT JOIN first_click f ON f.request_id = i.request_id AND f.item_id = i.item_id"]
    if "conversions" in columns:
        joins.append("LEFT JOIN attributed a ON a.request_id = i.request_id AND a.item_id = i.item_id")
        chosen += [
            "CAST(a.conversions IS NOT NULL AS BIGINT) AS converted",
            "coalesce(a.conversions, 0) AS conversions",
        ]
        chosen += ["a.conversion_time", "a.conversion_value"]
    if "feature_log" in columns:
        logged, columns_of_log = _logged(columns)
        joins, chosen = [*joins, *logged], [*chosen, *columns_of_log]
    return f"CREATE TABLE joined AS SELECT {', '.join(chosen)} FROM impressions_once i {' '.join(joins)}"


def _logged(columns: Columns) -> tuple[list[str], list[str]]:
    """Joins to the feature log and the columns that they bring: the item's own line, else the one of the request."""
    keys = _identity("feature_log", columns, _LOG_KEYS)
    rest = [
        (quoted(name), quoted(f"feature_log__{name}")) for name in payload("feature_log", columns) if name not in keys
    ]
    if len(keys) == 1:
        join = "LEFT JOIN feature_log_once l ON l.request_id = i.request_id"
        return [join], [f"l.{name} AS {alias}" for name, alias in rest]
    joins = [
        "LEFT JOIN feature_log_once l ON l.request_id = i.request_id AND l.item_id = i.item_id",
        "LEFT JOIN feature_log_once w ON w.request_id = i.request_id AND w.item_id IS NULL",
    ]
    own = "l.request_id IS NOT NULL"
    return joins, [f"CASE WHEN {own} THEN l.{name} ELSE w.{name} END AS {alias}" for name, alias in rest]


def _samples(how: Attribution) -> str:
    rate = f"CASE WHEN label = 1 THEN 1.0::DOUBLE ELSE {how.negative_rate!r}::DOUBLE END"
    return f"""CREATE TABLE samples AS SELECT *, {rate} AS sampling_rate, 1 / {rate} AS weight FROM joined
        WHERE {mature(how)} AND (label = 1 OR {kept_below(sampling_bound(how.negative_rate))})"""


def mature(how: Attribution) -> str:
    """The condition that an impression is old enough to be judged."""
    return f"event_time <= (SELECT now FROM moment) - {_interval(how.delay)}"


def _interval(length: timedelta) -> str:
    return f"INTERVAL '{length // timedelta(microseconds=1)} microseconds'"


COUNTS = {
    "impressions_in": "SELECT count(*) FROM impressions",
    "duplicates": "SELECT (SELECT count(*) FROM impressions) - (SELECT count(*) FROM impressions_once)",
    "held_back": "SELECT count(*) FROM joined WHERE NOT ({mature})",
    "sampled_out": "SELECT (SELECT count(*) FROM joined WHERE {mature}) - (SELECT count(*) FROM samples)",
    "rows_out": "SELECT count(*) FROM samples",
    "positives": "SELECT count(*) FROM samples WHERE label = 1",
    "clicks_in": "SELECT count(*) FROM clicks",
    "clicks_repeated": "SELECT (SELECT count(*) FROM clicks) - (SELECT count(*) FROM clicks_once)",
    "clicks_without_impression": "SELECT (SELECT count(*) FROM clicks_once) - (SELECT count(*) FROM matched)",
    "clicks_before_impression": "SELECT count(*) FROM matched WHERE early",
    "clicks_after_now": "SELECT count(*) FROM matched WHERE later",
    "conversions_in": "SELECT count(*) FROM conversions",
    "conversions_repeated": "SELECT (SELECT count(*) FROM conversions) - (SELECT count(*) FROM conversions_once)",
    "conversions_attributed": "SELECT coalesce(sum(conversions), 0)::BIGINT FROM attributed",
    "feature_log_missing": "SELECT count(*) FROM samples WHERE feature_log__event_time IS NULL",
}
"""What the report counts, by name; each a query of one number."""
