"""Shares the servers that the tests of broker and store start."""

from tests.broker.conftest import bootstrap_servers, kafka_settings, raw_producer, text_topic
from tests.store.conftest import lite

__all__ = ["bootstrap_servers", "kafka_settings", "lite", "raw_producer", "text_topic"]
