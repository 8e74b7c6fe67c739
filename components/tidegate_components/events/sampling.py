"""Negative down-sampling: which negatives stay, and how a model trained on them is put right again."""

from __future__ import annotations

from tidegate_components.events.tables import BadEventsError

__all__ = ["corrected", "kept_below", "sampling_bound"]

_SPACE = 1 << 32


def sampling_bound(rate: float) -> str:
    """The first 8 hex digits below which md5("REQUEST/ITEM") keeps a negative. Raises BadEventsError.

    A comparison of text, so DuckDB, Spark and Python keep the same rows.
    """
    if not 0 < rate <= 1:
        raise BadEventsError(
            resource="sample join", field="negative rate", value=rate, expected="more than 0 and at most 1",
            remedy="give the share of negatives to keep, e.g. 0.1",
        )  # fmt: skip
    return "g" if rate == 1 else f"{max(1, round(rate * _SPACE)):08x}"


def kept_below(bound: str) -> str:
    """The SQL condition on a negative's `request_id` and `item_id` to stay."""
    return f"substr(md5(request_id::VARCHAR || '/' || item_id::VARCHAR), 1, 8) < '{bound}'"


def corrected(probability: float, rate: float) -> float:
    """The probability on all impressions from one learnt with negatives kept at `rate`.

    He et al. 2014, Practical Lessons from Predicting Clicks on Ads at Facebook, section 6.3: q = p / (p + (1 - p) / w).
    """
    return probability / (probability + (1 - probability) / rate)
