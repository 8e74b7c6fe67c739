"""The features step: a training set out of samples and views, with the views' schemas written into the file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from tidegate_api.feature_view import FeatureView
from tidegate_components.features.join import column_name, join_views
from tidegate_components.storage import replacing

__all__ = ["compute_features", "join_file", "parse_views"]


def parse_views(text: str) -> list[FeatureView]:
    """The views of a JSON list of FeatureView objects, ordered by name. Raises TidegateError."""
    return sorted((FeatureView.parse(body) for body in json.loads(text)), key=lambda view: view.metadata.name)


def compute_features(samples: Path, views: Sequence[FeatureView], into: Path, lake: Path | None = None) -> int:
    """Join every view's features onto the samples as of their `event_time`; returns the rows.

    `lake` is the folder that stands for the claim `lake` of sources such as pvc://lake/interactions.
    """
    return join_file(samples, "event_time", views, into, claims={"lake": lake} if lake else None)


def join_file(
    entities: Path,
    timestamp: str,
    views: Sequence[FeatureView],
    into: Path,
    *,
    engine: str = "duckdb",
    as_known: bool = False,
    claims: dict[str, Path] | None = None,
) -> int:
    """join_views from Parquet to Parquet; the file's metadata says which column is which view's. Returns the rows."""
    import pyarrow.parquet as pq

    from tidegate_components.models.inputs import VIEWS_KEY

    joined = join_views(pq.read_table(entities), timestamp, views, engine=engine, as_known=as_known, claims=claims)
    known = joined.schema.metadata or {}
    joined = joined.replace_schema_metadata({**known, VIEWS_KEY: json.dumps(_described(views)).encode()})
    with replacing(into) as beside:
        pq.write_table(joined, beside)
    return int(joined.num_rows)


def _described(views: Sequence[FeatureView]) -> list[dict[str, str]]:
    return [
        {
            "column": column_name(view.metadata.name, feature.name),
            "view": view.metadata.name,
            "feature": feature.name,
            "type": feature.type,
            "schemaHash": view.schema_hash,
        }
        for view in views
        for feature in view.spec.features
    ]
