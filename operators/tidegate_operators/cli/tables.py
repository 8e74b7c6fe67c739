"""Tables of the plugin, as rich renders them."""

from __future__ import annotations

from collections.abc import Iterable

from rich.table import Table

from tidegate_api.feature_view import FeatureView
from tidegate_api.model_deployment import ModelDeployment, RevisionStatus

__all__ = ["deployments_table", "history_table", "views_table"]

_COLORS = {"Healthy": "green", "Progressing": "cyan", "RolledBack": "red", "Degraded": "red", "Paused": "yellow"}


def deployments_table(found: Iterable[ModelDeployment]) -> Table:
    """One row for each deployment: where it stands and why."""
    table = _table("NAME", "PHASE", "STABLE", "CANARY", "WEIGHT", "MESSAGE")
    for item in found:
        status = item.status
        phase = status.phase or "Pending"
        color = _COLORS.get(phase, "white")
        canary = _version(status.canary.revision if status.canary else None)
        row = (item.metadata.name, f"[{color}]{phase}[/]", _version(status.stable), canary, f"{status.weight} %")
        table.add_row(*row, status.message or "")
    return table


def history_table(found: ModelDeployment) -> Table:
    """One row for each rollout that ended, newest first."""
    table = _table("ENDED", "REVISION", "VERSION", "OUTCOME", "REASON", "MESSAGE")
    for entry in reversed(found.status.history):
        when = entry.ended_at.isoformat(timespec="seconds")
        table.add_row(
            when, entry.revision.hash, entry.revision.version or "", entry.outcome, entry.reason, entry.message
        )
    return table


def views_table(found: Iterable[FeatureView]) -> Table:
    """One row for each view: how current its values are."""
    table = _table("NAME", "PHASE", "FRESH", "WATERMARK", "NEWEST EVENT", "ROWS", "MESSAGE")
    for item in found:
        status = item.status
        fresh = next((c.status for c in status.conditions if c.type == "Fresh"), "Unknown")
        times = [t.isoformat(timespec="seconds") if t else "" for t in (status.watermark, status.newest_event_time)]
        table.add_row(
            item.metadata.name, status.phase or "", fresh, *times, str(status.rows or ""), status.message or ""
        )
    return table


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _version(revision: RevisionStatus | None) -> str:
    return (revision.version or revision.hash) if revision else ""
