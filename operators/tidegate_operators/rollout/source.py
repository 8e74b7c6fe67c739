"""Which revision should be: the one that the source names, or the one that a person went back to."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from tidegate_api.annotations import OF_A_ROLLOUT, RESTART, RETRY, UNDO_TO
from tidegate_api.hashes import short_hash
from tidegate_api.model_deployment import (
    CanaryStatus,
    ModelDeployment,
    ModelDeploymentStatus,
    ResolvedModel,
    RevisionImages,
    RevisionStatus,
)
from tidegate_operators.rollout.course import Course, server_of, spent
from tidegate_operators.rollout.endings import end
from tidegate_operators.rollout.gates import feature_gate, name_gate, room_for
from tidegate_operators.rollout.observed import Announcement, Failure, Observed
from tidegate_operators.rollout.wording import capital

__all__ = ["follow_source", "revision_of"]


def revision_of(
    deployment: ModelDeployment, model: ResolvedModel, images: RevisionImages | None = None
) -> RevisionStatus:
    """The revision of a model on this deployment's runtime: package digest and spec.runtime, hashed."""
    runtime = deployment.spec.runtime
    name = short_hash({"digest": model.digest, "runtime": runtime.to_dict()})
    named = model.model_dump()
    verify = deployment.spec.model.verify
    key = verify.public_key_from.place if verify else None
    restart = deployment.metadata.annotations.get(RESTART)
    return RevisionStatus(hash=name, runtime=runtime, images=images, public_key=key, restart=restart, **named)


def follow_source(deployment: ModelDeployment, observed: Observed, now: datetime) -> Course:
    """Start, supersede or end a rollout, as the source names another revision or a person goes back to one."""
    course = _restart(deployment, Course(deployment.status))
    if observed.model is None:
        return course.saying(observed.model_failure.message if observed.model_failure else "")
    target = revision_of(deployment, observed.model, observed.images)
    course = course.with_status(source=observed.model)
    if course.status.rejected is not None and course.status.rejected.hash != target.hash:
        course = course.with_status(rejected=None)
    course = _undo(deployment, observed, _retry(deployment, course), target, now)
    canary = course.status.canary
    if canary is not None and _is_superseded(course.status, canary, target):
        message = f"{capital(canary.revision.title)} was superseded by {target.title} before it was judged."
        course = end(deployment, course, canary, "superseded", "Superseded", message, now)
    return _start(deployment, observed, course, target, now)


def _restart(deployment: ModelDeployment, course: Course) -> Course:
    """Have every live revision's pods made anew, once for each value of the annotation."""
    asked = deployment.metadata.annotations.get(RESTART)
    status = course.status
    if asked is None or all(revision.restart == asked for revision in status.live):
        return course
    update = {"restart": asked}
    if status.stable is not None:
        course = course.with_status(stable=status.stable.model_copy(update=update))
    if status.canary is not None:
        course = course.with_canary(status.canary, revision=status.canary.revision.model_copy(update=update))
    said = f"The pods are made anew, one by one, as the annotation {RESTART} asks ({asked})."
    return course.announcing(Announcement("Normal", "Restarted", said))


def _is_superseded(status: ModelDeploymentStatus, canary: CanaryStatus, target: RevisionStatus) -> bool:
    """A way back goes on while the source names what it leads away from."""
    if canary.undo and status.rejected is not None:
        return False
    return canary.revision.hash != target.hash


def _retry(deployment: ModelDeployment, course: Course) -> Course:
    """Take back that a revision was rejected, once for each time that the annotation is set: it is judged anew."""
    asked, rejected = deployment.metadata.annotations.get(RETRY), course.status.rejected
    if asked == course.status.retried:
        return course
    course = course.with_status(retried=asked)
    if asked is None:
        return course
    if rejected is None or asked not in (rejected.hash, rejected.version):
        known = f"rejected is {rejected.title}" if rejected else "none is"
        message = f"{RETRY} names {asked}, which is not rejected ({known}): nothing is done."
        return course.announcing(Announcement("Warning", "RetryRefused", message))
    message = f"{capital(rejected.title)} is tried again, as the annotation {RETRY} asks."
    return course.with_status(rejected=None).announcing(Announcement("Normal", "Retried", message, rejected.hash))


def _undo(
    deployment: ModelDeployment, observed: Observed, course: Course, target: RevisionStatus, now: datetime
) -> Course:
    """Go back to a revision of the history, once for each time that the annotation is set."""
    asked = deployment.metadata.annotations.get(UNDO_TO)
    if asked == course.status.undone_to:
        return course
    course = course.with_status(undone_to=asked)
    if asked is None:
        return course
    to = _from_history(course.status, asked)
    if to is None:
        return course.announcing(_unknown_revision(course.status, asked))
    return _go_back(deployment, observed, course, to, target, now)


def _from_history(status: ModelDeploymentStatus, asked: str) -> RevisionStatus | None:
    """The newest revision of that hash, or of that version in the registry."""
    known = [*(entry.revision for entry in status.history), *([status.stable] if status.stable else [])]
    return next((r for r in reversed(known) if asked in (r.hash, r.version)), None)


def _unknown_revision(status: ModelDeploymentStatus, asked: str) -> Announcement:
    known = ", ".join(dict.fromkeys(entry.revision.hash for entry in status.history)) or "nothing yet"
    message = f"{UNDO_TO} names {asked}, which status.history does not hold ({known}): name one of these."
    return Announcement("Warning", "UndoRefused", message)


def _go_back(
    deployment: ModelDeployment,
    observed: Observed,
    course: Course,
    to: RevisionStatus,
    target: RevisionStatus,
    now: datetime,
) -> Course:
    canary = course.status.canary
    if canary is not None and canary.revision.hash != to.hash:
        message = f"{capital(canary.revision.title)} was given up: a person went back to {to.title}."
        course = end(deployment, course, canary, "aborted", "Undone", message, now)
    course = course.with_status(rejected=target if target.hash != to.hash else None)
    stable = course.status.stable
    if stable is not None and stable.hash == to.hash:
        return course
    _, baseline = _room_beside(deployment, observed, stable)
    return _begin(deployment, course, to, now, undo=True, baseline=baseline)


def _begin(
    deployment: ModelDeployment,
    course: Course,
    revision: RevisionStatus,
    now: datetime,
    *,
    undo: bool = False,
    baseline: int | None = None,
) -> Course:
    canary = CanaryStatus(revision=revision, undo=undo, baseline_replicas=baseline, started_at=now, step_started_at=now)
    canary = spent(deployment, canary, OF_A_ROLLOUT)
    what = "The way back to" if undo else "Rollout of"
    said = Announcement("Normal", "RolloutStarted", f"{what} {revision.title} started.", revision.hash, 0)
    course = course.with_status(canary=canary, weight=0)
    course = course.announcing(_from_before(canary)) if canary.spent else course
    return course.announcing(said)


def _from_before(canary: CanaryStatus) -> Announcement:
    """Annotations that named the revision before its rollout began: setting the same value again changes nothing."""
    names = " and ".join(canary.spent)
    message = f"{names} named {canary.revision.title} before this rollout: to act in it, take it away and set it again."
    return Announcement("Warning", "AnnotationSpent", message, canary.revision.hash)


def _start(
    deployment: ModelDeployment, observed: Observed, course: Course, target: RevisionStatus, now: datetime
) -> Course:
    status = course.status
    if status.canary is not None:
        return course
    if status.rejected is not None:
        return course.saying(_rejected_sentence(status, target))
    if status.stable is not None and status.stable.hash == target.hash:
        return _keep(deployment, observed, course, status.stable, target)
    return _admit(deployment, observed, course, target, now)


def _keep(
    deployment: ModelDeployment, observed: Observed, course: Course, stable: RevisionStatus, target: RevisionStatus
) -> Course:
    """Stable is what the source names: whatever it was started with stays, its name with the version that has it.

    Its address too, for that one is proven; a restart takes the one that the source names now.
    """
    before = deployment.status.stable
    kept = {"images": stable.images or target.images, "public_key": stable.public_key, "restart": stable.restart}
    if before is not None and before.restart == stable.restart:
        kept["uri"] = stable.uri
    if stable.name not in (None, target.name):
        kept |= {"name": stable.name, "version": stable.version, "uri": stable.uri}
    return course.with_status(stable=target.model_copy(update=kept)).saying(_stable_sentence(observed, target))


def _admit(
    deployment: ModelDeployment, observed: Observed, course: Course, target: RevisionStatus, now: datetime
) -> Course:
    """Begin the rollout, unless the model cannot take stable's place or has no room: then nothing is touched."""
    no_room, baseline = _room_beside(deployment, observed, course.status.stable)
    failure = name_gate(target, course.status.stable) or feature_gate(target, observed.views) or no_room
    if failure is not None:
        return replace(course, blocked=failure).saying(f"{capital(target.title)} is not rolled out: {failure.message}")
    return _begin(deployment, course, target, now, baseline=baseline)


def _room_beside(
    deployment: ModelDeployment, observed: Observed, stable: RevisionStatus | None
) -> tuple[Failure | None, int | None]:
    """Why a revision finds no room beside stable, and the pods of stable where it takes their places one by one."""
    replicas = max(1, server_of(observed, stable.hash).replicas) if stable else 0
    room = room_for(deployment, observed, replicas)
    return room.failure, replicas if room.pod_by_pod else None


def _stable_sentence(observed: Observed, stable: RevisionStatus) -> str:
    failure = observed.routes.broken
    does = f"is stable, but its routes do not stand: {failure.message}" if failure else "serves all traffic."
    return f"{capital(stable.title)} {does}"


def _rejected_sentence(status: ModelDeploymentStatus, target: RevisionStatus) -> str:
    verdict, stable = status.verdict, status.stable
    if verdict is not None and verdict.revision.hash == target.hash:
        return verdict.message
    if verdict is not None and verdict.reason == "Undone" and stable is not None:
        left = f"{target.title} is not tried again while the source names it"
        return f"{capital(stable.title)} serves all traffic, since a person went back to it; {left}."
    return f"{capital(target.title)} was rejected and is not tried again while the source names it."
