"""What is wrong with what was given to be judged."""

from __future__ import annotations

from tidegate_api.errors import TidegateError

__all__ = ["EvaluationError"]


class EvaluationError(TidegateError):
    """Predictions, a model or an option that cannot be judged."""
