"""Make what should be, remove what should not, and keep what the API server would not have."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from tidegate_api.hashes import content_hash
from tidegate_operators.adapters.cluster import Cluster
from tidegate_operators.adapters.errors import RefusedError

__all__ = ["Applied", "Body", "Name", "apply_all", "standing"]

Body = dict[str, Any]
Name = tuple[str, str]
"""Kind and name."""


class Applied:
    """What was applied last, and the resourceVersion that came of it: while both are as they were, nothing is owed.

    It only spares calls. A restart forgets it, and whatever anybody else changes has another resourceVersion.
    """

    def __init__(self) -> None:
        self._known: dict[tuple[str, str, str], tuple[str, str]] = {}

    def is_current(self, body: Body, present: Mapping[Name, Body]) -> bool:
        """Whether the object stands exactly as this body left it."""
        there = present.get((body["kind"], body["metadata"]["name"]))
        version = there["metadata"].get("resourceVersion") if there else None
        return version is not None and self._known.get(_key(body)) == (content_hash(body), version)

    def note(self, body: Body, answer: Body) -> None:
        """The body was applied, and this came back."""
        version = answer.get("metadata", {}).get("resourceVersion")
        if version:
            self._known[_key(body)] = (content_hash(body), version)

    def forget(self, namespace: str, kind: str, name: str) -> None:
        """The object was deleted."""
        self._known.pop((namespace, kind, name), None)


def _key(body: Body) -> tuple[str, str, str]:
    metadata = body["metadata"]
    return metadata.get("namespace", ""), body["kind"], metadata["name"]


def standing(cluster: Cluster, kinds: Iterable[str], namespace: str, labels: dict[str, str]) -> dict[Name, Body]:
    """The objects of these kinds and labels that are there."""
    return {(kind, body["metadata"]["name"]): body for kind in kinds for body in cluster.list(kind, namespace, labels)}


def apply_all(
    cluster: Cluster, bodies: Iterable[Body], applied: Applied, present: Mapping[Name, Body]
) -> RefusedError | None:
    """Apply every body that does not stand yet; returns the first refusal. One that is refused keeps no other back."""
    owed = [body for body in bodies if not applied.is_current(body, present)]
    refusals = [refusal for body in owed if (refusal := _apply(cluster, body, applied)) is not None]
    return next(iter(refusals), None)


def _apply(cluster: Cluster, body: Body, applied: Applied) -> RefusedError | None:
    try:
        applied.note(body, cluster.apply(body))
    except RefusedError as error:
        return error
    return None
