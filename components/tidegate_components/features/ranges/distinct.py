"""How many different values each range holds.

A value counts where it is seen first: at the positions i of [lo, hi) whose previous occurrence lies before lo. So the
distinct values are the positions less the *repeats*, pairs of neighbouring occurrences that both lie in the range; and
of the repeats that end in the range, those that begin before lo are counted by a wavelet matrix (Claude, Navarro and
Ordonez, "The wavelet matrix", 2015), one bit at a time: n log(longest segment) time, memory for n numbers.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tidegate_components.features.ranges.bounds import Ints

__all__ = ["previous_occurrence", "range_distinct"]


def previous_occurrence(codes: NDArray[np.integer], segments: NDArray[np.integer]) -> Ints:
    """For each position the one before it with the same code in the same segment, else -1; `segments` ascends."""
    bits = len(codes).bit_length()
    packed = (codes.astype(np.int64) << bits) | np.arange(len(codes), dtype=np.int64)
    packed.sort()
    place = packed & ((1 << bits) - 1)
    again = (packed[1:] >> bits) == (packed[:-1] >> bits)
    again &= segments.take(place[1:]) == segments.take(place[:-1])
    before = np.full(len(codes), -1, dtype=np.int64)
    before[place[1:][again]] = place[:-1][again]
    return before


def range_distinct(before: Ints, starts: Ints, lo: Ints, hi: Ints) -> Ints:
    """The number of different values of each [lo, hi), which lies within one segment.

    `before` is the previous occurrence of each position; `starts` the first position of its segment, and of a range's.
    """
    ends_at = before >= 0
    if not ends_at.any():
        return hi - lo
    begins_at = np.zeros(len(before), dtype=bool)
    begins_at[before[ends_at]] = True
    ended, begun = _upto(ends_at), _upto(begins_at)
    first = begun.take(starts)
    begins = begun.take(before[ends_at]) - first[ends_at]
    bound = begun.take(lo) - begun.take(starts.take(np.minimum(lo, len(starts) - 1)))
    since, until = ended.take(lo), ended.take(hi)
    inside = until - since - _fewer_than(begins, since, until, bound)
    return hi - lo - inside


def _upto(flags: NDArray[np.bool_]) -> NDArray[np.int32]:
    counts = np.zeros(len(flags) + 1, dtype=np.int32)
    np.cumsum(flags, out=counts[1:])
    return counts


def _fewer_than(
    sequence: NDArray[np.int32], lo: NDArray[np.int32], hi: NDArray[np.int32], bound: NDArray[np.int32]
) -> NDArray[np.int32]:
    """How many numbers of each sequence[lo:hi] are below `bound`: descend the wavelet matrix from the highest bit."""
    fewer = np.zeros(len(lo), dtype=np.int32)
    highest = int(max(sequence.max(initial=0), bound.max(initial=0))).bit_length()
    for bit in reversed(range(highest)):
        zero = (sequence >> bit) & 1 == 0
        zeros = _upto(zero)
        low, high = zeros.take(lo), zeros.take(hi)
        above = (bound >> bit) & 1 == 1
        fewer += np.where(above, high - low, 0)
        lo, hi = np.where(above, zeros[-1] + lo - low, low), np.where(above, zeros[-1] + hi - high, high)
        sequence = np.concatenate([sequence[zero], sequence[~zero]])
    return fewer
