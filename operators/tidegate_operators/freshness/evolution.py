"""Which definition of a FeatureView is in force: a breaking change waits until no live model needs the old schema."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from tidegate_api.feature_view import FeatureView, FeatureViewSpec
from tidegate_api.model_deployment import ModelDeployment
from tidegate_api.resource import Condition

__all__ = ["Ruling", "breaking_changes", "is_breaking", "readable_schemas", "readers", "rule_on"]


@dataclass(frozen=True)
class Ruling:
    """The view as it is in force, and what SchemaCompatible says of the one that was applied."""

    view: FeatureView
    condition: Condition


def readers(view: FeatureView, deployments: Iterable[ModelDeployment]) -> tuple[str, ...]:
    """The live models, stable or canary, that were trained on another schema of the view, as sentences name them."""
    return tuple(
        f"ModelDeployment {deployment.metadata.name} ({revision.title})"
        for deployment in deployments
        for revision in deployment.status.live
        if revision.feature_views.get(view.metadata.name, view.schema_hash) != view.schema_hash
    )


def breaking_changes(old: FeatureViewSpec, new: FeatureViewSpec) -> tuple[str, ...]:
    """What a reader of the old schema could not read under the new one. Added or moved features break nothing."""
    keys = [[(key.name, key.type) for key in spec.entity.join_keys] for spec in (old, new)]
    types = {feature.name: feature.type for feature in new.features}
    gone = [f"feature {f.name} is gone" for f in old.features if f.name not in types]
    retyped = [
        f"feature {f.name} is {types[f.name]} instead of {f.type}"
        for f in old.features
        if types.get(f.name, f.type) != f.type
    ]
    return (*(["the join keys differ"] if keys[0] != keys[1] else []), *gone, *retyped)


def readable_schemas(view: FeatureView, accepted: Sequence[FeatureViewSpec]) -> frozenset[str]:
    """The schema hashes under which the view's values can be read: that in force, and older ones that it only added to.

    accepted: the accepted definitions, newest first; the newest is in force.
    """
    in_force = accepted[0] if accepted else view.spec
    specs = [in_force, *(spec for spec in accepted[1:] if not breaking_changes(spec, in_force))]
    return frozenset(view.model_copy(update={"spec": spec}).schema_hash for spec in specs)


def is_breaking(view: FeatureView, accepted: FeatureViewSpec | None) -> bool:
    """Whether it matters who reads the view: only to a change that breaks what was accepted before."""
    return accepted is not None and view.spec.evolution != "Any" and bool(breaking_changes(accepted, view.spec))


def rule_on(view: FeatureView, accepted: FeatureViewSpec | None, live: Sequence[str], now: datetime) -> Ruling:
    """The definition that holds: the one applied, or the last accepted one while a live model needs it.

    live: the models that need another schema than the applied one's, from `readers`.
    """
    if accepted is None or not live or not is_breaking(view, accepted):
        return Ruling(view, _condition("True", "Compatible", "No live model needs another schema of this view.", now))
    models = ", ".join(live[:5]) + (f" and {len(live) - 5} more" if len(live) > 5 else "")
    broken = "; ".join(breaking_changes(accepted, view.spec))[:512]
    message = (
        f"{broken}: {models} reads the schema before, so the last accepted definition goes on; add features beside the "
        "old ones or make a view of another name, move the models to it, then remove the old."
    )
    held = view.model_copy(update={"spec": accepted})
    return Ruling(held, _condition("False", "BreakingChange", message[0].upper() + message[1:], now))


def _condition(status: str, reason: str, message: str, now: datetime) -> Condition:
    body = {"type": "SchemaCompatible", "status": status, "reason": reason, "message": message}
    return Condition.model_validate(body | {"lastTransitionTime": now})
