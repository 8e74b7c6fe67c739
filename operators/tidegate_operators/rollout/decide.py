"""decide(deployment, observed, now): what should be, as a value. The whole of a rollout's judgement is behind it.

Each step takes a Course (the status so far and what to announce) and returns the next one. No step does I/O or reads
a clock, and the same input gives the same answer, so that an operator killed between any two calls ends in the same
place.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from tidegate_api.annotations import ABORT, KNOWN, OF_A_ROLLOUT, PAUSE, PREFIX
from tidegate_api.hashes import is_short_hash
from tidegate_api.model_deployment import CanaryStatus, ModelDeployment, ModelDeploymentStatus
from tidegate_operators.rollout.course import Course, asked, needed, server_of, still_spent, weights_of
from tidegate_operators.rollout.endings import end
from tidegate_operators.rollout.evidence import accumulate, redefined
from tidegate_operators.rollout.judgement import harm
from tidegate_operators.rollout.observed import Announcement, Decision, Observed, Plan
from tidegate_operators.rollout.progress import is_settled, proceed, replan
from tidegate_operators.rollout.source import follow_source
from tidegate_operators.rollout.timing import DRAIN, next_look
from tidegate_operators.rollout.wording import capital, ignored_sentence, share_of

__all__ = ["decide"]


def decide(deployment: ModelDeployment, observed: Observed, now: datetime) -> Decision:
    """What should be, given the deployment with its status, what was observed, and the time.

    Total: it never raises on a parsed deployment, and repeated calls with its own answers reach an end.
    """
    course = follow_source(deployment, observed, now)
    if course.status.canary is not None:
        course = _run_canary(deployment, observed, course, course.status.canary, now)
    course = _notice_ignored(deployment, _let_go(observed, course, now))
    status = course.status
    plans = tuple(_revived(observed, plan) for plan in _plans(deployment, observed, status))
    return Decision(
        status=status.model_copy(update={"message": course.sentence or status.message}),
        plans=plans,
        weights=weights_of(status),
        announcements=(*course.announcements, *(_revival(plan) for plan in plans if plan.revived)),
        requeue=next_look(deployment, observed, course, now),
        blocked=course.blocked,
    )


def _run_canary(
    deployment: ModelDeployment, observed: Observed, course: Course, canary: CanaryStatus, now: datetime
) -> Course:
    """One look at the rollout under way: judge, then move."""
    course = replan(deployment, course.with_status(canary=still_spent(deployment, canary)), now)
    canary = course.status.canary or canary
    judged = course.status.stable is not None and not canary.undo
    canary = _count_pause(deployment, canary, now)
    course = _notice_edits(deployment, course, canary) if judged else course
    canary = _collect(deployment, observed, canary) if judged else canary
    course = course.with_status(canary=canary)
    ended = _ended_by_person_or_guard(deployment, course, canary, now) if course.status.stable else None
    return ended or proceed(deployment, observed, course, now)


def _notice_edits(deployment: ModelDeployment, course: Course, canary: CanaryStatus) -> Course:
    names = redefined(deployment.spec.analysis, canary.evidence) if canary.judged_until else []
    if not names:
        return course
    message = (
        f"spec.analysis was edited: the evidence of {', '.join(names)} begins anew, with the whole of its error level; "
        "a chance of a false verdict that was taken before adds to it."
    )
    return course.announcing(Announcement("Warning", "MetricsEdited", message, canary.revision.hash))


def _notice_ignored(deployment: ModelDeployment, course: Course) -> Course:
    """Say once of an annotation that it is none of ours, or its value no revision's hash.

    A hash that is not under way is only old.
    """
    status = course.status
    ours = {name: value for name, value in deployment.metadata.annotations.items() if name.startswith(PREFIX)}
    ignored = {
        name: value
        for name, value in ours.items()
        if name not in KNOWN or (name in OF_A_ROLLOUT and not is_short_hash(value))
    }
    if ignored == status.ignored_annotations:
        return course
    canary = status.canary.revision if status.canary else None
    said = tuple(
        Announcement("Warning", "AnnotationIgnored", ignored_sentence(name, value, canary))
        for name, value in ignored.items()
        if status.ignored_annotations.get(name) != value
    )
    course = replace(course, announcements=(*course.announcements, *said))
    return course.with_status(ignored_annotations=ignored)


def _is_paused(deployment: ModelDeployment, canary: CanaryStatus) -> bool:
    """Only a rollout is paused: the first revision has nothing to spare, and a way back is in a hurry."""
    wanted = deployment.spec.paused or asked(deployment, PAUSE, canary)
    return wanted and deployment.status.stable is not None and not canary.undo


def _count_pause(deployment: ModelDeployment, canary: CanaryStatus, now: datetime) -> CanaryStatus:
    """Leave paused time out of the deadline and of the step's own pause, by shifting their starts."""
    if _is_paused(deployment, canary):
        return canary if canary.paused_at else canary.model_copy(update={"paused_at": now})
    if canary.paused_at is None:
        return canary
    shift = now - canary.paused_at
    since = canary.weight_since + shift if canary.weight_since else None
    update = {"paused_at": None, "step_started_at": canary.step_started_at + shift, "weight_since": since}
    if canary.lost_at is not None:  # lost during the pause: all that was left of it is in `shift` already
        update["lost_at"] = now if canary.lost_at > canary.paused_at else canary.lost_at + shift
    return canary.model_copy(update=update)


def _collect(deployment: ModelDeployment, observed: Observed, canary: CanaryStatus) -> CanaryStatus:
    """Add what the new intervals show."""
    if canary.judged_until is None:
        return canary
    windows = [w for w in observed.windows if w.start >= canary.judged_until]
    evidence = accumulate(deployment.spec.analysis, canary.evidence, windows, canary.weight_since)
    until = max(canary.judged_until, observed.judged_until or canary.judged_until)
    return canary.model_copy(update={"evidence": evidence, "judged_until": until})


def _ended_by_person_or_guard(
    deployment: ModelDeployment, course: Course, canary: CanaryStatus, now: datetime
) -> Course | None:
    title = capital(canary.revision.title)
    if asked(deployment, ABORT, canary):
        message = f"{title} was aborted by the annotation {ABORT}; stable serves all traffic."
        return end(deployment, course, canary, "aborted", "Aborted", message, now)
    culprit = harm(deployment.spec.analysis, canary.evidence)
    if culprit is None:
        return None
    share = share_of(deployment, course.status.weight)
    message = f"{title} was rolled back at {share} because of {culprit.message}"
    return end(deployment, course, canary, "rolledBack", "GuardFailed", message, now)


def _let_go(observed: Observed, course: Course, now: datetime) -> Course:
    """Forget a retiring revision when the gateway has had time to let it go, when it is wanted again, or never stood.

    The time counts from when the gateway has taken the routes without it.
    """
    status = course.status
    wanted = {revision.hash for revision in status.live}
    leaving = [r for r in status.retiring if r.revision.hash not in wanted and r.revision.hash in observed.servers]
    if is_settled(observed, status):
        return course.with_status(retiring=[r for r in leaving if now - r.since < DRAIN])
    return course.with_status(retiring=[r.model_copy(update={"since": now}) for r in leaving])


def _plans(deployment: ModelDeployment, observed: Observed, status: ModelDeploymentStatus) -> tuple[Plan, ...]:
    """Who runs: stable, the canary, and whoever is retiring."""
    found = [*_stable_plan(deployment, observed, status), *_canary_plan(deployment, observed, status)]
    known = {plan.revision.hash for plan in found}
    return (*found, *(Plan(r.revision, 1) for r in status.retiring if r.revision.hash not in known))


def _revived(observed: Observed, plan: Plan) -> Plan:
    """Whoever should run and stands with 0 pods was scaled there by somebody; an HPA sleeps until there is one."""
    server = observed.servers.get(plan.revision.hash)
    return replace(plan, revived=server is not None and server.replicas == 0)


def _revival(plan: Plan) -> Announcement:
    message = (
        f"{capital(plan.revision.title)} was scaled to 0 pods by somebody, from where no autoscaler brings it back: it "
        f"gets {plan.min_replicas} again; to stop serving, delete the ModelDeployment."
    )
    return Announcement("Warning", "ScaledFromZero", message, plan.revision.hash)


def _stable_plan(deployment: ModelDeployment, observed: Observed, status: ModelDeploymentStatus) -> list[Plan]:
    """Stable never shrinks during a rollout, but where it gives up pods one by one."""
    if status.stable is None:
        return []
    least = deployment.spec.scaling.min_replicas
    if status.canary is None:
        return [Plan(status.stable, least)]
    if status.canary.baseline_replicas is not None:
        left = _left_to_stable(deployment, observed, status, status.canary, status.canary.baseline_replicas)
        return [Plan(status.stable, left, most=left)]
    return [Plan(status.stable, max(least, server_of(observed, status.stable.hash).replicas))]


def _left_to_stable(
    deployment: ModelDeployment, observed: Observed, status: ModelDeploymentStatus, canary: CanaryStatus, of: int
) -> int:
    """Pods of `of` that stable keeps: it gives up one more only once the canary has one more at work."""
    spare = deployment.spec.strategy.max_unavailable
    ready = server_of(observed, canary.revision.hash).ready
    return max(1, of - needed(deployment, observed, status, canary), of - spare - ready)


def _canary_plan(deployment: ModelDeployment, observed: Observed, status: ModelDeploymentStatus) -> list[Plan]:
    canary = status.canary
    if canary is None:
        return []
    if status.stable is None:
        return [Plan(canary.revision, deployment.spec.scaling.min_replicas)]
    wanted = needed(deployment, observed, status, canary)
    return [Plan(canary.revision, wanted, most=wanted if canary.baseline_replicas is not None else None)]
