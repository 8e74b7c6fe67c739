"""Values as JSON has them."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any

__all__ = ["plain"]


def plain(value: Any) -> Any:
    """The value with times in RFC 3339 as UTC (naive ones are UTC) and null for what is no finite number."""
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, datetime):
        zoned = value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)
        return zoned.isoformat().replace("+00:00", "Z")
    return None if isinstance(value, float) and not math.isfinite(value) else value
