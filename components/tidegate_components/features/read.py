"""Reading features of entities from the online store, for people and for services."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from tidegate_api.feature_view import FeatureView
from tidegate_components.features.encoding import from_micros
from tidegate_components.features.errors import BadFeaturesError
from tidegate_components.features.online import OnlineStore, defaults

__all__ = ["get_features", "parse_key"]


def parse_key(view: FeatureView, text: str) -> tuple[Any, ...]:
    """An entity key as a person writes it: its parts in the order of joinKeys, separated by commas."""
    keys = view.spec.entity.join_keys
    parts = text.split(",") if len(keys) > 1 else [text]
    try:
        return tuple(int(part) if key.type == "Int64" else part for key, part in zip(keys, parts, strict=True))
    except ValueError as error:
        raise BadFeaturesError(
            resource=f"FeatureView {view.metadata.name}", field="key", value=text,
            expected=",".join(f"{key.name} ({key.type})" for key in keys), remedy="correct --key",
        ) from error  # fmt: skip


def get_features(view: FeatureView, store: OnlineStore, keys: Sequence[tuple[Any, ...]]) -> list[dict[str, Any]]:
    """Per key {key, found, asOf, features}; an entity that is not stored has the view's defaults and no as-of time."""
    names = [feature.name for feature in view.spec.features]
    found = store.read([(view, key) for key in keys])
    return [
        {
            "key": list(key),
            "found": value is not None,
            "asOf": _text(from_micros(value.as_of)) if value else None,
            "features": dict(zip(names, value.values if value else defaults(view), strict=True)),
        }
        for key, value in zip(keys, found, strict=True)
    ]


def _text(time: datetime) -> str:
    return time.isoformat().replace("+00:00", "Z")
