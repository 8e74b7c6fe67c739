"""Browsing feature views: search them, and say of one what it is made of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tidegate_api.durations import format_duration
from tidegate_api.feature import Feature
from tidegate_api.feature_view import FeatureView
from tidegate_components.features.errors import BadFeaturesError

__all__ = ["describe", "named", "search"]


def search(
    views: Sequence[FeatureView], words: str = "", owner: str = "", tags: Sequence[str] = ()
) -> list[dict[str, Any]]:
    """The views that have every word somewhere (letter case aside), this owner and all these tags, described."""
    found = [view for view in views if set(tags) <= set(view.spec.tags) and owner in ("", view.spec.owner)]
    return [describe(view) for view in found if all(word in _text(view) for word in words.lower().split())]


def named(views: Sequence[FeatureView], name: str) -> FeatureView:
    """The view of that name. Raises BadFeaturesError, which lists those that are there."""
    for view in views:
        if view.metadata.name == name:
            return view
    raise BadFeaturesError(
        resource="feature views", field="name", value=name,
        expected=f"one of {', '.join(view.metadata.name for view in views)}", remedy="see `tidegate features list`",
    )  # fmt: skip


def describe(view: FeatureView) -> dict[str, Any]:
    """What people and tools want to know of a view; its version is the pair of hashes."""
    spec = view.spec
    return {
        "name": view.metadata.name,
        "description": spec.description,
        "owner": spec.owner,
        "tags": spec.tags,
        "entity": spec.entity.name,
        "keys": [f"{key.name} {key.type}" for key in spec.entity.join_keys],
        "source": spec.source.address,
        "ttl": format_duration(spec.ttl) if spec.ttl else None,
        "schemaHash": view.schema_hash,
        "transformHash": view.transform_hash,
        "features": [
            {
                "name": f.name,
                "type": f.type,
                "computed": _computed(f),
                "default": f.default,
                "description": f.description,
            }
            for f in spec.features
        ],
    }


def _computed(feature: Feature) -> str:
    aggregate = feature.aggregate
    if aggregate is None:
        return "by the view's sql"
    where = f" where {aggregate.where}" if aggregate.where else ""
    return f"{aggregate.function}({aggregate.column or ''}) over {format_duration(aggregate.window)}{where}"


def _text(view: FeatureView) -> str:
    spec = view.spec
    features = [word for feature in spec.features for word in (feature.name, feature.description)]
    return " ".join([view.metadata.name, spec.description, spec.owner, spec.entity.name, *spec.tags, *features]).lower()
