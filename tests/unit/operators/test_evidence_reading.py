"""What is said of counters that Prometheus does not have, and when."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

import pytest

from rollouts import GOOD, NEXT, START, deployment
from tidegate_api.model_deployment import CanaryStatus, ModelDeployment, ModelDeploymentStatus
from tidegate_operators.adapters.prometheus import Prometheus
from tidegate_operators.handlers.evidence import read_evidence
from tidegate_operators.rollout.counting import Series
from tidegate_operators.rollout.profiles import profile_of
from tidegate_operators.rollout.source import revision_of

CONTOUR = profile_of("projectcontour.io/gateway-controller")


class Silent(Prometheus):
    """It has no series of any name."""

    def __init__(self) -> None:
        super().__init__("http://127.0.0.1:9")

    def counters(self, selector: str, grid: Sequence[datetime]) -> list[Series]:
        return []


def _judged(owner: ModelDeployment, step: int) -> ModelDeployment:
    """It has had a canary under traffic since the start."""
    canary = CanaryStatus(
        revision=revision_of(owner, NEXT), step=step, started_at=START, step_started_at=START,
        weight_since=START, judged_until=START,
    )  # fmt: skip
    status = ModelDeploymentStatus(stable=revision_of(owner, GOOD), canary=canary, weight=5)
    return owner.model_copy(update={"status": status})


@pytest.mark.parametrize(
    ("step", "seconds", "said"), [(0, 20, None), (0, 50, None), (0, 60, "MetricNotSeen"), (1, 20, "MetricNotSeen")]
)
def test_counters_that_lack_are_told_once_the_first_request_must_be_known(
    step: int, seconds: int, said: str | None
) -> None:
    now = START + timedelta(seconds=seconds + 9)
    found, until, failure = read_evidence(_judged(deployment(), step), Silent(), CONTOUR, now)
    assert (found, until) == ([], START + timedelta(seconds=seconds))
    assert (failure.reason if failure else None) == said


class Coarse(Silent):
    """It has counts of requests, and a histogram of two edges."""

    def counters(self, selector: str, grid: Sequence[datetime]) -> list[Series]:
        return [] if "bucket" in selector else [Series("any", tuple(float(k) for k in range(len(grid))))]

    def label_values(self, label: str, selector: str, start: datetime, end: datetime) -> list[str]:
        assert (label, "le=" in selector) == ("le", False)
        return ["+Inf", "100", "2.5"]


def test_an_edge_that_the_histogram_lacks_is_answered_with_those_that_it_has() -> None:
    slow = {"name": "slow", "role": "guard", "margin": 0.01, "slowRequests": {"above": "123ms"}}
    owner = deployment(analysis={"interval": "10s", "metrics": [slow]})
    _, _, failure = read_evidence(_judged(owner, 0), Coarse(), CONTOUR, START + timedelta(seconds=29))
    assert failure is not None
    assert failure.reason == "BucketNotFound"
    assert failure.message.endswith("state slowRequests.above as one of its edges: 2.5, 100 ms")


class Eventless(Silent):
    """It counts trials, and has never seen an event."""

    def counters(self, selector: str, grid: Sequence[datetime]) -> list[Series]:
        sides = [revision_of(deployment(), model).hash for model in (GOOD, NEXT)]
        grown = tuple(float(k) for k in range(len(grid)))
        return [] if "clicks" in selector else [Series(side, grown) for side in sides]


@pytest.mark.parametrize(("good", "reason", "windows"), [(True, "MetricNotSeen", 0), (False, "EventsNotSeen", 7)])
def test_an_event_counter_that_nobody_has_proves_nothing_and_is_told(good: bool, reason: str, windows: int) -> None:
    ratio = {"events": "clicks{$track}", "trials": "shown{$track}"}
    metric = {"name": "ctr", "role": "objective", "margin": 0.1, "higherIsBetter": good, "ratio": ratio}
    owner = deployment(analysis={"interval": "10s", "metrics": [metric]})
    for seconds, said in ((20, None), (79, reason)):
        now = START + timedelta(seconds=seconds)
        found, _, failure = read_evidence(_judged(owner, 0), Eventless(), CONTOUR, now)
        assert (failure.reason if failure else None) == said
    assert len(found) == windows
    assert failure is not None
    assert "no series clicks{" in failure.message
    assert "correct ratio.events in spec.analysis, or export the counter with 0" in failure.message
