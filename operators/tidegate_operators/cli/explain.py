"""Why a deployment stands where it stands, in one paragraph."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from tidegate_api.model_deployment import ModelDeployment, RevisionStatus
from tidegate_operators.rollout.wording import capital, ignored_sentence, share_of

__all__ = ["explanation"]


def explanation(found: ModelDeployment) -> str:
    """Who serves, what is under way or was rejected, what is wrong, and what to do; nothing is said twice."""
    if not found.status.conditions and found.status.canary is None:
        return "The operator has not looked at it yet."
    said = ""
    for sentence in map(_sentence, _sentences(found)):
        if sentence.rstrip(".") not in said:
            said = f"{said} {sentence}".strip()
    return said


def _sentences(found: ModelDeployment) -> Iterator[str]:
    status = found.status
    yield _who_serves(found)
    if status.canary is not None or status.rejected is None:
        yield status.message or ""
    if status.rejected is not None:
        yield from _rejection(found, status.rejected)
    yield from _what_is_wrong(found)
    canary = status.canary.revision if status.canary else None
    yield from (ignored_sentence(name, value, canary) for name, value in status.ignored_annotations.items())
    if status.canary is not None:
        yield from (item.message for item in status.canary.evidence)
        if status.canary.paused_at is not None:
            yield _remedy_of_pause(found)


def _who_serves(found: ModelDeployment) -> str:
    stable, weight = found.status.stable, found.status.weight
    if stable is None:
        return "Nothing serves yet."
    if any(item.type == "Ready" and item.status == "False" for item in found.status.conditions):
        return f"{capital(stable.title)} is stable."
    test = found.spec.strategy.ab_test
    if weight and test is not None and test.values:
        return f"{capital(stable.title)} serves all but {share_of(found, weight)}."
    share = f"{100 - weight} % of the traffic" if weight else "all traffic"
    return f"{capital(stable.title)} serves {share}."


def _rejection(found: ModelDeployment, rejected: RevisionStatus) -> Iterator[str]:
    verdict, registry = found.status.verdict, found.spec.model.registry
    if verdict is not None and verdict.revision.hash == rejected.hash:
        yield verdict.message
    again = f"{capital(rejected.title)} is not tried again while"
    if registry is None:
        what = "spec.model.package names it: name another package there"
    else:
        what = f"the alias {registry.alias} of {registry.name} names it: move the alias to another version"
    yield f"{again} {what}, or `kubectl tidegate retry {found.metadata.name}`."


def _what_is_wrong(found: ModelDeployment) -> Iterable[str]:
    """What conditions say, but for those that only say that nothing is under way or ready yet."""
    usual = {"NoRollout", "NoStableRevision", "NotStalled", "Waiting"}
    return (item.message for item in found.status.conditions if item.status == "False" and item.reason not in usual)


def _remedy_of_pause(found: ModelDeployment) -> str:
    name = found.metadata.name
    return "Set spec.paused to false." if found.spec.paused else f"`kubectl tidegate resume {name}` lets it go on."


def _sentence(text: str) -> str:
    text = text.strip()
    return text if not text or text.endswith((".", "!", "?")) else f"{text}."
