"""Feeds unreadable records to kafka-python's fetcher: they are reported, nothing is raised, and every poll returns."""

from __future__ import annotations

import collections
import struct
from types import SimpleNamespace
from typing import Any

import pytest
from kafka.consumer.fetcher import Fetcher
from kafka.record.default_records import DefaultRecordBatchBuilder
from kafka.record.memory_records import MemoryRecords
from kafka.record.util import calc_crc32c
from kafka.structs import OffsetAndMetadata, TopicPartition

from penstock.broker.stops import UnreadableRange
from penstock.broker.unreadable import report_unreadable

GOOD, BAD = TopicPartition("media.text", 0), TopicPartition("media.text", 1)
_CRC, _ATTRIBUTES = 17, 21  # their offsets in a batch


def batch(first: int, count: int, *, codec: int = 0, header: bytes = b"name") -> bytes:
    """Returns a record batch of format 2 that is marked as compressed with a codec, and is not."""
    builder = DefaultRecordBatchBuilder(2, 0, False, -1, -1, -1, 1 << 20)
    for number in range(count):
        builder.append(number, 1_000, b"k", b"v%d" % (first + number), [("name", b"x")])
    raw = bytearray(bytes(builder.build()).replace(b"name", header))
    struct.pack_into(">q", raw, 0, first)
    struct.pack_into(">h", raw, _ATTRIBUTES, codec)
    return _with_checksum(raw)


def _with_checksum(raw: bytearray) -> bytes:
    struct.pack_into(">I", raw, _CRC, calc_crc32c(memoryview(raw)[_ATTRIBUTES:]))
    return bytes(raw)


def damaged(first: int, count: int) -> bytes:
    raw = bytearray(batch(first, count))
    raw[-1] ^= 1
    return bytes(raw)


class Client:
    """A `KafkaConsumer` reduced to its fetcher, and what that knows of two partitions."""

    def __init__(self) -> None:
        self.reported: list[UnreadableRange] = []
        self.paused: set[Any] = set()
        self.turns = 0
        begin = OffsetAndMetadata(0, "", -1)
        self.assignment = {tp: SimpleNamespace(position=begin, highwater=None) for tp in (GOOD, BAD)}
        fetcher: Any = object.__new__(Fetcher)
        fetcher.config = {"max_poll_records": 200}
        fetcher._subscriptions, fetcher._sensors = self, None
        fetcher._completed_fetches, fetcher._paused_completed_fetches = collections.deque(), {}
        fetcher._next_partition_records, fetcher._paused_partition_records = None, {}
        fetcher._next_in_line_exception_metadata = None
        fetcher._parse_fetched_data = self.parse
        self._fetcher = fetcher
        report_unreadable(self, self.report)

    def report(self, stop: UnreadableRange) -> None:
        self.reported.append(stop)
        self.paused.add(TopicPartition(stop.partition.topic, stop.partition.partition))

    def answer(self, tp: Any, records: bytes | Exception) -> None:
        data = SimpleNamespace(records=records, error_code=0)
        at = self.assignment[tp].position.offset
        self._fetcher._completed_fetches.append(
            SimpleNamespace(topic_partition=tp, fetched_offset=at, partition_data=data)
        )

    def parse(self, completed: Any) -> Any:
        if isinstance(completed.partition_data.records, Exception):
            raise completed.partition_data.records
        records = MemoryRecords(completed.partition_data.records)
        return self._fetcher.PartitionRecords(completed.fetched_offset, completed.topic_partition, records)

    def poll(self) -> list[bytes]:
        fetched, _ = self._fetcher.fetched_records(200)
        return [record.value for records in fetched.values() for record in records]

    # the methods that the fetcher calls on its subscriptions

    def is_fetchable(self, tp: Any) -> bool:
        return tp not in self.paused

    def is_paused(self, tp: Any) -> bool:
        return tp in self.paused

    def is_assigned(self, tp: Any) -> bool:
        self.turns += 1
        assert self.turns < 1_000, "fetched_records() does not return"
        return True

    def position(self, tp: Any) -> Any:
        return self.assignment[tp].position

    def move_partition_to_end(self, tp: Any) -> None:
        pass


UNREADABLE = {
    "an unknown codec": batch(2, 3, codec=5),
    "not what the codec makes": batch(2, 3, codec=1),
    "not zstd": batch(2, 3, codec=4),
    "a header name that is not UTF-8": batch(2, 3, header=b"\xff\xff\xff\xff"),
    "a wrong checksum": damaged(2, 3),
}


@pytest.mark.parametrize("fault", UNREADABLE)
def test_unreadable_records_are_reported_after_the_records_before_them(fault: str) -> None:
    client = Client()
    client.answer(BAD, batch(0, 2) + UNREADABLE[fault] + batch(5, 1))
    client.answer(GOOD, batch(0, 2))
    values: list[bytes] = []
    for _ in range(3):
        values += client.poll()
    assert sorted(values) == [b"v0", b"v0", b"v1", b"v1"]
    assert [(stop.partition.partition, stop.first, stop.end) for stop in client.reported] == [(1, 2, 5)]
    assert client.assignment[BAD].position.offset == 2


def test_an_error_is_reported_even_if_other_partitions_gave_records_and_the_partition_pauses() -> None:
    """kafka-python keeps the error for the next poll, drops it there, and loops endlessly once it is resumed."""
    client = Client()
    client.answer(GOOD, batch(0, 2))
    client.answer(BAD, batch(0, 3, codec=5))
    assert client.poll() == [b"v0", b"v1"]
    assert [stop.first for stop in client.reported] == [0]
    client.paused = {BAD}
    assert client.poll() == []
    client.paused = set()
    assert client.poll() == []
    client.answer(BAD, batch(0, 1))
    assert client.poll() == [b"v0"]


def test_an_answer_that_is_an_error_stops_its_partition_alone() -> None:
    client = Client()
    client.answer(BAD, OSError("no complete records were found"))
    client.answer(GOOD, batch(0, 1))
    assert client.poll() == [b"v0"]
    assert [(stop.first, stop.end) for stop in client.reported] == [(0, 1)]


def test_the_message_names_the_position_and_the_remedy() -> None:
    client = Client()
    client.answer(BAD, batch(0, 3, codec=5))
    client.poll()
    words = str(client.reported[0])
    assert "media.text[1] cannot be read from offset 0: UnsupportedCodecError" in words
    assert "kafka-delete-records up to 3" in words
