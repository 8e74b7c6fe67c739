"""Equally filled bins of scores."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["edges_of"]

Array = np.ndarray[Any, Any]

_ROUNDING = 1e-12


def edges_of(ordered: Array, bins: int, weights: Array | None = None) -> Array:
    """The greatest scores [bins - 1] of all bins but the last; `ordered` [N] are sorted scores, `weights` [N] theirs.

    Quantiles by the inverse of the distribution function (numpy's "inverted_cdf"): duplicating every row changes
    nothing, and a weight of 2 is a row twice. A score belongs to the first bin whose edge it does not exceed.
    """
    shares = np.arange(1, bins)
    if weights is None:
        return np.asarray(ordered[(shares * len(ordered) + bins - 1) // bins - 1])
    upto = np.cumsum(weights)
    wanted = shares / bins * upto[-1] * (1 - _ROUNDING)
    return np.asarray(ordered[np.minimum(np.searchsorted(upto, wanted), len(ordered) - 1)])
