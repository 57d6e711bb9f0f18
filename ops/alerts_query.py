"""Alerts on the query plane: replicas that are missing, and answers that lack a channel."""

from __future__ import annotations

from collections.abc import Sequence

from ops.recordings import QUERY_EXPLAINED, REPLICAS_EXPECTED, REPLICAS_RUNNING
from ops.rules_model import Alert, Case

_PROD = 'namespace="prod"'


def query_alerts() -> Sequence[Alert]:
    """Returns the alerts on replicas and on partial answers."""
    return (_replicas(), _partial())


def _replicas() -> Alert:
    replicas = f'penstock_processes{{{_PROD}, process="query"}}'
    target = f'ray_serve_autoscaling_target_replicas{{{_PROD}, application="penstock"}}'
    return Alert(
        name="PenstockQueryReplicasMissing",
        severity="page",
        lasts="10m",
        expr=f"{REPLICAS_RUNNING} < {REPLICAS_EXPECTED}",
        summary="The query plane in {{ $labels.namespace }} has fewer replicas than it should have",
        description="Ray Serve could not replace one for ten minutes. Searches go to those that are left.",
        cases=(
            Case(
                "one of two for half an hour",
                {replicas: "2+0x20 1+0x30 2+0x60", target: "2+0x120"},
                quiet_m=(20, 28, 60),
                fires={40: [{"namespace": "prod"}]},
            ),
            Case(
                "the only one, where Ray is not scraped",
                {replicas: "1+0x20 _x30 1+0x60"},
                quiet_m=(20, 28, 60),
                fires={45: [{"namespace": "prod"}]},
            ),
            Case("scaled in on purpose", {replicas: "4+0x20 2+0x100", target: "4+0x18 2+0x102"}, quiet_m=(40, 100)),
        ),
    )


def _partial() -> Alert:
    by = "by (cluster, namespace, channel)"
    missing = f'penstock_query_channel_seconds_count{{{_PROD}, channel="image.joint", result="missing"}}'
    answered = f'penstock_query_channel_seconds_count{{{_PROD}, channel="image.joint", result="answered"}}'
    return Alert(
        name="PenstockPartialAnswers",
        severity="ticket",
        lasts="10m",
        expr=(
            f'sum {by} (rate(penstock_query_channel_seconds_count{{result="missing"}}[10m]))\n'
            f"/ (sum {by} (rate(penstock_query_channel_seconds_count[10m])) > 0)\n> 0.05\n"
            f"unless on (cluster, namespace) {QUERY_EXPLAINED}"
        ),
        summary="More than 5 % of the answers in {{ $labels.namespace }} lack the channel {{ $labels.channel }}",
        description="The channel failed or missed the deadline. Answers are ranked without it, and say so.",
        cases=(
            Case(
                "a fifth for half an hour",
                {answered: "0+100x120", missing: "0+0x20 0+20x30 600+0x70"},
                quiet_m=(20, 80),
                fires={45: [{"namespace": "prod", "channel": "image.joint"}]},
            ),
            Case("one in a hundred", {answered: "0+100x120", missing: "0+1x120"}, quiet_m=(45, 80)),
        ),
    )
