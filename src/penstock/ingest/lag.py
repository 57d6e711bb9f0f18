"""Measures the lag of every partition periodically, in a thread of its own.

It comes from the broker, not from the lanes: their consumers know the log ends only of partitions that they fetch, and
lag matters most if a partition is paused, halted or not owned.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence

from penstock.broker.base import PartitionLag
from penstock.errors import PenstockError
from penstock.observability import metrics

logger = logging.getLogger(__name__)

INTERVAL_S = 5.0  # a measurement opens connections of its own, and takes 50 ms on a quiet broker


class LagMonitor:
    """The latest known lag. An unavailable broker delays only this thread.

    Args:
        read_lag: reads the lag of every partition; `broker.topics.group_lag`.
        stopping: ends the thread.
        interval_s: between two measurements.
    """

    def __init__(
        self,
        read_lag: Callable[[], Sequence[PartitionLag]],
        stopping: threading.Event,
        *,
        interval_s: float = INTERVAL_S,
    ) -> None:
        self._read_lag = read_lag
        self._stopping = stopping
        self._interval_s = interval_s
        self._records: Mapping[str, int] | None = None
        self._thread = threading.Thread(target=self._run, name="lag-monitor", daemon=True)

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def total(self, topics: Collection[str]) -> int | None:
        """Returns the records of these topics that the group has not committed; None if that is unknown."""
        records = self._records
        return None if records is None else sum(records.get(topic, 0) for topic in topics)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                records: Counter[str] = Counter()
                for lag in self._read_lag():
                    records[lag.partition.topic] += lag.lag
                    metrics.LAG.labels(lag.partition.topic, lag.partition.partition).set(lag.lag)
                self._records = records
            except PenstockError as exc:
                self._records = None
                logger.warning("the lag could not be read and will be read again: %s", exc)
            except Exception:  # whatever it is, the next measurement may succeed
                self._records = None
                logger.exception("lag monitor: unexpected error; continuing")
            self._stopping.wait(self._interval_s)
