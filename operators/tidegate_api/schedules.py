"""Schedules as Kubernetes' CronJobs read them: five fields, each within its range."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, Field

from tidegate_api.rules import TEXT, rule

__all__ = ["SCHEDULE_PATTERN", "Schedule"]

_SENTENCE = (
    "schedule must have five fields: minute 0-59, hour 0-23, day of month 1-31, month 1-12 or JAN-DEC, "
    "day of week 0-6 or SUN-SAT; e.g. */15 * * * *"
)
_VALUES = (
    "[0-5]?[0-9]",
    "([01]?[0-9]|2[0-3])",
    "(0?[1-9]|[12][0-9]|3[01])",
    "(0?[1-9]|1[0-2]|JAN|FEB|MAR|APR|MAY|JUN|JUL|AUG|SEP|OCT|NOV|DEC)",
    "([0-6]|SUN|MON|TUE|WED|THU|FRI|SAT)",
)


def _field(value: str) -> str:
    """A list of values, ranges or stars, each with a step or without."""
    item = f"([*?]|{value}(-{value})?)(/0*[1-9][0-9]*)?"
    return f"{item}(,{item})*"


SCHEDULE_PATTERN = "(?i)^ *" + " +".join(_field(value) for value in _VALUES) + " *$"


def _checked(text: str) -> str:
    if not re.match(SCHEDULE_PATTERN, text):
        raise ValueError(_SENTENCE)
    return text


Schedule = Annotated[
    str,
    Field(
        min_length=9,
        max_length=128,
        json_schema_extra={"x-kubernetes-validations": [rule(f"self.matches('{SCHEDULE_PATTERN}')", _SENTENCE, TEXT)]},
    ),
    AfterValidator(_checked),
]
