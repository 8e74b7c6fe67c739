"""Materialize a view: its values as of one time into the offline Parquet and the online store, then the watermark.

A value's as-of time m is the end of the run's interval, and the value is the offline one as known at m. A full run
writes every entity with an event known by m. An incremental run from the watermark w rewrites every entity for which an
event entered or left any window between w and m, or became known, and whatever late events may have touched; where
a value's TTL is shorter than its longest window, also every entity with an event in a window, so that none expires
while it is still right.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tidegate_api.feature_view import FeatureView
from tidegate_components.duck import connect
from tidegate_components.features.encoding import StoredValue, from_micros, to_micros
from tidegate_components.features.errors import BadFeaturesError
from tidegate_components.features.online import OnlineStore, Watermark, expiry_ms
from tidegate_components.features.replay import logged_consistency
from tidegate_components.features.source import Connection, naming_values, open_source, rows_left_out, view_error
from tidegate_components.features.spark import spark_features
from tidegate_components.features.sql import as_of_query, events_query, in_micros, quoted
from tidegate_components.features.statistics import FeatureStatistics, describe, failed_expectations
from tidegate_components.features.values import columns_of
from tidegate_components.json_values import rfc3339
from tidegate_components.storage import replacing, resolve

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["AS_OF_PREFIX", "Materialized", "catch_up", "materialize", "next_interval"]

AS_OF_PREFIX = "as_of="
"""Files of the offline store are named by the as-of time of the values in them."""
_CHUNK = 20_000
_LAST_WORD = 4000
_SENTENCES, _SENTENCE = 5, 200


@dataclass(frozen=True)
class Materialized:
    """What a run did. Times are UTC; `rows` counts the entities written, of which `statistics` tell.

    `quality`: how the values fail what the view expects of them, as sentences; None where none were written.
    `consistency`: values that serving used since the interval began, and what is wrong with them. `watermark`: None
    where no run of this definition reaches the store from the beginning. `left_out`: by column, rows of the source that
    lack a key or the time.
    """

    watermark: datetime | None
    rows: int
    start: datetime
    end: datetime
    newest_event_time: datetime | None
    schema_hash: str
    statistics: tuple[FeatureStatistics, ...] = ()
    quality: tuple[str, ...] | None = ()
    consistency: tuple[int, str] | None = None
    left_out: Mapping[str, int] = field(default_factory=dict)

    @property
    def note(self) -> str:
        """Why the watermark stayed behind the values that were written; empty where it did not."""
        if self.watermark is not None and self.watermark >= self.end:
            return ""
        there = f"stays at {rfc3339(self.watermark)}" if self.watermark else "stays unset"
        return f"the watermark {there}: what changed between it and {rfc3339(self.start)} is not materialized"

    def to_json(self) -> dict[str, Any]:
        """The report that the operator reads; `note` only where there is one."""
        return ({"note": self.note} if self.note else {}) | {
            "watermark": rfc3339(self.watermark) if self.watermark else None,
            "rows": self.rows,
            "interval": {"from": rfc3339(self.start), "to": rfc3339(self.end)},
            "leftOut": dict(self.left_out),
            "newestEventTime": rfc3339(self.newest_event_time) if self.newest_event_time else None,
            "schemaHash": self.schema_hash,
            "quality": None if self.quality is None else list(self.quality),
            "consistency": _consistency(self.consistency),
            "statistics": [found.to_json() for found in self.statistics],
        }

    def to_report(self) -> str:
        """The same for a pod's last word, which may have 4,096 bytes: short statistics of as many features as fit."""
        short_quality = None if self.quality is None else [text[:_SENTENCE] for text in self.quality[:_SENTENCES]]
        document = self.to_json() | {"quality": short_quality}
        short = [_short(found) for found in self.statistics]
        while True:
            text = json.dumps(document | {"statistics": short}, separators=(",", ":"))
            if len(text.encode()) <= _LAST_WORD or not short:
                return text
            short = short[: len(short) * 9 // 10]


def _consistency(found: tuple[int, str] | None) -> dict[str, Any] | None:
    return None if found is None else {"values": found[0], "fault": found[1][:_SENTENCE]}


def _short(found: FeatureStatistics) -> list[Any]:
    """Name, rows, missing, mean, variance, then the quantiles."""
    numbers = [found.mean, found.variance, *found.quantiles]
    rounded = [None if number is None else float(f"{number:.4g}") for number in numbers]
    return [found.feature, found.rows, found.missing, *rounded]


def next_interval(view: FeatureView, store: OnlineStore, now: datetime) -> tuple[datetime | None, datetime]:
    """From the watermark (None: never, or the computation has changed) to `now`, at most `maxWindow` long."""
    there = store.watermark(view)
    if there is None or there.transform_hash != view.transform_hash:
        return None, now
    start = from_micros(there.micros)
    longest = view.spec.materialization.max_window
    return start, min(now, start + longest) if longest else now


def catch_up(
    view: FeatureView,
    store: OnlineStore,
    now: datetime,
    told: Callable[[Materialized], None] = lambda _: None,
    claims: dict[str, Path] | None = None,
) -> Materialized:
    """Incremental runs from the watermark to `now`, each at most `maxWindow` long; one, where nothing is behind.

    Each advances the watermark, so that one that is killed goes on where it was; `told` hears of each but the last.
    Returns the last, with the rows of all and the quality of the last that wrote some. Raises as `materialize` does.
    """
    rows, quality = 0, None
    while True:
        start, end = next_interval(view, store, now)
        done = materialize(view, store, end, start, claims)
        rows, quality = rows + done.rows, quality if done.quality is None else done.quality
        if (done.watermark or end) >= now or end >= now:
            return replace(done, rows=rows, quality=quality)
        told(done)


def materialize(
    view: FeatureView,
    store: OnlineStore,
    end: datetime,
    start: datetime | None = None,
    claims: dict[str, Path] | None = None,
) -> Materialized:
    """Write the view's values as of `end` to both stores, then advance the watermark by compare-and-set.

    With `start` only entities that changed since then (see the module); where that leaves a gap behind the watermark,
    the values are written and the watermark stays. Running it again writes the same. Raises
    BadFeaturesError for a source that does not fit or an empty interval, OnlineStoreError for an unreachable store, and
    BadFeaturesError where another run moved the watermark meanwhile.
    """
    before = store.watermark(view)
    first, last = to_micros(start) if start else None, to_micros(end)
    _check_interval(view, first, last)
    with connect() as db, naming_values(view):
        files = open_source(db, view, claims)
        left_out = rows_left_out(db, view)
        newest, oldest = _ends(db, view, last)
        _select_entities(db, view, first, last)
        with naming_values(view, lambda one: _values(db, one, files)):
            values = _values(db, view, files)
        statistics = _statistics(db, view, values)
    _write_offline(view, values, last, claims)
    rows = store.write(view, _online_rows(view, values, last))
    watermark = _advance(view, store, before, first, last)
    begin = start or from_micros(min(oldest if oldest is not None else last, last))
    newest_time = from_micros(newest) if newest is not None else None
    quality = failed_expectations(view, statistics) if rows else None
    checked = (statistics, quality, logged_consistency(view, start, claims), left_out)
    return Materialized(watermark, rows, begin, end, newest_time, view.schema_hash, *checked)


def _statistics(db: Connection, view: FeatureView, values: pa.Table) -> tuple[FeatureStatistics, ...]:
    db.register("written", values)
    return tuple(describe(db, "written", [(feature.name, feature) for feature in view.spec.features]))


def _check_interval(view: FeatureView, first: int | None, last: int) -> None:
    if first is not None and first > last:
        raise view_error(view, "materialization", f"{from_micros(first)} to {from_micros(last)}", "from before to")


def _ends(db: Connection, view: FeatureView, last: int) -> tuple[int | None, int | None]:
    """Newest and oldest event time known by `last`."""
    query = f"SELECT max(tg_at), min(tg_at) FROM ({events_query(view)}) WHERE tg_known <= {last} AND tg_at <= {last}"  # noqa: S608
    newest, oldest = db.execute(query).fetchall()[0]
    return newest, oldest


def _select_entities(db: Connection, view: FeatureView, first: int | None, last: int) -> None:
    keys = ", ".join(quoted(key.name) for key in view.spec.entity.join_keys)
    changed = "true" if first is None else _changed(view, first, last)
    db.execute(f"""
CREATE OR REPLACE TEMP TABLE entities AS
SELECT row_number() OVER (ORDER BY {keys}) AS tg_row, {last} AS tg_as_of, {keys}
FROM (SELECT DISTINCT {keys} FROM ({events_query(view)}) WHERE tg_known <= {last} AND tg_at <= {last} AND ({changed}))
""")  # noqa: S608


def _changed(view: FeatureView, first: int, last: int) -> str:
    """SQL: the event is in a window as of one of `first` and `last` but not of the other, or may have come late."""
    late = in_micros(view.spec.materialization.allowed_lateness or timedelta(0))
    conditions = [f"tg_at >= {first - late}", f"tg_known > {first}"]
    windows = sorted({f.aggregate.window for f in view.spec.features if f.aggregate})
    conditions += [f"(tg_at >= {first - w} AND tg_at < {last - w})" for w in map(in_micros, windows)]
    if windows and view.spec.ttl is not None and view.spec.ttl < windows[-1]:
        conditions.append(f"tg_at >= {last - in_micros(windows[-1])}")
    return " OR ".join(conditions)


def _values(db: Connection, view: FeatureView, files: Sequence[Path]) -> pa.Table:
    """Keys, features and `tg_holds_from` (micros) of every entity that has a value, as known at the run's end."""
    keys = ", ".join(f"e.{quoted(key.name)}" for key in view.spec.entity.join_keys)
    features = ", ".join(f"f.{quoted(feature.name)}" for feature in view.spec.features)
    holds_from = "e.tg_as_of" if view.spec.sql is None else "f.tg_holds_from"
    return db.sql(f"""
SELECT {keys}, {features}, {holds_from} AS tg_holds_from
FROM entities e JOIN ({_computed(db, view, files)}) f ON f.tg_row = e.tg_row
WHERE {holds_from} IS NOT NULL ORDER BY e.tg_row
""").to_arrow_table()  # noqa: S608


def _computed(db: Connection, view: FeatureView, files: Sequence[Path]) -> str:
    """SQL of the features of `entities`, as known: DuckDB's own, or of what Spark has computed by the same query."""
    if view.spec.materialization.engine == "duckdb":
        return as_of_query(view, as_known=True)
    with spark_features(as_known=True) as compute:
        db.register("computed", compute(db, view, files))
    return "SELECT * FROM computed"


def _write_offline(view: FeatureView, values: pa.Table, last: int, claims: dict[str, Path] | None) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    kept = values.select(view.columns).cast(pa.schema(columns_of(view)))
    stamped = kept.append_column("as_of", pa.array([last] * values.num_rows, pa.timestamp("us", tz="UTC")))
    name = from_micros(last).strftime("%Y%m%dT%H%M%S.%fZ")
    with replacing(resolve(view.spec.offline.uri, claims) / f"{AS_OF_PREFIX}{name}.parquet") as beside:
        pq.write_table(stamped, beside)


def _online_rows(view: FeatureView, values: pa.Table, last: int) -> Iterator[tuple[tuple[Any, ...], StoredValue, int]]:
    width = len(view.spec.entity.join_keys)
    for batch in values.to_batches(max_chunksize=_CHUNK):
        for row in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            yield row[:width], StoredValue(last, row[width:-1]), expiry_ms(view, row[-1])


def _advance(
    view: FeatureView, store: OnlineStore, before: Watermark | None, first: int | None, last: int
) -> datetime | None:
    there = before.micros if before is not None and before.transform_hash == view.transform_hash else None
    if (there is not None and there >= last) or (first is not None and (there is None or there < first)):
        return from_micros(there) if there is not None else None
    if not store.advance(view, before, Watermark(last, view.schema_hash, view.transform_hash)):
        raise BadFeaturesError(
            resource=f"FeatureView {view.metadata.name}", field="watermark", value=str(store.watermark(view)),
            expected=f"{before} as when this run began: another run has moved it",
            remedy="run it again; values are newest-wins, so nothing is lost",
        )  # fmt: skip
    return from_micros(last)
