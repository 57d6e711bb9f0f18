"""Dead letters are emptied in a topic of a real broker, and the others stay as they were."""

from __future__ import annotations

from functools import partial

import pytest

from penstock.broker.base import DeadLetter
from penstock.broker.deadletters import DeadLetterWriter, read_dead_letters
from penstock.broker.letter_purge import LetterPurger
from penstock.broker.producer import MessageProducer
from penstock.broker.reader import KafkaReader
from penstock.broker.tombstones import key_bytes, tombstone
from penstock.broker.topics import dead_letter_bytes, ensure_topics, remove_records_before
from penstock.broker.wire import parse_record, render_key
from penstock.config import KafkaSettings
from penstock.errors import Reason
from penstock.records import AssetRef, Event, Modality, Position, Record, Rejected
from tests.broker.harness import DEADLINE_S


@pytest.mark.services
def test_purged_letters_keep_origin_and_reason_alone_and_the_others_everything(kafka_settings: KafkaSettings) -> None:
    ensure_topics(kafka_settings, [Modality.TEXT])
    topic = kafka_settings.dead_letter_topic
    producer = MessageProducer(kafka_settings, max_request_bytes=dead_letter_bytes(kafka_settings))
    sink = DeadLetterWriter(producer, topic, offload=lambda _: "asset:x")
    for number in range(6):
        position = Position("media.text", 0, number)
        record = Record(position, b"k%d" % number, b"v" * number, (("ce_tenant", b"acme"),), 1_000 + number)
        sink.send(record, Rejected(position, "decode", Reason.CORRUPT, f"detail of k{number}")).result(DEADLINE_S)
    before = {letter.origin.offset: letter for letter in read_dead_letters(kafka_settings)}
    with KafkaReader(kafka_settings) as reader:
        purger = LetterPurger(reader, producer, partial(remove_records_before, kafka_settings), topic)
        selection = purger.select(lambda letter: letter.origin.offset in (1, 3))
        assert selection.count == 2
        purger.purge(selection)
        again = purger.select(lambda letter: letter.origin.offset in (1, 3))
        records = [
            record
            for partition, log in reader.bounds([topic]).items()
            for record in reader.read(partition, log.start, log.end)
        ]
    assert again.count == 0
    after = {letter.origin.offset: letter for letter in read_dead_letters(kafka_settings)}
    assert after.keys() == before.keys() == set(range(6))
    assert {number for number, letter in after.items() if letter.purged} == {1, 3}
    for number, letter in after.items():
        old = before[number]
        assert (letter.reason, letter.step, letter.failed_at_ms) == (old.reason, old.step, old.failed_at_ms)
        if not letter.purged:
            assert _contents(letter) == _contents(old)
    (purged,) = (record for record in records if b"media.text/0/3" in dict(record.headers).values())
    everything = b"".join([purged.key or b"", purged.value or b"", *(value for _, value in purged.headers)])
    assert not any(trace in everything for trace in (b"k3", b"vvv", b"acme", b"detail"))
    producer.close(5)


def _contents(letter: DeadLetter) -> tuple[object, ...]:
    return letter.key, letter.value, letter.headers, letter.detail, letter.timestamp_ms


@pytest.mark.parametrize("key", [b"a.txt", "Grüße".encode(), b"\xff\x00", b"hex:ff", b"hex:no digits"])
def test_a_tombstone_names_the_asset_whatever_its_key_was(key: bytes) -> None:
    asset = AssetRef("acme", "media.text", render_key(key))
    message = tombstone(asset, partition=3, source="penstock/purge", now_ms=5)
    assert (message.key, message.value, message.partition) == (key, None, 3)
    record = Record(Position("media.text", 3, 9), message.key, None, message.headers, 5)
    parsed = parse_record(record, modality=Modality.TEXT, default_tenant="other", max_inline_bytes=10)
    assert isinstance(parsed, Event)
    assert (parsed.asset, parsed.is_tombstone) == (asset, True)


def test_a_name_that_only_looks_like_an_escaped_key_is_its_own_key() -> None:
    assert key_bytes("hex:not digits") == b"hex:not digits"
