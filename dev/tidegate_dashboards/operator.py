"""The operator itself: whether one leads, how often and how long it looks, what it costs."""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard

from tidegate_dashboards.panels import chart, page, series

__all__ = ["dashboard"]

_LOOKS = "tidegate_reconcile_duration_seconds"


def dashboard() -> Dashboard:
    """All replicas of the operator."""
    slowest = f"histogram_quantile(0.99, sum by (kind, le) (rate({_LOOKS}_bucket[$__rate_interval])))"
    # a replica that leads reconciles, and no other process is told apart by its own metrics
    own = "* on (instance) group_left () (tidegate_operator_leads * 0 + 1)"
    return (
        page("operator", "Tidegate / Operator", "What the operator does and costs.")
        .with_panel(
            chart("Leads", "1 for the replica that leads.", series("tidegate_operator_leads", "{{pod}}{{instance}}"))
        )
        .with_panel(
            chart(
                "Looks",
                "Reconciliations by kind, and those that ended in an error.",
                series(f"sum by (kind) (rate({_LOOKS}_count[$__rate_interval]))", "{{kind}}"),
                series("sum by (kind) (rate(tidegate_reconcile_failures_total[$__rate_interval]))", "{{kind}} failed"),
                unit="ops",
            )
        )
        .with_panel(chart("How long a look takes", "99 of 100 take less.", series(slowest, "{{kind}}"), unit="s"))
        .with_panel(
            chart(
                "Memory",
                "Resident.",
                series(f"process_resident_memory_bytes {own}", "{{pod}}{{instance}}"),
                unit="bytes",
            )
        )
        .with_panel(
            chart(
                "CPU",
                "Cores.",
                series(f"rate(process_cpu_seconds_total[$__rate_interval]) {own}", "{{pod}}{{instance}}"),
            )
        )
    )
