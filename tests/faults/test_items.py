"""Bad items in batches of good ones, and a dead-letter topic that cannot take them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
from kafka import KafkaAdminClient
from kafka.admin import ConfigResource, ConfigResourceType

from penstock.broker.base import Partition
from penstock.broker.deadletters import scan_dead_letters
from penstock.broker.topics import ensure_topics, group_lag
from penstock.config import Settings
from penstock.ingest.lane.suspects import MAX_DEATHS
from tests.faults.check import check
from tests.faults.faults import Case
from tests.faults.lanes import KILLS_ITS_LANE
from tests.faults.process import eventually
from tests.faults.workers import CRASHES

pytestmark = [pytest.mark.services, pytest.mark.exhaustive]

Own = Callable[..., Case]


def _reasons(settings: Settings) -> dict[str, int]:
    counts: dict[str, int] = {}
    for letter in scan_dead_letters(settings.kafka):
        counts[letter.reason.value] = counts.get(letter.reason.value, 0) + 1
    return counts


def test_corrupt_and_oversized_items_take_no_good_one_along(own: Own) -> None:
    case = own(fetch={"max_bytes": 200_000}, image={"max_pixels": 5_000})
    plane, stream = case.plane, case.stream
    plane.start()
    stream.send(250)
    long = replace(stream.text("long", also="word " * 50_000), bad=True)
    stream.send_these(
        [stream.text("before"), long, stream.large("large"), stream.corrupt("half"), stream.text("after")]
    )
    stream.send(250)
    plane.settle()
    check(stream)
    assert {"corrupt", "too_large"} <= _reasons(plane.settings).keys()


def test_an_item_that_kills_its_encoder_is_found_and_the_others_are_indexed(own: Own) -> None:
    case = own()
    plane, stream = case.plane, case.stream
    plane.start()
    stream.send(250)
    killer = replace(stream.text("killer", also=CRASHES), bad=True)
    stream.send_these([*(stream.text(f"before-{number}") for number in range(8)), killer, stream.text("after")])
    stream.send(250)
    plane.settle()
    check(stream)
    assert _reasons(plane.settings)["crashes_worker"] == 1


@pytest.mark.timeout(600)
def test_a_record_that_kills_its_lane_is_found_and_the_others_are_indexed(own: Own) -> None:
    """The partition of a dead lane moves to another one, which dies too."""
    case = own(ingest={"lanes": 2})
    plane, stream = case.plane, case.stream
    plane.start()
    stream.send(50)
    killer = replace(stream.text("killer", also=KILLS_ITS_LANE), bad=True)
    stream.send_these([stream.text("before"), killer, stream.text("after")])
    stream.send(50)
    eventually(lambda: plane.log.read_text().count("died while it parsed") == MAX_DEATHS, "three lanes die", 300)
    plane.settle()
    check(stream)
    assert _reasons(plane.settings)["crashes_worker"] == 1
    assert plane.log.read_text().count("died while it parsed") == MAX_DEATHS


@contextmanager
def _dead_letter_limit(settings: Settings, size_bytes: int) -> Iterator[None]:
    """Limits the messages of the dead-letter topic during its block."""
    topic = settings.kafka.dead_letter_topic
    admin = KafkaAdminClient(bootstrap_servers=settings.kafka.bootstrap_servers)
    try:
        _alter(admin, topic, "max.message.bytes", str(size_bytes))
        yield
    finally:
        _alter(admin, topic, "max.message.bytes", str(settings.kafka.max_message_bytes * 2))
        admin.close()


def _alter(admin: KafkaAdminClient, topic: str, name: str, value: str) -> None:
    admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, {name: value})])


@contextmanager
def _no_dead_letters(settings: Settings) -> Iterator[None]:
    """Deletes the dead-letter topic during its block; nothing may have been written to it before."""
    topic = settings.kafka.dead_letter_topic
    admin = KafkaAdminClient(bootstrap_servers=settings.kafka.bootstrap_servers)
    try:
        admin.delete_topics([topic])
        eventually(lambda: topic not in admin.list_topics(), "the topic is gone")
        yield
        assert topic not in admin.list_topics()
    finally:
        ensure_topics(settings.kafka, settings.ingest.modalities)
        admin.close()


def test_a_deleted_dead_letter_topic_makes_its_batches_wait_and_skips_nothing(own: Own) -> None:
    case = own(ingest={"max_batches_in_flight": 1})
    plane, stream = case.plane, case.stream
    plane.start()
    with _no_dead_letters(plane.settings):
        stream.send(250)
        eventually(lambda: plane.status().in_flight_batches, "batches are under way")
        stream.send_these([stream.malformed(f"bad-{number}") for number in range(4 * plane.settings.kafka.partitions)])
        stream.send(300)
        text = plane.settings.kafka.text_topic
        stuck = {Partition(position.topic, position.partition) for position in stream.bad if position.topic == text}
        eventually(lambda: plane.settled() > 0, "what waits for no dead letter continues")
        assert not plane.status().halted
        assert stuck <= {lag.partition for lag in group_lag(plane.settings.kafka, [text]) if lag.lag}
    plane.settle()
    check(stream)


def test_a_dead_letter_topic_that_refuses_halts_the_partition_and_skips_nothing(own: Own) -> None:
    case = own()
    plane, stream = case.plane, case.stream
    plane.start()
    with _dead_letter_limit(plane.settings, 10):
        stream.send(550)
        eventually(lambda: plane.status().halted, "a partition halts")
        assert plane.lag() > 0
        assert not _reasons(plane.settings)
    plane.settle()
    check(stream)
