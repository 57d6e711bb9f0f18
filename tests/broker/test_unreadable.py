"""kafka-python's fetcher, at what it cannot read: it is told, nothing is raised, and no poll goes round for ever."""

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

from penstock.broker.base import UnreadableRange
from penstock.broker.unreadable import report_unreadable

GOOD, BAD = TopicPartition("media.text", 0), TopicPartition("media.text", 1)
_CRC, _ATTRIBUTES = 17, 21  # where they are in a batch


def batch(first: int, count: int, *, codec: int = 0, header: bytes = b"name") -> bytes:
    """A record batch of format 2 that says it is compressed with a codec, without being so."""
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
        self.told: list[UnreadableRange] = []
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
        report_unreadable(self, self.tell)

    def tell(self, found: UnreadableRange) -> None:
        self.told.append(found)
        self.paused.add(TopicPartition(found.partition.topic, found.partition.partition))

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
        found, _ = self._fetcher.fetched_records(200)
        return [record.value for records in found.values() for record in records]

    # what the fetcher asks its subscriptions

    def is_fetchable(self, tp: Any) -> bool:
        return tp not in self.paused

    def is_paused(self, tp: Any) -> bool:
        return tp in self.paused

    def is_assigned(self, tp: Any) -> bool:
        self.turns += 1
        assert self.turns < 1_000, "fetched_records() goes round without an end"
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


@pytest.mark.parametrize("what", UNREADABLE)
def test_what_cannot_be_read_is_told_after_all_that_lies_before_it(what: str) -> None:
    client = Client()
    client.answer(BAD, batch(0, 2) + UNREADABLE[what] + batch(5, 1))
    client.answer(GOOD, batch(0, 2))
    values: list[bytes] = []
    for _ in range(3):
        values += client.poll()
    assert sorted(values) == [b"v0", b"v0", b"v1", b"v1"]
    assert [(one.partition.partition, one.first, one.end) for one in client.told] == [(1, 2, 5)]
    assert client.assignment[BAD].position.offset == 2


def test_an_error_told_while_others_gave_records_is_not_forgotten_when_the_partition_pauses() -> None:
    """kafka-python keeps the error for the next poll, drops it there, and goes round for ever once it is resumed."""
    client = Client()
    client.answer(GOOD, batch(0, 2))
    client.answer(BAD, batch(0, 3, codec=5))
    assert client.poll() == [b"v0", b"v1"]
    assert [one.first for one in client.told] == [0]
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
    assert [(one.first, one.end) for one in client.told] == [(0, 1)]


def test_its_words_name_the_place_and_what_to_do() -> None:
    client = Client()
    client.answer(BAD, batch(0, 3, codec=5))
    client.poll()
    words = str(client.told[0])
    assert "media.text[1] cannot be read from offset 0: UnsupportedCodecError" in words
    assert "kafka-delete-records up to 3" in words
