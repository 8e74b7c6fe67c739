"""Whether a file is an ONNX model that stays within itself. Standard library only: serving verifies without onnx.

It reads the protobuf wire format (protobuf.dev/programming-guides/encoding) of onnx.proto as far as tensors, operators
and subgraphs go, and skips the numbers by their length. Refused are tensors that lie in another file than
`model.onnx.data` beside the model, and operators that could call out of the graph.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["DATA", "OnnxFaultError", "check_onnx"]

DATA = "model.onnx.data"
"""The one file that tensors may lie in, beside model.onnx."""

_MOST_FIELDS = 5_000_000
_MOST_DEPTH = 64
_DOMAINS = {"", "ai.onnx", "ai.onnx.ml"}
_MICROSOFT = {
    "DequantizeLinear", "DynamicQuantizeMatMul", "FusedMatMul", "GatherBlockQuantized", "Gelu", "MatMulIntegerToFloat",
    "MatMulNBits", "QGemm", "QLinearAdd", "QLinearMul", "QLinearSigmoid", "QuantizeLinear",
}  # fmt: skip
"""Operators of com.microsoft that only compute; others of that domain load engines (EPContext) or call Python."""

_PARTS = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "entry"},
    "entry": {},
}
"""Message -> number of the field -> message within it."""
_OP_TYPE, _OP_DOMAIN, _FUNCTION_DOMAIN, _KEY, _VALUE = 4, 7, 10, 1, 2


class OnnxFaultError(ValueError):
    """What is wrong with an ONNX file, in words."""


@dataclass
class _Walk:
    """What was met on the way."""

    fields: int = 0
    graphs: int = 0
    operators: set[tuple[str, str]] = field(default_factory=set)
    functions: set[str] = field(default_factory=set)
    entries: set[tuple[str, str]] = field(default_factory=set)


def check_onnx(path: Path, data_bytes: int | None) -> None:
    """Raise OnnxFaultError unless `path` is an ONNX model that reads no file but its own.

    `data_bytes` is the size of `model.onnx.data` beside it, None where the package lists none.
    """
    walk = _Walk()
    with path.open("rb") as file:
        if not path.stat().st_size:
            raise OnnxFaultError("empty")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content, memoryview(content) as view:
            _visit(view, "model", walk, 0)
    if not walk.graphs:
        raise OnnxFaultError("without a graph")
    _check_operators(walk)
    _check_entries(walk, data_bytes)


def _visit(view: memoryview, message: str, walk: _Walk, depth: int) -> None:
    """Note what matters of one message and of those within it."""
    if depth > _MOST_DEPTH:
        raise OnnxFaultError(f"nested deeper than {_MOST_DEPTH}")
    texts: dict[int, str] = {}
    for number, content in _fields(view, walk):
        inner = _PARTS[message].get(number)
        if inner:
            _visit(content, inner, walk, depth + 1)
        elif message in {"node", "function", "entry"}:
            texts[number] = str(content[:4096], "utf-8", "replace")
    _note(message, texts, walk)


def _note(message: str, texts: dict[int, str], walk: _Walk) -> None:
    if message == "graph":
        walk.graphs += 1
    elif message == "node":
        walk.operators.add((texts.get(_OP_DOMAIN, ""), texts.get(_OP_TYPE, "")))
    elif message == "function":
        walk.functions.add(texts.get(_FUNCTION_DOMAIN, ""))
    elif message == "entry":
        walk.entries.add((texts.get(_KEY, ""), texts.get(_VALUE, "")))


def _fields(view: memoryview, walk: _Walk) -> Iterator[tuple[int, memoryview]]:
    """Number and content of each length-delimited field; the others are skipped."""
    position, end = 0, len(view)
    while position < end:
        walk.fields += 1
        if walk.fields > _MOST_FIELDS:
            raise OnnxFaultError(f"more than {_MOST_FIELDS} fields")
        key, position = _varint(view, position)
        wire = key & 7
        if wire == 0:
            _, position = _varint(view, position)
        elif wire == 2:
            size, position = _varint(view, position)
            if position + size > end:
                raise OnnxFaultError("truncated")
            yield key >> 3, view[position : position + size]
            position += size
        elif wire in {1, 5}:
            position += 8 if wire == 1 else 4
        else:
            raise OnnxFaultError(f"no ONNX: wire type {wire}")
    if position != end:
        raise OnnxFaultError("truncated")


def _varint(view: memoryview, position: int) -> tuple[int, int]:
    """A base-128 number of at most ten bytes, and where the next thing begins."""
    number = 0
    for shift in range(0, 70, 7):
        if position >= len(view):
            raise OnnxFaultError("truncated")
        byte = view[position]
        position += 1
        number |= (byte & 127) << shift
        if byte < 128:
            return number, position
    raise OnnxFaultError("no ONNX: a number of more than ten bytes")


def _check_operators(walk: _Walk) -> None:
    """The standard's operators, the quantized ones, and functions that the file itself spells out."""
    for domain, name in sorted(walk.operators):
        known = domain in _DOMAINS or domain in walk.functions - {"com.microsoft"}
        if not known and not (domain == "com.microsoft" and name in _MICROSOFT):
            raise OnnxFaultError(f"with operator {domain}:{name}, which could call out of the graph")


def _check_entries(walk: _Walk, data_bytes: int | None) -> None:
    for key, value in sorted(walk.entries, key=lambda entry: (entry[0] != "location", entry)):
        if key == "location" and (value != DATA or data_bytes is None):
            there = "of this package" if data_bytes is not None else "that SHA256SUMS lists"
            raise OnnxFaultError(f"with a tensor in {value!r}, which is no {DATA} {there}")
        if key in {"offset", "length"} and not _within(value, data_bytes or 0):
            raise OnnxFaultError(f"with a tensor at {key} {value!r}, beyond {DATA}")


def _within(text: str, most: int) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 20 and int(text) <= most
