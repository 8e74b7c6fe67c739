"""What the operator counts of itself for Prometheus; the state of resources is told by `state_metrics`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import get_args

from prometheus_client import Counter, Gauge, Histogram

from tidegate_api.model_deployment import ModelDeployment, ModelDeploymentStatus, Outcome

__all__ = ["count_verdict", "forget_verdicts", "observed_reconciliation", "show_leadership"]

_SECONDS = Histogram("tidegate_reconcile_duration_seconds", "Time that one reconciliation takes.", ["kind"])
_FAILURES = Counter("tidegate_reconcile_failures_total", "Reconciliations that ended in an error.", ["kind"])
for _kind in ("ModelDeployment", "FeatureView"):
    _FAILURES.labels(_kind)  # there before the first, as 0: a rate needs two values

_ENDED = Counter("tidegate_rollouts_ended_total", "Rollouts that ended.", ["namespace", "name", "outcome"])
_LEADS = Gauge("tidegate_operator_leads", "Whether this operator leads: 1, or 0 while another does.")


def show_leadership(leads: bool) -> None:
    """Show whether this operator leads."""
    _LEADS.set(leads)


def count_verdict(deployment: ModelDeployment, status: ModelDeploymentStatus) -> None:
    """Count a rollout that this look has ended; each outcome is there, as 0, before the first."""
    where = deployment.metadata.namespace, deployment.metadata.name
    counters = {outcome: _ENDED.labels(*where, outcome) for outcome in get_args(Outcome)}
    if status.verdict is not None and status.verdict != deployment.status.verdict:
        counters[status.verdict.outcome].inc()


def forget_verdicts(namespace: str, name: str) -> None:
    """The deployment is gone: what was counted of it goes too."""
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
