"""What the ingest plane's driver looks after beside its actors: the nodes' metrics endpoints and the lag."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence

from penstock import metrics
from penstock.broker.topics import group_lag
from penstock.config import Settings
from penstock.errors import PenstockError
from penstock.ingest.node_endpoints import keep_endpoints

logger = logging.getLogger(__name__)

_LAG_INTERVAL_S = 5.0


def observe(stop: threading.Event, settings: Settings) -> Sequence[threading.Thread]:
    """Starts the threads, which end when `stop` is set. Without metrics there are none."""
    if not settings.metrics.enabled:
        return ()
    duties = [keep_endpoints, watch_lag]
    threads = [
        threading.Thread(target=duty, args=(stop, settings), name=duty.__name__.replace("_", "-"), daemon=True)
        for duty in duties
    ]
    for thread in threads:
        thread.start()
    return threads


def watch_lag(stop: threading.Event, settings: Settings) -> None:
    """Asks the broker. Not the lanes, whose consumers know the ends only of what they fetch: lag matters most where a
    partition is paused, or nobody's.
    """
    topics = [settings.kafka.topic_of(modality) for modality in settings.ingest.modalities]
    while not stop.wait(_LAG_INTERVAL_S):
        try:
            for one in group_lag(settings.kafka, topics):
                metrics.LAG.labels(one.partition.topic, one.partition.partition).set(one.lag)
        except PenstockError as exc:
            logger.warning("the lag is not known: %s", exc)
