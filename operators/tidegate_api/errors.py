"""The one shape of every error that a user of Tidegate reads."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

__all__ = ["TidegateError", "expectation", "shown"]

_LONGEST = 200
_PYDANTIC = (
    (r"^Value error, ", ""),
    (r"^Extra inputs are not permitted$", "nothing: there is no such field"),
    (r"^Field required$", "a value, for it is required"),
    (r"^\w+ should (be|have) (?=greater|less)", "a value "),
    (r"^Input should be a valid dictionary.*", "a mapping"),
    (r"^\w+ should match ", "text that matches "),
    (r"^\w+ should (be|have) ", ""),
)
"""How pydantic's messages begin, and what is left of them after `expected`."""


class TidegateError(Exception):
    """Bad input or a missing neighbour, said in one sentence.

    The sentence names the resource, the field, the value found, what was expected and the remedy.
    """

    def __init__(self, *, resource: str, field: str, value: object, expected: str, remedy: str) -> None:
        self.resource = resource
        self.field = field
        self.value = value
        self.expected = expected
        self.remedy = remedy
        super().__init__(f"{resource}: {field} is {shown(value)}, expected {expected}; {remedy}.")


def shown(value: object) -> str:
    """A value as a sentence shows it: what is large by its outline."""
    if isinstance(value, dict):
        return f"an object with {', '.join(map(str, value))}" if value else "an empty object"
    if isinstance(value, list | tuple) and any(isinstance(item, dict) for item in value):
        return f"a list of {len(value)}"
    text = repr(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def expectation(fault: Mapping[str, Any]) -> str:
    """What pydantic's fault asks for, as it stands after the word `expected`."""
    said = str(fault["msg"])
    for pattern, words in _PYDANTIC:
        said, found = re.subn(pattern, words, said)
        if found:
            break
    return said
