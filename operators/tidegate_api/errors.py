"""The one shape of every error that a user of Tidegate reads."""

from __future__ import annotations

__all__ = ["TidegateError"]


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
        super().__init__(f"{resource}: {field} is {value!r}, expected {expected}; {remedy}.")
