"""What the operator says of itself to Prometheus."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, get_args

from prometheus_client import Counter, Gauge, Histogram

from tidegate_api.feature_view import FeatureView
from tidegate_api.model_deployment import ModelDeployment, ModelDeploymentStatus, Outcome

__all__ = [
    "forget_features",
    "forget_rollout",
    "observed_reconciliation",
    "show_features",
    "show_leadership",
    "show_rollout",
]

_QUANTILES = ("0.01", "0.05", "0.25", "0.5", "0.75", "0.95", "0.99")

_SECONDS = Histogram("tidegate_reconcile_duration_seconds", "Time that one reconciliation takes.", ["kind"])
_FAILURES = Counter("tidegate_reconcile_failures_total", "Reconciliations that ended in an error.", ["kind"])

_WEIGHT = Gauge("tidegate_canary_weight_percent", "Share of the traffic that the canary has.", ["namespace", "name"])
_ENDED = Counter("tidegate_rollouts_ended_total", "Rollouts that ended.", ["namespace", "name", "outcome"])


_FEATURE = ["namespace", "view", "feature"]
_ROWS = Gauge("tidegate_feature_rows", "Entities that the last run wrote.", _FEATURE)
_MISSING = Gauge("tidegate_feature_missing_ratio", "Share of those entities without a value.", _FEATURE)
_MEAN = Gauge("tidegate_feature_mean", "Mean of the feature over those entities.", _FEATURE)
_VARIANCE = Gauge("tidegate_feature_variance", "Variance of the feature over those entities.", _FEATURE)
_QUANTILE = Gauge("tidegate_feature_quantile", "Quantiles of the feature over those entities.", [*_FEATURE, "quantile"])
_BY_FEATURE = (_ROWS, _MISSING, _MEAN, _VARIANCE, _QUANTILE)


_LEADS = Gauge("tidegate_operator_leads", "Whether this operator leads: 1, or 0 while another does.")


def show_leadership(leads: bool) -> None:
    """Show whether this operator leads."""
    _LEADS.set(leads)


def show_features(view: FeatureView, statistics: Iterable[Sequence[Any]]) -> None:
    """Show a run's statistics: name, rows, missing, mean, variance, then the quantiles, per feature."""
    for name, rows, missing, mean, variance, *quantiles in statistics:
        where = (view.metadata.namespace, view.metadata.name, name)
        _ROWS.labels(*where).set(rows)
        _MISSING.labels(*where).set(missing / rows if rows else 0)
        if mean is not None:
            _MEAN.labels(*where).set(mean)
            _VARIANCE.labels(*where).set(variance)
        for quantile, value in zip(_QUANTILES, quantiles, strict=False):
            _QUANTILE.labels(*where, quantile).set(value)


def forget_features(namespace: str, view: str) -> None:
    """The view is gone: what was shown of its features goes too."""
    for gauge in _BY_FEATURE:
        gauge.remove_by_labels({"namespace": namespace, "view": view})


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
