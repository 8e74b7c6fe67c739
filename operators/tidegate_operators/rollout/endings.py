"""How a rollout ends: verdict, history, and who keeps the traffic."""

from __future__ import annotations

from datetime import datetime

from tidegate_api.annotations import PROMOTE
from tidegate_api.model_deployment import (
    CanaryStatus,
    HistoryEntry,
    ModelDeployment,
    Outcome,
    Retiring,
    RevisionStatus,
    Verdict,
)
from tidegate_operators.rollout.course import Course, asked
from tidegate_operators.rollout.observed import Announcement
from tidegate_operators.rollout.steps import FULL
from tidegate_operators.rollout.wording import capital

__all__ = ["end", "promote"]

_REJECTED = ("rolledBack", "aborted", "timedOut")


def promote(deployment: ModelDeployment, course: Course, canary: CanaryStatus, now: datetime) -> Course:
    """The canary becomes stable. Of the revision that a person left for it, that is recorded too."""
    reason, message = _promotion(deployment, course, canary)
    left = course.status.stable
    if canary.undo and left is not None:
        said = f"{capital(left.title)} gave way: a person went back to {canary.revision.title}."
        entry = _entry(deployment, left, "aborted", "Undone", said, canary.started_at, now)
        course = course.with_status(history=[*course.status.history, entry])
    return end(deployment, course, canary, "promoted", reason, message, now).with_status(stable=canary.revision)


def _promotion(deployment: ModelDeployment, course: Course, canary: CanaryStatus) -> tuple[str, str]:
    title = capital(canary.revision.title)
    if course.status.stable is None:
        return "FirstRevision", f"{title} is the first and serves all traffic."
    if canary.undo:
        return (
            "Undone",
            f"{title} serves all traffic again: a person went back to it from {course.status.stable.title}.",
        )
    proof = " ".join(item.message for item in canary.evidence)
    if asked(deployment, PROMOTE, canary):
        how = f"by the annotation {PROMOTE}, whatever its metrics had shown by then"
        return "PromotedByPerson", f"{title} was promoted {how}. {proof}".strip()
    return "Promoted", f"{title} was promoted. {proof}".strip()


def end(
    deployment: ModelDeployment,
    course: Course,
    canary: CanaryStatus,
    outcome: Outcome,
    reason: str,
    message: str,
    now: datetime,
) -> Course:
    """End the rollout: verdict, history, and no canary. Anything but promotion leaves all traffic with stable."""
    entry = _entry(deployment, canary.revision, outcome, reason, message, canary.started_at, now)
    verdict = Verdict(
        revision=canary.revision, outcome=outcome, reason=reason, message=message, at=now, evidence=canary.evidence
    )
    kept = _trim([*course.status.history, entry], deployment.spec.revision_history_limit)
    changed = course.with_status(
        canary=None, weight=0, verdict=verdict, history=kept, retiring=_retiring(course, canary, outcome, now),
        rejected=_rejected(course, canary, outcome),
    )  # fmt: skip
    kind = "Normal" if outcome in ("promoted", "superseded") else "Warning"
    weight = FULL if outcome == "promoted" else 0
    return changed.announcing(Announcement(kind, reason, message, canary.revision.hash, weight))


def _rejected(course: Course, canary: CanaryStatus, outcome: Outcome) -> RevisionStatus | None:
    """Who is not tried again: whoever the source names, where it did not become stable.

    A way back rejected what it was to lead away from; where that is stable still, it is not rejected any more.
    """
    before, stable = course.status.rejected, course.status.stable
    if outcome not in _REJECTED:
        return before
    if not canary.undo or before is None:
        return canary.revision
    return None if stable is not None and stable.hash == before.hash else before


def _entry(
    deployment: ModelDeployment,
    revision: RevisionStatus,
    outcome: Outcome,
    reason: str,
    message: str,
    start: datetime,
    end: datetime,
) -> HistoryEntry:
    """What the history keeps; without a registry there is nobody else to tell."""
    told = deployment.spec.model.registry is None
    facts = {"outcome": outcome, "reason": reason, "message": message, "recorded": told}
    return HistoryEntry(revision=revision, started_at=start, ended_at=end, **facts)


def _retiring(course: Course, canary: CanaryStatus, outcome: Outcome, now: datetime) -> list[Retiring]:
    """Whoever leaves, stays until the gateway has let it go."""
    leaving = course.status.stable if outcome == "promoted" else canary.revision
    return [*course.status.retiring, *([Retiring(revision=leaving, since=now)] if leaving is not None else [])]


def _trim(history: list[HistoryEntry], limit: int) -> list[HistoryEntry]:
    """The newest promotions, the newest others, and older ones that the registry has yet to be told of.

    Attempts that never served push no revision out that somebody may want back.
    """
    served = [entry for entry in history if entry.outcome == "promoted"][-limit:] if limit else []
    others = [entry for entry in history if entry.outcome != "promoted"][-limit:] if limit else []
    return [entry for entry in history if not entry.recorded or entry in served or entry in others]
