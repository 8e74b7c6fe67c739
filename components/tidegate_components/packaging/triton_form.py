"""Whether a config.pbtxt says only what a package may say. Standard library only.

It reads the part of protobuf's text format (protobuf.dev/reference/protobuf/textformat-spec) that Triton's
configurations are written in. Only the fields in `_FIELDS` are known: no parameters (EXECUTION_ENV_PATH), no runtime,
no operator libraries, no repository agents, no ensembles, no file that warm-up reads.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

__all__ = ["ConfigFaultError", "check_config"]

_TENSOR = {"name": None, "data_type": None, "dims": None, "reshape": {"shape": None}, "optional": None}
_WARMUP_INPUT = {"key": None, "value": {"data_type": None, "dims": None, "zero_data": None, "random_data": None}}
_FIELDS: dict[str, Any] = {
    "name": None,
    "backend": None,
    "max_batch_size": None,
    "input": _TENSOR,
    "output": _TENSOR,
    "instance_group": {"name": None, "kind": None, "count": None, "gpus": None},
    "dynamic_batching": {
        "preferred_batch_size": None,
        "max_queue_delay_microseconds": None,
        "preserve_ordering": None,
    },
    "version_policy": {"specific": {"versions": None}},
    "model_warmup": {"name": None, "batch_size": None, "count": None, "inputs": _WARMUP_INPUT},
    "response_cache": {"enable": None},
}
"""Field -> fields within it; None for a plain value."""

_TOKEN = re.compile(r'(?:\s|#[^\n]*)+|("[^"\\\n]*"|[A-Za-z_]\w*|-?\d+(?:\.\d+)?|[{}\[\]:,;])', re.ASCII)
_MOST_DEPTH = 16


class ConfigFaultError(ValueError):
    """What is wrong with a configuration, in words."""


def check_config(text: str, name: str) -> None:
    """Raise ConfigFaultError unless the text configures model `name` on onnxruntime by known fields only."""
    tokens = _Tokens(text)
    found = _message(tokens, _FIELDS, "", 0)
    tokens.take_end()
    for key, wanted in (("name", f'"{name}"'), ("backend", '"onnxruntime"')):
        if found.get(key) != [wanted]:
            raise ConfigFaultError(f"{key} {' and '.join(found.get(key, [])) or 'missing'}, expected {wanted}")


class _Tokens:
    """The words of the text, one ahead."""

    def __init__(self, text: str) -> None:
        self._left = _words(text)
        self.next = next(self._left, "")

    def take(self, *wanted: str) -> str:
        """The next word, which must be one of `wanted` where any are given."""
        found = self.next
        if not found or (wanted and found not in wanted):
            raise ConfigFaultError(f"{found or 'an end'!r} where {' or '.join(wanted) or 'a value'} should be")
        self.next = next(self._left, "")
        return found

    def take_end(self) -> None:
        """Nothing may be left."""
        if self.next:
            raise ConfigFaultError(f"{self.next!r} after the end")


def _words(text: str) -> Iterator[str]:
    position = 0
    while position < len(text):
        found = _TOKEN.match(text, position)
        if not found:
            raise ConfigFaultError(f"{text[position : position + 20]!r}, which is no plain text format")
        position = found.end()
        if found[1]:
            yield found[1]


def _message(tokens: _Tokens, fields: dict[str, Any], where: str, depth: int) -> dict[str, list[str]]:
    """The plain values by field, up to the closing brace or the end."""
    if depth > _MOST_DEPTH:
        raise ConfigFaultError("nested too deeply")
    values: dict[str, list[str]] = {}
    while tokens.next not in {"", "}"}:
        field = tokens.take()
        if field not in fields:
            raise ConfigFaultError(f"{where}{field}, which a package may not set")
        values.setdefault(field, []).extend(_values(tokens, fields[field], f"{where}{field}.", depth))
        if tokens.next in {",", ";"}:
            tokens.take()
    return values


def _values(tokens: _Tokens, inner: dict[str, Any] | None, where: str, depth: int) -> list[str]:
    """What follows a field's name: a value, a message, or a list of either."""
    if tokens.next == ":":
        tokens.take()
    if tokens.next != "[":
        return [_value(tokens, inner, where, depth)]
    tokens.take("[")
    found: list[str] = []
    while tokens.next != "]":
        found.append(_value(tokens, inner, where, depth))
        if tokens.next != "]":
            tokens.take(",")
    tokens.take("]")
    return found


def _value(tokens: _Tokens, inner: dict[str, Any] | None, where: str, depth: int) -> str:
    if inner is None:
        found = tokens.take()
        if found in {"{", "}", "[", "]", ":", ",", ";"}:
            raise ConfigFaultError(f"{found!r} where {where.rstrip('.')} should have a plain value")
        return found
    tokens.take("{")
    _message(tokens, inner, where, depth + 1)
    tokens.take("}")
    return ""
