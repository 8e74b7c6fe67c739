"""Range minimum and maximum by a sparse table, one level at a time.

Level k holds the extreme of each 2^k neighbours; a range is covered by two of these that may overlap (Bender and
Farach-Colton, "The LCA problem revisited", 2000). Each range asks one level only, so one level is kept: n log(longest
range) time, memory for n values.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tidegate_components.features.ranges.bounds import Ints

__all__ = ["range_extremes"]


def range_extremes(values: NDArray[Any], lo: Ints, hi: Ints, best: np.ufunc) -> NDArray[Any]:
    """`best` (minimum, maximum, fmin, fmax) of each values[lo:hi]; ranges are not empty."""
    level = np.frexp((hi - lo).astype(np.float64))[1] - 1
    by_level = np.argsort(level.astype(np.int16), kind="stable")
    borders = np.searchsorted(level[by_level], np.arange(level.max(initial=-1) + 2))
    found = np.empty(len(lo), dtype=values.dtype)
    table = values
    for k, (first, last) in enumerate(pairwise(borders)):
        asked = by_level[first:last]
        found[asked] = best(table.take(lo[asked]), table.take(hi[asked] - (1 << k)))
        table = best(table[: -(1 << k)], table[1 << k :])
    return found
