"""The demo shows in minutes what production takes its time for."""

from __future__ import annotations

from tidegate_api.admission import admit
from tidegate_api.model_deployment import ModelDeployment
from tidegate_demo.story import REQUESTS_PER_SECOND, ROLLOUT_SECONDS, quick_deployment
from tidegate_operators.cli.traffic import both_sides
from tidegate_operators.rollout.power import plan_steps


def test_a_rollout_of_the_demo_takes_minutes_and_not_a_quarter_of_an_hour() -> None:
    deployment = ModelDeployment.parse(admit(quick_deployment(), "the demo"))
    steps = plan_steps(deployment, both_sides(deployment, {}, {}), REQUESTS_PER_SECOND)
    assert [step.weight for step in steps] == [1, 5, 20]
    assert 30 < sum(step.least_seconds for step in steps) < ROLLOUT_SECONDS / 5
