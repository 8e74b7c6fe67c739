"""One reconciliation of a FeatureView: apply its jobs, read what they reported, write the status."""

from __future__ import annotations

import json
from collections.abc import Container, Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

from tidegate_api.errors import TidegateError
from tidegate_api.feature_view import FeatureView
from tidegate_api.model_deployment import ModelDeployment
from tidegate_operators.adapters.errors import NeighbourError
from tidegate_operators.freshness.evolution import Ruling, is_breaking, readers, rule_on
from tidegate_operators.freshness.report import Report, Run, next_look, summarize
from tidegate_operators.handlers.apply import Body, Name, apply_all, standing
from tidegate_operators.handlers.neighbours import Neighbours
from tidegate_operators.handlers.pods import is_stuck, unscheduled
from tidegate_operators.handlers.state_metrics import state_metrics
from tidegate_operators.resources.accepted import accepted_spec, outdated, revision_object
from tidegate_operators.resources.materialization import definition, job_name, materialization_objects
from tidegate_operators.resources.metadata import DEFINITION_LABEL, FEATURE_VIEW_LABEL
from tidegate_operators.resources.stream import STREAM_METRICS, stream_objects

__all__ = ["reconcile"]


def reconcile(view: FeatureView, neighbours: Neighbours, now: datetime) -> timedelta:
    """Bring the view one look closer to what should be; returns when to look again.

    Raises RefusedError, once the status says so, where the API server will not have one of the view's objects.
    """
    ruling = _rule(view, neighbours, now)
    view = ruling.view
    present = _present(view, neighbours)
    refusal = apply_all(neighbours.cluster, _wanted(view, present, neighbours), neighbours.applied, present)
    _prune(view, present, neighbours)
    runs = _runs(view, neighbours, now)
    status, announcements = summarize(view, runs, now, ruling.condition, refusal.failure if refusal else None)
    state_metrics.show_view(view, status, _newest_statistics(runs))
    for announcement in announcements:
        neighbours.cluster.announce(view, announcement, now)
    if status != view.status:
        neighbours.cluster.apply_status(view, status.to_dict())
    if refusal is not None:
        raise refusal
    return next_look(ruling, status, runs, now)


def _newest_statistics(runs: Iterable[Run]) -> list[list[Any]]:
    told = [(run.finished_at, run.report.statistics) for run in runs if run.finished_at and run.report]
    return max(told, key=lambda one: one[0])[1] if told else []


def _rule(view: FeatureView, neighbours: Neighbours, now: datetime) -> Ruling:
    """Decide which definition is in force, and keep an accepted one where a restart finds it."""
    cluster, namespace = neighbours.cluster, view.metadata.namespace
    revisions = cluster.list("ControllerRevision", namespace, {FEATURE_VIEW_LABEL: view.metadata.name})
    accepted = accepted_spec(view, revisions)
    live = readers(view, _deployments(neighbours, namespace)) if is_breaking(view, accepted) else ()
    ruling = rule_on(view, accepted, live, now)
    body = revision_object(ruling.view, revisions)
    if body is not None:
        cluster.apply(body)
        for name in outdated([*revisions, body]):
            cluster.delete("ControllerRevision", namespace, name)
    return ruling


def _deployments(neighbours: Neighbours, namespace: str) -> list[ModelDeployment]:
    """Those that this release can read: the others have an Event of their own."""
    found = []
    for body in neighbours.cluster.list("ModelDeployment", namespace, {}):
        with suppress(TidegateError):
            found.append(ModelDeployment.parse(body))
    return found


def _present(view: FeatureView, neighbours: Neighbours) -> dict[Name, Body]:
    """The view's objects that are there."""
    kinds = ("Deployment", "ConfigMap") if view.spec.source.kafka is not None else ("Job", "CronJob", "ConfigMap")
    labels = {FEATURE_VIEW_LABEL: view.metadata.name}
    return standing(neighbours.cluster, kinds, view.metadata.namespace, labels)


def _wanted(view: FeatureView, present: Container[Name], neighbours: Neighbours) -> list[dict[str, Any]]:
    """What keeps the view current: a stream of its topic, or jobs over its files. A Job cannot be applied again."""
    if view.spec.source.kafka is not None:
        return stream_objects(view, neighbours.platform)
    wanted = materialization_objects(view, neighbours.platform)
    return [body for body in wanted if body["kind"] != "Job" or ("Job", job_name(view)) not in present]


def _prune(view: FeatureView, present: Mapping[Name, Body], neighbours: Neighbours) -> None:
    """Remove the first Jobs and definitions of earlier versions of the view."""
    for (kind, name), body in present.items():
        owners = {owner["kind"] for owner in body["metadata"].get("ownerReferences", [])}
        if "FeatureView" in owners and kind in ("Job", "ConfigMap") and name != job_name(view):
            neighbours.cluster.delete(kind, view.metadata.namespace, name)


def _runs(view: FeatureView, neighbours: Neighbours, now: datetime) -> list[Run]:
    labels = {FEATURE_VIEW_LABEL: view.metadata.name, DEFINITION_LABEL: definition(view)}
    pods = neighbours.cluster.list("Pod", view.metadata.namespace, labels)
    spec = view.spec
    addresses = {"spec.source.parquet.uri": spec.source.address, "spec.offline.uri": spec.offline.uri}
    return [_run(pod, addresses) for pod in pods] + _streamed(view, neighbours, now)


def _streamed(view: FeatureView, neighbours: Neighbours, now: datetime) -> list[Run]:
    """How far the stream says that it is, as a run that ended now; nothing while Prometheus does not say."""
    if view.spec.source.kafka is None:
        return []
    labels = f'{{namespace="{view.metadata.namespace}",view="{view.metadata.name}"}}'
    try:
        found = [neighbours.prometheus.scalar(f"max({name}{labels})", now) for name in STREAM_METRICS]
    except NeighbourError:
        return []
    watermark, newest, rows = found
    if not watermark:
        return []
    at, newest_at = (datetime.fromtimestamp(value, UTC) if value else None for value in (watermark, newest))
    report = {"watermark": at, "rows": int(rows or 0), "newestEventTime": newest_at}
    return [Run(finished_at=now, report=Report.model_validate(report))]


def _run(pod: Mapping[str, Any], addresses: Mapping[str, str]) -> Run:
    """What a pod of a Job or stream says: still running, or ended with a report in its termination message."""
    containers = pod.get("status", {}).get("containerStatuses", [])
    state = containers[0].get("state", {}) if containers else {}
    ended = state.get("terminated")
    if ended is None:
        unplaced = unscheduled(pod, addresses)
        if unplaced is not None:
            return Run(finished_at=None, report=None, failure=unplaced.message, reason=unplaced.reason)
        return Run(finished_at=None, report=None, failure=_stuck(containers[0]) if containers else None)
    finished = datetime.fromisoformat(ended["finishedAt"])
    report = _report(ended.get("message", ""))
    failure = None if ended["exitCode"] == 0 else _sentence(ended.get("message", ""), ended["exitCode"])
    return Run(finished_at=finished, report=report if failure is None else None, failure=failure)


def _stuck(container: Mapping[str, Any]) -> str | None:
    """Why a container does not run: the last word of its last try, or why it cannot be tried."""
    waiting = container.get("state", {}).get("waiting") or {}
    before = container.get("lastState", {}).get("terminated")
    if waiting and before:
        return _sentence(before.get("message", ""), before["exitCode"])
    return f"{waiting['reason']}: {waiting.get('message', '')}" if is_stuck(waiting) else None


def _report(message: str) -> Report | None:
    try:
        return Report.model_validate(json.loads(message))
    except ValueError:
        return None


def _sentence(message: str, code: int) -> str:
    """The pod's own sentence: its report's, or the last line of its log where it died before it could write one."""
    try:
        return str(json.loads(message)["error"])
    except (ValueError, KeyError, TypeError):
        last = (message.strip().splitlines() or [""])[-1]
        return last or f"The materialization ended with exit code {code} and said nothing; see its pod's log."
