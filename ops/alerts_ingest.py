"""Alerts on the ingest plane: what stops events, loses them, or keeps rejecting them."""

from __future__ import annotations

from collections.abc import Sequence

from ops.recordings import CANARY_ERROR, DEAD_LETTER_RATIO, INGEST_CAUSE, INGEST_EXPLAINED
from ops.rules_model import Alert, Case

_BY = "by (cluster, namespace)"
_PROD = 'namespace="prod"'
_DRIVER = 'penstock_processes{process="ingest"}'
# A driver that starts loads its models, for minutes.
_YOUNG = f"(\n  sum {_BY} ({_DRIVER}) > 0\n  unless sum {_BY} ({_DRIVER} offset 15m) > 0\n)"
_UNLESS_EXPLAINED = f"unless on (cluster, namespace) {INGEST_EXPLAINED}"


def ingest_alerts() -> Sequence[Alert]:
    """Returns the alerts on events that wait, and those on events that are lost or rejected."""
    return (
        _held(), _halted(), _oldest(), _stalled(), _lost(), _dead_letters(), _crashing(), _fenced(), _workers_lost(),
        _canary(), _reindex_stuck(),
    )  # fmt: skip


def increased(metric: str, by: str) -> str:
    """Returns PromQL that is above 0 for an hour after a counter grew, also if it began with that or was reset.

    `increase` does not see the first value of a series, and the difference to an hour ago not what follows a reset. The
    six hours bridge an endpoint that was unavailable.
    """
    labels = f"by (cluster, namespace, {by})"
    now = f"sum {labels} ({metric})"
    first = f"{now}\n  - (\n    sum {labels} (max_over_time({metric}[6h] offset 1h))\n    or 0 * {now}\n  )\n  > 0"
    return f"(\n  {first}\n)\nor sum {labels} (increase({metric}[1h])) > 0"


def _held() -> Alert:
    held = f'penstock_held{{{_PROD}, why="disk"}}'
    driver = f'penstock_processes{{{_PROD}, process="ingest"}}'
    lag = f'penstock_lag_records{{{_PROD}, topic="media.text", partition="0"}}'
    fires = {"namespace": "prod", "why": "disk"}
    return Alert(
        name="PenstockIngestHeld",
        severity="page",
        lasts="5m",
        # Without Kafka there is no lease either, and without the store its breaker is open: one page each.
        expr=(
            f'max by (cluster, namespace, why) (penstock_held{{why!~"halted|budget"}}) > 0\n'
            f"unless on (cluster, namespace) (\n  max {_BY} (penstock_breaker_open) > 0\n)\n"
            f"unless on (cluster, namespace, why) (\n"
            f'  max by (cluster, namespace, why) (penstock_held{{why="lease"}})\n'
            f'  and on (cluster, namespace) max {_BY} (penstock_held{{why="broker"}}) > 0\n)\n'
            f'or label_replace(\n{_without_lag()}\n, "why", "broker", "", "")'
        ),
        summary="Ingest in {{ $labels.namespace }} is held: {{ $labels.why }}",
        description="No records are received until the cause is gone. Producers are not affected, and lag grows.",
        cases=(
            Case("held for an hour", {held: "0+0x10 1+0x60 0+0x60"}, quiet_m=(10, 14, 80), fires={20: [fires]}),
            Case(
                "without Kafka, and so without a lease",
                {f'penstock_held{{{_PROD}, why="{why}"}}': "0+0x10 1+0x60 0+0x60" for why in ("broker", "lease")},
                quiet_m=(10, 14, 80),
                fires={20: [{"namespace": "prod", "why": "broker"}]},
            ),
            Case(
                "without Kafka, while no lane lives",
                {driver: "1+0x120", lag: "5+0x30 _x30 5+0x60"},
                quiet_m=(20, 34, 90),
                fires={42: [{"namespace": "prod", "why": "broker"}]},
            ),
            Case("a driver starts", {driver: "_x10 1+0x12 _x60"}, quiet_m=(15, 22)),
            Case(
                "held by its own memory limit, as any plane under full load",
                {f'penstock_held{{{_PROD}, why="budget"}}': "1+0x120"},
                quiet_m=(20, 100),
            ),
        ),
    )


def _without_lag() -> str:
    """Returns PromQL that has a value where Kafka does not answer a driver that has lived for a while.

    A lane that starts without Kafka ends, and cannot say that it is held.
    """
    return (
        f"sum {_BY} ({_DRIVER}) > 0\nunless sum {_BY} (penstock_lag_records)\nunless on (cluster, namespace) {_YOUNG}"
    )


def _halted() -> Alert:
    halted = f'penstock_held{{{_PROD}, why="halted"}}'
    return Alert(
        name="PenstockPartitionHalted",
        severity="page",
        lasts="5m",
        expr=f'max {_BY} (penstock_held{{why="halted"}}) > 0',
        summary="Partitions in {{ $labels.namespace }} are halted",
        description="A record can be neither processed nor dead-lettered, or a log was lost. Others continue.",
        cases=(
            Case(
                "two partitions halt",
                {halted: "0+0x10 2+0x60 0+0x60"},
                quiet_m=(10, 14, 80),
                fires={20: [{"namespace": "prod"}]},
            ),
            Case("none halts", {halted: "0+0x120"}, quiet_m=(20, 100)),
        ),
    )


def _oldest() -> Alert:
    oldest = f'penstock_oldest_unsettled_seconds{{{_PROD}, topic="media.image"}}'
    return Alert(
        name="PenstockOldestUnsettled",
        severity="ticket",
        lasts="5m",
        expr=f"max by (cluster, namespace, topic) (penstock_oldest_unsettled_seconds) > 900\n{_UNLESS_EXPLAINED}",
        summary="Events of {{ $labels.topic }} in {{ $labels.namespace }} have waited for more than 15 minutes",
        description="The oldest event without an outcome is older than 15 minutes, and no known cause explains it.",
        cases=(
            Case(
                "one waits for half an hour",
                {oldest: "1+0x10 900+60x30 1+0x60"},
                quiet_m=(10, 15, 60),
                fires={25: [{"namespace": "prod", "topic": "media.image"}]},
            ),
            Case("all are young", {oldest: "4+0x120"}, quiet_m=(20, 100)),
        ),
    )


def _stalled() -> Alert:
    lag = f'penstock_lag_records{{{_PROD}, topic="media.text", partition="0"}}'
    events = f'penstock_events_total{{{_PROD}, modality="text", outcome="indexed"}}'
    total = "sum by (cluster, namespace, topic) (penstock_lag_records)"
    before = "sum by (cluster, namespace, topic) (penstock_lag_records offset 5m)"
    # Over less than a minute, as `lasts` makes it five: a window of five minutes would make it ten. It is longer than
    # the interval of scrapes.
    events_now, events_before = (f"sum {_BY} (penstock_events_total{at})" for at in ("", " offset 45s"))
    return Alert(
        name="PenstockIngestStalled",
        severity="page",
        lasts="5m",
        expr=(
            f"{total} - {before} > 0\n"
            f"unless on (cluster, namespace) (\n  {events_now} - {events_before} > 0\n)\n"
            f"unless on (cluster, namespace) {INGEST_CAUSE}\n"
            f"unless on (cluster, namespace) {_YOUNG}"
        ),
        summary="Lag of {{ $labels.topic }} in {{ $labels.namespace }} grows, and no event is settled",
        description="Producers continue, the ingest plane lives, and nothing has got an outcome for five minutes.",
        cases=(
            Case(
                "nothing is settled for half an hour",
                {lag: "0+0x10 0+100x30 3000-100x30 0+0x60", events: "0+100x10 1000+0x30 1000+200x90"},
                quiet_m=(10, 16, 60, 100),
                fires={minute: [{"namespace": "prod", "topic": "media.text"}] for minute in (17, 30)},
            ),
            Case(
                "a driver starts, and has settled nothing 20 minutes later",
                {
                    f'penstock_processes{{{_PROD}, process="ingest"}}': "_x10 1+0x100",
                    lag: "0+100x60 6000-200x30 0+0x20",
                    events: "0+0x60 0+200x50",
                },
                quiet_m=(20, 29, 75, 100),
                fires={35: [{"namespace": "prod", "topic": "media.text"}]},
            ),
            Case("lag grows because too little is settled", {lag: "0+100x120", events: "0+100x120"}, quiet_m=(30, 100)),
        ),
    )


def _lost() -> Alert:
    lost = f'penstock_lost_offsets_total{{{_PROD}, topic="media.text"}}'
    return Alert(
        name="PenstockOffsetsLost",
        severity="page",
        lasts="0m",
        expr=increased("penstock_lost_offsets_total", "topic"),
        summary="Retention removed events of {{ $labels.topic }} in {{ $labels.namespace }} that were not indexed",
        description="Kafka no longer has these events. Only their producer can send them again.",
        cases=(
            Case(
                "the first loss begins the series",
                {lost: "_x10 7+0x200"},
                quiet_m=(5, 90),
                fires={
                    12: [{"namespace": "prod", "topic": "media.text"}],
                    60: [{"namespace": "prod", "topic": "media.text"}],
                },
            ),
            Case(
                "a loss after a counter was reset",
                {lost: "7+0x100 3+0x200"},
                quiet_m=(99, 190),
                fires={102: [{"namespace": "prod", "topic": "media.text"}]},
            ),
            Case("a loss of last week", {lost: "7+0x400"}, quiet_m=(200, 390)),
        ),
    )


def _dead_letters() -> Alert:
    dead = f'penstock_dead_letters_total{{{_PROD}, reason="corrupt"}}'
    events = f'penstock_events_total{{{_PROD}, modality="image", outcome="indexed"}}'
    return Alert(
        name="PenstockDeadLettersJump",
        severity="ticket",
        lasts="5m",
        expr=(
            "sum by (cluster, namespace, reason) (increase(penstock_dead_letters_total[10m])) > 20\n"
            f"and on (cluster, namespace) {DEAD_LETTER_RATIO} > 0.05"
        ),
        summary="More than 5 % of the events in {{ $labels.namespace }} are dead letters, many by {{ $labels.reason }}",
        description="Events are rejected for a reason that no retry cures. They are kept, and can be replayed.",
        cases=(
            Case(
                "a fifth is corrupt for half an hour",
                {dead: "0+0x30 0+20x30 600+0x90", events: "0+100x150"},
                quiet_m=(30, 140),
                fires={50: [{"namespace": "prod", "reason": "corrupt"}]},
            ),
            Case("one in a hundred", {dead: "0+1x150", events: "0+100x150"}, quiet_m=(50, 140)),
        ),
    )


def _crashing() -> Alert:
    dead = f'penstock_dead_letters_total{{{_PROD}, reason="crashes_worker"}}'
    other = f'penstock_dead_letters_total{{{_PROD}, reason="corrupt"}}'
    return Alert(
        name="PenstockEventsCrashWorkers",
        severity="ticket",
        lasts="0m",
        expr=increased('penstock_dead_letters_total{reason="crashes_worker"}', "reason"),
        summary="Events in {{ $labels.namespace }} kill the workers that process them",
        description="An event that killed its worker twice is set aside: a bug of a decoder, or an attack.",
        cases=(
            Case(
                "one event",
                {dead: "_x10 1+0x200"},
                quiet_m=(5, 90),
                fires={15: [{"namespace": "prod", "reason": "crashes_worker"}]},
            ),
            Case("another reason", {other: "_x10 1+1x200"}, quiet_m=(15, 90)),
        ),
    )


def _fenced() -> Alert:
    fenced = f'penstock_commits_total{{{_PROD}, result="fenced"}}'
    return Alert(
        name="PenstockCommitsFenced",
        severity="ticket",
        lasts="5m",
        expr=f'sum {_BY} (increase(penstock_commits_total{{result="fenced"}}[30m])) > 5',
        summary="Commits in {{ $labels.namespace }} are fenced again and again",
        description="The group keeps rebalancing, or a second plane uses it. Work is repeated, not lost.",
        cases=(
            Case(
                "one a minute for an hour",
                {fenced: "0+0x10 0+1x60 60+0x60"},
                quiet_m=(10, 120),
                fires={50: [{"namespace": "prod"}]},
            ),
            Case("three in a rollout", {fenced: "0+0x10 0+1x3 3+0x100"}, quiet_m=(20, 50, 100)),
        ),
    )


def _workers_lost() -> Alert:
    lost = f'penstock_retries_total{{{_PROD}, cause="worker_lost"}}'
    return Alert(
        name="PenstockWorkersLost",
        severity="ticket",
        lasts="5m",
        expr=f'sum {_BY} (increase(penstock_retries_total{{cause="worker_lost"}}[15m])) > 3',
        summary="Workers in {{ $labels.namespace }} die again and again under their batches",
        description="Batches are repeated elsewhere. Memory limits, GPU drivers and bad media are the usual reasons.",
        cases=(
            Case(
                "one a minute for half an hour",
                {lost: "0+0x10 0+1x30 30+0x60"},
                quiet_m=(10, 80),
                fires={35: [{"namespace": "prod"}]},
            ),
            Case("one node is lost", {lost: "0+0x10 2+0x100"}, quiet_m=(15, 50)),
        ),
    )


def _canary() -> Alert:
    def series(found_total: str, late_total: str, fast_total: str) -> dict[str, str]:
        canaries = f'penstock_canaries_total{{{_PROD}, modality="image"'
        return {
            f'{canaries}, result="found"}}': found_total,
            f'{canaries}, result="late"}}': late_total,
            f'penstock_canary_seconds_bucket{{{_PROD}, modality="image", le="5.0"}}': fast_total,
        }

    return Alert(
        name="PenstockCanaryLate",
        severity="ticket",
        lasts="10m",
        expr=f"{CANARY_ERROR} > 0.5\n{_UNLESS_EXPLAINED}",
        summary="The {{ $labels.modality }} canary in {{ $labels.namespace }} is not found within 5 s",
        description="Half of the marked events that go through both planes were late, unsent or unanswered.",
        cases=(
            Case(
                "late for half an hour",
                series("0+6x20 120+0x30 120+6x60", "0+0x20 0+2x30 60+0x60", "0+6x20 120+0x30 120+6x60"),
                quiet_m=(20, 80),
                fires={45: [{"namespace": "prod", "modality": "image"}]},
            ),
            Case("found", series("0+6x120", "0+0x120", "0+6x120"), quiet_m=(20, 80)),
        ),
    )


def _reindex_stuck() -> Alert:
    def assets(done: str, total: str) -> dict[str, str]:
        name = f'penstock_reindex_assets{{{_PROD}, version="2", state='
        return {f'{name}"done"}}': done, f'{name}"total"}}': total}

    by = "by (cluster, namespace, version)"
    done, total = (f'max {by} (penstock_reindex_assets{{state="{state}"}})' for state in ("done", "total"))
    before = f'max {by} (penstock_reindex_assets{{state="done"}} offset 30m)'
    return Alert(
        name="PenstockReindexStuck",
        severity="ticket",
        lasts="15m",
        expr=f"{done} < {total}\nand {done} <= {before}",
        summary="The re-index to version {{ $labels.version }} in {{ $labels.namespace }} makes no progress",
        description="No asset has come to the new version for half an hour, though some lack. The served one is whole.",
        cases=(
            Case(
                "stands still, and continues",
                assets("0+10x10 100+0x90 100+10x90", "1000+0x200"),
                quiet_m=(10, 40, 140),
                fires={80: [{"namespace": "prod", "version": "2"}]},
            ),
            Case("fills", assets("0+10x100 1000+0x60", "1000+0x160"), quiet_m=(20, 60, 150)),
        ),
    )
