"""The few kinds of panel that the dashboard is made of, on top of Grafana's own builders."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias, TypeVar

from grafana_foundation_sdk.builders import common as common_builder
from grafana_foundation_sdk.builders import dashboard as builder
from grafana_foundation_sdk.builders import piechart, prometheus, stat, statetimeline, table, timeseries
from grafana_foundation_sdk.models import common, dashboard
from grafana_foundation_sdk.models.piechart import PieChartLegendValues, PieChartType
from grafana_foundation_sdk.models.prometheus import PromQueryFormat
from jsonnet_files import CONFIG

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

DATASOURCE = dashboard.DataSourceRef(type_val="prometheus", uid="${datasource}")
RUNBOOK: str = CONFIG["runbookUrl"]
UID = "sqs-event-exporter"
DASHBOARD = f"/d/{UID}?${{datasource:queryparam}}&${{cluster:queryparam}}&${{__url_time_range}}"
"""This dashboard, with all variables but these as they are at first."""

REF_IDS = "ABCDEFGH"
GREEN, YELLOW, RED, NEUTRAL = "green", "yellow", "red", "text"

Meaning: TypeAlias = "dashboard.ValueMap | dashboard.RangeMap | dashboard.RegexMap | dashboard.SpecialValueMap"
Panel = TypeVar("Panel", timeseries.Panel, stat.Panel, table.Panel, piechart.Panel, statetimeline.Panel)


def see(text: str, *alerts: str) -> str:
    """Return a description with links to the sections of the runbook."""
    links = ", ".join(f"[{alert}]({RUNBOOK}#{alert.lower()})" for alert in alerts)
    return f"{text}\n\nRunbook: {links}" if links else text


def colours(yellow: float, red: float) -> list[tuple[float | None, str]]:
    """Return thresholds of a number that is never negative: green from 0 on, and no colour where there is no data."""
    return [(None, NEUTRAL), (0, GREEN), (yellow, YELLOW), (red, RED)]


def drill_down(variable: str, title: str) -> builder.DashboardLink:
    """Return a link from a series to this dashboard, for the value that the series has in the variable's label."""
    url = f"{DASHBOARD}&var-{variable}=${{__field.labels.{variable}}}"
    return builder.DashboardLink(title).type(dashboard.DashboardLinkType.LINK).url(url)


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


def _meaning(mappings: Mapping[str, tuple[str, str]], not_a_number: str) -> list[Meaning]:
    """Return what values are shown as: text and colour, and a text without colour for none."""
    nothing = dashboard.ValueMappingResult(text=not_a_number, color=NEUTRAL)
    found: list[Meaning] = [
        dashboard.SpecialValueMap(
            options=dashboard.DashboardSpecialValueMapOptions(
                match=dashboard.SpecialValueMatch.NULL_AND_NAN, result=nothing
            )
        )
    ]
    if mappings:
        results = {
            value: dashboard.ValueMappingResult(text=text, color=color) for value, (text, color) in mappings.items()
        }
        found.append(dashboard.ValueMap(options=results))
    return found


def number(  # noqa: PLR0913 - what a panel has is what a panel has
    title: str,
    unit: str,
    expr: str | Mapping[str, str],
    description: str,
    *,
    thresholds: Sequence[tuple[float | None, str]] = ((None, NEUTRAL),),
    decimals: int | None = None,
    mappings: Mapping[str, tuple[str, str]] | None = None,
    no_value: str = "no data",
    not_a_number: str = "no data",
    width: int = 3,
    link: str = "",
) -> stat.Panel:
    """Make a single number (or a few, by legend), asked at the end of the range.

    `thresholds` are (from, colour), the first from None: it is the colour of no data, so never green. `no_value` stands
    where Prometheus has no series, `not_a_number` where it has some and the number is 0 / 0.
    """
    panel = _common(stat.Panel(), title, unit, description, width=width, height=4)
    for ref_id, (legend, one) in zip(REF_IDS, ({"": expr} if isinstance(expr, str) else expr).items(), strict=False):
        panel = panel.with_target(_query(ref_id, one, legend).instant())
    panel = panel.thresholds(_thresholds(thresholds)).no_value(no_value)
    panel = panel.graph_mode(common.BigValueGraphMode.NONE).reduce_options(
        common_builder.ReduceDataOptions().calcs(["lastNotNull"])
    )
    plain = len(thresholds) == 1 and not mappings
    panel = panel.color_mode(common.BigValueColorMode.NONE if plain else common.BigValueColorMode.BACKGROUND)
    panel = panel.mappings(_meaning(mappings or {}, not_a_number))
    if decimals is not None:
        panel = panel.decimals(decimals)
    if link:
        panel = panel.links([builder.DashboardLink(title).type(dashboard.DashboardLinkType.LINK).url(link)])
    return panel


def chart(  # noqa: PLR0913 - what a panel has is what a panel has
    title: str,
    unit: str,
    queries: Mapping[str, str],
    description: str,
    *,
    stacked: bool = False,
    bars: bool = False,
    logarithmic: bool = False,
    from_zero: bool = True,
    every: str = "",
    last: str = "",
    drill: str = "",
    width: int = 12,
) -> timeseries.Panel:
    """Make a chart over time; `queries` are legend to expression.

    `every` is the least distance of its points, `last` a span of its own (instead of the dashboard's), `drill` the
    label by which a click on a series narrows the dashboard. Series that are 0 all along are in no legend.
    """
    panel = _common(timeseries.Panel(), title, unit, description, width=width, height=8)
    for ref_id, (legend, expr) in zip(REF_IDS, queries.items(), strict=False):
        panel = panel.with_target(_query(ref_id, expr, legend).range())
    panel = panel.fill_opacity(30 if stacked or bars else 10).show_points(common.VisibilityMode.NEVER)
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
    panel = panel.with_override(
        dashboard.MatcherConfig(id_val="byValue", options={"reducer": "allIsZero", "op": "gte", "value": 0}),
        [dashboard.DynamicConfigValue("custom.hideFrom", {"legend": True, "tooltip": True, "viz": False})],
    )
    if logarithmic:
        scale = common_builder.ScaleDistributionConfig().type(common.ScaleDistribution.LOG).log(10)
        panel = panel.scale_distribution(scale)
    elif from_zero:
        panel = panel.axis_soft_min(0)
    if stacked:
        panel = panel.stacking(common_builder.StackingConfig().mode(common.StackingMode.NORMAL))
    if bars:
        panel = panel.draw_style(common.GraphDrawStyle.BARS)
    if every:
        panel = panel.interval(every)
    if last:
        panel = panel.time_from(last)
    if drill:
        panel = panel.data_links([drill_down(drill, f"Only this {drill}")])
    return panel


def states(
    title: str, queries: Mapping[str, str], description: str, *, mappings: Mapping[str, tuple[str, str]], width: int
) -> statetimeline.Panel:
    """Make a band for each series, coloured by its value over time."""
    panel = _common(statetimeline.Panel(), title, "none", description, width=width, height=8)
    for ref_id, (legend, expr) in zip(REF_IDS, queries.items(), strict=False):
        panel = panel.with_target(_query(ref_id, expr, legend).range())
    panel = panel.thresholds(_thresholds([(None, NEUTRAL)])).mappings(_meaning(mappings, "no data"))
    return panel.show_value(common.VisibilityMode.NEVER).merge_values(merge_values=True)


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
    descending: bool = True,
    width: int,
    most: int | None = None,
    link: tuple[str, str] | None = None,
) -> table.Panel:
    """Make a table with a row for each value of `label`; `columns` are name to (expression, unit, decimals).

    `most` keeps the first rows alone, in the order of `sort_by`; `link` is (title, URL) of a link on the label.
    """
    panel = _common(table.Panel(), title, "none", description, width=width, height=9)
    heading = label.capitalize()
    rename = {label: heading}
    for ref_id, (name, (expr, unit, decimals)) in zip(REF_IDS, columns.items(), strict=False):
        panel = panel.with_target(_query(ref_id, expr).instant().format(PromQueryFormat.TABLE))
        # With one query alone Grafana names the column "Value".
        rename[f"Value #{ref_id}" if len(columns) > 1 else "Value"] = name
        panel = panel.override_by_name(
            name,
            [dashboard.DynamicConfigValue("unit", unit), dashboard.DynamicConfigValue("decimals", decimals)],
        )
    if link:
        links = [{"title": link[0], "url": link[1], "targetBlank": link[1].startswith("http")}]
        panel = panel.override_by_name(heading, [dashboard.DynamicConfigValue("links", links)])
    panel = panel.with_transformation(dashboard.DataTransformerConfig(id_val="merge", options={}))
    panel = panel.with_transformation(
        dashboard.DataTransformerConfig(
            id_val="organize", options={"excludeByName": {"Time": True}, "renameByName": rename}
        )
    )
    if most:
        order = {"sort": [{"field": sort_by, "desc": descending}]}
        panel = panel.with_transformation(dashboard.DataTransformerConfig(id_val="sortBy", options=order))
        panel = panel.with_transformation(
            dashboard.DataTransformerConfig(id_val="limit", options={"limitField": str(most)})
        )
    return panel.sort_by([common_builder.TableSortByFieldState().display_name(sort_by).desc(desc=descending)])


def variable(name: str, metric: str, selector: str, *, everything: str = ".+") -> builder.QueryVariable:
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
        .all_value(everything)
        .current(dashboard.VariableOption(selected=True, text=["All"], value=["$__all"]))
    )


def text_box(name: str, label: str, value: str, description: str) -> builder.TextBoxVariable:
    """Make a variable whose value is written by hand."""
    chosen = dashboard.VariableOption(selected=True, text=value, value=value)
    box = builder.TextBoxVariable(name).label(label).description(description).default_value(value).current(chosen)
    return box.options([chosen])
