"""Values as JSON has them."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any

__all__ = ["plain", "rfc3339"]


def rfc3339(time: datetime) -> str:
    """A time as UTC; naive ones are UTC."""
    zoned = time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC)
    return zoned.isoformat().replace("+00:00", "Z")


def plain(value: Any) -> Any:
    """The value with times in RFC 3339 as UTC (naive ones are UTC) and null for what is no finite number."""
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, datetime):
        return rfc3339(value)
    return None if isinstance(value, float) and not math.isfinite(value) else value
