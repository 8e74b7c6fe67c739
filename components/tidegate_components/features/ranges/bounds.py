"""Where each range begins and ends: binary search in many sorted segments at once."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["BLOCK", "Ints", "first_not_before", "segment_ends"]

Ints: TypeAlias = NDArray[np.int64]

BLOCK = 1 << 16
"""Searches at a time: small enough that what they touch stays in the processor's cache."""


def segment_ends(codes: NDArray[np.integer], count: int) -> Ints:
    """`ends[c]` and `ends[c + 1]` are the first and one past the last position of code c in sorted `codes`."""
    return np.searchsorted(codes, np.arange(count + 1, dtype=codes.dtype)).astype(np.int64)


def first_not_before(times: Ints, lo: Ints, hi: Ints, wanted: Ints) -> Ints:
    """For each i the first position p in [lo_i, hi_i) with times[p] >= wanted_i, else hi_i.

    `times` ascends within each [lo_i, hi_i). Neighbouring searches should look at neighbouring positions.
    """
    found = np.empty(len(wanted), dtype=np.int64)
    for start in range(0, len(wanted), BLOCK):
        part = slice(start, start + BLOCK)
        found[part] = _bisect(times, lo[part], hi[part] - lo[part], wanted[part])
    return found


def _bisect(times: Ints, lo: Ints, left: Ints, wanted: Ints) -> Ints:
    """`left` positions from `lo` on are undecided; each turn halves all of them."""
    while left.any():
        half = left >> 1
        middle = lo + half
        before = (left > 0) & (times.take(middle, mode="clip") < wanted)
        lo = np.where(before, middle + 1, lo)
        left = np.where(before, left - half - 1, half)
    return lo
