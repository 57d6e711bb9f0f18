"""Exports the progress of a re-index as metrics of the driver that fills the new version."""

from __future__ import annotations

from penstock.observability import metrics
from penstock.versions import Progress


class ProgressGauges:
    """Shows each count in the metrics.

    Args:
        version: that is filled.
    """

    def __init__(self, version: int) -> None:
        self._version = str(version)

    def show(self, progress: Progress) -> None:
        """Sets the metrics to a count."""
        for state, count in (("done", progress.done), ("total", progress.total), ("missing", progress.missing)):
            metrics.REINDEX_ASSETS.labels(self._version, state).set(count)
        metrics.REINDEX_RATE.labels(self._version).set(progress.rate_per_s)
        left_s = progress.left_s
        metrics.REINDEX_LEFT.labels(self._version).set(metrics.UNKNOWN if left_s is None else left_s)
        metrics.REINDEX_LAG.labels(self._version).set(progress.lag)
