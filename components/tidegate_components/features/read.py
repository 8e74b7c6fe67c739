"""Reading features of entities from the online store, for people and for services."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from tidegate_api.feature_view import FeatureView
from tidegate_components.features.encoding import from_micros
from tidegate_components.features.errors import BadFeaturesError
from tidegate_components.features.online import OnlineStore, defaults
from tidegate_components.json_values import rfc3339

__all__ = ["get_features", "parse_key"]


def parse_key(view: FeatureView, text: str) -> tuple[Any, ...]:
    """An entity key as a person writes it: its parts by declared type, in the order of joinKeys.

    Parts of a composite key stand between commas; one that has a comma stands in double quotes, as in CSV. Raises
    BadFeaturesError.
    """
    keys = view.spec.entity.join_keys
    try:
        parts = next(csv.reader([text], strict=True)) if len(keys) > 1 else [text]
        return tuple(_parsed(part, key.type) for key, part in zip(keys, parts, strict=True))
    except (ValueError, csv.Error) as error:
        raise BadFeaturesError(
            resource=f"FeatureView {view.metadata.name}", field="key", value=text,
            expected=",".join(f"{key.name} ({key.type})" for key in keys), remedy="correct --key",
        ) from error  # fmt: skip


def _parsed(part: str, kind: str) -> Any:
    if kind == "Bool" and part.lower() not in {"true", "false"}:
        raise ValueError(part)
    if kind == "Bool":
        return part.lower() == "true"
    if kind == "Timestamp":
        time = datetime.fromisoformat(part)
        return time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC)
    if kind == "Int64" and not -(2**63) <= int(part) < 2**63:
        raise ValueError(part)
    return {"Int64": int, "Float64": float}.get(kind, str)(part)


def get_features(view: FeatureView, store: OnlineStore, keys: Sequence[tuple[Any, ...]]) -> list[dict[str, Any]]:
    """Per key {key, found, asOf, features}; an entity that is not stored has the view's defaults and no as-of time."""
    names = [feature.name for feature in view.spec.features]
    (found,) = store.read([(view, keys)])
    return [
        {
            "key": list(key),
            "found": value is not None,
            "asOf": rfc3339(from_micros(value.as_of)) if value else None,
            "features": dict(zip(names, value.values if value else defaults(view), strict=True)),
        }
        for key, value in zip(keys, found, strict=True)
    ]
