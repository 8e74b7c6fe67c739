"""decide(deployment, observed, now): what should be, as a value. The whole of a rollout's judgement is here.

Each step below takes a Course (the status so far and what to announce) and returns the next one. No step does I/O or
reads a clock, and the same input gives the same answer, so that an operator killed between any two calls ends in the
same place.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from tidegate_api.hashes import content_hash
from tidegate_api.model_deployment import (
    CanaryStatus,
    HistoryEntry,
    ModelDeployment,
    ModelDeploymentStatus,
    Outcome,
    ResolvedModel,
    Retiring,
    RevisionImages,
    RevisionStatus,
    Verdict,
)
from tidegate_operators.rollout.evidence import accumulate, harm, lacking_samples, start_step, unproven
from tidegate_operators.rollout.observed import NO_SERVER, Announcement, Decision, Observed, Plan
from tidegate_operators.rollout.steps import FULL, Stage, canary_replicas, grid_floor, stages

__all__ = ["ABORT", "PAUSE", "PROMOTE", "decide", "revision_of"]

PAUSE = "tidegate.dev/pause"
PROMOTE = "tidegate.dev/promote"
ABORT = "tidegate.dev/abort"

_BUSY = timedelta(seconds=2)
_IDLE = timedelta(seconds=15)
# A gateway drops a cluster and its route by separate streams: a revision is kept in the routes with weight 0 for this
# long after its traffic is gone, so that no request meets a cluster that is no longer there.
_DRAIN = timedelta(seconds=20)
_HASH_LENGTH = 8


@dataclass(frozen=True)
class Course:
    """The status so far, what to announce, and the sentence for a reader: why it is where it is."""

    status: ModelDeploymentStatus
    announcements: tuple[Announcement, ...] = ()
    sentence: str = ""

    def with_status(self, **changes: Any) -> Course:
        """The same course with some of the status changed."""
        return replace(self, status=self.status.model_copy(update=changes))

    def saying(self, sentence: str) -> Course:
        """The same course with another sentence."""
        return replace(self, sentence=sentence)

    def announcing(self, said: Announcement) -> Course:
        """The same course with one more Event, which is the sentence too."""
        return replace(self, announcements=(*self.announcements, said), sentence=said.message)


def revision_of(
    deployment: ModelDeployment, model: ResolvedModel, images: RevisionImages | None = None
) -> RevisionStatus:
    """The revision of a model on this deployment's runtime: package digest and spec.runtime, hashed."""
    runtime = deployment.spec.runtime
    name = content_hash({"digest": model.digest, "runtime": runtime.to_dict()})[:_HASH_LENGTH]
    named = model.model_dump()
    verify = deployment.spec.model.verify
    key = verify.public_key_from.place if verify else None
    return RevisionStatus(hash=name, runtime=runtime, images=images, public_key=key, **named)


def decide(deployment: ModelDeployment, observed: Observed, now: datetime) -> Decision:
    """What should be, given the deployment with its status, what was observed, and the time.

    Total: it never raises on a parsed deployment, and repeated calls with its own answers reach an end.
    """
    course = _follow_source(deployment, observed, now)
    if course.status.canary is not None:
        course = _run_canary(deployment, observed, course, course.status.canary, now)
    course = _let_go(observed, course, now)
    weights = _weights(course.status)
    busy = course.status.canary or course.status.retiring or not _settled(observed, weights)
    return Decision(
        status=course.status.model_copy(update={"message": course.sentence or course.status.message}),
        plans=_plans(deployment, observed, course.status),
        weights=weights,
        announcements=course.announcements,
        requeue=_BUSY if busy else _IDLE,
    )


def _let_go(observed: Observed, course: Course, now: datetime) -> Course:
    """Forget a retiring revision when the gateway has had time to let it go, or when it is wanted again."""
    status = course.status
    wanted = {r.hash for r in (status.stable, status.canary.revision if status.canary else None) if r is not None}
    settled = _settled(observed, _weights(status))
    kept = [r for r in status.retiring if r.revision.hash not in wanted and not (settled and now - r.since >= _DRAIN)]
    return course.with_status(retiring=kept)


def _follow_source(deployment: ModelDeployment, observed: Observed, now: datetime) -> Course:
    """Start, supersede or end a rollout, as the source names another revision."""
    status = deployment.status
    course = Course(status)
    if observed.model is None:
        return course.saying(observed.model_failure.message if observed.model_failure else "")
    target = revision_of(deployment, observed.model, observed.images)
    course = course.with_status(source=observed.model)
    if status.rejected is not None and status.rejected.hash != target.hash:
        course = course.with_status(rejected=None)
    if status.canary is not None and status.canary.revision.hash != target.hash:
        message = f"{_capital(status.canary.revision.title)} was superseded by {target.title} before it was judged."
        course = _end(deployment, course, status.canary, "superseded", "Superseded", message, now)
    return _start(observed, course, target, now)


def _start(observed: Observed, course: Course, target: RevisionStatus, now: datetime) -> Course:
    status = course.status
    if status.canary is not None:
        return course
    if status.rejected is not None:
        return course.saying(_rejected_sentence(status, target))
    if status.stable is not None and status.stable.hash == target.hash:
        kept = {"images": status.stable.images or target.images, "public_key": status.stable.public_key}
        stable = target.model_copy(update=kept)
        return course.with_status(stable=stable).saying(_stable_sentence(observed, target))
    canary = CanaryStatus(revision=target, started_at=now, step_started_at=now)
    said = Announcement("Normal", "RolloutStarted", f"Rollout of {target.title} started.", target.hash, 0)
    return course.with_status(canary=canary, weight=0).announcing(said)


def _stable_sentence(observed: Observed, stable: RevisionStatus) -> str:
    failure = observed.routes.failure
    does = f"is stable, but its routes do not stand: {failure.message}" if failure else "serves all traffic."
    return f"{_capital(stable.title)} {does}"


def _rejected_sentence(status: ModelDeploymentStatus, target: RevisionStatus) -> str:
    if status.verdict is not None and status.verdict.revision.hash == target.hash:
        return status.verdict.message
    return f"{_capital(target.title)} was rejected and is not tried again while the source names it."


def _run_canary(
    deployment: ModelDeployment, observed: Observed, course: Course, canary: CanaryStatus, now: datetime
) -> Course:
    """One look at the rollout under way: judge, then move."""
    first = course.status.stable is None
    canary = _collect(deployment, observed, _count_pause(deployment, canary, now), first)
    course = course.with_status(canary=canary)
    ended = _ended_by_person_or_guard(deployment, course, canary, first, now)
    if ended is not None:
        return ended
    stage = stages(deployment, first)[canary.step]
    course = _grant(observed, course, canary, stage)
    course = _mark_effective(deployment, observed, course, stage, now)
    return _move_or_wait(deployment, observed, course, stage, now)


def _is_paused(deployment: ModelDeployment, canary: CanaryStatus) -> bool:
    """Only a rollout is paused: the first revision has nothing to spare."""
    asked = deployment.spec.paused or _asked(deployment, PAUSE, canary)
    return asked and deployment.status.stable is not None


def _asked(deployment: ModelDeployment, annotation: str, canary: CanaryStatus) -> bool:
    return deployment.metadata.annotations.get(annotation) == canary.revision.hash


def _count_pause(deployment: ModelDeployment, canary: CanaryStatus, now: datetime) -> CanaryStatus:
    """Leave paused time out of the deadline and of the step's own pause, by shifting their starts."""
    if _is_paused(deployment, canary):
        return canary if canary.paused_at else canary.model_copy(update={"paused_at": now})
    if canary.paused_at is None:
        return canary
    shift = now - canary.paused_at
    since = canary.weight_since + shift if canary.weight_since else None
    update = {"paused_at": None, "step_started_at": canary.step_started_at + shift, "weight_since": since}
    return canary.model_copy(update=update)


def _collect(deployment: ModelDeployment, observed: Observed, canary: CanaryStatus, first: bool) -> CanaryStatus:
    """Add what the new intervals show. The first revision has nothing to be compared with."""
    if first or canary.judged_until is None:
        return canary
    windows = [w for w in observed.windows if w.start >= canary.judged_until]
    evidence = accumulate(deployment.spec.analysis, canary.evidence, windows, canary.weight_since)
    until = max(canary.judged_until, observed.judged_until or canary.judged_until)
    return canary.model_copy(update={"evidence": evidence, "judged_until": until})


def _ended_by_person_or_guard(
    deployment: ModelDeployment, course: Course, canary: CanaryStatus, first: bool, now: datetime
) -> Course | None:
    title = _capital(canary.revision.title)
    if _asked(deployment, ABORT, canary) and not first:
        message = f"{title} was aborted by the annotation {ABORT}; stable serves all traffic."
        return _end(deployment, course, canary, "aborted", "Aborted", message, now)
    culprit = harm(deployment.spec.analysis, canary.evidence)
    if culprit is not None and not first:
        weight = course.status.weight
        message = f"{title} was rolled back at {weight} % of the traffic because of {culprit.message}"
        return _end(deployment, course, canary, "rolledBack", "GuardFailed", message, now)
    return None


def _grant(observed: Observed, course: Course, canary: CanaryStatus, stage: Stage) -> Course:
    """Give the step's weight once enough pods are ready, but not while paused; take it all back when none is."""
    server = observed.servers.get(canary.revision.hash, NO_SERVER)
    if server.ready == 0:
        return course.with_status(weight=0)
    enough = server.ready >= _needed(observed, course.status, stage)
    if not enough or canary.paused_at is not None or course.status.weight == stage.weight:
        return course
    granted = course.with_status(weight=stage.weight)
    begins = canary.step == 0 and course.status.stable is not None
    return granted.announcing(_step_started(canary.revision, "starts with", stage.weight)) if begins else granted


def _needed(observed: Observed, status: ModelDeploymentStatus, stage: Stage) -> int:
    stable = observed.servers.get(status.stable.hash, NO_SERVER) if status.stable else NO_SERVER
    return canary_replicas(stage.weight, stable.replicas)


def _settled(observed: Observed, weights: Mapping[str, int]) -> bool:
    """Whether the gateway has accepted exactly these weights."""
    return observed.routes.accepted and observed.routes.weights == weights


def _mark_effective(
    deployment: ModelDeployment, observed: Observed, course: Course, stage: Stage, now: datetime
) -> Course:
    """Note since when the routes give this step's weight; the first such moment starts the judged intervals."""
    canary = course.status.canary
    if canary is None:
        return course
    effective = course.status.weight == stage.weight and _settled(observed, _weights(course.status))
    if not effective:
        return course.with_status(canary=canary.model_copy(update={"weight_since": None}))
    since = canary.weight_since or now
    until = canary.judged_until or (grid_floor(now, deployment.spec.analysis.interval) if stage.weight else None)
    return course.with_status(canary=canary.model_copy(update={"weight_since": since, "judged_until": until}))


def _move_or_wait(
    deployment: ModelDeployment, observed: Observed, course: Course, stage: Stage, now: datetime
) -> Course:
    canary = course.status.canary
    if canary is None:
        return course
    if canary.paused_at is not None:
        return course.saying(f"{_capital(canary.revision.title)} is paused at {course.status.weight} % of the traffic.")
    hold = _reason_to_hold(deployment, observed, course, canary, stage, now)
    if hold is None:
        return _advance(deployment, course, canary, now)
    if now - canary.step_started_at > deployment.spec.progress_deadline + stage.pause and not stage.until_promoted:
        return _expire(deployment, course, canary, hold, now)
    return course.saying(hold)


def _reason_to_hold(
    deployment: ModelDeployment, observed: Observed, course: Course, canary: CanaryStatus, stage: Stage, now: datetime
) -> str | None:
    """Why the rollout stays where it is, in one sentence; none when it may move on."""
    where = _where(deployment, course, canary)
    server = observed.servers.get(canary.revision.hash, NO_SERVER)
    if course.status.weight != stage.weight or server.ready == 0:
        needed = _needed(observed, course.status, stage)
        why = f": {server.failure.message}" if server.failure else ""
        return f"{where}: {server.ready} of {needed} pods are ready for {stage.weight} %{why}"
    if canary.weight_since is None:
        failure = observed.routes.failure
        waits = f"{_where(deployment, course, canary, 'is to have')}: waiting for the gateway to accept the routes"
        return waits + (f": {failure.message}" if failure else "")
    if _asked(deployment, PROMOTE, canary) or course.status.stable is None:
        return None
    if stage.until_promoted:
        return f"{where}: waits until it is promoted by the annotation {PROMOTE}={canary.revision.hash}"
    if now - canary.weight_since < stage.pause:
        return f"{where}: pauses for {_seconds(stage.pause - (now - canary.weight_since))} more"
    return _lacking_evidence(deployment, observed, canary, stage, where)


def _lacking_evidence(
    deployment: ModelDeployment, observed: Observed, canary: CanaryStatus, stage: Stage, where: str
) -> str | None:
    analysis = deployment.spec.analysis
    compared = 0 < stage.weight < FULL
    lacking = lacking_samples(analysis, canary.evidence, both_sides=True) if compared else None
    if lacking is not None:
        have = f"stable {lacking.step_samples.stable:.0f}, canary {lacking.step_samples.canary:.0f}"
        why = f" ({observed.metrics_failure.message})" if observed.metrics_failure else ""
        return f"{where}: {lacking.metric} needs {analysis.min_samples} samples a side at this weight, has {have}{why}"
    following = stages(deployment, first=False)[canary.step + 1 :]
    missing = unproven(analysis, canary.evidence)
    if missing and (not following or following[0].weight == FULL):
        return f"{where}: {missing[0].message or missing[0].metric + ': no samples yet.'}"
    return None


def _where(deployment: ModelDeployment, course: Course, canary: CanaryStatus, verb: str = "has") -> str:
    number = len(stages(deployment, course.status.stable is None))
    title = _capital(canary.revision.title)
    return f"{title} {verb} {course.status.weight} % of the traffic, step {canary.step + 1} of {number}"


def _advance(deployment: ModelDeployment, course: Course, canary: CanaryStatus, now: datetime) -> Course:
    first = course.status.stable is None
    plan = stages(deployment, first)
    following = len(plan) - 1 if _asked(deployment, PROMOTE, canary) else canary.step + 1
    if canary.step == len(plan) - 1:
        return _promote(deployment, course, canary, first, now)
    update = {
        "step": following,
        "step_started_at": now,
        "weight_since": None,
        "evidence": start_step(canary.evidence),
    }
    said = _step_started(canary.revision, "moves on to", plan[following].weight)
    return course.with_status(canary=canary.model_copy(update=update)).announcing(said)


def _step_started(revision: RevisionStatus, verb: str, weight: int) -> Announcement:
    message = f"{_capital(revision.title)} {verb} {weight} % of the traffic."
    return Announcement("Normal", "StepStarted", message, revision.hash, weight)


def _promote(deployment: ModelDeployment, course: Course, canary: CanaryStatus, first: bool, now: datetime) -> Course:
    title = _capital(canary.revision.title)
    proof = " ".join(item.message for item in canary.evidence)
    message = f"{title} is the first and serves all traffic." if first else f"{title} was promoted. {proof}".strip()
    ended = _end(deployment, course, canary, "promoted", "FirstRevision" if first else "Promoted", message, now)
    return ended.with_status(stable=canary.revision)


def _expire(deployment: ModelDeployment, course: Course, canary: CanaryStatus, hold: str, now: datetime) -> Course:
    """The deadline has passed: a canary is drained; a first revision has nothing to give way to."""
    deadline = _seconds(deployment.spec.progress_deadline)
    if course.status.stable is None:
        return course.saying(f"{hold}; the progress deadline of {deadline} has passed")
    message = f"{_capital(canary.revision.title)} was drained after the progress deadline of {deadline}: {hold}"
    return _end(deployment, course, canary, "timedOut", "InsufficientEvidence", message, now)


def _end(
    deployment: ModelDeployment,
    course: Course,
    canary: CanaryStatus,
    outcome: Outcome,
    reason: str,
    message: str,
    now: datetime,
) -> Course:
    """End the rollout: verdict, history, and no canary. Anything but promotion leaves all traffic with stable."""
    told = deployment.spec.model.registry is None
    entry = HistoryEntry(
        revision=canary.revision, outcome=outcome, reason=reason, message=message,
        started_at=canary.started_at, ended_at=now, recorded=told,
    )  # fmt: skip
    verdict = Verdict(
        revision=canary.revision, outcome=outcome, reason=reason, message=message, at=now, evidence=canary.evidence
    )
    rejected = canary.revision if outcome in ("rolledBack", "aborted", "timedOut") else None
    kept = _trim([*course.status.history, entry], deployment.spec.revision_history_limit)
    leaving = course.status.stable if outcome == "promoted" else canary.revision
    retiring = [*course.status.retiring, *([Retiring(revision=leaving, since=now)] if leaving is not None else [])]
    changed = course.with_status(
        canary=None, weight=0, verdict=verdict, history=kept, rejected=rejected, retiring=retiring
    )
    kind = "Normal" if outcome in ("promoted", "superseded") else "Warning"
    weight = FULL if outcome == "promoted" else 0
    return changed.announcing(Announcement(kind, reason, message, canary.revision.hash, weight))


def _trim(history: list[HistoryEntry], limit: int) -> list[HistoryEntry]:
    """The newest entries, and older ones that the registry has yet to be told of."""
    old, new = history[: max(0, len(history) - limit)], history[max(0, len(history) - limit) :]
    return [*(entry for entry in old if not entry.recorded), *new]


def _weights(status: ModelDeploymentStatus) -> dict[str, int]:
    """Percent by revision hash. A canary without traffic yet, and what is retiring, stand in the routes with 0."""
    found = {item.revision.hash: 0 for item in status.retiring}
    if status.stable is not None:
        found[status.stable.hash] = FULL - status.weight
    if status.canary is not None:
        found[status.canary.revision.hash] = status.weight
    return found


def _plans(deployment: ModelDeployment, observed: Observed, status: ModelDeploymentStatus) -> tuple[Plan, ...]:
    """Who runs: stable, the canary, and whoever is retiring."""
    found = [*_stable_plan(deployment, observed, status), *_canary_plan(deployment, observed, status)]
    known = {plan.revision.hash for plan in found}
    return (*found, *(Plan(r.revision, 1) for r in status.retiring if r.revision.hash not in known))


def _stable_plan(deployment: ModelDeployment, observed: Observed, status: ModelDeploymentStatus) -> list[Plan]:
    if status.stable is None:
        return []
    least = deployment.spec.scaling.min_replicas
    running = observed.servers.get(status.stable.hash, NO_SERVER).replicas
    return [Plan(status.stable, max(least, running) if status.canary else least)]


def _canary_plan(deployment: ModelDeployment, observed: Observed, status: ModelDeploymentStatus) -> list[Plan]:
    if status.canary is None:
        return []
    stage = stages(deployment, status.stable is None)[status.canary.step]
    least = deployment.spec.scaling.min_replicas if status.stable is None else _needed(observed, status, stage)
    return [Plan(status.canary.revision, least)]


def _seconds(duration: timedelta) -> str:
    return f"{duration.total_seconds():.0f} s"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
