from __future__ import annotations

import json
import logging

import pytest

from penstock.broker.base import Message
from penstock.broker.change_messages import change_messages, parse_change_message
from penstock.records import AssetRef, Collection, IndexChange, Position, Record, entry_id

TOPIC = "penstock.changes"


def change(key: str, tenant: str = "acme", **fields: object) -> IndexChange:
    known: dict[str, object] = {
        "origin": Position("media.text", 1, 7),
        "deleted": False,
        "counts": {Collection.TEXT: 3},
        "indexed_at_ms": 1_700_000_000_123,
        "timestamp_ms": 1_700_000_000_000,
    }
    return IndexChange(tenant, "media.text", key, **(known | fields))  # type: ignore[arg-type]


def record(message: Message) -> Record:
    return Record(Position(message.topic, 0, 0), message.key, message.value, message.headers, 0)


def test_a_batch_is_one_message_a_tenant_keyed_by_it() -> None:
    changes = [change("a"), change("b", "globex"), change("c")]
    messages = list(change_messages(TOPIC, changes))
    assert [(message.topic, message.key) for message in messages] == [(TOPIC, b"acme"), (TOPIC, b"globex")]
    assert [parse_change_message(record(message)) for message in messages] == [
        [change("a"), change("c")],
        [change("b", "globex")],
    ]


def test_every_field_is_read_back() -> None:
    segment = change('ü/"', since={Collection.FRAME: 4}, counts={Collection.FRAME: 9}, slot=1, complete=False)
    deleted = change("gone", deleted=True, counts={})
    (message,) = change_messages(TOPIC, [segment, deleted])
    assert parse_change_message(record(message)) == [segment, deleted]


def test_a_long_batch_becomes_messages_of_a_bounded_size_in_order() -> None:
    changes = [change(f"{number:04d}") for number in range(500)]
    messages = list(change_messages(TOPIC, changes, max_bytes=8_192))
    assert len(messages) > 10
    assert max(len(message.value or b"") for message in messages) <= 8_192
    assert [read.key for message in messages for read in parse_change_message(record(message))] == [
        read.key for read in changes
    ]


def test_the_ids_of_new_entries_follow_from_a_change() -> None:
    asset = AssetRef("acme", "media.video", "film")
    counts, since = {Collection.FRAME: 3, Collection.SPEECH: 1}, {Collection.FRAME: 2}
    film = IndexChange("acme", "media.video", "film", Position("media.video", 0, 1), False, counts, 0, 0, 1, since)
    assert film.new_entry_ids() == {
        Collection.FRAME: [entry_id(asset, Collection.FRAME, 2, 1)],
        Collection.SPEECH: [entry_id(asset, Collection.SPEECH, 0, 1)],
    }


def test_collections_and_members_of_later_versions_are_passed_over() -> None:
    (message,) = change_messages(TOPIC, [change("a")])
    body = json.loads(message.value or b"")
    body["changes"][0] |= {"mood": "new", "counts": {"text": 3, "hologram": 2}}
    later = Record(Position(TOPIC, 0, 0), b"acme", json.dumps(body).encode(), (), 0)
    assert parse_change_message(later) == [change("a")]


def of_infinity() -> bytes:
    (message,) = change_messages(TOPIC, [change("a")])
    return (message.value or b"").replace(b"1700000000123", b"Infinity")


@pytest.mark.parametrize(
    "value",
    [
        None,
        b"",
        b"{",
        b"[]",
        b'{"version":2}',
        b'{"version":1,"tenant":"a","changes":[{}]}',
        pytest.param(of_infinity(), id="infinity"),
        pytest.param(b"[" * 100_000, id="nested"),
    ],
)
def test_another_message_is_passed_over_with_a_warning(value: bytes | None, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert parse_change_message(Record(Position(TOPIC, 0, 4), b"k", value, (), 0)) == []
    assert "penstock.changes[0]@4" in caplog.text


def test_a_message_names_the_version_of_the_index_that_its_changes_are_of() -> None:
    (message,) = change_messages(TOPIC, [change("a"), change("b")], index_version=3)
    assert json.loads(message.value or b"")["index_version"] == 3
    assert {read.index_version for read in parse_change_message(record(message))} == {3}


def test_a_message_of_an_older_penstock_names_no_version() -> None:
    (message,) = change_messages(TOPIC, [change("a")])
    assert "index_version" not in json.loads(message.value or b"")
    assert [read.index_version for read in parse_change_message(record(message))] == [0]
