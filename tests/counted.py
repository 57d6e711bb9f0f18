"""Reads metrics of this process in tests."""

from __future__ import annotations

from penstock.observability.metrics import Metric


def counted(metric: Metric, suffix: str = "_total", **labels: str) -> float:
    """Returns the sum of the samples with these labels.

    `suffix` is `_count` or `_sum` for a histogram, and empty for a gauge.
    """
    (family,) = metric.collect()
    return sum(
        sample.value
        for sample in family.samples
        if sample.name == family.name + suffix and labels.items() <= sample.labels.items()
    )
