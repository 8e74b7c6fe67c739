"""What the dashboards share: the data source, the choices at the top, and panels with Tidegate's habits."""

from __future__ import annotations

from grafana_foundation_sdk.builders.common import VizLegendOptions, VizTooltipOptions
from grafana_foundation_sdk.builders.dashboard import Dashboard, DatasourceVariable, QueryVariable
from grafana_foundation_sdk.builders.prometheus import Dataquery
from grafana_foundation_sdk.builders.table import Panel as Table
from grafana_foundation_sdk.builders.timeseries import Panel as Timeseries
from grafana_foundation_sdk.models.common import LegendDisplayMode, LegendPlacement, SortOrder, TooltipDisplayMode
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DataSourceRef,
    DataTransformerConfig,
    VariableRefresh,
    VariableSort,
)
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

__all__ = ["NAMESPACE", "chart", "choice", "page", "series", "table"]

SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
NAMESPACE = "namespace"


def page(uid: str, title: str, description: str) -> Dashboard:
    """An empty dashboard over a Prometheus that the reader chooses."""
    return (
        Dashboard(title)
        .uid(f"tidegate-{uid}")
        .description(description)
        .tags(["tidegate"])
        .time("now-1h", "now")
        .refresh("30s")
        .timezone("browser")
        .readonly()
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .with_variable(DatasourceVariable("datasource").label("Prometheus").type("prometheus"))
    )


def choice(label: str, values: str) -> QueryVariable:
    """A choice of one, several or all values of a label."""
    return (
        QueryVariable(label)
        .label(label.capitalize())
        .datasource(SOURCE)
        .query(values)
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(VariableSort.ALPHABETICAL_ASC)
        .multi(True)
        .include_all(True)
        .all_value(".*")
    )


def series(expression: str, legend: str) -> Dataquery:
    """A query over time; `legend` names its lines."""
    return Dataquery().expr(expression).legend_format(legend).datasource(SOURCE).range()


def chart(title: str, text: str, *queries: Dataquery, unit: str = "short", width: int = 12) -> Timeseries:
    """Lines over time. unit: Grafana's name of it; width: of 24."""
    found = Timeseries().title(title).description(text).datasource(SOURCE).unit(unit).height(8).span(width)
    legend = VizLegendOptions().display_mode(LegendDisplayMode.LIST).placement(LegendPlacement.BOTTOM)
    tooltip = VizTooltipOptions().mode(TooltipDisplayMode.MULTI).sort(SortOrder.DESCENDING)
    found = found.legend(legend.show_legend(True)).tooltip(tooltip).fill_opacity(5)
    for query in queries:
        found = found.with_target(query)
    return found


def table(title: str, text: str, expression: str, columns: tuple[str, ...], width: int = 12) -> Table:
    """The labels `columns` of what there is now, one row a series."""
    query = Dataquery().expr(expression).format(PromQueryFormat.TABLE).datasource(SOURCE).instant()
    order = {name: place for place, name in enumerate(columns)}
    return (
        Table()
        .title(title)
        .description(text)
        .datasource(SOURCE)
        .height(8)
        .span(width)
        .with_target(query)
        .with_transformation(DataTransformerConfig("filterFieldsByName", options={"include": {"names": list(columns)}}))
        .with_transformation(DataTransformerConfig("organize", options={"indexByName": order}))
    )
