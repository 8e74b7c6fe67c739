"""The range kernel by itself, against the plainest numpy that says the same."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tidegate_components.features.ranges.bounds import first_not_before, segment_ends
from tidegate_components.features.ranges.distinct import previous_occurrence, range_distinct
from tidegate_components.features.ranges.extremes import range_extremes
from tidegate_components.features.ranges.sums import range_float_sums, range_int_sums

ONE = np.array([0])


def ranges(rng: np.random.Generator, ends: np.ndarray, count: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """Random ranges within segments, empty ones too."""
    segment = rng.integers(0, len(ends) - 1, count)
    first, last = ends[segment], ends[segment + 1]
    one, two = (first + (rng.random(count) * (last - first + 1)).astype(np.int64) for _ in range(2))
    return np.minimum(one, two), np.maximum(one, two)


@pytest.mark.parametrize("seed", range(30))
def test_a_search_finds_what_searchsorted_finds_in_each_segment(seed: int) -> None:
    rng = np.random.default_rng(seed)
    keys = np.sort(rng.integers(0, 4, rng.integers(0, 50)))
    times = rng.integers(-9, 9, len(keys))[np.lexsort((keys,))]
    times = times[np.lexsort((times, keys))]
    ends, asked, wanted = segment_ends(keys, 4), rng.integers(0, 4, 40), rng.integers(-12, 12, 40)
    found = first_not_before(times, ends[asked], ends[asked + 1], wanted)
    plain = [ends[k] + np.searchsorted(times[ends[k] : ends[k + 1]], w) for k, w in zip(asked, wanted, strict=True)]
    assert found.tolist() == plain


@pytest.mark.parametrize("seed", range(30))
def test_extremes_and_distinct_are_those_of_each_slice(seed: int) -> None:
    rng = np.random.default_rng(seed)
    keys = np.sort(rng.integers(0, 4, rng.integers(1, 200)))
    codes = np.unique(rng.integers(0, 6, len(keys)), return_inverse=True)[1]
    ends = segment_ends(keys, 4)
    lo, hi = ranges(rng, ends)
    distinct = range_distinct(previous_occurrence(codes, keys), ends[keys], lo, hi)
    assert distinct.tolist() == [len(set(codes[a:b])) for a, b in zip(lo, hi, strict=True)]
    lo, hi = lo[hi > lo], hi[hi > lo]
    assert range_extremes(codes, lo, hi, np.maximum).tolist() == [codes[a:b].max() for a, b in zip(lo, hi, strict=True)]


@pytest.mark.parametrize("seed", range(30))
def test_sums_are_exact_over_the_whole_range_of_doubles(seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = rng.normal(size=100) * 10.0 ** rng.integers(-320, 300, 100)
    lo, hi = ranges(rng, np.array([0, 40, 100]))
    exact = [math.fsum(values[a:b]) for a, b in zip(lo, hi, strict=True)]
    np.testing.assert_allclose(range_float_sums(values, lo, hi), exact, rtol=3e-16, atol=0)


@pytest.mark.parametrize("values", [[1e16, 1.0, -1e16], [0.1] * 10, [-5e-324, 3.0, -3.0], [1e-9, -1.0, 1.0]])
def test_what_cancels_leaves_what_is_left(values: list[float]) -> None:
    assert range_float_sums(np.array(values), ONE, ONE + len(values)).tolist() == [math.fsum(values)]


def test_the_same_values_give_the_same_bits_whatever_lies_beside_them() -> None:
    values = np.random.default_rng(1).normal(size=50)
    alone = range_float_sums(values, ONE, ONE + 50)
    among = np.concatenate([[1e300, 7e-300], values, [-1e200]])
    assert range_float_sums(among, ONE + 2, ONE + 52).tobytes() == alone.tobytes()


def test_infinities_and_nan_count_only_where_they_are() -> None:
    values = np.array([1.0, np.inf, 2.0, -np.inf, np.nan, 3.0])
    lo, hi = np.array([0, 0, 2, 1, 4, 5]), np.array([1, 2, 4, 4, 6, 6])
    np.testing.assert_equal(range_float_sums(values, lo, hi), [1.0, np.inf, -np.inf, np.nan, np.nan, 3.0])


def test_whole_numbers_are_summed_beyond_what_one_prefix_could_hold() -> None:
    big = 2**63 - 1
    values = np.array([big, big, -big, -big, 5])
    assert range_int_sums(values, np.array([0, 1, 2]), np.array([1, 5, 3])).tolist() == [big, -big + 5, -big]
    assert range_int_sums(values, ONE, ONE + 2).tolist() == [float(2 * big)]
