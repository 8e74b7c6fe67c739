"""The pairwise loss against two loops in plain Python."""

from __future__ import annotations

from itertools import product
from math import exp, log1p
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tidegate_components.training.ranking import pairs_of, pairwise_loss

ROWS = st.lists(
    st.tuples(st.floats(-4, 4, width=32), st.booleans(), st.integers(1, 4), st.integers(-1, 3)), min_size=1, max_size=12
)


def tensors(rows: list[Any]) -> tuple[torch.Tensor, ...]:
    logits, labels, weights, groups = zip(*rows, strict=True)
    return (*(torch.tensor(part, dtype=torch.float64) for part in (logits, labels, weights)), torch.tensor(groups))


def expected_pairs(rows: list[Any]) -> list[tuple[int, int]]:
    both = product(range(len(rows)), repeat=2)
    return [(i, j) for i, j in both if rows[i][1] and not rows[j][1] and rows[i][3] == rows[j][3] >= 0]


@given(ROWS)
def test_every_clicked_row_meets_every_other_row_of_its_group_once(rows: list[Any]) -> None:
    _, labels, _, groups = tensors(rows)
    above, below = pairs_of(labels, groups)
    assert sorted(zip(above.tolist(), below.tolist(), strict=True)) == expected_pairs(rows)


@given(ROWS)
def test_the_loss_is_the_weighted_mean_over_pairs(rows: list[Any]) -> None:
    pairs = [(rows[i][2] * rows[j][2], log1p(exp(rows[j][0] - rows[i][0]))) for i, j in expected_pairs(rows)]
    mean = sum(weight * lost for weight, lost in pairs) / sum(weight for weight, _ in pairs) if pairs else 0.0
    assert float(pairwise_loss(*tensors(rows))) == pytest.approx(mean)


@given(ROWS, st.floats(-3, 3))
def test_moving_a_whole_group_changes_nothing(rows: list[Any], by: float) -> None:
    moved = [(logit + by, *rest) if rest[2] == 0 else (logit, *rest) for logit, *rest in rows]
    assert float(pairwise_loss(*tensors(moved))) == pytest.approx(float(pairwise_loss(*tensors(rows))), abs=1e-9)
