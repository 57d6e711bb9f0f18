"""The page docs/alerts.md: objectives, alerts, and the panels on which each metric is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ops.alerts import every_alert
from ops.metric_catalog import metric_of, own_metrics
from ops.panels import Board
from ops.slos import Objectives

_INTRODUCTION = """# Alerts, metrics and panels

Rendered by `python -m ops render`. Rules for Prometheus are in `ops/rules`, dashboards for Grafana in
`ops/dashboards`, and a page for each alert in `ops/runbooks`. Objectives are data: change `ops/slo.toml` and render
again.

The annotation `runbook_url` is the page's path in the repository. Where you publish the runbooks,
`python -m ops render --runbooks URL` (or `monitoring.runbooks` of the chart) makes it an address; rendered dashboards
then link to them too.

The jobs that scrape Penstock need `penstock` in their names, and an interval of at most 30 s. Labels `cluster` and
`namespace` are kept where there are any. A page is on a cause or on a symptom, not on both: while a dependency is down,
ingest is held, or a driver or replica is missing, the alerts on symptoms are silent, and for 30 minutes after the page
of such a cause, as its errors are in the windows of the objectives and its backlog is settled late.
[operate.md](operate.md#what-pages-and-when) has how soon they fire.
"""


def alert_page(objectives: Objectives, boards: Sequence[Board]) -> str:
    """Returns the page in Markdown."""
    lines = [_INTRODUCTION, *_objectives(objectives), "", *_alerts(objectives), "", *_metrics(boards)]
    return "\n".join(lines) + "\n"


def _objectives(objectives: Objectives) -> Iterator[str]:
    yield "## Objectives\n"
    yield f"Over {objectives.period_days} days. A page when 2 % of a budget burn in an hour (14.4 times too fast,"
    yield "over 5 m and 1 h) or 5 % in six hours (6 times, over 30 m and 6 h); a ticket when 10 % burn in"
    yield "three days (once, over 2 h and 3 d).\n"
    yield "| objective | goal | meaning |\n|---|---|---|"
    for slo in objectives.slos:
        yield f"| `{slo.name}` | {slo.objective * 100:g} % | {slo.description} |"
    yield "| `no-loss` | 100 % | No lost offsets, and every audit balances. It has no budget: any miss is a page. |"


def _alerts(objectives: Objectives) -> Iterator[str]:
    yield "## Alerts\n"
    yield "| alert | severity | after | meaning |\n|---|---|---|---|"
    for alert in every_alert(objectives):
        page = f"[{alert.name}](../ops/runbooks/{alert.name}.md)"
        yield f"| {page} | {alert.severity} | {alert.lasts} | {alert.description} |"


def _metrics(boards: Sequence[Board]) -> Iterator[str]:
    yield "## Metrics and their panels\n"
    yield "[metrics.md](metrics.md) says what each metric means.\n"
    yield "| metric | panels |\n|---|---|"
    samples = own_metrics()
    for metric in dict.fromkeys(metric_of(sample) for sample in samples):
        names = [sample for sample in samples if metric_of(sample) == metric]
        panels = [
            f"{board.title}: {panel.title}"
            for board in boards
            for panel in board.panels()
            if any(f"{name}{{" in query.expr for query in panel.queries for name in names)
        ]
        yield f"| `{metric}` | {'; '.join(panels)} |"
