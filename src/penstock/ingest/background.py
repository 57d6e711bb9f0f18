"""Runs the background threads of the ingest plane's driver: the nodes' endpoints, retention, feedback, dead
letters and the canary."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from typing import Any

import httpx

from penstock.broker.base import Message
from penstock.broker.producer import MessageProducer
from penstock.client import key_source
from penstock.client.credentials import credentials_of
from penstock.config import Settings
from penstock.config.addresses import trusted
from penstock.errors import ConfigError
from penstock.ingest.backup_age import export_backup_age_until
from penstock.ingest.canary import MEDIA, TENANT, Canary, count_hits
from penstock.ingest.deadletters.open_count import count_open_until
from penstock.ingest.feedback.follow import follow_feedback
from penstock.ingest.retention import expire_until
from penstock.observability.node_endpoints import keep_endpoints
from penstock.records import Modality, Position

logger = logging.getLogger(__name__)

_SEND_TIMEOUT_S = 5.0


def start_endpoint_thread(stop: threading.Event, settings: Settings) -> None:
    """Starts the thread that serves this node immediately, and the others once Ray is joined."""
    if settings.metrics.enabled:
        _start("keep-endpoints", keep_endpoints, stop, settings)


def start_background_threads(
    stop: threading.Event, read_settings: Callable[[], Settings]
) -> Sequence[threading.Thread]:
    """Starts the threads of a running plane, which end when `stop` is set. Without metrics nothing is measured.

    Args:
        stop: ends the threads.
        read_settings: the present settings: topics of new tenants are added while the plane runs.
    """
    settings = read_settings()
    threads = []
    if settings.retention.rules:
        threads.append(_start("retention", expire_until, stop, read_settings))
    if settings.feedback.enabled:
        threads.append(_start("feedback", follow_feedback, stop, read_settings))
    if settings.metrics.enabled:
        threads.append(_start("count-open-until", count_open_until, stop, read_settings))
        threads.append(_start("backup-age", export_backup_age_until, stop, settings))
        if settings.canary.interval_s and settings.canary.query_url:
            threads.append(_start("send-canaries", send_canaries, stop, settings))
    return threads


def _start(name: str, duty: Callable[..., None], *args: Any) -> threading.Thread:
    thread = threading.Thread(target=duty, args=args, name=name, daemon=True)
    thread.start()
    return thread


def send_canaries(stop: threading.Event, settings: Settings) -> None:
    """Sends a canary of each modality at every interval until `stop` is set."""
    url = settings.canary.query_url
    assert url is not None
    with ExitStack() as opened:
        canary = Canary(
            topics=_canary_topics(settings),
            produce=_sender(settings, opened),
            search=partial(count_hits, opened.enter_context(_client(url, settings))),
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


def _client(url: str, settings: Settings) -> httpx.Client:
    """Returns the client by which canaries are searched for."""
    credentials = credentials_of(key_source(url, settings))
    return httpx.Client(base_url=url, auth=credentials, verify=trusted(settings.query.ca_file))


def _canary_topics(settings: Settings) -> Mapping[Modality, str]:
    """Returns the topic of each modality to which canaries go; a map of tenants may leave some out."""
    topics: dict[Modality, str] = {}
    for modality in settings.ingest.modalities:
        with suppress(ConfigError):
            topics |= {modality: settings.kafka.topic_of(modality, TENANT)} if modality in MEDIA else {}
    if len(topics) < len(MEDIA.keys() & set(settings.ingest.modalities)):
        logger.warning("kafka.tenants has no topics for %s: canaries are sent to %s", TENANT, sorted(topics) or "none")
    return topics


def _sender(settings: Settings, opened: ExitStack) -> Callable[[Message], Position]:
    """Returns a function that sends a message and waits for its acknowledgement. The first call connects."""
    producers: list[MessageProducer] = []

    def send(message: Message) -> Position:
        if not producers:
            producers.append(MessageProducer(settings.kafka))
            opened.callback(producers[0].close, _SEND_TIMEOUT_S)
        return producers[0].send(message).result(_SEND_TIMEOUT_S)

    return send
