"""When to look again. Whatever changes wakes the operator: a resource, its servers and routes, the registry's alias.

What remains is time itself: an interval whose samples have come, a pause, a deadline, a revision that may go.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from tidegate_api.model_deployment import CanaryStatus, ModelDeployment, ModelDeploymentStatus
from tidegate_operators.rollout.course import Course, stage_of
from tidegate_operators.rollout.observed import Observed
from tidegate_operators.rollout.progress import is_settled
from tidegate_operators.rollout.steps import SETTLE, grid_floor, time_allowed

__all__ = ["DRAIN", "next_look"]

DRAIN = timedelta(seconds=20)
"""A gateway drops a cluster and its route by separate streams: a revision is kept in the routes with weight 0 for this
long after its traffic is gone, so that no request meets a cluster that is no longer there."""
_AT_ONCE = timedelta(milliseconds=100)
_LEAST = timedelta(seconds=1)
_BUSY = timedelta(seconds=2)
# A first revision waits for pods and routes, which wake the operator; what else stands in the way, nobody tells of.
_WAITING = timedelta(seconds=5)
_IDLE = timedelta(minutes=10)


def next_look(deployment: ModelDeployment, observed: Observed, course: Course, now: datetime) -> timedelta:
    """How long nothing but what wakes the operator can change anything. deployment: as it was before this look."""
    status = course.status
    if status.canary is not None:
        return _WAITING if status.stable is None else _of_rollout(deployment, observed, course, status.canary, now)
    if status.retiring:
        return _of_retiring(observed, status, now)
    if observed.model is None or observed.model_failure or course.blocked or observed.routes.failure:
        return _WAITING
    return _IDLE if is_settled(observed, status) else _BUSY


def _of_rollout(
    deployment: ModelDeployment, observed: Observed, course: Course, canary: CanaryStatus, now: datetime
) -> timedelta:
    before = deployment.status.canary
    if before is not None and before.step != canary.step:
        return _AT_ONCE
    since = canary.effective_since
    if since is None or observed.metrics_failure or not is_settled(observed, course.status):
        return _BUSY
    wait = max(_LEAST, min(_due(deployment, course, canary, since, now)) - now)
    return min(wait, _WAITING) if observed.model_failure else wait


def _due(
    deployment: ModelDeployment, course: Course, canary: CanaryStatus, since: datetime, now: datetime
) -> Iterator[datetime]:
    """The next interval whose samples have come, and the ends of pauses and deadlines that lie before us."""
    interval = deployment.spec.analysis.interval
    yield grid_floor(now - SETTLE, interval) + interval + SETTLE
    stage = stage_of(deployment, course.status, canary)
    ends = [since + each for each in (stage.pause, stage.keep, stage.limit) if each]
    ends.append(canary.step_started_at + time_allowed(deployment, stage))
    yield from (end for end in ends if end > now)


def _of_retiring(observed: Observed, status: ModelDeploymentStatus, now: datetime) -> timedelta:
    if not is_settled(observed, status):
        return _BUSY
    return max(_LEAST, min(item.since + DRAIN for item in status.retiring) - now)
