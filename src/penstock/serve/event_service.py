"""Opens what takes events in a replica, from settings."""

from __future__ import annotations

from penstock.broker.base import Producer
from penstock.broker.producer import MessageProducer
from penstock.broker.traced_producer import TracedProducer
from penstock.config import Settings
from penstock.serve.use_cases.events import EventService


def event_service(settings: Settings) -> EventService:
    """Returns what takes events, which connects to Kafka with the first one."""

    def open_producer() -> Producer:
        return TracedProducer(MessageProducer(settings.kafka))

    return EventService(settings, None if settings.kafka.bootstrap_servers is None else open_producer)
