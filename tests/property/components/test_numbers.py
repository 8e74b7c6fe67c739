"""How a share or a mean is drawn to its prior."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from tidegate_components.models.inputs import Kind, Numeric
from tidegate_components.models.numbers import read_numbers

COUNTS = st.integers(0, 10_000)
PRIORS = st.floats(0.05, 0.95)
WEIGHTS = st.sampled_from([1.0, 10.0, 50.0])


def read(kind: Kind, value: float, rows: int, prior: float, weight: float) -> float:
    numerics = (
        Numeric("value", "v", "h", kind, evidence=1, prior=prior, prior_rows=weight),
        Numeric("rows", "v", "h", "evidence"),
    )
    return float(read_numbers(numerics, torch.tensor([[value, float(rows)]], dtype=torch.float64))[0, 0])


def share(clicks: int, rows: int, prior: float, weight: float) -> float:
    return 1 / (1 + float(np.exp(-read("share", clicks, rows, prior, weight))))


@given(COUNTS, COUNTS, PRIORS, WEIGHTS)
def test_a_share_lies_between_its_prior_and_what_was_counted(
    clicks: int, others: int, prior: float, weight: float
) -> None:
    rows = clicks + others
    counted = clicks / rows if rows else prior
    low, high = sorted([prior, counted])
    assert low - 1e-9 <= share(clicks, rows, prior, weight) <= high + 1e-9


@given(st.integers(1, 100), PRIORS, WEIGHTS)
def test_more_rows_of_the_same_share_lie_nearer_to_it(clicks: int, prior: float, weight: float) -> None:
    few, many = (abs(share(n * clicks, 2 * n * clicks, prior, weight) - 0.5) for n in (1, 10))
    assert many <= few + 1e-12


@given(st.integers(0, 100), COUNTS, PRIORS, WEIGHTS)
def test_more_clicks_than_impressions_are_still_a_share(rows: int, more: int, prior: float, weight: float) -> None:
    assert share(rows + more, rows, prior, weight) == share(rows, rows, prior, weight)


@given(st.floats(1, 5), COUNTS, st.floats(1, 5), WEIGHTS)
def test_a_mean_is_that_of_its_rows_and_the_prior_rows(mean: float, rows: int, prior: float, weight: float) -> None:
    expected = (mean * rows + prior * weight) / (rows + weight)
    assert np.isclose(read("mean", mean, rows, prior, weight), expected)
