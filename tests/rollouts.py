"""Deployments and looks that the tests of the rollout share."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from tidegate_api.model_deployment import ModelDeployment, ModelDeploymentStatus, ResolvedModel, Tally
from tidegate_operators.rollout.observed import Decision, Observed, Routes, Server, Window
from tidegate_operators.rollout.source import revision_of

START = datetime(2026, 1, 1, tzinfo=UTC)
GOOD = ResolvedModel(digest="sha256:" + "a" * 64, uri="pvc://models/1", version="1")
NEXT = ResolvedModel(digest="sha256:" + "b" * 64, uri="pvc://models/2", version="2")
LATER = ResolvedModel(digest="sha256:" + "c" * 64, uri="pvc://models/3", version="3")

SPEC: dict[str, Any] = {
    "model": {"registry": {"name": "ctr-ranker", "alias": "challenger", "promotedAlias": "champion"}},
    "runtime": {"gpus": 0, "backend": "onnxruntime"},
    "scaling": {"minReplicas": 2, "maxReplicas": 6, "targets": [{"cpuUtilization": 70}]},
    "routing": {"gatewayRef": {"name": "public", "namespace": "gateways"}, "hostnames": ["ctr.example.com"]},
    "strategy": {"canary": {"steps": [{"setWeight": 5}, {"pause": {"duration": "10s"}}, {"setWeight": 50}]}},
    "analysis": {
        "interval": "10s",
        "minSamples": 100,
        "metrics": [{"name": "errors", "role": "guard", "margin": 0.01, "errorRate": {}}],
    },
    "progressDeadline": "10m",
}


def deployment(
    status: ModelDeploymentStatus | None = None, annotations: dict[str, str] | None = None, **spec: Any
) -> ModelDeployment:
    """A ModelDeployment as the API server would hand it over."""
    metadata = {"name": "ctr-ranker", "namespace": "shop", "uid": "u-1", "generation": 1}
    return ModelDeployment.parse(
        {
            "apiVersion": "tidegate.dev/v1alpha1",
            "kind": "ModelDeployment",
            "metadata": metadata | {"annotations": annotations or {}},
            "spec": SPEC | spec,
            "status": (status or ModelDeploymentStatus()).to_dict(),
        }
    )


def revision(model: ResolvedModel) -> str:
    """The hash that names a model's revision on the usual runtime."""
    return revision_of(deployment(), model).hash


def windows(
    now: datetime, stable: tuple[int, int], canary: tuple[int, int], metric: str = "errors"
) -> tuple[Window, ...]:
    """One interval that ends now, with (events, trials) of each side."""
    sides = [Tally(events=float(events), trials=float(trials)) for events, trials in (stable, canary)]
    return (Window(metric, now - timedelta(seconds=10), now, stable=sides[0], canary=sides[1]),)


def readings(now: datetime, value: float, metric: str = "drift") -> tuple[Window, ...]:
    """A threshold's reading at the end of one interval that ends now."""
    return (Window(metric, now - timedelta(seconds=10), now, value=value),)


def ready(decision: Decision | None, replicas: int = 2) -> dict[str, Server]:
    """Every planned revision has all of its pods."""
    return (
        {
            plan.revision.hash: Server(max(replicas, plan.min_replicas), max(replicas, plan.min_replicas))
            for plan in decision.plans
        }
        if decision
        else {}
    )


def obeyed(decision: Decision | None, model: ResolvedModel | None, **more: Any) -> Observed:
    """A look at a cluster that did all that the last decision said."""
    routes = routed(decision)
    return Observed(model=model, servers=ready(decision), routes=routes, **more)


def routed(decision: Decision | None) -> Routes:
    """Routes that carry what the last decision said; there are none before anybody has a weight."""
    if decision is None or not any(decision.weights.values()):
        return Routes()
    return Routes(dict(decision.weights), accepted=True)


def shares(decision: Decision | None) -> dict[str, int]:
    """Who gets traffic, and how much."""
    return {revision: weight for revision, weight in (decision.weights if decision else {}).items() if weight}
