"""Request bodies as a recommender would send them: a user, a slate of items, their online features from Redis."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tidegate_api.feature_view import FeatureView
from tidegate_api.model_package import InputTensor, ModelManifest
from tidegate_components.features.online import OnlineStore, defaults

__all__ = ["Slates", "write_bodies"]

_NEW_USER = 100_000
Row = Mapping[str, Any]
Key = tuple[Any, ...]
Features = Mapping[tuple[str, Key], Row]


@dataclass(frozen=True)
class Slates:
    """How the requests are drawn: how many, how many items each, and which share comes from users never seen before."""

    requests: int = 400
    items: int = 8
    new_users: float = 0.06
    seed: int = 11


def write_bodies(
    into: Path,
    manifest: ModelManifest,
    views: Sequence[FeatureView],
    store: OnlineStore,
    impressions: Sequence[Row],
    slates: Slates,
) -> int:
    """Write one KServe v2 request body a line; returns how many.

    impressions: rows with the context columns that the model reads. Features come from the online store, and where it
    holds none for an entity, from the view's defaults, as any client does it.
    """
    rows = _drawn(impressions, slates)
    features = _features(views, store, [row for slate in rows for row in slate])
    slates_with_features = [[_with_features(row, views, features) for row in slate] for slate in rows]
    lines = [json.dumps({"inputs": [_tensor(t, slate) for t in manifest.inputs]}) for slate in slates_with_features]
    into.write_text("\n".join(lines) + "\n")
    return len(lines)


def _drawn(impressions: Sequence[Row], slates: Slates) -> list[list[dict[str, Any]]]:
    generator = random.Random(slates.seed)  # noqa: S311 - a demo's traffic
    found = []
    for number in range(slates.requests):
        slate = [dict(row) for row in generator.choices(impressions, k=slates.items)]
        user = {key: slate[0][key] for key in ("user_id", "age", "gender", "occupation")}
        if generator.random() < slates.new_users:
            user["user_id"] = _NEW_USER + number
        found.append([row | user for row in slate])
    return found


def _features(views: Sequence[FeatureView], store: OnlineStore, rows: Sequence[Row]) -> Features:
    """Values by view and entity key, named as the model's columns are; all views and entities in one round trip."""
    wanted = [(view, key) for view in views for key in sorted({_key(view, row) for row in rows})]
    found = store.read(wanted)
    return {
        (view.metadata.name, key): _named(view, stored.values if stored else defaults(view))
        for (view, key), stored in zip(wanted, found, strict=True)
    }


def _key(view: FeatureView, row: Row) -> Key:
    return tuple(row[key.name] for key in view.spec.entity.join_keys)


def _named(view: FeatureView, values: Sequence[Any]) -> Row:
    return {f"{view.metadata.name}__{f.name}": value for f, value in zip(view.spec.features, values, strict=True)}


def _with_features(row: Row, views: Sequence[FeatureView], features: Features) -> Row:
    found = dict(row)
    for view in views:
        found |= features[view.metadata.name, _key(view, row)]
    return found


def _tensor(tensor: InputTensor, rows: Sequence[Row]) -> dict[str, Any]:
    convert = int if tensor.datatype == "INT64" else float
    data = [convert(row[column.name] or 0) for row in rows for column in tensor.features]
    return {"name": tensor.name, "datatype": tensor.datatype, "shape": [len(rows), len(tensor.features)], "data": data}
