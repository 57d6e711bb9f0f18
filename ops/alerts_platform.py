"""Alerts on what carries both planes: dependencies, processes, nodes, volumes, and the audit."""

from __future__ import annotations

from collections.abc import Sequence

from ops.recordings import DRIVER_ABSENT
from ops.rules_model import Alert, Case

_PROD = 'namespace="prod"'
_TARGET = 'job="prod/penstock", namespace="prod"'


def platform_alerts() -> Sequence[Alert]:
    """Returns the alerts on dependencies and processes, and those that read the metrics of Ray and Kubernetes."""
    return (_breaker(), _target(), _driver(), _audit(), _backup(), _volume(), _pending())


def _breaker() -> Alert:
    breaker = f'penstock_breaker_open{{{_PROD}, dependency="store"}}'
    return Alert(
        name="PenstockDependencyDown",
        severity="page",
        lasts="5m",
        expr="max by (cluster, namespace, dependency) (penstock_breaker_open) > 0",
        summary="The {{ $labels.dependency }} of {{ $labels.namespace }} does not answer",
        description="Work waits and is tried again by itself. Nothing is lost while retention lasts.",
        cases=(
            Case(
                "half an hour",
                {breaker: "0+0x10 1+0x30 0+0x60"},
                quiet_m=(10, 14, 60),
                fires={20: [{"namespace": "prod", "dependency": "store"}]},
            ),
            Case("a restart of three minutes", {breaker: "0+0x10 1+0x2 0+0x90"}, quiet_m=(12, 16, 30)),
        ),
    )


def _target() -> Alert:
    node = "10.0.0.7:8601"
    fires = {"instance": node, "job": "prod/penstock", "namespace": "prod"}
    return Alert(
        name="PenstockMetricsTargetDown",
        severity="ticket",
        lasts="20m",  # longer than a node without processes of Penstock, which is not served, takes to be removed
        expr='up{job=~".*penstock.*"} == 0',
        summary="The metrics of {{ $labels.instance }} ({{ $labels.job }}) cannot be scraped",
        description="The node is down, nothing on it serves its endpoint, or nothing of Penstock runs on it. Alerts do "
        "not see what runs there.",
        cases=(
            Case(
                "three quarters of an hour",
                {
                    f'up{{{_TARGET}, instance="{node}"}}': "1+0x10 0+0x45 1+0x60",
                    f'up{{{_TARGET}, instance="b"}}': "1+0x100",
                },
                quiet_m=(10, 29, 75),
                fires={35: [fires]},
            ),
            Case("another job", {'up{job="kafka", instance="a"}': "0+0x100"}, quiet_m=(20, 60)),
        ),
    )


def _driver() -> Alert:
    driver = f'penstock_processes{{{_PROD}, process="ingest"}}'
    target = f'up{{{_TARGET}, instance="a"}}'
    replicas = f'kube_statefulset_replicas{{{_PROD}, statefulset="media-penstock-driver"}}'
    return Alert(
        name="PenstockDriverAbsent",
        severity="page",
        lasts="5m",
        expr=f"{DRIVER_ABSENT} > 0",
        summary="No driver of the ingest plane lives in {{ $labels.namespace }}",
        description=(
            "Lanes and workers end with their driver. Events wait in Kafka until one runs again. "
            "Silent while its StatefulSet is scaled to 0, by KEDA or by hand, if kube-state-metrics is scraped."
        ),
        cases=(
            Case(
                "half an hour",
                {driver: "1+0x10 _x30 1+0x60", target: "1+0x100"},
                quiet_m=(10, 60),
                fires={30: [{"namespace": "prod"}]},
            ),
            Case("it lives", {driver: "1+0x100", target: "1+0x100"}, quiet_m=(20, 60)),
            Case(
                "scaled to zero for half an hour, then wanted and not there",
                {driver: "1+0x10 _x60 1+0x30", target: "1+0x100", replicas: "1+0x10 0+0x30 1+0x60"},
                quiet_m=(10, 20, 40, 44, 80),
                fires={50: [{"namespace": "prod"}]},
            ),
            Case("scaled to zero, and nothing is left", {replicas: "0+0x100"}, quiet_m=(20, 60)),
        ),
    )


def _audit() -> Alert:
    job = 'kube_job_status_failed{namespace="prod", job_name="penstock-audit-29"}'
    return Alert(
        name="PenstockAuditFailed",
        severity="page",
        lasts="0m",
        expr='max by (cluster, namespace, job_name) (kube_job_status_failed{job_name=~".*penstock.*audit.*"}) > 0',
        summary="The audit {{ $labels.job_name }} in {{ $labels.namespace }} failed",
        description="The counts of Kafka and the store do not balance (exit code 1), or the audit could not run.",
        cases=(
            Case(
                "fails, and its job is removed",
                {job: "0+0x5 1+0x30 _x60"},
                quiet_m=(4, 60),
                fires={10: [{"namespace": "prod", "job_name": "penstock-audit-29"}]},
            ),
            Case("another job fails", {'kube_job_status_failed{job_name="x"}': "1+0x60"}, quiet_m=(10, 50)),
        ),
    )


def _backup() -> Alert:
    age = f'penstock_backup_age_seconds{{{_PROD}, index_version="1"}}'
    job = 'kube_job_status_failed{namespace="prod", job_name="penstock-backup-29"}'
    by = "by (cluster, namespace)"
    return Alert(
        name="PenstockBackupOld",
        severity="ticket",
        lasts="15m",
        # A job that failed remains after the next one has succeeded, so it counts only where no backup is young.
        expr=(
            f"max {by} (penstock_backup_age_seconds) > 129600\n"
            f'or max {by} (kube_job_status_failed{{job_name=~".*penstock.*backup.*"}}) > 0\n'
            f"unless on (cluster, namespace) max {by} (penstock_backup_age_seconds) <= 129600"
        ),
        summary="The last backup of {{ $labels.namespace }} is older than 36 hours, or none has succeeded",
        description="Search and ingest are not affected. What a restore would have to replay grows with each hour.",
        cases=(
            Case(
                "a night without a backup",
                {age: "128000+60x60 60+60x60"},
                quiet_m=(10, 40, 90),
                fires={55: [{"namespace": "prod"}]},
            ),
            Case(
                "the first one fails",
                {job: "0+0x10 1+0x40 _x60"},
                quiet_m=(10, 90),
                fires={40: [{"namespace": "prod"}]},
            ),
            Case("one fails, and the one before is young", {age: "3600+60x120", job: "1+0x120"}, quiet_m=(20, 100)),
        ),
    )


def _volume() -> Alert:
    def series(free: str) -> dict[str, str]:
        volume = f'{{{_PROD}, persistentvolumeclaim="penstock-data-0"}}'
        return {
            f"kubelet_volume_stats_available_bytes{volume}": free,
            f"kubelet_volume_stats_capacity_bytes{volume}": "100+0x120",
        }

    by = "by (cluster, namespace, persistentvolumeclaim)"
    claims = '{persistentvolumeclaim=~".*penstock.*"}'
    return Alert(
        name="PenstockVolumeFillsUp",
        severity="ticket",
        lasts="15m",
        expr=(
            f"min {by} (kubelet_volume_stats_available_bytes{claims})\n"
            f"/ min {by} (kubelet_volume_stats_capacity_bytes{claims})\n< 0.1"
        ),
        summary="The volume {{ $labels.persistentvolumeclaim }} in {{ $labels.namespace }} is nearly full",
        description="Less than a tenth is free. Below `ingest.min_free_disk_bytes` ingest is held.",
        cases=(
            Case(
                "full for half an hour",
                series("50+0x10 5+0x30 50+0x60"),
                quiet_m=(10, 24, 60),
                fires={30: [{"namespace": "prod", "persistentvolumeclaim": "penstock-data-0"}]},
            ),
            Case("a fifth is free", series("20+0x120"), quiet_m=(30, 100)),
        ),
    )


def _pending() -> Alert:
    actors = f'ray_actors{{{_PROD}, Source="gcs", State="PENDING_CREATION", Name="EncoderActor"}}'
    return Alert(
        name="PenstockActorsPending",
        severity="ticket",
        lasts="10m",
        expr='sum by (cluster, namespace, Name) (ray_actors{Source="gcs", State="PENDING_CREATION"}) > 0',
        summary="Actors {{ $labels.Name }} in {{ $labels.namespace }} wait for a node that has room: a GPU, or CPUs",
        description="Ray cannot place them. Where a profile requires CUDA, ingest waits for GPUs.",
        cases=(
            Case(
                "no GPU for half an hour",
                {actors: "0+0x10 2+0x30 0+0x60"},
                quiet_m=(10, 18, 60),
                fires={25: [{"namespace": "prod", "Name": "EncoderActor"}]},
            ),
            Case("placed after five minutes", {actors: "2+0x4 0+0x100"}, quiet_m=(4, 12, 30)),
        ),
    )
