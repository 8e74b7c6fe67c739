"""Messages to rows: a whole batch of JSON is read by DuckDB at once, and what is no event gets a reason."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from tidegate_api.errors import TidegateError
from tidegate_components.duck import connect
from tidegate_components.events.kinds import KINDS, POSITION_COLUMNS, QUARANTINE, Field, Kind

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

__all__ = ["Decoded", "Decoder", "LostRowsError", "message_schema"]


class LostRowsError(TidegateError):
    """Rows in are not rows out plus rows quarantined."""


@dataclass(frozen=True)
class Decoded:
    """The rows of one batch by table (`quarantine` among them, each only if it has rows) and the broken by reason."""

    tables: dict[str, pa.Table]
    reasons: dict[str, int]


def message_schema() -> pa.Schema:
    """What `Decoder.decode` takes: the raw message and where it came from."""
    import pyarrow as pa

    return pa.schema(
        [
            ("source", pa.dictionary(pa.int32(), pa.string())),
            ("source_partition", pa.int32()),
            ("source_offset", pa.int64()),
            ("ingested_at", pa.timestamp("us", tz="UTC")),
            ("message", pa.binary()),
        ]
    )


class Decoder:
    """Holds the DuckDB connection, whose set-up costs more than a small batch."""

    def __init__(self) -> None:
        self._db: duckdb.DuckDBPyConnection = connect()

    def decode(self, messages: pa.Table) -> Decoded:
        """Sort `messages` (of `message_schema`) into the tables of their kinds. Raises LostRowsError."""
        self._db.register("messages", with_text(messages))
        self._db.execute(_judged())
        reasons: dict[str, int] = dict(self._db.execute(_REASONS).fetchall())
        names = {row[0] for row in self._db.execute(_PRESENT).fetchall()}
        tables = {kind.table: self._db.sql(_rows(kind)).to_arrow_table() for kind in KINDS if kind.name in names}
        if reasons:
            tables[QUARANTINE] = self._db.sql(_BROKEN).to_arrow_table()
        self._db.unregister("messages")
        _check(messages.num_rows, sum(table.num_rows for table in tables.values()))
        return Decoded(tables, reasons)


def with_text(messages: pa.Table) -> pa.Table:
    """Add `text`: the message as a string, or null where its bytes are no UTF-8."""
    import pyarrow as pa

    raw = messages["message"]
    try:
        text = raw.cast(pa.string())
    except pa.ArrowInvalid:
        text = pa.chunked_array([pa.array(map(_text, chunk.to_pylist()), pa.string()) for chunk in raw.chunks])
    return messages.append_column("text", text)


def _text(raw: bytes | None) -> str | None:
    try:
        return None if raw is None else raw.decode()
    except UnicodeDecodeError:
        return None


def _check(rows_in: int, rows_out: int) -> None:
    if rows_in != rows_out:
        raise LostRowsError(
            resource="batch of messages", field="rows", value=rows_out, expected=f"{rows_in}, as many as came in",
            remedy="report this with the messages; nothing of the batch was landed",
        )  # fmt: skip


_REASONS = "SELECT reason, count(*) FROM judged WHERE reason IS NOT NULL GROUP BY 1 ORDER BY 1"
_PRESENT = "SELECT DISTINCT type FROM judged WHERE reason IS NULL"
_BROKEN = f"SELECT {', '.join(POSITION_COLUMNS)}, reason, message FROM judged WHERE reason IS NOT NULL"


@cache
def _judged() -> str:
    """`judged`: each message's values, and the first reason why it is no event.

    One projection after another, so that DuckDB parses each message once, casts each field once, then asks for reasons.
    """
    fields = _fields()
    wire = ", ".join(f'"{name}":"{_wire(field)}"' for name, field in {"type": _TYPE, **fields}.items())
    raw = ", ".join(f"v.{name} AS raw_{name}" for name in fields)
    times = [name for name, field in fields.items() if field.meaning == "time"]
    clocks = ", ".join(f"{_clock(name)} AS time_{name}" for name in times)
    scaffold = ", ".join([*(f"raw_{name}" for name in fields), *(f"time_{name}" for name in times)])
    values = ", ".join(f"{_value(field)} AS {name}" for name, field in fields.items())
    return f"""CREATE OR REPLACE TEMP TABLE judged AS
        WITH parsed AS (
            SELECT *, CASE WHEN json_valid(text) THEN json_transform(text, '{{{wire}}}') END AS v FROM messages),
        named AS (SELECT * EXCLUDE (v), v.type AS type, {raw}, v IS NULL AS broken FROM parsed),
        timed AS (SELECT *, {clocks} FROM named),
        typed AS (SELECT *, {values} FROM timed)
        SELECT * EXCLUDE ({scaffold}, text, broken), {_reason()} AS reason
        FROM typed"""


_TYPE = Field("type", "text")


def _fields() -> dict[str, Field]:
    return {field.name: field for kind in KINDS for field in kind.fields}


def _wire(field: Field) -> str:
    return "JSON" if field.meaning == "json" else "VARCHAR"


def _reason() -> str:
    kinds = " ".join(f"WHEN type = '{kind.name}' THEN {_kind_reason(kind)}" for kind in KINDS)
    return f"""CASE {kinds} WHEN message IS NULL THEN 'empty message' WHEN text IS NULL THEN 'not UTF-8'
        WHEN broken THEN 'not JSON' WHEN json_type(text) <> 'OBJECT' THEN 'not a JSON object'
        WHEN type IS NULL THEN 'no type' ELSE 'unknown type' END"""


def _kind_reason(kind: Kind) -> str:
    cases = [
        f"WHEN {broken} THEN '{kind.name}: {reason}'" for field in kind.fields for broken, reason in _faults(field)
    ]
    return f"CASE {' '.join(cases)} END"


def _faults(field: Field) -> list[tuple[str, str]]:
    missing = [(f"raw_{field.name} IS NULL", f"missing {field.name}")] if field.required else []
    if field.meaning in {"text", "json"}:
        return missing
    unread = f"{field.name} IS NULL AND raw_{field.name} IS NOT NULL"
    return [*missing, (unread, f"{field.name} is no {field.meaning}")]


_MILLISECONDS = 13  # digits of a time as epoch milliseconds


def _value(field: Field) -> str:
    """The SQL value of a field: times as RFC 3339 or epoch milliseconds, of the years 2000 to 2099; naive is UTC."""
    raw = f"raw_{field.name}"
    if field.meaning == "integer":  # casting back refuses 3.7, which DuckDB would round; 2.0 is what pandas makes of 2
        whole = f"regexp_replace({raw}, '[.]0+$', '')"
        return f"CASE WHEN TRY_CAST({whole} AS BIGINT)::VARCHAR = {whole} THEN {whole}::BIGINT END"
    if field.meaning == "number":
        return f"CASE WHEN isfinite(TRY_CAST({raw} AS DOUBLE)) THEN {raw}::DOUBLE END"
    if field.meaning == "time":
        within = f"time_{field.name} >= {_OLDEST} AND time_{field.name} < {_NEWEST}"
        return f"CASE WHEN {within} THEN time_{field.name} END"
    return f"{raw}::VARCHAR"


_OLDEST, _NEWEST = "TIMESTAMPTZ '2000-01-01'", "TIMESTAMPTZ '2100-01-01'"


def _clock(name: str) -> str:
    raw = f"raw_{name}"
    epoch = f"make_timestamptz(TRY_CAST({raw} AS BIGINT) * 1000)"
    return f"CASE WHEN length({raw}) = {_MILLISECONDS} THEN {epoch} ELSE TRY_CAST({raw} AS TIMESTAMPTZ) END"


@cache
def _rows(kind: Kind) -> str:
    columns = ", ".join([*(field.name for field in kind.fields), *POSITION_COLUMNS])
    return f"SELECT {columns} FROM judged WHERE reason IS NULL AND type = '{kind.name}'"
