"""The metrics that queries may name, with their labels: own, recorded, and those of Ray and Kubernetes."""

from __future__ import annotations

from collections.abc import Mapping, Set

from prometheus_client import Counter, Histogram

from ops.recordings import shared_recordings, slo_recordings
from ops.slos import Objectives
from penstock.observability import metrics

TARGET_LABELS = frozenset({"cluster", "namespace", "job", "instance", "pod"})
"""Labels that Prometheus adds to each sample of a target; those of a cluster are empty elsewhere."""

# Exported by others where they run. Their absence disables a panel or an alert, and nothing else.
FOREIGN: Mapping[str, Set[str]] = {
    "up": frozenset(),
    "ALERTS": {"alertname", "alertstate"},  # Prometheus's own
    "ray_actors": {"Source", "State", "Name"},
    "ray_node_cpu_utilization": frozenset(),
    "ray_node_mem_used": frozenset(),
    "ray_node_gpus_utilization": {"GpuIndex", "GpuDeviceName"},
    "ray_serve_autoscaling_target_replicas": {"deployment", "application"},
    "kube_job_status_failed": {"job_name", "reason"},
    "kube_statefulset_replicas": {"statefulset"},
    "kubelet_volume_stats_available_bytes": {"persistentvolumeclaim"},
    "kubelet_volume_stats_capacity_bytes": {"persistentvolumeclaim"},
}
# What recorded series keep of those that they were made of.
_RECORDED_LABELS = {"cluster", "namespace", "slo", "kind", "modality"}


def own_metrics() -> Mapping[str, Set[str]]:
    """Returns the names of the samples of all metrics of Penstock, and their labels."""
    samples: dict[str, Set[str]] = {}
    for metric in metrics.every_metric():
        name, labels = metrics.name_of(metric), frozenset(metric._labelnames)
        if isinstance(metric, Counter):
            samples[f"{name}_total"] = labels
        elif isinstance(metric, Histogram):
            samples |= {f"{name}_bucket": labels | {"le"}, f"{name}_sum": labels, f"{name}_count": labels}
        else:
            samples[name] = labels
    return samples


def metric_of(sample: str) -> str:
    """Returns the metric in which a sample of Penstock counts, without suffix."""
    for suffix in ("_bucket", "_sum", "_count", "_total"):
        sample = sample.removesuffix(suffix)
    return sample


def every_metric(objectives: Objectives) -> Mapping[str, Set[str]]:
    """Returns all names that a query may have, and their labels, those of the target included."""
    recorded = {rule.record for rule in (*shared_recordings(), *slo_recordings(objectives))}
    known = {**own_metrics(), **FOREIGN, **dict.fromkeys(recorded, _RECORDED_LABELS)}
    return {name: frozenset(labels) | TARGET_LABELS for name, labels in known.items()}
