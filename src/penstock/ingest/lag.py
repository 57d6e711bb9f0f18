"""How many records of each topic are not settled yet, looked up again and again in a thread of its own.

Asked of the broker, not of the lanes: their consumers know the ends only of what they fetch, and lag matters most where
a partition is paused, halted or nobody's.
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

LOOK_S = 5.0  # a look opens connections of its own, and takes 50 ms on a quiet broker


class LagMonitor:
    """The latest known lag. A broker that is away makes only this thread wait.

    Args:
        look: the lag of every partition now; `broker.topics.group_lag`.
        stopping: ends the watch.
        interval_s: between two looks.
    """

    def __init__(
        self, look: Callable[[], Sequence[PartitionLag]], stopping: threading.Event, *, interval_s: float = LOOK_S
    ) -> None:
        self._look = look
        self._stopping = stopping
        self._interval_s = interval_s
        self._records: Mapping[str, int] | None = None
        self._thread = threading.Thread(target=self._run, name="lag-watch", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def total(self, topics: Collection[str]) -> int | None:
        """Records of these topics that the group has not settled; None if the broker did not say."""
        records = self._records
        return None if records is None else sum(records.get(topic, 0) for topic in topics)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                records: Counter[str] = Counter()
                for one in self._look():
                    records[one.partition.topic] += one.lag
                    metrics.LAG.labels(one.partition.topic, one.partition.partition).set(one.lag)
                self._records = records
            except PenstockError as exc:
                self._records = None
                logger.warning("the lag is not known for now: %s", exc)
            except Exception:  # whatever it is, the next look may go well
                self._records = None
                logger.exception("the lag is not known for now")
            self._stopping.wait(self._interval_s)
