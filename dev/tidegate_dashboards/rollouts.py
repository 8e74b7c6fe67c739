"""Rollouts: where each deployment stands, what its canary has shown, what its servers do."""

from __future__ import annotations

from grafana_foundation_sdk.builders.common import ScaleDistributionConfig
from grafana_foundation_sdk.builders.dashboard import Dashboard, Row
from grafana_foundation_sdk.models.common import ScaleDistribution

from tidegate_dashboards.panels import chart, choice, page, series, table

__all__ = ["dashboard"]

_CHOSEN = 'namespace=~"$namespace", name=~"$name"'
_SERVERS = 'tidegate_namespace=~"$namespace", tidegate_deployment=~"$name"'
_BY_REVISION = "by (tidegate_deployment, tidegate_revision)"


def dashboard() -> Dashboard:
    """Rollouts of the deployments that the reader chooses."""
    found = (
        page(
            "rollouts", "Tidegate / Rollouts", "Weights, evidence and verdicts of ModelDeployments, and their servers."
        )
        .with_variable(choice("namespace", "label_values(tidegate_rollout_info, namespace)"))
        .with_variable(choice("name", 'label_values(tidegate_rollout_info{namespace=~"$namespace"}, name)'))
        .with_variable(choice("metric", f"label_values(tidegate_evidence_trials{{{_CHOSEN}}}, metric)"))
    )
    return _servers(_evidence(_standing(found)))


def _standing(found: Dashboard) -> Dashboard:
    ended = f"sum by (outcome) (increase(tidegate_rollouts_ended_total{{{_CHOSEN}}}[$__rate_interval]))"
    return (
        found.with_row(Row("Where they stand"))
        .with_panel(
            table(
                "Deployments",
                "Phase, and the versions that serve and are judged.",
                f"tidegate_rollout_info{{{_CHOSEN}}}",
                ("namespace", "name", "phase", "stable", "canary"),
            )
        )
        .with_panel(
            table(
                "Conditions that do not hold",
                "kubectl tidegate explain NAME says more.",
                f'tidegate_condition{{kind="ModelDeployment", status!="True", {_CHOSEN}}}',
                ("namespace", "name", "type", "status", "reason"),
            )
        )
        .with_panel(
            chart(
                "Canary's weight",
                "Share of the traffic that the canary has.",
                series(f"tidegate_canary_weight_percent{{{_CHOSEN}}}", "{{name}}"),
                unit="percent",
            )
        )
        .with_panel(chart("Rollouts ended", "How rollouts ended, by outcome.", series(ended, "{{outcome}}")))
    )


def _evidence(found: Dashboard) -> Dashboard:
    of_metric = f'{{{_CHOSEN}, metric=~"$metric"}}'
    difference = [
        series(f"tidegate_evidence_{name}{of_metric}", f"{{{{name}}}} {{{{metric}}}} {words}")
        for name, words in (
            ("difference", "difference"),
            ("difference_low", "low"),
            ("difference_high", "high"),
            ("margin", "margin"),
        )
    ]
    p_value = chart(
        "Harm beyond the margin",
        "Anytime-valid p-value. At its share of analysis.errorLevel a guard rolls back.",
        series(f"tidegate_evidence_harm_p_value{of_metric}", "{{name}} {{metric}}"),
    ).scale_distribution(ScaleDistributionConfig().type(ScaleDistribution.LOG).log(10))
    sides = "{{name}} {{metric}} {{side}}"
    return (
        found.with_row(Row("What canaries have shown"))
        .with_panel(
            chart(
                "Canary less stable",
                "Compared within intervals, with its confidence sequence and the margin, in the metric's unit.",
                *difference,
            )
        )
        .with_panel(p_value)
        .with_panel(
            chart(
                "Rates", "Events, or the number itself, per trial.", series(f"tidegate_evidence_rate{of_metric}", sides)
            )
        )
        .with_panel(chart("Trials", "Trials that were judged.", series(f"tidegate_evidence_trials{of_metric}", sides)))
        .with_panel(
            chart(
                "Threshold metrics",
                "Last reading.",
                series(f"tidegate_evidence_reading{of_metric}", "{{name}} {{metric}}"),
            )
        )
        .with_panel(
            chart(
                "Failed readings",
                "Of threshold metrics; beyond failureLimit it rolls back.",
                series(f"tidegate_evidence_failed_readings{of_metric}", "{{name}} {{metric}}"),
            )
        )
    )


def _servers(found: Dashboard) -> Dashboard:
    revision = "{{tidegate_deployment}} {{tidegate_revision}}"

    def per_second(counter: str) -> str:
        return f"sum {_BY_REVISION} (rate({counter}{{{_SERVERS}}}[$__rate_interval]))"

    def mean_microseconds(counter: str) -> str:
        return f"{per_second(counter)} / {per_second('nv_inference_request_success')}"

    return (
        found.with_row(Row("What Triton does"))
        .with_panel(
            chart(
                "Requests answered",
                "By revision.",
                series(per_second("nv_inference_request_success"), revision),
                unit="reqps",
            )
        )
        .with_panel(
            chart(
                "Requests failed",
                "In Triton, by revision. What a gateway could not deliver is not here.",
                series(per_second("nv_inference_request_failure"), revision),
                unit="reqps",
            )
        )
        .with_panel(
            chart(
                "Time in the queue",
                "Mean of a request. Autoscaling by queueTime looks at it.",
                series(mean_microseconds("nv_inference_queue_duration_us"), revision),
                unit="µs",
            )
        )
        .with_panel(
            chart(
                "Time in Triton",
                "Mean of a request, the queue's time in it.",
                series(mean_microseconds("nv_inference_request_duration_us"), revision),
                unit="µs",
            )
        )
    )
