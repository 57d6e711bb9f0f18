"""What this process has counted, for tests of where it counts."""

from __future__ import annotations

from penstock.observability.metrics import Metric


def counted(metric: Metric, suffix: str = "_total", **labels: str) -> float:
    """The sum of the samples with these labels; `suffix` is `_count` or `_sum` for a histogram, "" for a gauge."""
    (family,) = metric.collect()
    wanted = [
        one.value for one in family.samples if one.name == family.name + suffix and labels.items() <= one.labels.items()
    ]
    return sum(wanted)
