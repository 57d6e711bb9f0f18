"""Starts the lane of feedback from settings: topics, click memory, consumer and producer."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack

from penstock.assembly import open_clicks, open_store
from penstock.broker.consumer import LaneConsumer
from penstock.broker.producer import MessageProducer
from penstock.broker.topics import ensure_changes_topic, ensure_feedback_topics
from penstock.config import KafkaSettings, Settings
from penstock.encoders.load import profile_fingerprints
from penstock.encoders.profiles import load_profile
from penstock.encoders.questions import question_dim, question_encoder
from penstock.errors import PenstockError
from penstock.ingest.feedback.lane import FeedbackLane
from penstock.ingest.feedback.settle import FeedbackSettler

logger = logging.getLogger(__name__)

_RETRY_S = 5.0
_DRAIN_TIMEOUT_S = 10.0  # a batch takes less; the group removes a member that has not answered by then
_CLOSE_TIMEOUT_S = 2.0


def follow_feedback(stop: threading.Event, read_settings: Callable[[], Settings]) -> None:
    """Remembers what people choose until `stop` is set; tries again until broker and store let it start."""
    settings, logged = read_settings(), False
    while not stop.is_set():
        with ExitStack() as opened:
            try:
                lane = open_lane(settings, opened)
            except PenstockError as exc:
                if not logged:
                    logger.warning("feedback cannot be remembered: %s", exc)
                logged = True
                stop.wait(_RETRY_S)
                continue
            lane.run(stop)


def open_lane(settings: Settings, opened: ExitStack) -> FeedbackLane:
    """Returns the lane, whose connections end with `opened`.

    Raises:
        ConfigError, UnavailableError, PermanentError: broker or store do not let it start.
    """
    kafka, feedback = settings.kafka, settings.feedback
    profile = load_profile(settings.profile)
    encoder = question_encoder(profile, profile_fingerprints(profile))
    ensure_feedback_topics(kafka, feedback)
    ensure_changes_topic(kafka)
    clicks = open_clicks(settings.store, encoder)
    opened.callback(clicks.close)
    dim = question_dim(profile)
    clicks.ensure(dim)
    assets = open_store(settings.store)
    opened.callback(assets.close)
    producer = MessageProducer(kafka)
    opened.callback(producer.close, _CLOSE_TIMEOUT_S)
    settler = FeedbackSettler(
        clicks, assets, (encoder, dim), producer, feedback.dead_letter_topic, now_ms=lambda: time.time_ns() // 1_000_000
    )
    topics = [feedback.topic, *filter(None, [kafka.changes_topic])]
    consumer = LaneConsumer(feedback_group(kafka), topics, drain_timeout_s=_DRAIN_TIMEOUT_S)
    return FeedbackLane(consumer, settler, clicks, assets, feedback.topic, half_life_days=feedback.half_life_days)


def feedback_group(kafka: KafkaSettings) -> KafkaSettings:
    """Returns settings with the consumer group of feedback."""
    return kafka.model_copy(update={"group": f"{kafka.group}.feedback"})
