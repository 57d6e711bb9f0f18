"""Wires feedback in a replica: what takes it, and the click memory that ranks by it."""

from __future__ import annotations

import time
from collections.abc import Mapping

from penstock.assembly import open_clicks
from penstock.broker.producer import MessageProducer
from penstock.broker.topics import ensure_feedback_topics
from penstock.config import Settings
from penstock.encoders.base import Fingerprint
from penstock.encoders.profiles import Profile
from penstock.encoders.questions import question_encoder
from penstock.query.clicks.guards import ClickRules
from penstock.query.embed import QueryEncoder
from penstock.records import Field
from penstock.serve.use_cases.entry_lookup import EntryLookup
from penstock.serve.use_cases.feedback import FeedbackService, QuestionEncoder
from penstock.store.clicks import ClickTable


def open_click_memory(
    settings: Settings, profile: Profile, fingerprints: Mapping[str, Fingerprint]
) -> tuple[ClickTable, ClickRules] | None:
    """Returns the click memory and its rules; None where choices do not count."""
    feedback = settings.feedback
    if not feedback.enabled or settings.store.uri is None:
        return None
    clicks = open_clicks(settings.store, question_encoder(profile, fingerprints), for_queries=True)
    return clicks, ClickRules(feedback.min_voters, feedback.half_life_days)


def feedback_service(
    settings: Settings,
    encoder: QueryEncoder,
    entries: EntryLookup,
    profile: Profile,
    fingerprints: Mapping[str, Fingerprint],
) -> FeedbackService:
    """Returns the use case of feedback, which refuses it where it is off or there is no Kafka."""
    kafka, feedback = settings.kafka, settings.feedback

    def open_producer() -> MessageProducer:
        ensure_feedback_topics(kafka, feedback, reads=False)
        return MessageProducer(kafka)

    taken = feedback.enabled and kafka.bootstrap_servers is not None
    questions = QuestionEncoder(encoder, profile.query_encoder(Field.PASSAGE), question_encoder(profile, fingerprints))
    return FeedbackService(
        open_producer if taken else None, questions, entries, feedback, wall_ms=lambda: time.time_ns() // 1_000_000
    )
