"""Replay: recompute offline what serving used, as known at the as-of time that came with each value.

The log has a row per request and entity: `request_id`, `event_time` (when it was asked), the join keys, and for each
view a column `VIEW__FEATURE` per feature and `VIEW__as_of`, the time that the stored value carried; features.serving
writes it, with `VIEW__stored` (false: nothing was stored, the defaults were used, and the time is the watermark). A log
without that column has a null time where nothing was stored. The event table `feature_log` holds the same columns as
JSON in `features`. What serving used and what the definition gives must be the same at that time; how
old it was when it was used is another matter, and is reported as staleness.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from tidegate_api.feature import Feature
from tidegate_api.feature_view import FeatureView
from tidegate_components.duck import column_types, connect
from tidegate_components.features.encoding import to_micros
from tidegate_components.features.errors import BadFeaturesError
from tidegate_components.features.join import column_name
from tidegate_components.features.serving import as_of_column, stored_column
from tidegate_components.features.source import (
    Connection,
    cut_to_micros,
    event_files,
    naming_values,
    open_source,
    reading,
)
from tidegate_components.features.sql import SQL_TYPES, as_of_query, cast_or_default, in_micros, quoted
from tidegate_components.storage import resolve

__all__ = ["OUTCOMES", "FeatureReplay", "ViewReplay", "logged_consistency", "replay"]

OUTCOMES = ("equal", "different", "missing", "extra")
"""missing: the definition gives a value and serving had none; extra: the other way round."""

_EXAMPLES = 5
_RELATIVE = 1e-9
"""Sums of floating-point numbers depend on their order in the last bits."""


@dataclass(frozen=True)
class FeatureReplay:
    """How one feature fared: logged values by outcome, and a few that were not equal."""

    feature: str
    outcomes: dict[str, int]
    examples: list[dict[str, Any]] = field(default_factory=list)

    @property
    def unequal(self) -> int:
        """Values that serving should not have used."""
        return sum(count for outcome, count in self.outcomes.items() if outcome != "equal")


@dataclass(frozen=True)
class ViewReplay:
    """One view: rows of the log, how many found nothing stored, age in seconds of what they used, and each feature."""

    view: str
    rows: int
    unstored: int
    staleness: dict[str, float | None]
    features: list[FeatureReplay]


def replay(
    log: str, views: Sequence[FeatureView], claims: dict[str, Path] | None = None, since: datetime | None = None
) -> list[ViewReplay]:
    """Replay every view that the log names; `log` is the address of Parquet (a file, folder or glob).

    since: leave out what was asked before.

    Raises BadFeaturesError where there is no log or it cannot be read, where it names none of the views, or lacks a
    column of one it names, and where a view does not fit its source.
    """
    files = event_files(resolve(log, claims))
    if not files:
        raise _bad(log, "files", "none", "Parquet, as serving logs it")
    with connect() as db:
        columns = _open_log(db, log, files, views, since)
        named = [view for view in views if any(c.startswith(f"{view.metadata.name}__") for c in columns)]
        if not named:
            raise _bad(log, "columns", ", ".join(columns), f"VIEW__FEATURE of {', '.join(_names(views))}")
        return [_replay_view(db, log, columns, view, claims) for view in named]


def _open_log(
    db: Connection, log: str, files: Sequence[Path], views: Sequence[FeatureView], since: datetime | None
) -> list[str]:
    """Create the view `log`; returns its columns."""
    import duckdb

    try:
        db.execute(f"CREATE VIEW log AS {_since(cut_to_micros(db, reading(files)), since)}")
        if "features" in (columns := _columns(db)):
            db.execute(f"CREATE OR REPLACE VIEW log AS {_unpacked(db, views, _since(reading(files), since))}")
            columns = _columns(db)
    except duckdb.Error as error:
        raise _bad(log, "content", str(error).splitlines()[0], "Parquet, as serving logs it") from error
    return columns


def _since(reader: str, since: datetime | None) -> str:
    if since is None:
        return reader
    asked = f"epoch_us(CAST(event_time AS TIMESTAMPTZ)) >= {to_micros(since)}"
    return f"SELECT * FROM ({reader}) WHERE {asked}"  # noqa: S608


def _columns(db: Connection) -> list[str]:
    return list(column_types(db, "log"))


def _unpacked(db: Connection, views: Sequence[FeatureView], reader: str) -> str:
    """The landed event table, whose JSON holds the columns of each row's views, with a column each."""
    wanted = [name for view in views for name in _log_columns(view)]
    present = {row[0] for row in db.execute("SELECT DISTINCT unnest(json_keys(features)) FROM log").fetchall()}
    columns = [f"features->>'$.{quoted(name)}' AS {quoted(name)}" for name in dict.fromkeys(wanted) if name in present]
    return f"SELECT request_id, event_time, {', '.join(columns) or 'NULL'} FROM ({reader})"  # noqa: S608


def _log_columns(view: FeatureView) -> list[str]:
    """The columns that a log must have of a view, and may have of it."""
    name = view.metadata.name
    features = [column_name(name, feature.name) for feature in view.spec.features]
    return [*(key.name for key in view.spec.entity.join_keys), as_of_column(name), stored_column(name), *features]


def _names(views: Sequence[FeatureView]) -> list[str]:
    return [view.metadata.name for view in views]


def logged_consistency(
    view: FeatureView, since: datetime | None, claims: dict[str, Path] | None = None
) -> tuple[int, str] | None:
    """What the view's own log says of what serving used since then: values replayed, and what is wrong with them.

    None: the view names no log, or nothing was logged yet. The sentence is empty where every value is right.
    """
    log = view.spec.feature_log
    if log is None or not event_files(resolve(log.parquet.uri, claims)):
        return None
    (found,) = replay(log.parquet.uri, [view], claims, since)
    wrong = [f"{one.feature} {one.unequal:,}" for one in found.features if one.unequal]
    total = sum(sum(one.outcomes.values()) for one in found.features)
    return total, f"of {total:,} values that serving used, not as defined: {', '.join(wrong)}" if wrong else ""


def _replay_view(
    db: Connection, log: str, columns: list[str], view: FeatureView, claims: dict[str, Path] | None
) -> ViewReplay:
    _check(log, columns, view)
    open_source(db, view, claims)
    stored = stored_column(view.metadata.name)
    with naming_values(view):
        db.execute(f"CREATE OR REPLACE TEMP TABLE logged AS {_logged(view, stored in columns)}")
        keys = ", ".join(quoted(key.name) for key in view.spec.entity.join_keys)
        db.execute(
            "CREATE OR REPLACE TEMP TABLE entities AS "  # noqa: S608
            f"SELECT tg_row, coalesce(tg_held_at, tg_asked) AS tg_as_of, {keys} FROM logged"
        )
        db.execute(f"CREATE OR REPLACE TEMP TABLE offline AS {_recomputed(view)}")
    rows, unstored, *ages = db.execute(_STALENESS).fetchall()[0]
    features = [_replay_feature(db, view, i, feature) for i, feature in enumerate(view.spec.features)]
    return ViewReplay(view.metadata.name, rows, unstored, dict(zip(("p50", "p95", "max"), ages, strict=True)), features)


def _recomputed(view: FeatureView) -> str:
    """The features of each logged row; where a sql view's row had expired when it was asked for, the defaults."""
    query = as_of_query(view, as_known=True)
    if view.spec.sql is None or view.spec.ttl is None:
        return query
    expired = f"l.tg_stored IS NULL AND o.tg_holds_from + {in_micros(view.spec.ttl)} < l.tg_asked"
    features = ", ".join(
        cast_or_default(f"CASE WHEN {expired} THEN NULL ELSE o.{quoted(f.name)} END", f) for f in view.spec.features
    )
    return f"SELECT o.tg_row, {features} FROM ({query}) o JOIN logged l ON l.tg_row = o.tg_row"  # noqa: S608


_STALENESS = """
SELECT count(*), count(*) - count(tg_stored), quantile_cont(age, 0.5), quantile_cont(age, 0.95), max(age)
FROM (SELECT tg_stored, (tg_asked - tg_stored) / 1e6 AS age FROM logged)
"""


def _check(log: str, columns: list[str], view: FeatureView) -> None:
    name = view.metadata.name
    for column in ["request_id", "event_time", *_log_columns(view)]:
        if column not in columns and column != stored_column(name):
            raise _bad(log, "columns", ", ".join(columns), f"a column {column}, since it logs view {name}")


def _logged(view: FeatureView, says_stored: bool) -> str:
    """Rows of the log; `tg_held_at`: when the store's answer held, `tg_stored`: the same of what was stored."""
    name = view.metadata.name
    values = [
        f"CAST({quoted(column_name(name, f.name))} AS {SQL_TYPES[f.type]}) AS tg_{i}"
        for i, f in enumerate(view.spec.features)
    ]
    keys = [f"CAST({quoted(k.name)} AS {SQL_TYPES[k.type]}) AS {quoted(k.name)}" for k in view.spec.entity.join_keys]
    held_at = f"epoch_us(CAST({quoted(as_of_column(name))} AS TIMESTAMPTZ))"
    was_stored = f"CAST({quoted(stored_column(name))} AS BOOLEAN)" if says_stored else "true"
    times = [
        "epoch_us(CAST(event_time AS TIMESTAMPTZ)) AS tg_asked",
        f"{held_at} AS tg_held_at",
        f"CASE WHEN {was_stored} THEN {held_at} END AS tg_stored",
    ]
    columns = ["row_number() OVER () AS tg_row", "request_id AS tg_request", *times, *keys, *values]
    return f"SELECT {', '.join(columns)} FROM log"  # noqa: S608


def _replay_feature(db: Connection, view: FeatureView, index: int, feature: Feature) -> FeatureReplay:
    keys = ", ".join(f"CAST(l.{quoted(key.name)} AS VARCHAR)" for key in view.spec.entity.join_keys)
    told = f"tg_request, [{keys}] AS tg_key, make_timestamp(tg_held_at) AS tg_as_of, l.tg_{index} AS tg_logged"
    judged = (
        f"SELECT l.tg_row, {_outcome(index, feature)} AS tg_outcome, {told}, o.{quoted(feature.name)} AS tg_recomputed "  # noqa: S608
        "FROM logged l JOIN offline o ON o.tg_row = l.tg_row"
    )
    counts = dict(db.execute(f"SELECT tg_outcome, count(*) FROM ({judged}) GROUP BY tg_outcome").fetchall())  # noqa: S608
    found = db.execute(
        "SELECT tg_outcome, tg_request, tg_key, tg_as_of, tg_logged, tg_recomputed "  # noqa: S608
        f"FROM ({judged}) WHERE tg_outcome <> 'equal' ORDER BY tg_row LIMIT {_EXAMPLES}"
    ).fetchall()
    names = ("outcome", "request_id", "key", "as_of", "logged", "recomputed")
    examples = [dict(zip(names, row, strict=True)) for row in found]
    return FeatureReplay(feature.name, {outcome: counts.get(outcome, 0) for outcome in OUTCOMES}, examples)


def _outcome(index: int, feature: Feature) -> str:
    """SQL. Where nothing was stored, serving used the default: anything else offline was missing online."""
    logged, offline = f"l.tg_{index}", f"o.{quoted(feature.name)}"
    same = f"{logged} IS NOT DISTINCT FROM {offline}"
    if feature.type == "Float64":
        same += f" OR abs({logged} - {offline}) <= {_RELATIVE} * greatest(1, abs({offline}))"
    return f"""CASE WHEN {same} THEN 'equal'
        WHEN l.tg_stored IS NULL OR {logged} IS NULL THEN 'missing'
        WHEN {offline} IS NULL THEN 'extra' ELSE 'different' END"""


def _bad(log: str, field: str, value: str, expected: str) -> BadFeaturesError:
    return BadFeaturesError(
        resource=f"feature log {log}", field=field, value=value, expected=expected,
        remedy="check --log and --views; docs/feature-views.md says what a log looks like",
    )  # fmt: skip
