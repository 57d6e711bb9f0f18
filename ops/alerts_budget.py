"""Alerts on error budgets that burn: two windows each, so that they fire soon and resolve soon."""

from __future__ import annotations

from collections.abc import Sequence

from ops.recordings import INGEST_EXPLAINED, QUERY_EXPLAINED, error_of
from ops.rules_model import Alert, Case
from ops.slos import Objectives, Slo

# The burn rates of Google's SRE workbook: 2 % of a month's budget in an hour, 5 % in six hours, 10 % in three days.
_PAGES = ((14.4, "5m", "1h"), (6.0, "30m", "6h"))
_MIN_BAD = 10
"""Bad searches in the long window, below which there is no page."""
_TICKET = (1.0, "2h", "3d")


def budget_alerts(objectives: Objectives) -> Sequence[Alert]:
    """Returns a page for each of three objectives, and one ticket for all of them."""
    return (
        _page("PenstockFreshnessBudgetBurns", objectives.named("freshness"), INGEST_EXPLAINED, _slow_events()),
        _page(
            "PenstockQueryErrorBudgetBurns", objectives.named("query-availability"), QUERY_EXPLAINED, _failed_searches()
        ),
        _page("PenstockQueryLatencyBudgetBurns", objectives.named("query-latency"), QUERY_EXPLAINED, _slow_searches()),
        _ticket(),
    )


def _page(name: str, slo: Slo, cause: str, series: tuple[dict[str, str], dict[str, str]]) -> Alert:
    burns = "\nor\n".join(
        f"(\n  {error_of(slo.name, short)} > {rate} * {slo.budget}\n  and\n"
        f"  {error_of(slo.name, long)} > {rate} * {slo.budget}{_enough(slo, long)}\n)"
        for rate, short, long in _PAGES
    )
    bad, good = series
    fires = {"slo": slo.name, "namespace": "prod"}
    return Alert(
        name=name,
        severity="page",
        lasts="2m",
        expr=f"(\n{burns}\n)\nunless on (cluster, namespace) {cause}",
        summary=f"{slo.title} in {{{{ $labels.namespace }}}}: the error budget burns much too fast",
        description=(
            f"{slo.description} It burns at 14.4 times the rate that a month allows (5 m and 1 h), "
            "or at 6 times (30 m and 6 h)."
        ),
        cases=(
            Case("all bad for an hour, then good", bad, quiet_m=(50, 300), fires={120: [fires]}),
            Case("good all the time", good, quiet_m=(60, 120, 300)),
            Case(
                "all bad for an hour of an outage that has a page of its own, then good",
                bad | {'penstock_breaker_open{namespace="prod", dependency="store"}': "0+0x60 1+0x60 0+0x280"},
                quiet_m=(70, 90, 120, 122, 124, 130, 148, 200, 300),
            ),
        ),
    )


def _enough(slo: Slo, window: str) -> str:
    """Returns PromQL that requires some bad events as well: of few searches, two that fail are more than a budget.

    A standstill has no bad events; there the canary counts, and its objective requires none.
    """
    if slo.worst_of:
        return ""
    bad = slo.bad.strip().replace("{window}", window).replace("rate(", "increase(")
    return f"\n  and on (cluster, namespace) (\n{bad}\n) >= {_MIN_BAD}"


def _slow_events() -> tuple[dict[str, str], dict[str, str]]:
    count = 'penstock_freshness_seconds_count{namespace="prod", modality="text"}'
    fresh = 'penstock_freshness_seconds_bucket{namespace="prod", modality="text", le="5.0"}'
    return (
        {count: "0+600x400", fresh: "0+600x60 36000+0x60 36000+600x280"},
        {count: "0+600x400", fresh: "0+600x400"},
    )


def _failed_searches() -> tuple[dict[str, str], dict[str, str]]:
    answered = 'penstock_query_seconds_count{namespace="prod", status="200"}'
    failed = 'penstock_query_seconds_count{namespace="prod", status="503"}'
    return (
        {answered: "0+600x400", failed: "0+0x60 0+60x60 3660+0x280"},
        {answered: "0+20x400", failed: "0+0x70 5+0x330"},  # few, of few
    )


def _slow_searches() -> tuple[dict[str, str], dict[str, str]]:
    count = 'penstock_query_seconds_count{namespace="prod", status="200"}'
    fast = 'penstock_query_seconds_bucket{namespace="prod", status="200", le="0.2"}'
    return (
        {count: "0+600x400", fast: "0+600x60 36000+0x60 36000+600x280"},
        {count: "0+600x400", fast: "0+599x400"},
    )


def _ticket() -> Alert:
    rate, short, long = _TICKET
    budget = f"on (slo) group_left () ({rate} * slo:error_budget:ratio)"
    answered = 'penstock_query_seconds_count{namespace="prod", status="200"}'
    failed = 'penstock_query_seconds_count{namespace="prod", status="503"}'
    fires = {"slo": "query-availability", "namespace": "prod"}
    return Alert(
        name="PenstockErrorBudgetBurnsSlowly",
        severity="ticket",
        lasts="1h",
        expr=(f"slo:sli_error:ratio_rate{short} > {budget}\nand\nslo:sli_error:ratio_rate{long} > {budget}"),
        summary="{{ $labels.slo }} in {{ $labels.namespace }}: the error budget will not last for its period",
        description="Missed over two hours and over three days: at this rate the budget is used up early.",
        cases=(
            Case(
                "0.5 % fail for ten hours, then none",
                {answered: "0+600x900", failed: "0+0x60 0+3x600 1800+0x240"},
                quiet_m=(60, 880),
                fires={600: [fires]},
            ),
            Case("0.05 % fail", {answered: "0+2000x600", failed: "0+1x600"}, quiet_m=(60, 600)),
        ),
    )
