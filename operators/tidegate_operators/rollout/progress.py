"""One look at the rollout under way: give the weight, note when it holds, then advance, hold or give up."""

from __future__ import annotations

from datetime import datetime, timedelta

from tidegate_api.annotations import PROMOTE
from tidegate_api.hashes import short_hash
from tidegate_api.model_deployment import Analysis, CanaryStatus, ModelDeployment, ModelDeploymentStatus
from tidegate_operators.rollout.course import (
    Course,
    asked,
    ends_a_wait,
    needed,
    plan_of,
    server_of,
    stage_of,
    weights_of,
)
from tidegate_operators.rollout.endings import end, promote
from tidegate_operators.rollout.evidence import start_step
from tidegate_operators.rollout.judgement import few_readings, lacking_samples, unproven, unread
from tidegate_operators.rollout.observed import Announcement, Observed
from tidegate_operators.rollout.steps import FULL, Stage, grid_floor, leads_to_all, time_allowed
from tidegate_operators.rollout.wording import capital, clock, seconds, share_of

__all__ = ["is_settled", "proceed", "replan"]

_NONE = timedelta(0)


def replan(deployment: ModelDeployment, course: Course, now: datetime) -> Course:
    """Where the strategy was edited under way, find the step anew: the last whose weight the canary has already."""
    canary = course.status.canary
    if canary is None:
        return course
    stages = plan_of(deployment, course.status, canary)
    kind = next(iter(deployment.spec.strategy.to_dict()))
    plan = short_hash({"kind": kind, "weights": [stage.weight for stage in stages]})
    if canary.plan in (plan, None):
        return course if canary.plan else course.with_canary(canary, plan=plan)
    reached = [number for number, stage in enumerate(stages) if stage.weight <= course.status.weight]
    step = max(reached, default=0)
    changes = {"plan": plan, "step": step, "step_started_at": now, "weight_since": None, "lost_at": None}
    moved = course.with_canary(canary, evidence=start_step(canary.evidence), **changes)
    title = capital(canary.revision.title)
    message = f"The strategy was edited: {title} goes on at step {step + 1} of {len(stages)}."
    return moved.announcing(Announcement("Normal", "StrategyChanged", message, canary.revision.hash))


def proceed(deployment: ModelDeployment, observed: Observed, course: Course, now: datetime) -> Course:
    """Move the rollout as far as it may go in this look."""
    course = _grant(deployment, observed, course)
    course = _mark_effective(deployment, observed, course, now)
    return _move_or_wait(deployment, observed, course, now)


def is_settled(observed: Observed, status: ModelDeploymentStatus) -> bool:
    """Whether the gateway has accepted exactly these weights."""
    return observed.routes.accepted and observed.routes.weights == weights_of(status)


def _grant(deployment: ModelDeployment, observed: Observed, course: Course) -> Course:
    """Give the step's weight once enough pods are ready; take it all back when none is.

    While paused only what was taken back is given again.
    """
    canary = course.status.canary
    if canary is None:
        return course
    stage, server = stage_of(deployment, course.status, canary), server_of(observed, canary.revision.hash)
    if server.ready == 0:
        taken = course.with_status(weight=0)
        return taken.announcing(_taken(deployment, canary, course.status)) if course.status.weight else taken
    enough = server.ready >= needed(deployment, observed, course.status, canary)
    stays = canary.paused_at is not None and canary.lost_at is None
    if not enough or stays or course.status.weight == stage.weight:
        return course
    granted = course.with_status(weight=stage.weight)
    if canary.lost_at is not None:
        return granted.announcing(_step_started(deployment, canary, "has ready pods again, and", stage.weight))
    begins = canary.step == 0 and course.status.stable is not None
    return granted.announcing(_step_started(deployment, canary, "starts with", stage.weight)) if begins else granted


def _taken(deployment: ModelDeployment, canary: CanaryStatus, status: ModelDeploymentStatus) -> Announcement:
    rest = "stable has all of the traffic until one is" if status.stable else "nobody answers until one is"
    message = f"{capital(canary.revision.title)} has no ready pod any more: {rest}."
    return Announcement("Warning", "CanaryNotReady", message, canary.revision.hash, 0)


def _mark_effective(deployment: ModelDeployment, observed: Observed, course: Course, now: datetime) -> Course:
    """Note since when the routes give this step's weight; the first such moment starts the judged intervals."""
    canary = course.status.canary
    if canary is None:
        return course
    stage = stage_of(deployment, course.status, canary)
    if not _has_its_share(deployment, observed, course, stage):
        return _lost(course, canary, stage, now)
    if not is_settled(observed, course.status):
        return course
    judges = grid_floor(now, deployment.spec.analysis.interval) if stage.capacity else None
    changes = {"weight_since": _since(canary, now), "lost_at": None, "judged_until": canary.judged_until or judges}
    return course.with_canary(canary, **changes)


def _since(canary: CanaryStatus, now: datetime) -> datetime:
    """From when the step's waits count: what was waited before the weight was lost counts, the loss does not."""
    away = now - canary.lost_at if canary.lost_at else _NONE
    return canary.weight_since + away if canary.weight_since else now


def _lost(course: Course, canary: CanaryStatus, stage: Stage, now: datetime) -> Course:
    """The weight is not given yet, or was taken back. Whoever had no deadline has one from then on."""
    if canary.weight_since is None or canary.lost_at is not None:
        return course
    anew = stage.until_promoted or stage.limit is not None
    return course.with_canary(canary, lost_at=now, step_started_at=now if anew else canary.step_started_at)


def _has_its_share(deployment: ModelDeployment, observed: Observed, course: Course, stage: Stage) -> bool:
    """Whether the stage's weight is given; where that is 0, whether the pods that a switch needs are ready."""
    canary = course.status.canary
    if canary is None or course.status.weight != stage.weight:
        return False
    ready = server_of(observed, canary.revision.hash).ready
    return ready > 0 and (stage.weight > 0 or ready >= needed(deployment, observed, course.status, canary))


def _move_or_wait(deployment: ModelDeployment, observed: Observed, course: Course, now: datetime) -> Course:
    canary = course.status.canary
    if canary is None:
        return course
    if canary.paused_at is not None:
        return course.saying(f"{capital(canary.revision.title)} is paused at {course.status.weight} % of the traffic.")
    stage = stage_of(deployment, course.status, canary)
    hold = _reason_to_hold(deployment, observed, course, canary, stage, now)
    if hold is None:
        return _advance(deployment, course, canary, now)
    overdue = _overdue(deployment, canary, stage, now)
    return _expire(deployment, course, canary, overdue, hold, now) if overdue else course.saying(hold)


def _overdue(deployment: ModelDeployment, canary: CanaryStatus, stage: Stage, now: datetime) -> str | None:
    """Which time has run out, in words; none while there is some left."""
    limit, since = stage.limit, canary.effective_since
    if limit is not None and since is not None:
        return f"the maxDuration of {seconds(limit)}" if now - since > limit else None
    passed = now - canary.step_started_at > time_allowed(deployment, stage)
    waits = stage.until_promoted and since is not None
    return f"the progress deadline of {seconds(deployment.spec.progress_deadline)}" if passed and not waits else None


def _reason_to_hold(
    deployment: ModelDeployment, observed: Observed, course: Course, canary: CanaryStatus, stage: Stage, now: datetime
) -> str | None:
    """Why the rollout stays where it is, in one sentence; none when it may move on."""
    since = canary.effective_since
    if since is None or not is_settled(observed, course.status):
        return _not_in_force(deployment, observed, course, canary, stage)
    where = _where(deployment, course, canary)
    if now - since < stage.keep:
        return f"{where}: stable stays beside it until {clock(since + stage.keep)}"
    if asked(deployment, PROMOTE, canary) or course.status.stable is None or canary.undo:
        return None
    if stage.until_promoted:
        again = ", taken away and set again: the one that stands has acted" if PROMOTE in canary.spent else ""
        return f"{where}: waits until it is promoted by the annotation {PROMOTE}={canary.revision.hash}{again}"
    if now - since < stage.pause:
        return f"{where}: pauses until {clock(since + stage.pause)}"
    return _lacking_evidence(deployment, observed, course, canary, stage, where)


def _not_in_force(
    deployment: ModelDeployment, observed: Observed, course: Course, canary: CanaryStatus, stage: Stage
) -> str:
    """What the stage's weight waits for: pods, or the gateway."""
    server, failure = server_of(observed, canary.revision.hash), observed.routes.broken
    if not _has_its_share(deployment, observed, course, stage):
        wanted = needed(deployment, observed, course.status, canary)
        why = f": {server.failure.message}" if server.failure else ""
        where = _where(deployment, course, canary)
        return f"{where}: {server.ready} of {wanted} pods are ready for {_share(stage)}{why}"
    where = _where(deployment, course, canary, "is to have")
    return f"{where}: waiting for the gateway to accept the routes" + (f": {failure.message}" if failure else "")


def _share(stage: Stage) -> str:
    return f"{stage.weight} %" if stage.weight else "the switch"


def _lacking_evidence(
    deployment: ModelDeployment, observed: Observed, course: Course, canary: CanaryStatus, stage: Stage, where: str
) -> str | None:
    analysis = deployment.spec.analysis
    least = stage.min_samples or analysis.min_samples
    if not stage.capacity:
        return None
    why = f" ({observed.metrics_failure.message})" if observed.metrics_failure else ""
    lacking = lacking_samples(analysis, canary.evidence, least) if stage.weight < FULL else None
    if lacking is not None:
        have = f"stable {lacking.step_samples.stable:.0f}, canary {lacking.step_samples.canary:.0f}"
        return f"{where}: {lacking.metric} needs {least} samples a side at this weight, has {have}{why}"
    silent = unread(analysis, canary.evidence)
    if silent is not None:
        return f"{where}: {silent.metric} has had no reading yet{why}"
    last = leads_to_all(plan_of(deployment, course.status, canary)[canary.step + 1 :])
    few = few_readings(analysis, canary.evidence) if last and stage.weight < FULL else None
    if few is not None:
        return f"{where}: {few}{why}"
    return _lacking_proof(analysis, canary, stage, last, where)


def _lacking_proof(analysis: Analysis, canary: CanaryStatus, stage: Stage, last: bool, where: str) -> str | None:
    """Objectives must be proven before the step to all of the traffic, and where an analysis step names them."""
    if not last and not stage.objectives:
        return None
    missing = unproven(analysis, canary.evidence, () if last else stage.objectives)
    return f"{where}: {missing[0].message or missing[0].metric + ': no samples yet.'}" if missing else None


def _where(deployment: ModelDeployment, course: Course, canary: CanaryStatus, verb: str = "has") -> str:
    number = len(plan_of(deployment, course.status, canary))
    title = capital(canary.revision.title)
    return f"{title} {verb} {share_of(deployment, course.status.weight)}, step {canary.step + 1} of {number}"


def _advance(deployment: ModelDeployment, course: Course, canary: CanaryStatus, now: datetime) -> Course:
    plan = plan_of(deployment, course.status, canary)
    if canary.step >= len(plan) - 1:
        return promote(deployment, course, canary, now)
    following, spent = _following(deployment, course, canary, len(plan) - 1)
    said = _step_started(deployment, canary, "moves on to", plan[following].weight)
    changes = {"step": following, "step_started_at": now, "weight_since": None, "lost_at": None, "spent": spent}
    return course.with_canary(canary, evidence=start_step(canary.evidence), **changes).announcing(said)


def _following(deployment: ModelDeployment, course: Course, canary: CanaryStatus, last: int) -> tuple[int, list[str]]:
    """The next step, and the annotations that act no more."""
    if not asked(deployment, PROMOTE, canary):
        return canary.step + 1, canary.spent
    waited = ends_a_wait(deployment, course.status, canary)
    return (canary.step + 1, [*canary.spent, PROMOTE]) if waited else (last, canary.spent)


def _step_started(deployment: ModelDeployment, canary: CanaryStatus, verb: str, weight: int) -> Announcement:
    message = f"{capital(canary.revision.title)} {verb} {share_of(deployment, weight)}."
    return Announcement("Normal", "StepStarted", message, canary.revision.hash, weight)


def _expire(
    deployment: ModelDeployment, course: Course, canary: CanaryStatus, overdue: str, hold: str, now: datetime
) -> Course:
    """Time has run out: a canary is drained; a first revision has nothing to give way to."""
    if course.status.stable is None:
        return course.saying(f"{hold}; {overdue} has passed")
    message = f"{capital(canary.revision.title)} was drained after {overdue}: {hold}"
    return end(deployment, course, canary, "timedOut", "InsufficientEvidence", message, now)
