"""Errors are sentences: what a validator says stands after the word `expected`."""

from __future__ import annotations

from typing import Annotated, Literal

import pytest
from pydantic import BaseModel, Field, ValidationError, model_validator

from tidegate_api.errors import expectation


class _Form(BaseModel, extra="forbid"):
    kind: Literal["a", "b"] = "a"
    steps: Annotated[int, Field(ge=1, multiple_of=2)] = 2
    name: Annotated[str, Field(min_length=3, pattern="^[a-z]+$")] = "abc"
    items: Annotated[list[int], Field(max_length=1)] = []
    inner: _Form | None = None

    @model_validator(mode="after")
    def _named(self) -> _Form:
        if self.name == "zzz":
            raise ValueError("another name than zzz")
        return self


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"kind": "c"}, "'a' or 'b'"),
        ({"steps": 0}, "a value greater than or equal to 1"),
        ({"steps": 3}, "a multiple of 2"),
        ({"steps": "x"}, "a valid integer, unable to parse string as an integer"),
        ({"name": "ab"}, "at least 3 characters"),
        ({"name": "ABC"}, "text that matches pattern '^[a-z]+$'"),
        ({"name": "zzz"}, "another name than zzz"),
        ({"items": [1, 2]}, "at most 1 item after validation, not 2"),
        ({"inner": 3}, "a mapping"),
        ({"stepz": 3}, "nothing: there is no such field"),
    ],
)
def test_a_fault_reads_on_after_the_word_expected(said: dict[str, object], words: str) -> None:
    with pytest.raises(ValidationError) as caught:
        _Form.model_validate(said)
    assert expectation(dict(caught.value.errors()[0])) == words
