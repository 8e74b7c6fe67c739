"""From the reports of materialization runs to the status of a FeatureView."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from tidegate_api.durations import format_duration
from tidegate_api.feature_view import FeatureView, FeatureViewStatus, Interval
from tidegate_api.resource import Condition, Time, Value
from tidegate_operators.freshness.evolution import Ruling
from tidegate_operators.rollout.observed import Announcement, Failure
from tidegate_operators.rollout.summary import announce_changes, with_transition_times

__all__ = ["Report", "Run", "next_look", "summarize"]

_FAILED = "MaterializationFailed"
_BUSY = timedelta(seconds=3)
# Streams, pods that do not start and models that move on say nothing by themselves.
_WATCHED = timedelta(seconds=30)
# The resource and its Jobs wake the operator.
_IDLE = timedelta(minutes=10)
# A pod that cannot start stands there now, whatever ended before.
_STILL = datetime.max.replace(tzinfo=UTC)


class Replayed(Value):
    """What serving was found to have used: how many values, and what is wrong with them (empty: nothing)."""

    values: int
    fault: str


class Report(Value):
    """What a materialization run writes as its last word."""

    model_config = {"extra": "ignore"}

    watermark: Time
    rows: int
    interval: Interval | None = None
    newest_event_time: Time | None = None
    schema_hash: str | None = None
    quality: list[str] | None = None
    consistency: Replayed | None = None
    statistics: list[list[Any]] = []


@dataclass(frozen=True)
class Run:
    """One pod of a materialization Job: running while `finished_at` is none. `reason` is that of a failure."""

    finished_at: datetime | None
    report: Report | None
    failure: str | None = None
    reason: str = _FAILED


def summarize(
    view: FeatureView, runs: Iterable[Run], now: datetime, schema: Condition, refusal: Failure | None = None
) -> tuple[FeatureViewStatus, tuple[Announcement, ...]]:
    """The status that follows from the runs seen, and what to announce. What an earlier run wrote stays known.

    schema: SchemaCompatible, as ruled. refusal: what the API server said where it would not have one of its objects.
    """
    ended = sorted((run for run in runs if run.finished_at or run.failure), key=lambda run: run.finished_at or _STILL)
    status = _with_report(view, view.status, ended)
    report = next((run.report for run in reversed(ended) if run.report), None)
    conditions = [*_conditions(view, status, ended, now), schema, _quality(report, now), _consistent(report, now)]
    conditions = _kept(view, report, conditions)
    if refusal is not None:
        conditions[0] = _condition("Ready", "False", refusal.reason, refusal.message, now)
    kept = with_transition_times(view.status.conditions, conditions, view.metadata.generation)
    found = {condition.type: condition for condition in kept}
    update = {
        "conditions": kept,
        "phase": "Failed" if refusal else _phase(found, ended),
        "message": found["Ready"].message,
        "observed_generation": view.metadata.generation,
        "schema_hash": view.schema_hash,
        "transform_hash": view.transform_hash,
    }
    return status.model_copy(update=update), announce_changes(view.status.conditions, kept)


def next_look(ruling: Ruling, status: FeatureViewStatus, runs: Iterable[Run], now: datetime) -> timedelta:
    """When to look again: at what tells of no change soon, at what changes with time when it does, else seldom."""
    if status.phase in ("Pending", "Materializing"):
        return _BUSY
    spec = ruling.view.spec
    held = ruling.condition.status == "False"
    if held or spec.source.kafka is not None or any(run.finished_at is None for run in runs):
        return _WATCHED
    target = spec.freshness.target if spec.freshness else None
    if target is None or status.newest_event_time is None:
        return _IDLE
    fresh = status.newest_event_time + target - now
    return min(_IDLE, fresh + _BUSY) if fresh > timedelta(0) else _IDLE


def _with_report(view: FeatureView, status: FeatureViewStatus, ended: Sequence[Run]) -> FeatureViewStatus:
    """Take over the newest report of the present schema; a changed definition starts without one."""
    known = (
        status
        if status.transform_hash in (None, view.transform_hash)
        else FeatureViewStatus(conditions=status.conditions)
    )
    reports = [run.report for run in ended if run.report and run.report.schema_hash in (None, view.schema_hash)]
    if not reports or (known.watermark and reports[-1].watermark < known.watermark):
        return known
    last = reports[-1]
    update = {
        "watermark": last.watermark,
        "rows": last.rows,
        "last_interval": last.interval,
        "newest_event_time": last.newest_event_time or known.newest_event_time,
    }
    return known.model_copy(update=update)


def _conditions(
    view: FeatureView, status: FeatureViewStatus, ended: Sequence[Run], now: datetime
) -> tuple[Condition, Condition, Condition]:
    materialized = _materialized(status, ended, now)
    return _ready(status, materialized, now), materialized, _fresh(view, status, now)


def _materialized(status: FeatureViewStatus, ended: Sequence[Run], now: datetime) -> Condition:
    last = ended[-1] if ended else None
    if last is not None and last.failure:
        return _condition("Materialized", "False", last.reason, last.failure, now)
    if status.watermark is None:
        return _condition("Materialized", "False", "Waiting", "The first materialization has not ended yet.", now)
    message = f"{status.rows} entities were written; both stores hold everything up to {status.watermark.isoformat()}."
    return _condition("Materialized", "True", "Written", message, now)


def _fresh(view: FeatureView, status: FeatureViewStatus, now: datetime) -> Condition:
    if status.newest_event_time is None:
        return _condition("Fresh", "Unknown", "NoEvents", "No event has been seen yet.", now)
    target = view.spec.freshness.target if view.spec.freshness else None
    newest = status.newest_event_time.isoformat()
    if target is None:
        return _condition(
            "Fresh", "True", "NoTarget", f"The newest event is of {newest}; spec.freshness sets no target.", now
        )
    if now - status.newest_event_time <= target:
        return _condition("Fresh", "True", "WithinTarget", f"The newest event is of {newest}.", now)
    message = f"The newest event is of {newest}, older than the target of {format_duration(target)}: see the source."
    return _condition("Fresh", "False", "Stale", message, now)


def _quality(report: Report | None, now: datetime) -> Condition:
    if report is None or report.quality is None:
        return _condition("QualityOK", "Unknown", "NotMeasured", "No run has told what its values look like.", now)
    if not report.quality:
        return _condition("QualityOK", "True", "AsExpected", "The values of the last run are as expected.", now)
    message = f"{'; '.join(report.quality)}: see the source, or correct expect in spec.features."
    return _condition("QualityOK", "False", "ExpectationsFailed", message[0].upper() + message[1:], now)


def _consistent(report: Report | None, now: datetime) -> Condition:
    if report is None or report.consistency is None or not report.consistency.values:
        message = "Nothing that serving used was replayed: name its log in spec.featureLog."
        return _condition("Consistent", "Unknown", "NotReplayed", message, now)
    found = report.consistency
    if not found.fault:
        message = f"All {found.values:,} values that serving used since the run before are as defined."
        return _condition("Consistent", "True", "AsDefined", message, now)
    message = f"{found.fault[0].upper()}{found.fault[1:]}: see `tidegate features replay` for examples."
    return _condition("Consistent", "False", "ValuesDiffer", message, now)


def _kept(view: FeatureView, report: Report | None, conditions: Sequence[Condition]) -> list[Condition]:
    """Where no run says anything of the values, what was said before still stands.

    A run that wrote none says nothing of their quality; what was said under another spec, which may expect something
    else, does not stand.
    """
    known = {condition.type: condition for condition in view.status.conditions}
    quality = known.get("QualityOK")
    kept: dict[str, Condition] = {}
    if (report is None or report.quality is None) and quality is not None:
        kept |= {"QualityOK": quality} if quality.observed_generation == view.metadata.generation else {}
    if report is None and "Consistent" in known:
        kept["Consistent"] = known["Consistent"]
    return [kept.get(condition.type, condition) for condition in conditions]


def _ready(status: FeatureViewStatus, materialized: Condition, now: datetime) -> Condition:
    """Ready as long as both stores hold values: a failed run later leaves the last good values in place."""
    if status.watermark is not None:
        return _condition("Ready", "True", "Serving", materialized.message, now)
    return _condition("Ready", "False", materialized.reason, materialized.message, now)


def _condition(kind: str, status: str, reason: str, message: str, now: datetime) -> Condition:
    body = {"type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": now}
    return Condition.model_validate(body)


def _phase(found: dict[str, Condition], ended: Sequence[Run]) -> str:
    if found["Materialized"].reason == _FAILED:
        return "Failed"
    return (
        "Ready"
        if found["Ready"].status == "True"
        else ("Materializing" if any(run.finished_at for run in ended) else "Pending")
    )
