"""The ControllerRevisions of a FeatureView: each definition that was accepted, newest last."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from tidegate_api.errors import TidegateError
from tidegate_api.feature_view import FeatureView, FeatureViewSpec
from tidegate_api.hashes import short_hash
from tidegate_operators.resources.metadata import FEATURE_VIEW_LABEL, metadata

__all__ = ["accepted_spec", "accepted_specs", "accepted_version", "outdated", "revision_object"]

_KEPT = 3


def accepted_version(revisions: Iterable[Mapping[str, Any]]) -> int:
    """The number of the newest accepted definition; 0: none yet."""
    return max((int(body["revision"]) for body in revisions), default=0)


def accepted_spec(view: FeatureView, revisions: Iterable[Mapping[str, Any]]) -> FeatureViewSpec | None:
    """The last accepted definition; none before the first, or where this release can no longer read it."""
    newest = max(revisions, key=lambda body: int(body["revision"]), default=None)
    return _spec(view, newest) if newest is not None else None


def accepted_specs(view: FeatureView, revisions: Iterable[Mapping[str, Any]]) -> list[FeatureViewSpec]:
    """The accepted definitions that are still kept and that this release can read, newest first."""
    newest_first = sorted(revisions, key=lambda body: -int(body["revision"]))
    return [spec for body in newest_first if (spec := _spec(view, body)) is not None]


def _spec(view: FeatureView, body: Mapping[str, Any]) -> FeatureViewSpec | None:
    try:
        head = {"apiVersion": view.api_version, "kind": view.kind, "metadata": {"name": view.metadata.name}}
        return FeatureView.parse(head | {"spec": body["data"]["spec"]}).spec
    except TidegateError:
        return None


def revision_object(view: FeatureView, revisions: Iterable[Mapping[str, Any]]) -> dict[str, Any] | None:
    """The revision to write for a definition that is accepted now; none where it already is the newest."""
    spec = view.spec.to_dict()
    name = f"{view.metadata.name}-{short_hash(spec)}"
    known = list(revisions)
    newest = accepted_version(known)
    if any(body["metadata"]["name"] == name and int(body["revision"]) == newest for body in known):
        return None
    return {
        "apiVersion": "apps/v1",
        "kind": "ControllerRevision",
        "metadata": metadata(view, name, {FEATURE_VIEW_LABEL: view.metadata.name}),
        "data": {"spec": spec},
        "revision": newest + 1,
    }


def outdated(revisions: Iterable[Mapping[str, Any]]) -> list[str]:
    """Names of the revisions beyond the newest few."""
    newest_first = sorted(revisions, key=lambda body: -int(body["revision"]))
    return [str(body["metadata"]["name"]) for body in newest_first[_KEPT:]]
