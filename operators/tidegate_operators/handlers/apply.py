"""Make what should be, and keep what the API server would not have."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tidegate_operators.adapters.cluster import Cluster
from tidegate_operators.adapters.errors import RefusedError

__all__ = ["apply_all"]


def apply_all(cluster: Cluster, bodies: Iterable[dict[str, Any]]) -> RefusedError | None:
    """Apply every body; returns the first refusal. One object that is refused keeps no other from being made."""
    refusals = [refusal for body in bodies if (refusal := _apply(cluster, body)) is not None]
    return next(iter(refusals), None)


def _apply(cluster: Cluster, body: dict[str, Any]) -> RefusedError | None:
    try:
        cluster.apply(body)
    except RefusedError as error:
        return error
    return None
