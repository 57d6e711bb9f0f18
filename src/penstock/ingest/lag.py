"""Measures lag and age of what is not committed in every partition, periodically, in a thread of its own.

It comes from the broker, not from the lanes: their consumers know the log ends only of partitions that they fetch, and
lag matters most if a partition is paused, halted or not owned.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence, Set

from penstock.broker.base import Partition, PartitionLag
from penstock.broker.topics import group_lag
from penstock.config import KafkaSettings
from penstock.errors import PenstockError
from penstock.observability import metrics

logger = logging.getLogger(__name__)

INTERVAL_S = 5.0  # a measurement opens connections of its own, and takes 50 ms on a quiet broker


def readable_lag(kafka: KafkaSettings, topics: Callable[[], Collection[str]]) -> Callable[[], Sequence[PartitionLag]]:
    """Returns a function that reads the lag of the topics that may be described, and logs once which may not."""
    known: dict[str, str] = {}

    def read() -> Sequence[PartitionLag]:
        denied: dict[str, str] = {}
        lags = group_lag(kafka, topics(), denied.__setitem__)
        for topic in denied.keys() - known.keys():
            logger.warning("%s", denied[topic])
        known.clear()
        known.update(denied)
        return lags

    return read


class LagMonitor:
    """The latest known lag. An unavailable broker delays only this thread.

    While the broker does not answer, the metrics of lag and age have no value, instead of the last one.

    Args:
        read_lag: reads the lag of every partition; `readable_lag`.
        stopping: ends the thread.
        read_times: returns the timestamps of the records at these offsets, in milliseconds since the epoch;
            `broker.record_times.record_times`. None: ages are not measured.
        interval_s: between two measurements.
        wall_s: seconds since the epoch.
        exports: whether the metrics show what is measured; they have no label for the group.
    """

    def __init__(
        self,
        read_lag: Callable[[], Sequence[PartitionLag]],
        stopping: threading.Event,
        *,
        read_times: Callable[[Mapping[Partition, int]], Mapping[Partition, int]] | None = None,
        interval_s: float = INTERVAL_S,
        wall_s: Callable[[], float] = time.time,
        exports: bool = True,
    ) -> None:
        self._read_lag = read_lag
        self._stopping = stopping
        self._read_times = read_times
        self._interval_s = interval_s
        self._wall_s = wall_s
        self._exports = exports
        self._lags: Sequence[PartitionLag] | None = None
        self._exported: set[Partition] = set()
        self._failing = False
        self._times: dict[Partition, tuple[int, int]] = {}  # the requested offset, and its record's timestamp
        self._thread = threading.Thread(target=self._run, name="lag-monitor", daemon=True)

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def total(self, topics: Collection[str]) -> int | None:
        """Returns the records of these topics that the group has not committed; None if that is unknown."""
        lags = self._lags
        return None if lags is None else sum(lag.lag for lag in lags if lag.partition.topic in topics)

    def lags(self) -> Sequence[PartitionLag] | None:
        """Returns the progress in every partition; None if it is unknown."""
        return self._lags

    def partitions(self) -> Set[Partition] | None:
        """Returns all partitions of the topics; None if they are unknown."""
        lags = self._lags
        return None if lags is None else {lag.partition for lag in lags}

    def measure(self) -> None:
        """Measures one time, and exports the result."""
        try:
            lags = self._read_lag()
        except PenstockError as exc:
            self._forget()
            self._log_failure(exc)
            return
        if self._failing:
            self._failing = False
            logger.warning("the lag can be read again")
        self._lags = lags
        self._export_lag(lags)
        if self._read_times is not None and self._exports:
            self._export_ages(lags, self._read_times)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self.measure()
            except Exception:  # whatever it is, the next measurement may succeed
                self._forget()
                logger.exception("lag monitor: unexpected error; continuing")
            self._stopping.wait(self._interval_s)

    def _log_failure(self, exc: PenstockError) -> None:
        """Logs the first of several failures in a row."""
        level = logging.INFO if self._failing else logging.WARNING
        self._failing = True
        logger.log(level, "the lag could not be read and will be read again: %s", exc)

    def _forget(self) -> None:
        self._lags = None
        self._export_lag(())

    def _export_lag(self, lags: Sequence[PartitionLag]) -> None:
        if not self._exports:
            return
        present = {lag.partition for lag in lags}
        for partition in self._exported - present:
            metrics.LAG.labels(partition.topic, partition.partition).set(metrics.UNKNOWN)
        for topic in {partition.topic for partition in self._exported} - {partition.topic for partition in present}:
            metrics.OLDEST_UNSETTLED.labels(topic).set(metrics.UNKNOWN)
        for lag in lags:
            metrics.LAG.labels(lag.partition.topic, lag.partition.partition).set(lag.lag)
        self._exported |= present

    def _export_ages(
        self,
        lags: Sequence[PartitionLag],
        read_times: Callable[[Mapping[Partition, int]], Mapping[Partition, int]],
    ) -> None:
        """Exports by topic the age of the oldest record at an offset to commit.

        A record is read one time, however long its offset stays the same.
        """
        oldest = {lag.partition: max(lag.log_start, lag.committed or 0) for lag in lags if lag.lag}
        known = {partition: at for partition, at in self._times.items() if oldest.get(partition) == at[0]}
        unknown = {partition: offset for partition, offset in oldest.items() if partition not in known}
        try:
            times = read_times(unknown) if unknown else {}
        except PenstockError as exc:
            logger.warning("the age of the oldest records could not be read and will be read again: %s", exc)
            times = {}
        self._times = known | {partition: (unknown[partition], at_ms) for partition, at_ms in times.items()}
        waiting = Counter(partition.topic for partition in oldest)
        for topic in {lag.partition.topic for lag in lags}:
            dated = [at_ms for partition, (_, at_ms) in self._times.items() if partition.topic == topic]
            age_s = max(0.0, self._wall_s() - min(dated) / 1000) if dated else metrics.UNKNOWN
            metrics.OLDEST_UNSETTLED.labels(topic).set(age_s if waiting[topic] else 0.0)
