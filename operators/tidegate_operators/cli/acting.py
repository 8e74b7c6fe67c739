"""The verbs that a person has over a rollout. Each sets an annotation, the same that GitOps would commit."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Annotated

import typer

from tidegate_api.annotations import ABORT, PAUSE, PROMOTE, RESTART, RETRY, UNDO_TO
from tidegate_api.model_deployment import CanaryStatus, HistoryEntry, ModelDeployment, RevisionStatus
from tidegate_operators.cli.arguments import Name, Namespace, one, stop
from tidegate_operators.cli.connection import Connection
from tidegate_operators.cli.explain import explanation
from tidegate_operators.rollout.course import ends_a_wait, stage_of

__all__ = ["abort", "pause", "promote", "restart", "resume", "retry", "undo"]


def promote(name: Name, namespace: Namespace = None) -> None:
    """Let a canary that waits for a person go on; anywhere else, promote it without the rest of its steps.

    Example: kubectl tidegate promote ctr-ranker
    """
    _annotate("promote", name, namespace, PROMOTE)


def abort(name: Name, namespace: Namespace = None) -> None:
    """Give all traffic back to stable.

    Example: kubectl tidegate abort ctr-ranker
    """
    _annotate("abort", name, namespace, ABORT)


def pause(name: Name, namespace: Namespace = None) -> None:
    """Keep the canary at its weight. Guards still roll it back.

    Example: kubectl tidegate pause ctr-ranker
    """
    _annotate("pause", name, namespace, PAUSE)


def resume(name: Name, namespace: Namespace = None) -> None:
    """Let a paused rollout go on.

    Example: kubectl tidegate resume ctr-ranker
    """
    connection = Connection(namespace)
    found = one(name, connection)
    canary = _under_way(found)
    asked = found.metadata.annotations.get(PAUSE) == canary.revision.hash
    if asked:
        connection.annotate("ModelDeployment", name, {PAUSE: None})
    if found.spec.paused:
        stop(f"{name} is paused by spec.paused: set it to false.")
    if not asked:
        stop(f"{name} is not paused: {_goes_on(found, canary)}.")
    sys.stdout.write(f"{name} goes on.\n")


def _goes_on(found: ModelDeployment, canary: CanaryStatus) -> str:
    waits = canary.effective_since is not None and stage_of(found, found.status, canary).until_promoted
    name = found.metadata.name
    return f"its step waits for a person (`kubectl tidegate promote {name}`)" if waits else "its rollout goes on"


def undo(
    name: Name,
    to: Annotated[
        str | None, typer.Option("--to", help="Revision or version of `history`; default: the one that served before.")
    ] = None,
    namespace: Namespace = None,
) -> None:
    """Go back to an earlier revision at once, without judging it again. The source's version stays away until it moves.

    Example: kubectl tidegate undo ctr-ranker --to 7
    """
    connection = Connection(namespace)
    found = one(name, connection)
    if to is None:
        _refuse_during_a_rollout(found)
    revision = _earlier(found, to)
    _refuse_to_go_nowhere(found, revision)
    _set_anew(connection, found, UNDO_TO, revision.hash, lambda seen: seen.status.undone_to is None)
    sys.stdout.write(f"{name} goes back to {revision.title}.\n")


def _refuse_during_a_rollout(found: ModelDeployment) -> None:
    """Without a name an undo would leave stable too, about which nobody has complained."""
    canary, name = found.status.canary, found.metadata.name
    if canary is not None and not canary.undo:
        said = f"the rollout of {canary.revision.title} is under way: `kubectl tidegate abort {name}` gives all traffic"
        stop(f"{name}: {said} back to stable; --to names a revision that is to serve instead of both.")


def _refuse_to_go_nowhere(found: ModelDeployment, revision: RevisionStatus) -> None:
    """The canary is not to be promoted unjudged by an undo, and who serves is there already."""
    canary, name = found.status.canary, found.metadata.name
    if canary is not None and canary.revision.hash == revision.hash:
        verb = "goes back already" if canary.undo else "is under judgement: `kubectl tidegate promote` lets it go on"
        stop(f"{name}: {revision.title} {verb}.")
    if canary is None and found.status.stable is not None and found.status.stable.hash == revision.hash:
        stop(f"{name}: {revision.title} serves all traffic already.")


def _earlier(found: ModelDeployment, to: str | None) -> RevisionStatus:
    """The revision to go back to: the named one, or the last that served well before stable."""
    stable = found.status.stable
    known = _served_well(found.status.history) if to is None else [entry.revision for entry in found.status.history]
    current = stable.hash if stable else None
    fits = [r for r in known if (r.hash != current if to is None else to in (r.hash, r.version))]
    if not fits:
        served = [entry.revision.hash for entry in found.status.history if entry.outcome == "promoted"]
        left = ", ".join(dict.fromkeys(each for each in served if each != current))
        other = f"what served before has been left or rejected since: --to names one of {left}" if left else ""
        what = f"its history does not hold {to}" if to else other or "no other revision has served"
        stop(f"{found.metadata.name} cannot go back: {what}. `kubectl tidegate history` lists what there is.")
    return fits[-1]


def _served_well(history: Iterable[HistoryEntry]) -> list[RevisionStatus]:
    """Those that were promoted, oldest first, and have not been left, aborted or rolled back since."""
    found: dict[str, RevisionStatus] = {}
    for entry in history:
        if entry.outcome in ("promoted", "rolledBack", "aborted"):
            found.pop(entry.revision.hash, None)
        if entry.outcome == "promoted":
            found[entry.revision.hash] = entry.revision
    return list(found.values())


def retry(name: Name, namespace: Namespace = None) -> None:
    """Roll out again what was rolled back, aborted or timed out, from the first step, without any evidence from before.

    Example: kubectl tidegate retry ctr-ranker
    """
    connection = Connection(namespace)
    found = one(name, connection)
    rejected = found.status.rejected
    if rejected is None:
        stop(f"{name}: nothing was rejected. {explanation(found)}")
    _set_anew(connection, found, RETRY, rejected.hash, lambda seen: seen.status.retried is None)
    sys.stdout.write(f"{name} tries {rejected.title} again.\n")


def restart(name: Name, namespace: Namespace = None) -> None:
    """Have the pods made anew, one by one, without a lost request.

    Example: kubectl tidegate restart ctr-ranker
    """
    connection = Connection(namespace)
    one(name, connection)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    connection.annotate("ModelDeployment", name, {RESTART: now})
    sys.stdout.write(f"The pods of {name} are made anew.\n")


def _annotate(verb: str, name: str, namespace: str | None, annotation: str) -> None:
    connection = Connection(namespace)
    found = one(name, connection)
    canary = _under_way(found)
    if found.status.stable is None:
        what = f"{canary.revision.title} is the first, with no other to share the traffic with"
        stop(f"{name}: {what}; {verb} has no effect. Change spec.model, or delete the ModelDeployment.")
    if annotation == PROMOTE:
        _refuse_an_early_promotion(found, canary)
    if _is_asked_already(found, canary, annotation):
        stop(f"{name} has {annotation}={canary.revision.hash} already. {explanation(found)}")
    _set_anew(connection, found, annotation, canary.revision.hash, lambda seen: _acts(seen, annotation))
    does = f": {_promotes(found, canary)}" if annotation == PROMOTE else ""
    sys.stdout.write(f"{annotation}={canary.revision.hash} was set on {name}{does}.\n")


def _promotes(found: ModelDeployment, canary: CanaryStatus) -> str:
    if ends_a_wait(found, found.status, canary):
        return "its wait ends, and the steps after it are judged as ever"
    return "it goes on to all of the traffic, without the rest of its steps; guards still roll it back"


def _refuse_an_early_promotion(found: ModelDeployment, canary: CanaryStatus) -> None:
    """A promotion acts on the weight that a canary has: not on one that it is yet to be given, nor while paused."""
    name = found.metadata.name
    if canary.paused_at is not None:
        stop(f"{name} is paused: let it go on first (`kubectl tidegate resume {name}`, or spec.paused: false).")
    if canary.effective_since is None:
        stop(f"{name}: {canary.revision.title} does not have the weight of its step yet. {explanation(found)}")


def _is_asked_already(found: ModelDeployment, canary: CanaryStatus, annotation: str) -> bool:
    """Whether the annotation is set and yet to act."""
    return found.metadata.annotations.get(annotation) == canary.revision.hash and annotation not in canary.spent


def _set_anew(
    connection: Connection,
    found: ModelDeployment,
    annotation: str,
    value: str,
    forgotten: Callable[[ModelDeployment], bool],
) -> None:
    """Set an annotation; one that stands and acts no more is taken away first, until the operator has forgotten it."""
    name = found.metadata.name
    if found.metadata.annotations.get(annotation) == value:
        connection.annotate("ModelDeployment", name, {annotation: None})
        connection.wait_until_seen(name, lambda seen: forgotten(ModelDeployment.parse(seen)))
    connection.annotate("ModelDeployment", name, {annotation: value})


def _acts(found: ModelDeployment, annotation: str) -> bool:
    """Whether the annotation would act, once it is set."""
    return found.status.canary is None or annotation not in found.status.canary.spent


def _under_way(found: ModelDeployment) -> CanaryStatus:
    if found.status.canary is None:
        stop(f"{found.metadata.name}: no rollout is under way. {explanation(found)}")
    return found.status.canary
