"""An evaluator on a real broker that dies between its matches and its commit: the next one loses nothing."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from penstock.broker.change_messages import change_messages
from penstock.broker.consumer import LaneConsumer
from penstock.broker.producer import MessageProducer
from penstock.broker.reader import KafkaReader
from penstock.broker.tail import KafkaTail
from penstock.broker.topics import ensure_watch_topics
from penstock.config import KafkaSettings
from penstock.query.watches.evaluator import WatchEvaluator
from penstock.query.watches.registry import WatchRegistry
from penstock.records import Collection, Entry, IndexChange
from tests.query.watches.world import World, texts
from tests.services import kafka_broker

# Loads models and starts a broker.
pytestmark = [pytest.mark.services, pytest.mark.exhaustive]

_TIMEOUT_S = 120.0


class DiesBeforeCommit(LaneConsumer):
    """A member whose process ends when it would commit: it neither commits nor leaves."""

    def commit(self, *_: Any, **__: Any) -> None:
        raise KeyboardInterrupt


def announce(settings: KafkaSettings, entries: list[Entry]) -> None:
    producer = MessageProducer(settings)
    for entry in entries:
        change = IndexChange(
            entry.asset.tenant,
            entry.asset.topic,
            entry.asset.key,
            entry.origin,
            deleted=False,
            counts={Collection.TEXT: 1},
            indexed_at_ms=entry.indexed_at_ms,
            timestamp_ms=1,
        )
        for message in change_messages(settings.changes_topic, [change]):
            producer.send(message).result(30)
    producer.close(30)


def matches(settings: KafkaSettings) -> list[dict[str, Any]]:
    with KafkaReader(settings) as reader:
        return [
            json.loads(record.value or b"")
            for partition, log in reader.bounds([settings.matches_topic]).items()
            for record in reader.read(partition, log.start, log.end)
        ]


def until(condition: Callable[[], bool], evaluator: WatchEvaluator) -> None:
    deadline_s = time.monotonic() + _TIMEOUT_S
    while not condition():
        assert time.monotonic() < deadline_s
        evaluator.evaluate_once()


def test_a_killed_evaluator_loses_no_match_and_repeats_it_with_the_same_id(tmp_path: Path) -> None:
    world = World(tmp_path)
    with kafka_broker() as broker:
        settings = KafkaSettings(
            bootstrap_servers=broker.bootstrap_servers, session_timeout_ms=6_000, max_poll_interval_ms=30_000
        )
        ensure_watch_topics(settings)
        registry = WatchRegistry(
            KafkaTail(settings, settings.watches_topic, from_start=True),
            settings.watches_topic,
            lambda: MessageProducer(settings),
            max_watches=10,
        )
        registry.start()
        assert registry.wait_until_ready(_TIMEOUT_S)
        first, second, third = texts(3, 6)
        words = " ".join(text.title for text in (first, second, third))
        registry.add(world.watch(words, min_relevance=0.001))

        def evaluator(consumer: type[LaneConsumer]) -> WatchEvaluator:
            opened = world.evaluator(registry)
            opened._consumer = consumer(settings, [settings.changes_topic], drain_timeout_s=5.0)
            opened._producer = MessageProducer(settings)
            opened._topic = settings.matches_topic
            return opened

        before = evaluator(LaneConsumer)
        announce(settings, world.index(first, announce=False))
        until(lambda: len(matches(settings)) == 1, before)
        before.close()
        killed = evaluator(DiesBeforeCommit)
        announce(settings, world.index(second, announce=False))
        with pytest.raises(KeyboardInterrupt):
            until(lambda: False, killed)
        announce(settings, world.index(third, announce=False))
        after = evaluator(LaneConsumer)
        until(
            lambda: {match["entry"]["key"] for match in matches(settings)} == {first.key, second.key, third.key}, after
        )
        of_second = [match["id"] for match in matches(settings) if match["entry"]["key"] == second.key]
        assert len(of_second) == 2
        assert len(set(of_second)) == 1
        assert len([match for match in matches(settings) if match["entry"]["key"] == first.key]) == 1
        after.close()
        killed._consumer.close(0)
        registry.close()
    world.close()
