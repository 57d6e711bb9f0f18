"""Pools and nodes: workers, how busy they are, which processes live where, and what Ray says of nodes."""

from __future__ import annotations

from collections.abc import Sequence

from ops.panels import SCOPE, Board, Panel, Query, Row, quantile, rate, selected

_RAY_ONLY = "Ray's own endpoints are scraped in a cluster only"


def pools_board() -> Board:
    """Returns the dashboard of workers and nodes."""
    return Board(
        "penstock-pools",
        "Penstock pools and nodes",
        "Workers, how busy they are, which processes live where, and what Ray says of its nodes.",
        (Row("Pools", _pools()), Row("Nodes", _nodes()), Row("Ray", _ray())),
    )


def _pools() -> Sequence[Panel]:
    busy, workers = rate("penstock_worker_busy_seconds_total", "pool"), selected("penstock_workers")
    return (
        Panel(
            "Workers",
            "By pool.",
            "short",
            [Query(f"sum by (pool) ({workers})", "{{pool}}")],
            runbooks=("PenstockWorkersLost", "PenstockActorsPending"),
        ),
        Panel(
            "Calls that a worker carries",
            "Busy time a worker. Near 1 with lag: add workers. Fetchers and writers run several calls concurrently.",
            "short",
            [Query(f"{busy}\n/ (sum by (pool) ({workers}) > 0)", "{{pool}}")],
            warn=0.8,
            alarm=0.95,
            runbooks=("PenstockFreshnessBudgetBurns",),
        ),
        Panel(
            "Waiting time of a call, p95",
            "Beyond the time that its worker spent on it. Above the time of the step itself: too few workers.",
            "s",
            [Query(quantile(0.95, "penstock_queue_wait_seconds", "pool"), "{{pool}}")],
        ),
        Panel(
            "Batches of lost workers",
            "Repeated on other workers, per second.",
            "eps",
            [
                Query(
                    rate("penstock_retries_total", "instance", 'cause="worker_lost"'),
                    "{{instance}}",
                    "no worker dies unless something kills it",
                )
            ],
            runbooks=("PenstockWorkersLost",),
        ),
    )


def _nodes() -> Sequence[Panel]:
    return (
        Panel(
            "Processes by name",
            "Living processes that count.",
            "short",
            [Query(f"sum by (process) ({selected('penstock_processes')})", "{{process}}")],
            kind="area",
            runbooks=("PenstockDriverAbsent", "PenstockQueryReplicasMissing"),
        ),
        Panel(
            "Processes by node",
            "A node without processes is idle, and may leave.",
            "short",
            [Query(f"sum by (instance) ({selected('penstock_processes')})", "{{instance}}")],
            kind="area",
            runbooks=("PenstockMetricsTargetDown",),
        ),
        Panel(
            "Spans of traces",
            "Exported to the collector or dropped. Those that are dropped cost nothing but their traces.",
            "eps",
            [Query(rate("penstock_spans_total", "result"), "{{result}}", "only where tracing is on")],
        ),
        Panel(
            "Targets",
            "1 where Prometheus can scrape the endpoint.",
            "short",
            [Query(selected("up"), "{{job}} {{instance}}")],
            warn=1,
            alarm=0.5,
            runbooks=("PenstockMetricsTargetDown",),
        ),
        Panel(
            "Free space on volumes",
            "The share that is free. Below a tenth there is a ticket.",
            "percentunit",
            [
                Query(
                    f"min by (namespace, persistentvolumeclaim) (kubelet_volume_stats_available_bytes{{{SCOPE}}})\n"
                    f"/ min by (namespace, persistentvolumeclaim) (kubelet_volume_stats_capacity_bytes{{{SCOPE}}})",
                    "{{persistentvolumeclaim}}",
                    "only kubelets export it",
                )
            ],
            warn=0.2,
            alarm=0.1,
            runbooks=("PenstockVolumeFillsUp",),
        ),
    )


def _ray() -> Sequence[Panel]:
    return (
        Panel(
            "Actors by state",
            "Pending ones wait for a node that has room.",
            "short",
            [Query(f'sum by (State) (ray_actors{{{SCOPE}, Source="gcs"}})', "{{State}}", _RAY_ONLY)],
            width=8,
            runbooks=("PenstockActorsPending",),
        ),
        Panel(
            "CPU",
            "Utilisation of each node, percent.",
            "percent",
            [Query(f"max by (instance) (ray_node_cpu_utilization{{{SCOPE}}})", "{{instance}}", _RAY_ONLY)],
            width=8,
        ),
        Panel(
            "GPU",
            "Utilisation of each GPU, percent.",
            "percent",
            [
                Query(
                    f"max by (instance, GpuIndex) (ray_node_gpus_utilization{{{SCOPE}}})",
                    "{{instance}} {{GpuIndex}}",
                    _RAY_ONLY,
                )
            ],
            width=8,
        ),
        Panel(
            "Memory",
            "In use on each node.",
            "bytes",
            [Query(f"max by (instance) (ray_node_mem_used{{{SCOPE}}})", "{{instance}}", _RAY_ONLY)],
            width=8,
        ),
    )
