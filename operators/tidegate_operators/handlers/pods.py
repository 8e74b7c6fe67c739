"""What the status of a container says, as the API server gives it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["is_stuck"]

_STUCK = ("ErrImage", "ImagePull", "CreateContainer", "InvalidImage")


def is_stuck(waiting: Mapping[str, Any]) -> bool:
    """Whether a container that waits will not start by itself: its image or its configuration is wrong."""
    return str(waiting.get("reason", "")).startswith(_STUCK)
