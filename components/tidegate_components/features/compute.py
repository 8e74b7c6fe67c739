"""The features step: a training set out of samples and views, with the views' schemas written into the file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tidegate_api.feature_view import FeatureView
from tidegate_components.features.errors import BadFeaturesError
from tidegate_components.features.join import column_name, join_views
from tidegate_components.storage import parquet_files, replacing

if TYPE_CHECKING:
    import pyarrow as pa

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
    """join_views from Parquet to Parquet; the file's metadata says which column is which view's. Returns the rows.

    What an earlier join said of its columns stays.

    Raises BadFeaturesError as join_views does, and where `entities` cannot be read or `into` not be written.
    """
    import pyarrow.parquet as pq

    from tidegate_components.models.inputs import VIEWS_KEY

    _check_target(into, entities, views, claims)
    given, name = _entities(entities), f"entities {entities}"
    joined = join_views(given, timestamp, views, engine=engine, as_known=as_known, claims=claims, name=name)
    known, described = joined.schema.metadata or {}, _described(views)
    before = [one for one in json.loads(known.get(VIEWS_KEY, b"[]")) if one not in described]
    joined = joined.replace_schema_metadata({**known, VIEWS_KEY: json.dumps([*before, *described]).encode()})
    try:
        with replacing(into) as beside:
            pq.write_table(joined, beside)
    except OSError as error:
        raise BadFeaturesError(
            resource="features join", field="--out", value=str(into), expected=f"a file that can be written ({error})",
            remedy="name another file, or make its folder writable",
        ) from error  # fmt: skip
    return int(joined.num_rows)


def _check_target(into: Path, entities: Path, views: Sequence[FeatureView], claims: dict[str, Path] | None) -> None:
    """Refuse to replace what the join reads, or what no earlier join wrote."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from tidegate_components.features.source import event_files
    from tidegate_components.models.inputs import VIEWS_KEY
    from tidegate_components.storage import resolve

    if not into.is_file():
        return
    sources = [
        file
        for view in views
        if view.spec.source.files is not None
        for file in event_files(resolve(view.spec.source.parquet.uri, claims))
    ]
    read = any(into.samefile(file) for file in (*parquet_files(entities), *sources) if file.is_file())
    try:
        ours = VIEWS_KEY in (pq.read_schema(into).metadata or {})
    except (pa.ArrowException, OSError):
        ours = False
    if read or not ours:
        raise BadFeaturesError(
            resource="features join", field="--out", value=str(into),
            expected="nothing there, or what an earlier join wrote and this one does not read",
            remedy="name another file, or remove it first",
        )  # fmt: skip


def _entities(path: Path) -> pa.Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    files = parquet_files(path)
    try:
        return pa.concat_tables([pq.read_table(file, partitioning=None) for file in files or [path]])
    except (pa.ArrowException, OSError) as error:
        raise BadFeaturesError(
            resource=f"entities {path}", field="content", value=str(error).splitlines()[0],
            expected="a Parquet file, or some that are alike", remedy="check the path, or write them as Parquet",
        ) from error  # fmt: skip


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
