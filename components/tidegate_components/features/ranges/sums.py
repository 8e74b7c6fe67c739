"""Exact range sums: fixed-point prefix sums in limbs of 32 bits.

A prefix sum of floating-point numbers cancels: the difference of two large ones has lost the small values between them,
and it depends on everything that came before. Here each number is cut on a fixed grid into whole multiples of 2^(32 j),
whose prefix sums are exact 64-bit integers, as in Kulisch's accumulator (Neal, "Fast exact summation using small and
large superaccumulators", arXiv:1505.05571). A range's sum is exact until it is rounded once at the end, and the same
values give the same bits whatever else lies in the array. Fewer than 2^30 values.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tidegate_components.features.ranges.bounds import Ints

__all__ = ["range_float_sums", "range_int_sums"]

Floats: TypeAlias = NDArray[np.float64]
Limbs: TypeAlias = dict[int, Ints]
"""j -> for each range a multiple of 2^(32 j)."""

_BITS = 32
_MASK = (1 << _BITS) - 1


def range_int_sums(values: NDArray[np.integer], lo: Ints, hi: Ints) -> NDArray[Any]:
    """The sum of each values[lo:hi] as int64; as float64, all of them, where one is beyond int64."""
    whole = values.astype(np.int64, copy=False)
    limbs = _carried({0: _range_sum(whole & _MASK, lo, hi), 1: _range_sum(whole >> _BITS, lo, hi)})
    high = limbs[1]
    if high.size and (high.max() >= 1 << 31 or high.min() < -(1 << 31)):
        return _rounded(limbs)
    return (high << _BITS) | limbs[0]


def range_float_sums(values: Floats, lo: Ints, hi: Ints) -> Floats:
    """The sum of each values[lo:hi]; infinities and NaN count as in IEEE 754."""
    finite = np.isfinite(values)
    if finite.all():
        return _finite_sums(values, lo, hi)
    sums = _finite_sums(np.where(finite, values, 0.0), lo, hi)
    with np.errstate(invalid="ignore"):  # inf - inf is NaN, as it should be
        for odd in (np.inf, -np.inf):
            sums = np.where(_range_sum((values == odd).astype(np.int64), lo, hi) > 0, sums + odd, sums)
    return np.where(_range_sum(np.isnan(values).astype(np.int64), lo, hi) > 0, np.nan, sums)


def _finite_sums(values: Floats, lo: Ints, hi: Ints) -> Floats:
    limbs: Limbs = {}
    rest = values
    while (greatest := float(max(rest.max(initial=0), -rest.min(initial=0)))) > 0:
        place = (int(np.frexp(greatest)[1]) - 1) // _BITS
        multiple = np.trunc(_scaled(rest, -_BITS * place))
        limbs[place] = _range_sum(multiple.astype(np.int64), lo, hi)
        rest = rest - _scaled(multiple, _BITS * place)
    return _rounded(_carried(limbs)) if limbs else np.zeros(len(lo))


def _scaled(values: Floats, power: int) -> Floats:
    """values x 2^power, exactly wherever the result is a normal number."""
    if abs(power) < 1000:
        return values * 2.0**power
    scaled: Floats = np.ldexp(values, power)
    return scaled


def _range_sum(values: Ints, lo: Ints, hi: Ints) -> Ints:
    upto = np.zeros(len(values) + 1, dtype=np.int64)
    np.cumsum(values, out=upto[1:])
    sums: Ints = upto.take(hi) - upto.take(lo)
    return sums


def _carried(limbs: Limbs) -> Limbs:
    """The same numbers with every limb but the highest in 0 .. 2^32 - 1."""
    lowest, highest = min(limbs), max(limbs)
    carried: Limbs = {}
    carry = np.zeros_like(limbs[lowest])
    for place in range(lowest, highest):
        limb = limbs.get(place, 0) + carry
        carried[place], carry = limb & _MASK, limb >> _BITS
    carried[highest] = limbs[highest] + carry
    return carried


def _rounded(limbs: Limbs) -> Floats:
    """From the highest limb down: what cancels does so while all digits are still there."""
    places = sorted(limbs, reverse=True)
    total = np.ldexp(limbs[places[0]].astype(np.float64), _BITS * places[0])
    for place in places[1:]:
        total = total + np.ldexp(limbs[place].astype(np.float64), _BITS * place)
    return total
