"""What a shop's events look like on the wire: one JSON object per message, its kind in the field `type`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["KINDS", "POSITION_COLUMNS", "QUARANTINE", "Field", "Kind"]

Meaning = Literal["text", "integer", "number", "time", "json"]


@dataclass(frozen=True)
class Field:
    """One field of a message, and the column it becomes."""

    name: str
    meaning: Meaning
    required: bool = False


@dataclass(frozen=True)
class Kind:
    """One kind of event: `name` is the message's `type`, `table` the folder that its rows land in."""

    name: str
    table: str
    fields: tuple[Field, ...]


_TIME = Field("event_time", "time", required=True)
_EVENT = Field("event_id", "text")


def _need(meaning: Meaning, *names: str) -> tuple[Field, ...]:
    return tuple(Field(name, meaning, required=True) for name in names)


KINDS: tuple[Kind, ...] = (
    Kind(
        "impression",
        "impressions",
        (
            *_need("text", "request_id"),
            *_need("integer", "item_id", "user_id"),
            _TIME,
            _EVENT,
            Field("position", "integer"),
            Field("context", "json"),
        ),
    ),
    Kind(
        "click",
        "clicks",
        (
            *_need("text", "click_id", "request_id"),
            *_need("integer", "item_id"),
            _TIME,
            _EVENT,
            Field("user_id", "integer"),
        ),
    ),
    Kind(
        "add_to_cart",
        "carts",
        (
            *_need("integer", "user_id", "item_id"),
            _TIME,
            _EVENT,
            Field("click_id", "text"),
            Field("quantity", "integer"),
        ),
    ),
    Kind(
        "purchase",
        "purchases",
        (
            *_need("text", "order_id"),
            *_need("integer", "user_id", "item_id"),
            _TIME,
            _EVENT,
            Field("click_id", "text"),
            Field("quantity", "integer"),
            Field("amount", "number"),
        ),
    ),
    Kind(
        "feature_log",
        "feature_log",
        (
            *_need("text", "request_id"),
            _TIME,
            *_need("json", "features"),
            _EVENT,
            Field("item_id", "integer"),
            Field("as_of", "time"),
        ),
    ),
)
"""Fields that no kind declares are dropped; free context of an impression belongs into `context`."""

QUARANTINE = "quarantine"
"""The table of messages that are no event: `reason`, `message` (the raw bytes), and where they came from."""

POSITION_COLUMNS = ("source", "source_partition", "source_offset", "ingested_at")
"""What each landed row carries of its message; `ingested_at` is the broker's time, when the event became known."""
