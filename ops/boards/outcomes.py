"""Outcomes: what became of events, dead letters by reason, and the audit."""

from __future__ import annotations

from collections.abc import Sequence

from ops.panels import SCOPE, Board, Panel, Query, Row, rate, recorded, selected


def outcomes_board() -> Board:
    """Returns the dashboard of dead letters and the audit."""
    return Board(
        "penstock-outcomes",
        "Penstock dead letters and audit",
        "What became of events, dead letters by reason, and whether everything balances.",
        (Row("Outcomes", _outcomes()), Row("Dead letters", _dead_letters()), Row("No loss", _no_loss())),
    )


def _outcomes() -> Sequence[Panel]:
    return (
        Panel(
            "Events by outcome",
            "Each event has exactly one.",
            "eps",
            [Query(rate("penstock_events_total", "outcome"), "{{outcome}}")],
            kind="area",
        ),
        Panel(
            "Events by modality, since the counters began",
            "Sums over all outcomes.",
            "short",
            [Query(f"sum by (modality) ({selected('penstock_events_total')})", "{{modality}}")],
            kind="stat",
        ),
    )


def _dead_letters() -> Sequence[Panel]:
    return (
        Panel(
            "Share of dead letters, 10 m",
            "Of settled events. Above 5 % with more than 20 of a reason there is a ticket.",
            "percentunit",
            [Query(recorded("penstock:dead_letter:ratio_rate10m"), "{{namespace}}")],
            warn=0.01,
            alarm=0.05,
            runbooks=("PenstockDeadLettersJump",),
        ),
        Panel(
            "Dead letters by reason",
            "Per second. `crashes_worker` is never normal.",
            "eps",
            [Query(rate("penstock_dead_letters_total", "reason"), "{{reason}}")],
            without_data="no event was rejected yet",
            kind="area",
            runbooks=("PenstockDeadLettersJump", "PenstockEventsCrashWorkers"),
        ),
        Panel(
            "Open dead letters",
            "Those whose event nothing has indexed or superseded since, by topic.",
            "short",
            [Query(f"max by (topic) ({selected('penstock_dead_letters_open')})", "{{topic}}")],
            runbooks=("PenstockDeadLettersJump",),
        ),
    )


def _no_loss() -> Sequence[Panel]:
    return (
        Panel(
            "Lost offsets",
            "Events that retention removed before they were indexed. Any is a page.",
            "short",
            [
                Query(
                    f"sum by (topic) ({selected('penstock_lost_offsets_total')})",
                    "{{topic}}",
                    "nothing is lost unless retention is shorter than lag",
                )
            ],
            kind="stat",
            warn=0.5,
            alarm=1,
            runbooks=("PenstockOffsetsLost",),
        ),
        Panel(
            "Failed audits",
            "Jobs of the regular audit that failed and still exist.",
            "short",
            [
                Query(
                    f'max by (job_name) (kube_job_status_failed{{{SCOPE}, job_name=~".*penstock.*audit.*"}})',
                    "{{job_name}}",
                    "only Kubernetes has the regular audit",
                )
            ],
            kind="stat",
            warn=0.5,
            alarm=1,
            runbooks=("PenstockAuditFailed",),
        ),
    )
