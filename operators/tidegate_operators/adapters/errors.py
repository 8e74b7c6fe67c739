"""A neighbour that does not answer, or answers no."""

from __future__ import annotations

from tidegate_operators.rollout.observed import Failure

__all__ = ["NeighbourError", "RefusedError"]


class NeighbourError(Exception):
    """Carries the Failure that conditions show: a CamelCase reason and a sentence with the remedy."""

    def __init__(self, reason: str, message: str) -> None:
        self.failure = Failure(reason, message)
        super().__init__(message)


class RefusedError(NeighbourError):
    """The API server will not have an object that was made from a resource: no retry mends it, but a change may."""
