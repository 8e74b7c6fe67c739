"""What the operator says of itself to Prometheus."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import get_args

from prometheus_client import Counter, Gauge, Histogram

from tidegate_api.model_deployment import ModelDeployment, ModelDeploymentStatus, Outcome

__all__ = ["forget_rollout", "observed_reconciliation", "show_rollout"]

_SECONDS = Histogram("tidegate_reconcile_duration_seconds", "Time that one reconciliation takes.", ["kind"])
_FAILURES = Counter("tidegate_reconcile_failures_total", "Reconciliations that ended in an error.", ["kind"])

_WEIGHT = Gauge("tidegate_canary_weight_percent", "Share of the traffic that the canary has.", ["namespace", "name"])
_ENDED = Counter("tidegate_rollouts_ended_total", "Rollouts that ended.", ["namespace", "name", "outcome"])


def show_rollout(deployment: ModelDeployment, status: ModelDeploymentStatus) -> None:
    """Show the weight, and count a rollout that this look has ended."""
    where = (deployment.metadata.namespace, deployment.metadata.name)
    _WEIGHT.labels(*where).set(status.weight)
    if status.verdict is not None and status.verdict != deployment.status.verdict:
        _ENDED.labels(*where, status.verdict.outcome).inc()


def forget_rollout(namespace: str, name: str) -> None:
    """The deployment is gone: what was shown of it goes too."""
    _WEIGHT.remove(namespace, name)
    for outcome in get_args(Outcome):
        _ENDED.remove(namespace, name, outcome)


@contextmanager
def observed_reconciliation(kind: str) -> Iterator[None]:
    """Time a reconciliation and count it if it fails."""
    try:
        with _SECONDS.labels(kind).time():
            yield
    except Exception:
        _FAILURES.labels(kind).inc()
        raise
