"""Waiting for a condition with a deadline."""

import time
from collections.abc import Callable

from tidegate_dev.errors import DevError


def until(what: str, condition: Callable[[], bool], patience: float = 120.0, hint: str = "") -> None:
    """Return once the condition holds; raise DevError that names `what` after `patience` seconds."""
    deadline = time.monotonic() + patience
    while not condition():
        if time.monotonic() > deadline:
            raise DevError(f"{what} did not come true within {patience:.0f} s{'; ' if hint else ''}{hint}")
        time.sleep(0.2)
