"""Panels and dashboards as typed records, and Grafana's JSON of them by its foundation SDK."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from grafana_foundation_sdk.builders import dashboard as dashboards
from grafana_foundation_sdk.builders import heatmap, prometheus, stat, timeseries
from grafana_foundation_sdk.builders.common import (
    ReduceDataOptions,
    StackingConfig,
    VizLegendOptions,
    VizTooltipOptions,
)
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

Kind: TypeAlias = Literal["lines", "area", "stat", "heatmap"]
Builder: TypeAlias = timeseries.Panel | stat.Panel | heatmap.Panel

SELECTOR = 'cluster=~"$cluster", namespace=~"$namespace", job=~"$job", instance=~"$node"'
"""The matchers of a panel's query: the variables of its dashboard."""
SCOPE = 'cluster=~"$cluster", namespace=~"$namespace"'
"""The matchers of recorded series, which keep no job and no node."""
_DATASOURCE = models.DataSourceRef(type_val="prometheus", uid="${datasource}")
_HEIGHT = 8
_VARIABLES = (("cluster", "Cluster"), ("namespace", "Namespace"), ("job", "Job"), ("node", "Node"))


@dataclass(frozen=True, slots=True)
class Query:
    """A query of a panel.

    Attributes:
        expr: PromQL with the variables of the dashboard.
        legend: the name of each line, such as `{{topic}}`.
        may_be_empty: why a loaded system may have no data for it; empty if it must have.
    """

    expr: str
    legend: str
    may_be_empty: str = ""


@dataclass(frozen=True, slots=True)
class Panel:
    """A panel.

    Attributes:
        description: what it shows and what to look for.
        unit: of Grafana: s, bytes, percentunit (a share, 0 to 1), short, eps (events a second), reqps.
        runbooks: the alerts whose pages it links to.
        warn, alarm: thresholds; the colours turn around where `alarm` is the smaller one.
        width: of 24.
        may_be_negative: whether a share may be below 0, as a budget that is overspent.
        without_data: shown instead of "No data"; by default why its queries may have none.
    """

    title: str
    description: str
    unit: str
    queries: Sequence[Query]
    kind: Kind = "lines"
    runbooks: Sequence[str] = ()
    warn: float | None = None
    alarm: float | None = None
    width: int = 12
    may_be_negative: bool = False
    without_data: str = ""

    @property
    def is_share(self) -> bool:
        """Returns whether all its values lie between 0 and 1."""
        return self.unit == "percentunit" and not self.may_be_negative


@dataclass(frozen=True, slots=True)
class Row:
    """A titled row of panels."""

    title: str
    panels: Sequence[Panel]


@dataclass(frozen=True, slots=True)
class Board:
    """A dashboard."""

    uid: str
    title: str
    description: str
    rows: Sequence[Row]

    def panels(self) -> Sequence[Panel]:
        """Returns its panels in order."""
        return tuple(panel for row in self.rows for panel in row.panels)


def selected(metric: str, *matchers: str) -> str:
    """Returns a selector of a metric of Penstock by the variables of the dashboard."""
    return f"{metric}{{{', '.join((SELECTOR, *matchers))}}}"


def recorded(name: str, *matchers: str) -> str:
    """Returns a selector of a recorded series."""
    return f"{name}{{{', '.join((SCOPE, *matchers))}}}"


def rate(metric: str, by: str, *matchers: str) -> str:
    """Returns the rate of a counter, summed by labels."""
    return f"sum by ({by}) (rate({selected(metric, *matchers)}[$__rate_interval]))"


def quantile(share: float, histogram: str, by: str, *matchers: str) -> str:
    """Returns a quantile of a histogram by labels, from the rates of its buckets."""
    return f"histogram_quantile({share}, {rate(f'{histogram}_bucket', f'{by}, le' if by else 'le', *matchers)})"


def mean(histogram: str, by: str, *matchers: str) -> str:
    """Returns the mean of a histogram by labels, from the rates of its sum and count."""
    return f"{rate(f'{histogram}_sum', by, *matchers)}\n/ ({rate(f'{histogram}_count', by, *matchers)} > 0)"


def render(board: Board, boards: Sequence[Board], runbooks: str | None) -> str:
    """Returns the JSON of a dashboard, with links to the others, and to runbooks if they are published."""
    builder = (
        dashboards.Dashboard(board.title)
        .uid(board.uid)
        .description(board.description)
        .tags(["penstock"])
        .time("now-3h", "now")
        .refresh("30s")
        .timezone("browser")
        .tooltip(models.DashboardCursorSync.CROSSHAIR)
        .editable()
    )
    for other in boards:
        if other.uid != board.uid:
            link = dashboards.DashboardLink(other.title).type(models.DashboardLinkType.LINK).url(f"/d/{other.uid}")
            builder = builder.link(link.keep_time(True).include_vars(True).icon("dashboard"))
    builder = builder.with_variable(dashboards.DatasourceVariable("datasource").label("Data source").type("prometheus"))
    for name, label in _VARIABLES:
        builder = builder.with_variable(_variable(name, label))
    numbers = itertools.count(1)
    for row in board.rows:
        builder = builder.with_row(dashboards.Row(row.title).id(next(numbers)))
        for panel in row.panels:
            builder = builder.with_panel(_panel(panel, runbooks).id(next(numbers)))
    built = json.loads(JSONEncoder(sort_keys=True).encode(builder.build()))
    for variable in built["templating"]["list"]:
        for name in ("auto", "auto_count", "auto_min"):  # of intervals alone; the SDK gives them to every variable
            variable.pop(name, None)
    return json.dumps(built, indent=2, ensure_ascii=False) + "\n"


def _variable(name: str, label: str) -> dashboards.QueryVariable:
    """Returns a variable of the label of the same name; `node` is the instance, since a node has one endpoint."""
    of = "instance" if name == "node" else name
    above = {"cluster": "", "namespace": '{cluster=~"$cluster"}'}.get(name, f"{{{SCOPE}}}")
    return (
        dashboards.QueryVariable(name)
        .label(label)
        .query(f"label_values(penstock_processes{above}, {of})")
        .datasource(_DATASOURCE)
        .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .include_all(True)
        .all_value(".*")
        .multi(True)
        .current(models.VariableOption(selected=True, text="All", value="$__all"))
    )


def _panel(panel: Panel, runbooks: str | None) -> Builder:
    builder = _of_kind(panel)
    builder.title(panel.title).description(panel.description).datasource(_DATASOURCE)
    builder.span(panel.width).height(_HEIGHT).unit(panel.unit)
    if panel.is_share:
        builder.min(0).max(1)
    elif panel.kind in ("lines", "area") and not panel.may_be_negative:
        builder.min(0)
        if panel.unit == "short":
            builder.axis_soft_max(1)  # a count of none is at the bottom, not half way up to 100
    reasons = [panel.without_data, *(query.may_be_empty for query in panel.queries)]
    if reason := next(filter(None, reasons), ""):
        builder.no_value(f"No data: {reason}")
    if panel.warn is not None and panel.alarm is not None:
        builder.thresholds(_thresholds(panel.warn, panel.alarm))
    builder.links(
        [
            dashboards.DashboardLink(f"Runbook of {alert}")
            .type(models.DashboardLinkType.LINK)
            .url(f"{runbooks}/{alert}.md")
            .target_blank(True)
            for alert in (panel.runbooks if runbooks else ())
        ]
    )
    for number, query in enumerate(panel.queries):
        builder.with_target(_target(panel, query, chr(ord("A") + number)))
    built: Builder = builder
    return built


def _of_kind(panel: Panel) -> Any:
    """Returns the builder of a panel's kind, with what is the same in all panels of it."""
    if panel.kind == "stat":
        reduce = ReduceDataOptions().calcs(["lastNotNull"]).fields("").values(False)
        return stat.Panel().reduce_options(reduce).graph_mode(common.BigValueGraphMode.AREA)
    if panel.kind == "heatmap":
        return heatmap.Panel().calculate(False).y_axis(heatmap.YAxisConfig().unit(panel.unit))
    lines = (
        timeseries.Panel()
        .line_width(1)
        .show_points(common.VisibilityMode.NEVER)
        .tooltip(VizTooltipOptions().mode(common.TooltipDisplayMode.MULTI).sort(common.SortOrder.DESCENDING))
        .legend(
            VizLegendOptions()
            .display_mode(common.LegendDisplayMode.LIST)
            .placement(common.LegendPlacement.BOTTOM)
            .show_legend(True)
            .calcs([])
        )
    )
    if panel.kind == "area":
        lines.fill_opacity(30).stacking(StackingConfig().mode(common.StackingMode.NORMAL).group("A"))
    return lines


def _thresholds(warn: float, alarm: float) -> dashboards.ThresholdsConfig:
    colours = ("green", "orange", "red") if alarm >= warn else ("red", "orange", "green")
    steps = zip((None, *sorted((warn, alarm))), colours, strict=True)
    config = dashboards.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE)
    return config.steps([models.Threshold(value=value, color=colour) for value, colour in steps])


def _target(panel: Panel, query: Query, ref: str) -> prometheus.Dataquery:
    target = prometheus.Dataquery().expr(query.expr).legend_format(query.legend).ref_id(ref).datasource(_DATASOURCE)
    target = target.range()
    return target.format(PromQueryFormat.HEATMAP) if panel.kind == "heatmap" else target
