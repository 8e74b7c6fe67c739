"""Durations as users write them (`500us`, `15s`, `7d`), parsed once into timedelta."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, PlainSerializer, WithJsonSchema

from tidegate_api.rules import TEXT, rule

__all__ = ["DURATION_PATTERN", "Duration", "PositiveDuration", "format_duration", "parse_duration"]

DURATION_PATTERN = "^[0-9]+(us|ms|s|m|h|d)$"
POSITIVE_PATTERN = "^0*[1-9][0-9]*(us|ms|s|m|h|d)$"

_SHORT_ENOUGH = (
    "^0*(0|[1-9][0-9]{0,15}us|[1-9][0-9]{0,12}ms|[1-9][0-9]{0,9}s|[1-9][0-9]{0,7}m|[1-9][0-9]{0,5}h|[1-9][0-9]{0,4}d)"
)
_TOO_LONG = "expected one below 100,000 days (in the unit's own digits: 5 for d, 6 for h, 8 for m, 10 for s)"
_UNITS = {
    "us": timedelta(microseconds=1),
    "ms": timedelta(milliseconds=1),
    "s": timedelta(seconds=1),
    "m": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
}


def parse_duration(text: str) -> timedelta:
    """Read `15s` as timedelta(seconds=15); raises ValueError on anything else."""
    if not re.match(DURATION_PATTERN, text):
        raise ValueError(f"duration is {text!r}, expected a whole number and a unit of us, ms, s, m, h or d, e.g. 15s")
    if not re.match(_SHORT_ENOUGH, text):
        raise ValueError(f"duration is {text!r}, {_TOO_LONG}")
    number, unit = re.match(r"([0-9]+)(\w+)", text).groups()  # type: ignore[union-attr]
    return int(number) * _UNITS[unit]


def format_duration(value: timedelta) -> str:
    """Write a timedelta in the largest unit that keeps it whole: 90 s is `90s`, 120 s is `2m`."""
    for unit in reversed(_UNITS):
        if value and value % _UNITS[unit] == timedelta(0):
            return f"{value // _UNITS[unit]}{unit}"
    return "0s"


def _from_yaml(value: Any) -> Any:
    return parse_duration(value) if isinstance(value, str) else value


def _positive(value: timedelta) -> timedelta:
    if value <= timedelta(0):
        raise ValueError("a duration longer than 0, e.g. 15s")
    return value


def _schema(pattern: str, sentence: str) -> WithJsonSchema:
    """A string with a pattern, and beside it the same as a CEL rule, which can say a sentence."""
    said = rule(f"self.matches('{pattern}')", sentence, TEXT)
    one_below = f"!self.matches('{DURATION_PATTERN}') || self.matches('{_SHORT_ENOUGH}')"
    short = rule(one_below, f"a duration is too long, {_TOO_LONG}", TEXT)
    return WithJsonSchema(
        {"type": "string", "pattern": pattern, "maxLength": 20, "x-kubernetes-validations": [said, short]},
    )


_FORM = "a duration is a whole number and a unit of us, ms, s, m, h or d, e.g. 15s"
_SERIALIZED = PlainSerializer(format_duration, return_type=str)

Duration = Annotated[timedelta, BeforeValidator(_from_yaml), _SERIALIZED, _schema(DURATION_PATTERN, _FORM)]
"""Any length of time, none too."""

PositiveDuration = Annotated[
    timedelta,
    BeforeValidator(_from_yaml),
    AfterValidator(_positive),
    _SERIALIZED,
    _schema(POSITIVE_PATTERN, f"{_FORM}, and here longer than 0"),
]
"""A length of time that must not be 0."""
