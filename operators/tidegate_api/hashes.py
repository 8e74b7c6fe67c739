"""Content hashes: the same value has the same hash on every machine."""

from __future__ import annotations

import hashlib
import json
from typing import Any

__all__ = ["content_hash", "short_hash"]


def content_hash(value: Any) -> str:
    """SHA-256 in hex of the canonical JSON (RFC 8785 in spirit: sorted keys, no spaces) of plain data."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def short_hash(value: Any) -> str:
    """The first 8 digits of the content hash: short enough for the names of objects."""
    return content_hash(value)[:8]
