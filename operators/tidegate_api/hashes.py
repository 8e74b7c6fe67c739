"""Content hashes: the same value has the same hash on every machine."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any

__all__ = ["content_hash", "is_short_hash", "short_hash"]

_SHORT = 8


def content_hash(value: Any) -> str:
    """SHA-256 in hex of the canonical JSON (RFC 8785 in spirit: sorted keys, no spaces) of plain data."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def short_hash(value: Any) -> str:
    """The first 8 digits of the content hash: short enough for the names of objects."""
    return content_hash(value)[:_SHORT]


def is_short_hash(text: str) -> bool:
    """Whether a text could be a short hash."""
    return re.fullmatch(f"[0-9a-f]{{{_SHORT}}}", text) is not None
