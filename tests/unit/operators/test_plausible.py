"""Numbers that no metric can have are told with the metric, what was found, and the remedy."""

from __future__ import annotations

import math
from typing import Any

import pytest

from tidegate_api.model_deployment import Metric, Tally
from tidegate_operators.rollout.plausible import not_an_estimate, not_readings, not_squares, too_many_events


def _metric(name: str, **kind: Any) -> Metric:
    return Metric.model_validate({"name": name, "role": "guard", "margin": 0.01, "higherIsBetter": True} | kind)


DRIFT = Metric.model_validate({"name": "drift", "role": "guard", "threshold": {"query": "psi", "max": 0.25}})
CTR = _metric("ctr", ratio={"events": "clicks{$track}", "trials": "shown{$track}"})
REVENUE = _metric("revenue", mean={"sum": "s{$track}", "sumOfSquares": "q{$track}", "count": "n{$track}"})
AUC = _metric("auc", external={"value": "a{$track}", "standardError": "e{$track}", "sampleSize": "n{$track}"})


@pytest.mark.parametrize(("value", "said"), [(math.nan, "NaN, which is no"), (math.inf, "+Inf"), (-math.inf, "-Inf")])
def test_a_reading_that_is_no_finite_number_is_told(value: float, said: str) -> None:
    failure = not_readings(DRIFT, "psi", [0.1, None, value])
    assert failure is not None
    assert said in failure.message
    assert "Metric drift: the query psi" in failure.message
    assert not_readings(DRIFT, "psi", [0.1, None]) is None


def test_a_query_that_yields_nothing_is_cited() -> None:
    failure = not_readings(DRIFT, "psi", [None, None])
    assert failure is not None
    assert (failure.reason, "the query psi yields nothing" in failure.message) == ("MetricNotSeen", True)


@pytest.mark.parametrize(
    "row", [(0.7, 0.0, 100.0), (0.7, -0.1, 100.0), (0.7, 0.1, 0.0), (math.nan, 0.1, 100.0), (0.7, math.inf, 100.0)]
)
def test_an_estimate_without_a_standard_error_or_a_sample_is_none(row: tuple[float, float, float]) -> None:
    failure = not_an_estimate(AUC, "the canary", [(0.7, 0.1, 100.0), row, (None, None, None)])
    assert failure is not None
    assert "Metric auc: the canary has value" in failure.message
    assert not_an_estimate(AUC, "the canary", [row, (0.7, 0.1, 100.0)]) is None


def test_more_events_than_trials_are_told() -> None:
    failure = too_many_events(CTR, "stable", Tally(events=812.0, trials=230.0))
    assert failure is not None
    assert "stable has 812 events in 230 trials" in failure.message
    assert too_many_events(CTR, "stable", Tally(events=230.0, trials=230.0)) is None


def test_a_sum_of_squares_that_no_numbers_have_is_told() -> None:
    failure = not_squares(REVENUE, "stable", Tally(events=100.0, squares=10.0, trials=50.0))
    assert failure is not None
    assert "sum 100, sumOfSquares 10 and count 50" in failure.message
    assert not_squares(REVENUE, "stable", Tally(events=100.0, squares=200.0, trials=50.0)) is None
    assert not_squares(REVENUE, "stable", Tally()) is None
