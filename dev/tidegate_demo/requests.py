"""Request bodies as a recommender would send them: a user, a slate of items, their online features from Redis."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tidegate_api.model_package import InputTensor, ModelManifest
from tidegate_components.features.serving import FeatureService

__all__ = ["Slates", "write_bodies"]

_NEW_USER = 100_000
Row = Mapping[str, Any]


@dataclass(frozen=True)
class Slates:
    """How the requests are drawn: how many, how many items each, and which share comes from users never seen before."""

    requests: int = 400
    items: int = 8
    new_users: float = 0.06
    seed: int = 11


def write_bodies(
    into: Path, manifest: ModelManifest, service: FeatureService, impressions: Sequence[Row], slates: Slates
) -> int:
    """Write one KServe v2 request body a line; returns how many.

    impressions: rows with the context columns that the model reads. The rest are features of the online store, which
    the service logs under the request's id.
    """
    drawn = _drawn(impressions, slates)
    lines = [_body(manifest, service, f"{slates.seed}-{number}", slate) for number, slate in enumerate(drawn)]
    into.write_text("\n".join(lines) + "\n")
    return len(lines)


def _body(manifest: ModelManifest, service: FeatureService, request: str, slate: Sequence[Row]) -> str:
    features = service.read(request, slate)
    rows = [{**row, **found} for row, found in zip(slate, features, strict=True)]
    return json.dumps({"id": request, "inputs": [_tensor(tensor, rows) for tensor in manifest.inputs]})


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


def _tensor(tensor: InputTensor, rows: Sequence[Row]) -> dict[str, Any]:
    convert = int if tensor.datatype == "INT64" else float
    data = [convert(row[column.name] or 0) for row in rows for column in tensor.features]
    return {"name": tensor.name, "datatype": tensor.datatype, "shape": [len(rows), len(tensor.features)], "data": data}
