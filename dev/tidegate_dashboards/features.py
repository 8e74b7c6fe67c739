"""Features: how fresh each view is, and what its last run wrote."""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard, Row

from tidegate_dashboards.panels import chart, choice, page, series, table

__all__ = ["dashboard"]

_CHOSEN = 'namespace=~"$namespace", name=~"$view"'
_FEATURES = 'namespace=~"$namespace", view=~"$view"'


def dashboard() -> Dashboard:
    """FeatureViews that the reader chooses."""
    found = (
        page("features", "Tidegate / Features", "Freshness and contents of FeatureViews.")
        .with_variable(choice("namespace", 'label_values(tidegate_condition{kind="FeatureView"}, namespace)'))
        .with_variable(
            choice("view", 'label_values(tidegate_condition{kind="FeatureView", namespace=~"$namespace"}, name)')
        )
    )
    return _values(_freshness(found))


def _freshness(found: Dashboard) -> Dashboard:
    newest = f"time() - tidegate_feature_view_newest_event_timestamp_seconds{{{_CHOSEN}}}"
    target = f"tidegate_feature_view_freshness_target_seconds{{{_CHOSEN}}}"
    watermark = f"time() - tidegate_feature_view_watermark_timestamp_seconds{{{_CHOSEN}}}"
    return (
        found.with_row(Row("How fresh they are"))
        .with_panel(
            chart(
                "Age of the newest event",
                "Beside what freshness.target allows.",
                series(newest, "{{name}}"),
                series(target, "{{name}} target"),
                unit="s",
            )
        )
        .with_panel(
            chart(
                "Behind the watermark",
                "Both stores hold everything up to the watermark.",
                series(watermark, "{{name}}"),
                unit="s",
            )
        )
        .with_panel(
            table(
                "Conditions that do not hold",
                "kubectl describe featureview NAME says more.",
                f'tidegate_condition{{kind="FeatureView", status!="True", {_CHOSEN}}}',
                ("namespace", "name", "type", "status", "reason"),
                width=24,
            )
        )
    )


def _values(found: Dashboard) -> Dashboard:
    line = "{{view}} {{feature}}"
    return (
        found.with_row(Row("What the last run wrote"))
        .with_panel(chart("Entities", "Written.", series(f"tidegate_feature_rows{{{_FEATURES}}}", line)))
        .with_panel(
            chart(
                "Missing",
                "Share of entities without a value.",
                series(f"tidegate_feature_missing_ratio{{{_FEATURES}}}", line),
                unit="percentunit",
            )
        )
        .with_panel(chart("Mean", "Of each feature.", series(f"tidegate_feature_mean{{{_FEATURES}}}", line)))
        .with_panel(
            chart(
                "Quantiles",
                "Of each feature.",
                series(f"tidegate_feature_quantile{{{_FEATURES}}}", f"{line} {{{{quantile}}}}"),
            )
        )
    )
