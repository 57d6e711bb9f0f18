"""Runs the background threads of the ingest plane's driver: the nodes' endpoints, dead letters and the canary."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from typing import TypeAlias

import httpx

from penstock.broker.base import Message
from penstock.broker.producer import MessageProducer
from penstock.config import Settings
from penstock.ingest.canary import MEDIA, Canary, count_hits
from penstock.ingest.deadletters.open_count import count_open_until
from penstock.observability.node_endpoints import keep_endpoints
from penstock.records import Position

logger = logging.getLogger(__name__)

_SEND_TIMEOUT_S = 5.0

_Duty: TypeAlias = Callable[[threading.Event, Settings], None]


def start_endpoint_thread(stop: threading.Event, settings: Settings) -> None:
    """Starts the thread that serves this node immediately, and the others once Ray is joined."""
    if settings.metrics.enabled:
        _start(stop, settings, [keep_endpoints])


def start_background_threads(stop: threading.Event, settings: Settings) -> Sequence[threading.Thread]:
    """Starts the threads of a running plane, which end when `stop` is set. Without metrics there are none."""
    if not settings.metrics.enabled:
        return ()
    duties: list[_Duty] = [count_open_until]
    if settings.canary.interval_s and settings.canary.query_url:
        duties.append(send_canaries)
    return _start(stop, settings, duties)


def _start(stop: threading.Event, settings: Settings, duties: Sequence[_Duty]) -> Sequence[threading.Thread]:
    threads = [
        threading.Thread(target=duty, args=(stop, settings), name=duty.__name__.replace("_", "-"), daemon=True)
        for duty in duties
    ]
    for thread in threads:
        thread.start()
    return threads


def send_canaries(stop: threading.Event, settings: Settings) -> None:
    """Sends a canary of each modality at every interval until `stop` is set."""
    url = settings.canary.query_url
    assert url is not None
    kafka = settings.kafka
    with ExitStack() as opened:
        canary = Canary(
            topics={modality: kafka.topic_of(modality) for modality in settings.ingest.modalities if modality in MEDIA},
            produce=_sender(settings, opened),
            search=partial(count_hits, opened.enter_context(httpx.Client(base_url=url))),
            timeout_s=settings.canary.timeout_s,
            clock=time.monotonic,
            sleep=stop.wait,
            rng=random.Random(),
        )
        while not stop.wait(settings.canary.interval_s):
            try:
                canary.send_all()
            except Exception:  # a canary that stopped would look like one that succeeds
                logger.exception("canary: unexpected error; continuing")


def _sender(settings: Settings, opened: ExitStack) -> Callable[[Message], Position]:
    """Returns a function that sends a message and waits for its acknowledgement. The first call connects."""
    producers: list[MessageProducer] = []

    def send(message: Message) -> Position:
        if not producers:
            producers.append(MessageProducer(settings.kafka))
            opened.callback(producers[0].close, _SEND_TIMEOUT_S)
        return producers[0].send(message).result(_SEND_TIMEOUT_S)

    return send
