"""The state of resources as Prometheus reads it, as of the last look at each; the manner of kube-state-metrics.

A series lives as long as what it tells of: an ended rollout's evidence, a deleted object and everything that another
operator looks at since it leads are gone at the next scrape.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from prometheus_client import REGISTRY
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from tidegate_api.analysis import Metric
from tidegate_api.feature_view import FeatureView, FeatureViewStatus
from tidegate_api.model_deployment import Evidence, ModelDeployment, ModelDeploymentStatus
from tidegate_api.resource import Condition, Resource

__all__ = ["FAMILIES", "Sample", "StateMetrics", "state_metrics"]

_OBJECT = ("namespace", "name")
_METRIC = (*_OBJECT, "revision", "metric")
_FEATURE = ("namespace", "view", "feature")
FAMILIES: dict[str, tuple[str, tuple[str, ...]]] = {
    "tidegate_condition": (
        "1 for each condition, with the status and reason that it has.",
        ("kind", *_OBJECT, "type", "status", "reason"),
    ),
    "tidegate_rollout_info": (
        "1, with the phase and the versions that serve and are judged.",
        (*_OBJECT, "phase", "stable", "canary"),
    ),
    "tidegate_canary_weight_percent": ("Share of the traffic that the canary has.", _OBJECT),
    "tidegate_rollout_start_timestamp_seconds": ("When the rollout under way began.", _OBJECT),
    "tidegate_evidence_difference": ("Canary less stable, compared within intervals, in the metric's unit.", _METRIC),
    "tidegate_evidence_difference_low": ("Lower end of the difference's confidence sequence.", _METRIC),
    "tidegate_evidence_difference_high": ("Upper end of the difference's confidence sequence.", _METRIC),
    "tidegate_evidence_margin": ("Difference that is tolerated, in the metric's unit.", _METRIC),
    "tidegate_evidence_harm_p_value": ("Anytime-valid p-value of harm beyond the margin.", _METRIC),
    "tidegate_evidence_reading": ("Last reading of a threshold metric.", _METRIC),
    "tidegate_evidence_failed_readings": ("Failed readings of a threshold metric.", _METRIC),
    "tidegate_evidence_trials": ("Trials that were judged.", (*_METRIC, "side")),
    "tidegate_evidence_rate": ("Events, or the number itself, per trial.", (*_METRIC, "side")),
    "tidegate_feature_view_watermark_timestamp_seconds": ("Both stores hold everything up to this time.", _OBJECT),
    "tidegate_feature_view_newest_event_timestamp_seconds": ("Time of the newest event seen.", _OBJECT),
    "tidegate_feature_view_freshness_target_seconds": ("Age of the newest event that is still fresh.", _OBJECT),
    "tidegate_feature_rows": ("Entities that the last run wrote.", _FEATURE),
    "tidegate_feature_missing_ratio": ("Share of those entities without a value.", _FEATURE),
    "tidegate_feature_mean": ("Mean of the feature over those entities.", _FEATURE),
    "tidegate_feature_variance": ("Variance of the feature over those entities.", _FEATURE),
    "tidegate_feature_quantile": ("Quantiles of the feature over those entities.", (*_FEATURE, "quantile")),
}
"""Of each name: what it tells, and its labels."""
_QUANTILES = ("0.01", "0.05", "0.25", "0.5", "0.75", "0.95", "0.99")


class Sample(NamedTuple):
    """A value of a family, by its labels."""

    family: str
    labels: Mapping[str, str]
    value: float


class StateMetrics(Collector):
    """What the last look at each resource showed."""

    def __init__(self) -> None:
        self._rollouts: dict[tuple[str, str], list[Sample]] = {}
        self._views: dict[tuple[str, str], list[Sample]] = {}
        self._features: dict[tuple[str, str], list[Sample]] = {}

    def show_rollout(self, deployment: ModelDeployment, status: ModelDeploymentStatus) -> None:
        """Show weight, phase, conditions and evidence."""
        self._rollouts[_key(deployment)] = [*_conditions(deployment, status.conditions), *_rollout(deployment, status)]

    def show_view(self, view: FeatureView, status: FeatureViewStatus, statistics: Iterable[Sequence[Any]]) -> None:
        """Show times and conditions, and a run's statistics: name, rows, missing, mean, variance, then the quantiles.

        Statistics stay until another run tells some: a run's pod goes before they are old.
        """
        self._views[_key(view)] = [*_conditions(view, status.conditions), *_times(view, status)]
        told = [sample for feature in statistics for sample in _feature(view, *feature)]
        if told:
            self._features[_key(view)] = told

    def forget_rollout(self, namespace: str, name: str) -> None:
        """The deployment is gone: what was shown of it goes too."""
        self._rollouts.pop((namespace, name), None)

    def forget_view(self, namespace: str, name: str) -> None:
        """The view is gone: what was shown of it and its features goes too."""
        self._views.pop((namespace, name), None)
        self._features.pop((namespace, name), None)

    def clear(self) -> None:
        """Another operator leads: it shows all of it."""
        for shown in (self._rollouts, self._views, self._features):
            shown.clear()

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """One family for each name that has samples."""
        families = {name: GaugeMetricFamily(name, text, labels=labels) for name, (text, labels) in FAMILIES.items()}
        for shown in (self._rollouts, self._views, self._features):
            for sample in (sample for samples in list(shown.values()) for sample in samples):
                labels = FAMILIES[sample.family][1]
                families[sample.family].add_metric([sample.labels[label] for label in labels], sample.value)
        return (family for family in families.values() if family.samples)


state_metrics = StateMetrics()
"""This process's."""
REGISTRY.register(state_metrics)


def _key(resource: Resource) -> tuple[str, str]:
    return resource.metadata.namespace, resource.metadata.name


def _where(resource: Resource) -> dict[str, str]:
    return {"namespace": resource.metadata.namespace, "name": resource.metadata.name}


def _conditions(resource: Resource, conditions: Iterable[Condition]) -> Iterator[Sample]:
    where = _where(resource) | {"kind": resource.kind}
    for said in conditions:
        yield Sample("tidegate_condition", where | said.model_dump(include={"type", "status", "reason"}), 1)


def _rollout(deployment: ModelDeployment, status: ModelDeploymentStatus) -> Iterator[Sample]:
    where = _where(deployment)
    versions = {"stable": status.stable_version or "", "canary": status.canary_version or ""}
    yield Sample("tidegate_rollout_info", where | versions | {"phase": status.phase or ""}, 1)
    yield Sample("tidegate_canary_weight_percent", where, status.weight)
    if status.canary is None:
        return
    yield Sample("tidegate_rollout_start_timestamp_seconds", where, status.canary.started_at.timestamp())
    listed = {metric.name: metric for metric in deployment.spec.analysis.metrics}
    for evidence in status.canary.evidence:
        labels = where | {"revision": status.canary.revision.hash, "metric": evidence.metric}
        yield from _evidence(evidence, listed.get(evidence.metric), labels)


def _evidence(evidence: Evidence, metric: Metric | None, labels: Mapping[str, str]) -> Iterator[Sample]:
    reads = metric is not None and not metric.compares
    values = {
        "difference": evidence.apparent_difference,
        "difference_low": evidence.low,
        "difference_high": evidence.high,
        "margin": metric.margin if metric else None,
        "harm_p_value": evidence.error_spent,
        "reading": evidence.value,
        "failed_readings": evidence.failures if reads else None,
    }
    for name, value in values.items():
        if value is not None:
            yield Sample(f"tidegate_evidence_{name}", labels, value)
    if not reads:
        yield from _sides(evidence, labels)


def _sides(evidence: Evidence, labels: Mapping[str, str]) -> Iterator[Sample]:
    for side, tally in (("stable", evidence.stable), ("canary", evidence.canary)):
        yield Sample("tidegate_evidence_trials", {**labels, "side": side}, tally.trials)
        if tally.rate is not None:
            yield Sample("tidegate_evidence_rate", {**labels, "side": side}, tally.rate)


def _times(view: FeatureView, status: FeatureViewStatus) -> Iterator[Sample]:
    times = {"watermark": status.watermark, "newest_event": status.newest_event_time}
    for name, time in times.items():
        if time is not None:
            yield Sample(f"tidegate_feature_view_{name}_timestamp_seconds", _where(view), time.timestamp())
    target = view.spec.freshness.target if view.spec.freshness else None
    if target is not None:
        yield Sample("tidegate_feature_view_freshness_target_seconds", _where(view), target.total_seconds())


def _feature(
    view: FeatureView, name: str, rows: int, missing: int, mean: float | None, variance: float, *quantiles: float
) -> Iterator[Sample]:
    where = {"namespace": view.metadata.namespace, "view": view.metadata.name, "feature": name}
    yield Sample("tidegate_feature_rows", where, rows)
    yield Sample("tidegate_feature_missing_ratio", where, missing / rows if rows else 0)
    if mean is not None:
        yield Sample("tidegate_feature_mean", where, mean)
        yield Sample("tidegate_feature_variance", where, variance)
    for quantile, value in zip(_QUANTILES, quantiles, strict=False):
        yield Sample("tidegate_feature_quantile", where | {"quantile": quantile}, value)
