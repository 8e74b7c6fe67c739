"""The FeatureViews that a model reads, as they stand."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from tidegate_api.errors import TidegateError
from tidegate_api.feature_view import FeatureView
from tidegate_api.model_deployment import ResolvedModel
from tidegate_operators.adapters.cluster import Cluster
from tidegate_operators.freshness.evolution import readable_schemas
from tidegate_operators.resources.accepted import accepted_specs
from tidegate_operators.resources.metadata import FEATURE_VIEW_LABEL
from tidegate_operators.rollout.observed import View

__all__ = ["observe_views"]


def observe_views(model: ResolvedModel | None, namespace: str, cluster: Cluster) -> tuple[View, ...]:
    """Those views of the namespace that the model names, where they are there."""
    names = sorted(model.feature_views) if model else []
    bodies = (cluster.get("FeatureView", namespace, name) for name in names)
    return tuple(view for body in bodies if body is not None for view in _view(body, cluster))


def _view(body: Mapping[str, Any], cluster: Cluster) -> list[View]:
    """The view; nothing for one that this release cannot read."""
    with suppress(TidegateError):
        found = FeatureView.parse(body)
        labels = {FEATURE_VIEW_LABEL: found.metadata.name}
        revisions = cluster.list("ControllerRevision", found.metadata.namespace, labels)
        ready = next((item for item in found.status.conditions if item.type == "Ready"), None)
        schemas = readable_schemas(found, accepted_specs(found, revisions))
        is_ready = ready is not None and ready.status == "True"
        return [View(found.metadata.name, is_ready, schemas, ready.message if ready else "")]
    return []
