"""Messages of a view's topic to its events: a whole batch of JSON is read by DuckDB at once; what is none has a reason.

A message is one JSON object. Beside its fields stand the columns that a landing gives it (`source`, `source_partition`,
`source_offset`, and `ingested_at`, the broker's time), so that one definition fits the topic and what has landed of it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tidegate_api.feature_view import FeatureView
from tidegate_components.duck import connect, literal
from tidegate_components.events.decode import with_text
from tidegate_components.events.kinds import KINDS, POSITION_COLUMNS
from tidegate_components.features.source import view_error
from tidegate_components.features.sql import SQL_TYPES, bound_query, events_query, quoted
from tidegate_components.features.sql_reads import check_reads

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Broken", "Event", "Message", "MessageReader", "Read", "column_types", "source_columns"]

_MEANINGS = {"text": "String", "integer": "Int64", "number": "Float64", "time": "Timestamp", "json": "String"}
_POSITIONS = dict(zip(POSITION_COLUMNS, ("String", "Int64", "Int64", "Timestamp"), strict=True))
_ANY_VALUE = {"count", "distinct"}
_MILLISECONDS = 13  # digits of a time as epoch milliseconds


@dataclass(frozen=True)
class Message:
    """A message as the broker gave it; `timestamp` in Unix milliseconds."""

    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None


@dataclass(frozen=True)
class Event:
    """An event that counts for a feature. Times are UTC microseconds; `values` are those of `source_columns`."""

    partition: int
    entity: tuple[Any, ...]
    at: int
    known: int
    values: tuple[Any, ...]


@dataclass(frozen=True)
class Broken:
    """A message that is no event of the view, and why."""

    partition: int
    offset: int
    reason: str


@dataclass(frozen=True)
class Read:
    """What a batch held; `passed` counts the messages that count for no feature."""

    events: list[Event]
    broken: list[Broken]
    passed: int = 0

    def plus(self, other: Read) -> Read:
        """Both."""
        return Read(self.events + other.events, self.broken + other.broken, self.passed + other.passed)


def column_types(view: FeatureView) -> dict[str, str]:
    """Every column that the view needs, with its type.

    As declared in source.kafka.columns; else join keys as declared and times Timestamp; else as in docs/events.md; else
    an aggregated column as its features (Float64 where they differ), and anything else String. Raises BadFeaturesError
    where a condition is no SQL.
    """
    spec = view.spec
    declared = {column.name: column.type for column in spec.source.kafka.columns} if spec.source.kafka else {}
    times = {name: "Timestamp" for name in (spec.source.event_timestamp, spec.source.created_timestamp) if name}
    keys = {key.name: key.type for key in spec.entity.join_keys}
    shop = {field.name: _MEANINGS[field.meaning] for kind in KINDS for field in kind.fields}
    known = {**_aggregated(view), **shop, **times, **keys, **declared, **_POSITIONS}
    needed = [*keys, *times, *_aggregate_columns(view), *_condition_columns(view)]
    return {name: known.get(name, "String") for name in dict.fromkeys(needed)}


def _aggregate_columns(view: FeatureView) -> Iterator[str]:
    for feature in view.spec.features:
        if feature.aggregate and feature.aggregate.column:
            yield feature.aggregate.column


def _aggregated(view: FeatureView) -> dict[str, str]:
    types: dict[str, str] = {}
    for feature in view.spec.features:
        if (how := feature.aggregate) and how.column and how.function not in _ANY_VALUE:
            before = types.setdefault(how.column, feature.type)
            types[how.column] = feature.type if before == feature.type else "Float64"
    return types


def _condition_columns(view: FeatureView) -> Iterator[str]:
    import sqlglot

    for feature in view.spec.features:
        where = feature.aggregate.where if feature.aggregate else None
        if where is None:
            continue
        try:
            parsed = sqlglot.parse_one(where, read="duckdb")
        except sqlglot.errors.SqlglotError as error:
            raise view_error(view, f"features[{feature.name}].aggregate.where", where, "a SQL condition") from error
        for column in parsed.find_all(sqlglot.exp.Column):
            yield column.parts[0].name


def source_columns(view: FeatureView) -> dict[str, str]:
    """The columns kept of each event, with their types: all that the view needs but the join keys."""
    keys = {key.name for key in view.spec.entity.join_keys}
    return {name: kind for name, kind in column_types(view).items() if name not in keys}


class MessageReader:
    """Reads batches of one view's topic; holds the DuckDB connection, whose set-up costs more than a small batch.

    `keyed`: each message must be keyed by its entity, since several partitions would each hold a part of one otherwise.
    """

    def __init__(self, view: FeatureView, *, keyed: bool) -> None:
        self._view, self._db = view, connect()
        self._keys = [key.name for key in view.spec.entity.join_keys]
        self._columns = source_columns(view)
        self._judge = _judged(view, keyed)
        self._check()

    def _check(self) -> None:
        """Raise BadFeaturesError where an expression does not fit the columns."""
        import duckdb

        try:
            self._db.register("messages", _table([], ""))
            check_reads(self._db, self._view, column_types(self._view))
            self._db.execute(self._judge)
            self._db.sql(events_query(self._view)).fetchall()
            self._db.execute(f"EXPLAIN {bound_query(self._view)}").fetchall()
        except duckdb.Error as error:
            fault = str(error).splitlines()[0]
            kinds = ", ".join(f"{name} {kind}" for name, kind in column_types(self._view).items())
            raise view_error(
                self._view, "features", fault, f"expressions that fit the columns {kinds} (source.kafka.columns)"
            ) from error

    def read(self, messages: Sequence[Message]) -> Read:
        """Sort a batch into events and broken messages, each message once."""
        import duckdb

        try:
            return self._read(messages)
        except duckdb.Error as error:
            if len(messages) > 1:
                half = len(messages) // 2
                return self.read(messages[:half]).plus(self.read(messages[half:]))
            one = messages[0]
            return Read([], [Broken(one.partition, one.offset, f"does not compute: {str(error).splitlines()[0]}")])

    def _read(self, messages: Sequence[Message]) -> Read:
        topic = self._view.spec.source.kafka.topic if self._view.spec.source.kafka else ""
        self._db.register("messages", _table(messages, topic))
        self._db.execute(self._judge)
        broken = self._db.execute(
            "SELECT source_partition, source_offset, reason FROM judged WHERE reason IS NOT NULL"
        ).fetchall()
        rows = self._db.sql("SELECT * FROM source").to_arrow_table()
        events = self._db.sql(events_query(self._view)).to_arrow_table()
        found = self._events(rows, events)
        return Read(found, [Broken(*row) for row in broken], rows.num_rows - len(found))

    def _events(self, rows: pa.Table, events: pa.Table) -> list[Event]:
        """`events` are the same rows in the same order, as the view's expressions see them."""
        counts = [name for name in events.column_names if name.removeprefix("tg_").isdigit()]
        kept = _any_valid(events.select(counts))
        rows, events = rows.filter(kept), events.filter(kept)
        partitions = rows["source_partition"].to_pylist()
        entities = zip(*(_plain(rows[name]) for name in self._keys), strict=True)
        values = zip(*(_plain(rows[name]) for name in self._columns), strict=True)
        times = zip(events["tg_at"].to_pylist(), events["tg_known"].to_pylist(), strict=True)
        every = zip(partitions, entities, times, values, strict=True)
        return [Event(partition, entity, at, known, row) for partition, entity, (at, known), row in every]


def _any_valid(columns: pa.Table) -> pa.Array:
    import pyarrow.compute as pc

    kept = pc.is_valid(columns.column(0))
    for column in columns.columns[1:]:
        kept = pc.or_(kept, pc.is_valid(column))
    return kept


def _plain(column: pa.ChunkedArray) -> list[Any]:
    """Python values; times as UTC microseconds."""
    import pyarrow as pa

    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.int64())
    elif pa.types.is_list(column.type) and pa.types.is_timestamp(column.type.value_type):
        column = column.cast(pa.list_(pa.int64()))
    values: list[Any] = column.to_pylist()
    return values


def _table(messages: Sequence[Message], topic: str) -> pa.Table:
    """The batch as the relation `messages`."""
    import pyarrow as pa

    times = pa.array([message.timestamp * 1000 for message in messages], pa.int64())
    columns = {
        "source": pa.array([topic] * len(messages), pa.string()),
        "source_partition": pa.array([message.partition for message in messages], pa.int64()),
        "source_offset": pa.array([message.offset for message in messages], pa.int64()),
        "ingested_at": times.cast(pa.timestamp("us", tz="UTC")),
        "key": pa.array([_text(message.key) for message in messages], pa.string()),
        "message": pa.chunked_array([pa.array([message.value for message in messages], pa.binary())]),
    }
    return with_text(pa.table(columns))


def _text(raw: bytes | None) -> str | None:
    return None if raw is None else raw.decode(errors="replace")


def _judged(view: FeatureView, keyed: bool) -> str:
    """SQL: `judged`, each message's columns and the first reason why it is no event; `source`, those without one."""
    types = {name: kind for name, kind in column_types(view).items() if name not in _POSITIONS}
    wire = json.dumps({name: "JSON" if kind.startswith("List") else "VARCHAR" for name, kind in types.items()})
    raw = ", ".join(f"v.{quoted(name)} AS {_raw(name)}" for name in types)
    clocks = "".join(f", {_clock(name)} AS {_time(name)}" for name, kind in types.items() if kind == "Timestamp")
    values = ", ".join(f"{_value(name, kind)} AS {quoted(name)}" for name, kind in types.items())
    columns = ", ".join([*map(quoted, types), *POSITION_COLUMNS])
    return f"""CREATE OR REPLACE TEMP TABLE judged AS
        WITH parsed AS (
            SELECT *, CASE WHEN json_valid(text) THEN json_transform(text, {literal(wire)}) END AS v FROM messages),
        named AS (SELECT * EXCLUDE (v), {raw} FROM parsed),
        timed AS (SELECT *{clocks} FROM named),
        typed AS (SELECT *, {values} FROM timed)
        SELECT {columns}, {_reason(view, types, keyed)} AS reason FROM typed;
        CREATE OR REPLACE TEMP VIEW source AS SELECT * EXCLUDE (reason) FROM judged WHERE reason IS NULL"""  # noqa: S608


def _reason(view: FeatureView, types: dict[str, str], keyed: bool) -> str:
    keys = [key.name for key in view.spec.entity.join_keys]
    needed = {*keys, view.spec.source.event_timestamp}
    cases = [f"WHEN {_raw(name)} IS NULL THEN {literal(f'no {name}')}" for name in types if name in needed]
    cases += [
        f"WHEN {quoted(name)} IS NULL AND {_raw(name)} IS NOT NULL THEN {literal(f'{name} is no {kind}')}"
        for name, kind in types.items()
    ]
    if keyed:
        entity = f"concat_ws(',', {', '.join(f'{quoted(key)}::VARCHAR' for key in keys)})"
        cases.append(f"WHEN key IS DISTINCT FROM {entity} THEN {literal('not keyed by ' + ','.join(keys))}")
    return f"""CASE WHEN message IS NULL THEN 'empty message' WHEN text IS NULL THEN 'not UTF-8'
        WHEN NOT json_valid(text) THEN 'not JSON' WHEN json_type(text) <> 'OBJECT' THEN 'not a JSON object'
        {" ".join(cases)} END"""


def _value(name: str, kind: str) -> str:
    """The SQL value of a field, null where the text is no such value; as when the topic is landed."""
    raw = _raw(name)
    if kind == "Int64":  # casting back refuses 3.7, which DuckDB would round
        return f"CASE WHEN TRY_CAST({raw} AS BIGINT)::VARCHAR = {raw} THEN {raw}::BIGINT END"
    if kind == "Float64":
        return f"CASE WHEN isfinite(TRY_CAST({raw} AS DOUBLE)) THEN {raw}::DOUBLE END"
    if kind == "Timestamp":
        within = f"{_time(name)} >= TIMESTAMPTZ '2000-01-01' AND {_time(name)} < TIMESTAMPTZ '2100-01-01'"
        return f"CASE WHEN {within} THEN {_time(name)} END"
    return f"TRY_CAST({raw} AS {SQL_TYPES[kind]})"


def _clock(name: str) -> str:
    """SQL: a time written as RFC 3339 (naive is UTC) or as epoch milliseconds."""
    raw = _raw(name)
    epoch = f"make_timestamptz(TRY_CAST({raw} AS BIGINT) * 1000)"
    return f"CASE WHEN length({raw}) = {_MILLISECONDS} THEN {epoch} ELSE TRY_CAST({raw} AS TIMESTAMPTZ) END"


def _raw(name: str) -> str:
    return quoted(f"raw {name}")


def _time(name: str) -> str:
    return quoted(f"time {name}")
