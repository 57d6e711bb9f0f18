"""What the ingest plane's driver looks after beside its actors: the nodes' metrics endpoints, the lag, the canary."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Sequence
from functools import partial

import httpx

from penstock import metrics
from penstock.broker.producer import Producer
from penstock.broker.topics import group_lag
from penstock.config import Settings
from penstock.errors import PenstockError
from penstock.ingest.canary import MEDIA, Canary, ask
from penstock.ingest.node_endpoints import keep_endpoints

logger = logging.getLogger(__name__)

_LAG_INTERVAL_S = 5.0
_SENT_WITHIN_S = 5.0


def observe(stop: threading.Event, settings: Settings) -> Sequence[threading.Thread]:
    """Starts the threads, which end when `stop` is set. Without metrics there are none."""
    if not settings.metrics.enabled:
        return ()
    duties = [keep_endpoints, watch_lag]
    if settings.canary.interval_s and settings.canary.query_url:
        duties.append(send_canaries)
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


def send_canaries(stop: threading.Event, settings: Settings) -> None:
    """One of each modality in turn, an interval apart."""
    url = settings.canary.query_url
    assert url is not None
    producer = Producer(settings.kafka)
    topics = {
        modality: settings.kafka.topic_of(modality) for modality in settings.ingest.modalities if modality in MEDIA
    }
    canary = Canary(
        topics=topics,
        send=lambda message: producer.send(message).result(_SENT_WITHIN_S),
        search=partial(ask, httpx.Client(base_url=url)),
        timeout_s=settings.canary.timeout_s,
        clock=time.monotonic,
        sleep=stop.wait,
        rng=random.Random(),
    )
    try:
        while not stop.wait(settings.canary.interval_s):
            for modality in topics:
                canary.release(modality)
    finally:
        producer.close(_SENT_WITHIN_S)
