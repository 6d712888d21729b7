"""The few kinds of panel that the dashboard is made of, on top of Grafana's own builders."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from grafana_foundation_sdk.builders import common as common_builder
from grafana_foundation_sdk.builders import dashboard as builder
from grafana_foundation_sdk.builders import piechart, prometheus, stat, table, timeseries
from grafana_foundation_sdk.models import common, dashboard
from grafana_foundation_sdk.models.piechart import PieChartLegendValues, PieChartType
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

DATASOURCE = dashboard.DataSourceRef(type_val="prometheus", uid="${datasource}")
RUNBOOK = "https://github.com/sqs-event-exporter/sqs-event-exporter/blob/main/docs/runbook.md"

REF_IDS = "ABCDEFGH"
GREEN, YELLOW, RED, NEUTRAL = "green", "yellow", "red", "text"

Panel = TypeVar("Panel", timeseries.Panel, stat.Panel, table.Panel, piechart.Panel)


def see(text: str, *alerts: str) -> str:
    """Return a description with links to the sections of the runbook."""
    links = ", ".join(f"[{alert}]({RUNBOOK}#{alert.lower()})" for alert in alerts)
    return f"{text}\n\nRunbook: {links}" if links else text


def _common(  # noqa: PLR0913 - what every panel has
    panel: Panel, title: str, unit: str, description: str, *, width: int, height: int
) -> Panel:
    panel = panel.title(title).description(description).datasource(DATASOURCE).unit(unit)
    return panel.span(width).height(height)


def _thresholds(steps: Sequence[tuple[float | None, str]]) -> builder.ThresholdsConfig:
    return (
        builder.ThresholdsConfig()
        .mode(dashboard.ThresholdsMode.ABSOLUTE)
        .steps([dashboard.Threshold(value=value, color=color) for value, color in steps])
    )


def _query(ref_id: str, expr: str, legend: str = "") -> prometheus.Dataquery:
    return prometheus.Dataquery().ref_id(ref_id).expr(expr).legend_format(legend).datasource(DATASOURCE)


def number(  # noqa: PLR0913 - what a panel has is what a panel has
    title: str,
    unit: str,
    expr: str,
    description: str,
    *,
    thresholds: Sequence[tuple[float | None, str]] = ((None, NEUTRAL),),
    decimals: int | None = None,
    mappings: Mapping[str, tuple[str, str]] | None = None,
    no_value: str = "no data",
    width: int = 3,
) -> stat.Panel:
    """Make a single number, asked at the end of the range; `thresholds` are (from, colour), the first from None."""
    panel = _common(stat.Panel(), title, unit, description, width=width, height=4)
    panel = panel.with_target(_query("A", expr).instant()).thresholds(_thresholds(thresholds)).no_value(no_value)
    panel = panel.graph_mode(common.BigValueGraphMode.NONE).reduce_options(
        common_builder.ReduceDataOptions().calcs(["lastNotNull"])
    )
    plain = len(thresholds) == 1 and not mappings
    panel = panel.color_mode(common.BigValueColorMode.NONE if plain else common.BigValueColorMode.BACKGROUND)
    if decimals is not None:
        panel = panel.decimals(decimals)
    if mappings:
        results = {
            value: dashboard.ValueMappingResult(text=text, color=color) for value, (text, color) in mappings.items()
        }
        panel = panel.mappings([dashboard.ValueMap(options=results)])
    return panel


def chart(  # noqa: PLR0913 - what a panel has is what a panel has
    title: str,
    unit: str,
    queries: Mapping[str, str],
    description: str,
    *,
    stacked: bool = False,
    from_zero: bool = True,
    width: int = 12,
) -> timeseries.Panel:
    """Make a chart over time; `queries` are legend to expression."""
    panel = _common(timeseries.Panel(), title, unit, description, width=width, height=8)
    for ref_id, (legend, expr) in zip(REF_IDS, queries.items(), strict=False):
        panel = panel.with_target(_query(ref_id, expr, legend).range())
    panel = panel.fill_opacity(30 if stacked else 10).show_points(common.VisibilityMode.NEVER)
    panel = panel.legend(
        common_builder.VizLegendOptions()
        .display_mode(common.LegendDisplayMode.TABLE)
        .placement(common.LegendPlacement.BOTTOM)
        .show_legend(show_legend=True)
        .calcs(["lastNotNull", "max"])
    )
    panel = panel.tooltip(
        common_builder.VizTooltipOptions().mode(common.TooltipDisplayMode.MULTI).sort(common.SortOrder.DESCENDING)
    )
    if from_zero:
        panel = panel.axis_soft_min(0)
    if stacked:
        panel = panel.stacking(common_builder.StackingConfig().mode(common.StackingMode.NORMAL))
    return panel


def shares(  # noqa: PLR0913 - what a panel has is what a panel has
    title: str, unit: str, expr: str, legend: str, description: str, *, width: int
) -> piechart.Panel:
    """Make a ring with the share of each series."""
    panel = _common(piechart.Panel(), title, unit, description, width=width, height=9)
    panel = panel.with_target(_query("A", expr, legend).instant()).pie_type(PieChartType.DONUT)
    panel = panel.reduce_options(common_builder.ReduceDataOptions().calcs(["lastNotNull"]))
    return panel.legend(
        piechart.PieChartLegendOptions()
        .display_mode(common.LegendDisplayMode.TABLE)
        .placement(common.LegendPlacement.RIGHT)
        .show_legend(show_legend=True)
        .values([PieChartLegendValues.PERCENT, PieChartLegendValues.VALUE])
    )


def rows_by(  # noqa: PLR0913 - what a panel has is what a panel has
    label: str,
    title: str,
    columns: Mapping[str, tuple[str, str, int]],
    description: str,
    *,
    sort_by: str,
    width: int,
) -> table.Panel:
    """Make a table with a row for each value of `label`; `columns` are name to (expression, unit, decimals)."""
    panel = _common(table.Panel(), title, "none", description, width=width, height=9)
    rename = {label: label.capitalize()}
    for ref_id, (name, (expr, unit, decimals)) in zip(REF_IDS, columns.items(), strict=False):
        panel = panel.with_target(_query(ref_id, expr).instant().format(PromQueryFormat.TABLE))
        rename[f"Value #{ref_id}"] = name
        panel = panel.override_by_name(
            name,
            [dashboard.DynamicConfigValue("unit", unit), dashboard.DynamicConfigValue("decimals", decimals)],
        )
    panel = panel.with_transformation(dashboard.DataTransformerConfig(id_val="merge", options={}))
    panel = panel.with_transformation(
        dashboard.DataTransformerConfig(
            id_val="organize", options={"excludeByName": {"Time": True}, "renameByName": rename}
        )
    )
    return panel.sort_by([common_builder.TableSortByFieldState().display_name(sort_by).desc(desc=True)])


def variable(name: str, metric: str, selector: str) -> builder.QueryVariable:
    """Make a variable with the values that the label of its name has, several or all at once."""
    return (
        builder.QueryVariable(name)
        .label(name.capitalize())
        .datasource(DATASOURCE)
        .query(f"label_values({metric}{{{selector}}}, {name})" if selector else f"label_values({metric}, {name})")
        .refresh(dashboard.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(dashboard.VariableSort.ALPHABETICAL_ASC)
        .multi(multi=True)
        .include_all(include_all=True)
        .all_value(".+")
        .current(dashboard.VariableOption(selected=True, text=["All"], value=["$__all"]))
    )
