"""Checks that queries of panels and rules name metrics and labels that exist, and that every metric is on a panel."""

from __future__ import annotations

from collections.abc import Iterator

import promql_parser
import pytest

from ops.alerts import every_alert
from ops.boards import every_board
from ops.metric_catalog import every_metric, metric_of, own_metrics
from ops.panels import Panel
from ops.prometheus import with_variables
from ops.recordings import shared_recordings, slo_recordings
from ops.slos import read_objectives
from tests.ops.queries import nodes, read

OBJECTIVES = read_objectives()
BOARDS = every_board(OBJECTIVES)
KNOWN = every_metric(OBJECTIVES)
RECORDINGS = (*shared_recordings(), *slo_recordings(OBJECTIVES))
_ADDED = {"source"}  # by label_replace, for the larger of two recorded shares


def _queries() -> Iterator[tuple[str, str]]:
    for board in BOARDS:
        for panel in board.panels():
            for query in panel.queries:
                yield f"{board.uid}: {panel.title}: {query.legend}", query.expr
    for rule in RECORDINGS:
        yield f"{rule.record} {rule.labels}", rule.expr
    for alert in every_alert(OBJECTIVES):
        yield alert.name, alert.expr


QUERIES = dict(_queries())
of_every_query = pytest.mark.parametrize("expression", QUERIES.values(), ids=QUERIES.keys())


@of_every_query
def test_a_query_names_metrics_and_labels_that_exist(expression: str) -> None:
    query = read(expression)
    assert query.metrics or expression.startswith("vector(")
    for name, matched in query.metrics.items():
        assert name in KNOWN
        assert matched <= KNOWN[name], name
    available = set().union(*(KNOWN[name] for name in query.metrics)) | _ADDED
    assert query.groups <= available


@of_every_query
def test_a_quantile_is_of_the_rates_of_buckets(expression: str) -> None:
    for node in nodes(promql_parser.parse(with_variables(expression))):
        if isinstance(node, promql_parser.Call) and node.func.name == "histogram_quantile":
            inner = node.args[1]
            assert isinstance(inner, promql_parser.AggregateExpr)
            assert inner.modifier is not None
            assert "le" in inner.modifier.labels
            assert isinstance(inner.expr, promql_parser.Call)
            assert inner.expr.func.name == "rate"
        if isinstance(node, promql_parser.AggregateExpr) and str(node.op) == "avg":
            assert not {name for name in read(expression).metrics if name.endswith(("_sum", "_count"))}


def test_every_metric_is_on_a_panel() -> None:
    shown = {
        name
        for board in BOARDS
        for panel in board.panels()
        for query in panel.queries
        for name in read(query.expr).metrics
    }
    assert {metric_of(sample) for sample in own_metrics()} - {metric_of(name) for name in shown} == set()


def test_a_counter_is_never_shown_without_its_suffix_or_its_rate() -> None:
    own = own_metrics()
    for expression in QUERIES.values():
        for name in read(expression).metrics:
            assert not name.startswith("penstock_") or name in own


def test_every_recording_is_read() -> None:
    read_names = {name for expression in QUERIES.values() for name in read(expression).metrics}
    # What people and other dashboards read of sloth's metadata.
    metadata = {"slo:objective:ratio", "slo:time_period:days", "slo:current_burn_rate:ratio"}
    assert {rule.record for rule in RECORDINGS} - read_names == metadata


def test_every_panel_is_complete() -> None:
    for board in BOARDS:
        titles = [panel.title for panel in board.panels()]
        assert len(titles) == len(set(titles))
        for panel in board.panels():
            assert panel.description
            assert panel.description.endswith(".")
            assert panel.queries
            assert all(query.legend for query in panel.queries)
            assert (panel.warn is None) == (panel.alarm is None)


PANELS = [(f"{board.uid}: {panel.title}", panel) for board in BOARDS for panel in board.panels()]


@pytest.mark.parametrize("panel", [panel for _, panel in PANELS], ids=[name for name, _ in PANELS])
def test_the_unit_of_a_panel_fits_its_metrics(panel: Panel) -> None:
    for query in panel.queries:
        names = read(query.expr).metrics
        in_seconds = all("_seconds" in name for name in names)
        match panel.unit:
            case "s":
                assert in_seconds
                assert panel.kind == "heatmap" or "rate(" not in query.expr or "histogram_quantile(" in query.expr
            case "bytes":
                assert all("_bytes" in name or name.endswith("_mem_used") for name in names)
            case "reqps" | "eps" | "ops":
                assert "rate(" in query.expr
                assert all(name.endswith(("_total", "_count")) for name in names)
            case "percent":
                assert all(name.endswith("_utilization") for name in names)
            case "percentunit":
                assert "/" in query.expr or all(":ratio" in name or name == "up" for name in names)
            case "short":
                assert "histogram_quantile" not in query.expr
                assert not any(name.endswith(("_seconds", "_bytes")) for name in names)
            case other:
                pytest.fail(f"the test does not know the unit {other}")
