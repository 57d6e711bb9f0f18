"""The overview: objectives and their budgets, what is wrong now, what runs."""

from __future__ import annotations

from collections.abc import Sequence

from ops.panels import Board, Panel, Query, Row, rate, recorded, selected
from ops.slos import Objectives, Slo

_BURN_PAGES = {
    "freshness": "PenstockFreshnessBudgetBurns",
    "query-availability": "PenstockQueryErrorBudgetBurns",
    "query-completeness": "PenstockPartialAnswers",
    "query-latency": "PenstockQueryLatencyBudgetBurns",
}


def overview_board(objectives: Objectives) -> Board:
    """Returns the dashboard to look at first."""
    return Board(
        "penstock-overview",
        "Penstock overview",
        "Objectives, what is wrong now, and what runs.",
        (
            Row("Objectives", [_remaining(slo, objectives.period_days) for slo in objectives.slos]),
            Row("Budgets over time", _budgets()),
            Row("Now", _now()),
            Row("What runs", _running()),
        ),
    )


def _remaining(slo: Slo, period_days: int) -> Panel:
    return Panel(
        f"{slo.title}: budget left",
        f"{slo.description} Shown: what is left of the error budget of {period_days} days; below 0 it is overspent.",
        "percentunit",
        [
            Query(
                recorded("slo:period_error_budget_remaining:ratio", f'slo="{slo.name}"'),
                "{{namespace}}",
            )
        ],
        kind="stat",
        may_be_negative=True,
        warn=0.5,
        alarm=0.1,
        width=6,
        runbooks=(_BURN_PAGES[slo.name], "PenstockErrorBudgetBurnsSlowly"),
    )


def _budgets() -> Sequence[Panel]:
    return (
        Panel(
            "Burn rate, 1 h",
            "How many times faster than its budget allows an objective is missed. 14.4 is a page.",
            "short",
            [
                Query(
                    f"{recorded('slo:sli_error:ratio_rate1h')}\n/ on (slo) group_left () slo:error_budget:ratio",
                    "{{slo}} {{namespace}}",
                )
            ],
            warn=1,
            alarm=14.4,
            runbooks=("PenstockErrorBudgetBurnsSlowly",),
        ),
        Panel(
            "Errors, 5 m",
            "The share of bad events of each objective over five minutes.",
            "percentunit",
            [Query(recorded("slo:sli_error:ratio_rate5m"), "{{slo}} {{namespace}}")],
        ),
    )


def _now() -> Sequence[Panel]:
    return (
        Panel(
            "Settled events",
            "Events that got their outcome, by modality. Zero while lag grows is a standstill.",
            "eps",
            [Query(rate("penstock_events_total", "modality"), "{{modality}}")],
            kind="area",
            width=8,
            runbooks=("PenstockIngestStalled",),
        ),
        Panel(
            "Canaries by result",
            "Marked events that go through both planes. All of them should be found.",
            "eps",
            [Query(rate("penstock_canaries_total", "modality, result"), "{{modality}} {{result}}")],
            kind="area",
            width=8,
            runbooks=("PenstockCanaryLate",),
        ),
        Panel(
            "Canaries not found within 5 s",
            "The share over five minutes. 1 if no canary ended at all.",
            "percentunit",
            [Query(recorded("penstock:canary_error:ratio_rate5m"), "{{modality}}")],
            width=8,
            warn=0.05,
            alarm=0.5,
            runbooks=("PenstockCanaryLate",),
        ),
        Panel(
            "Known causes",
            "1 while a hold, a dependency, a driver or a replica has an alert of its own. "
            "Alerts on symptoms are silent during that time.",
            "short",
            [
                Query(recorded("penstock:ingest_cause:active"), "ingest", "only while there is a cause"),
                Query(recorded("penstock:query_cause:active"), "query", "only while there is a cause"),
            ],
            width=8,
            warn=0.5,
            alarm=1,
            runbooks=("PenstockDependencyDown", "PenstockIngestHeld"),
        ),
        Panel(
            "Breakers",
            "1 while a dependency does not answer.",
            "short",
            [Query(f"max by (dependency) ({selected('penstock_breaker_open')})", "{{dependency}}")],
            width=8,
            warn=0.5,
            alarm=1,
            runbooks=("PenstockDependencyDown",),
        ),
        Panel(
            "Targets up",
            "The share of the endpoints of each job that Prometheus can scrape.",
            "percentunit",
            [Query(f"avg by (job) ({selected('up')})", "{{job}}")],
            width=8,
            warn=0.99,
            alarm=0.5,
            runbooks=("PenstockMetricsTargetDown",),
        ),
    )


def _drivers() -> str:
    return selected("penstock_processes", 'process="ingest"')


def _running() -> Sequence[Panel]:
    return (
        Panel(
            "Builds",
            "Processes by version, profile, index version and model. During an upgrade there are several versions.",
            "short",
            [
                Query(
                    f"count by (version, profile, index_version, model) ({selected('penstock_build_info')})",
                    "{{version}} {{profile}} v{{index_version}} {{model}}",
                )
            ],
        ),
        Panel(
            "Drivers and replicas",
            "Living drivers of the ingest plane, and replicas of the query plane: running and expected.",
            "short",
            [
                Query(f"sum({_drivers()})", "drivers"),
                Query(recorded("penstock:query_replicas:running"), "replicas {{namespace}}"),
                Query(recorded("penstock:query_replicas:expected"), "expected {{namespace}}"),
            ],
            runbooks=("PenstockDriverAbsent", "PenstockQueryReplicasMissing"),
        ),
    )
