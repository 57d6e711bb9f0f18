"""Tests how rows in the envelopes of connectors become events, and that a stream of changes ends as its table does."""

from __future__ import annotations

import base64
import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from penstock.broker.envelopes import row_key
from penstock.broker.wire import encode_event, parse_record
from penstock.config import MIB, Settings
from penstock.config.envelope import EnvelopeKind, EnvelopeSettings
from penstock.errors import Reason
from penstock.records import ClaimCheck, Event, Inline, Modality, Position, Record, Rejected

TABLE = EnvelopeSettings(
    kind=EnvelopeKind.DEBEZIUM, text="body", title="name", acl="groups", attributes=("price", "tags")
)
ROWS = EnvelopeSettings(kind=EnvelopeKind.CONNECT, text="body", title="name")
CHANGED_MS = 1_767_225_600_000


def parse(
    key: object, value: object, envelope: EnvelopeSettings | None = TABLE, *, offset: int = 7, **headers: bytes
) -> Event | Rejected:
    record = Record(Position("media.text", 0, offset), _bytes(key), _bytes(value), tuple(headers.items()), 1_000)
    return parse_record(
        record, modality=Modality.TEXT, default_tenant="acme", max_inline_bytes=64 * MIB, envelope=envelope
    )


def _bytes(value: object) -> bytes | None:
    return value if value is None or isinstance(value, bytes) else json.dumps(value).encode()


def event(*args: Any, **options: Any) -> Event:
    parsed = parse(*args, **options)
    assert isinstance(parsed, Event), parsed
    return parsed


def change(op: str, row: dict[str, Any] | None, *, has_schema: bool = False) -> dict[str, Any]:
    before = {"id": 1, "body": "old"} if op == "d" else None
    payload = {"before": before, "after": row, "op": op, "ts_ms": 5, "source": {"ts_ms": CHANGED_MS, "db": "shop"}}
    return {"schema": {"type": "struct", "fields": []}, "payload": payload} if has_schema else payload


@pytest.mark.parametrize("has_schema", [False, True])
@pytest.mark.parametrize("op", ["c", "u", "r"])
def test_a_change_is_an_event_of_the_columns_that_the_settings_name(op: str, has_schema: bool) -> None:
    row = {"id": 1, "body": "The heron.", "name": "Heron", "price": 2.5, "tags": ["a"], "password": "x", "groups": "hr"}
    parsed = event({"id": 1}, change(op, row, has_schema=has_schema))
    assert parsed.asset.key == "1"
    assert parsed.payload == Inline(b"The heron.")
    assert (parsed.title, parsed.acl, parsed.event_time_ms) == ("Heron", ("hr",), CHANGED_MS)
    assert json.loads(parsed.attributes_json) == {"price": 2.5, "tags": ["a"]}


def test_a_deletion_and_its_tombstone_delete_the_asset_of_the_row() -> None:
    for value in (change("d", None), change("d", None, has_schema=True), None):
        parsed = event({"schema": {}, "payload": {"id": 1}}, value)
        assert parsed.is_tombstone
        assert parsed.asset.key == "1"


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ({"id": 1001}, "1001"),
        ({"schema": {"type": "struct"}, "payload": {"id": "a/b"}}, "a/b"),
        ({"schema": {"type": "int32"}, "payload": 7}, "7"),
        ({"shop": 2, "item": "x"}, '{"item":"x","shop":"2"}'),
        ({"id": 5, "__dbz__physicalTableIdentifier": "s.t"}, "5"),
        ("plain", "plain"),
        (b"no json", "no json"),
        (b"1e3", "1e3"),
        (b"007", "007"),
        (b"\xff", "hex:ff"),
    ],
)
def test_the_key_of_a_row_names_its_asset(key: object, name: str) -> None:
    assert event(key, change("c", {"body": "x"})).asset.key == name


@given(
    st.dictionaries(st.text(min_size=1, max_size=5), st.integers() | st.text(max_size=9), min_size=1, max_size=3),
    st.booleans(),
)
def test_keys_of_one_row_are_equal_however_they_are_written(columns: dict[str, Any], has_schema: bool) -> None:
    document = {"schema": {"type": "struct"}, "payload": columns} if has_schema else columns
    if not has_schema and columns.keys() == {"schema", "payload"}:
        return
    written = row_key(json.dumps(document).encode())
    other = row_key(json.dumps(dict(reversed(document.items())), indent=2).encode())
    assert written == other


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (change("t", None), "truncate"),
        (change("m", None), "message"),
        (change("x", None), "not known"),
        (change("c", None), "after is null"),
        (change("c", {"id": 1}), "'body'"),
        (change("c", {"body": {"deep": 1}}), "body"),
        (change("c", {"body": "x", "name": ["no title"]}), "'name'"),
        (change("c", {"body": "x", "groups": "two words"}), "acl"),
        (b"{", "connector"),
        (b"[]", "connector"),
        ({"before": None}, "Debezium"),
    ],
)
def test_what_is_no_row_is_malformed_and_says_why(value: object, words: str) -> None:
    parsed = parse({"id": 1}, value)
    assert isinstance(parsed, Rejected)
    assert parsed.reason is Reason.MALFORMED
    assert words in parsed.detail


def test_a_row_without_labels_is_for_nobody() -> None:
    assert event({"id": 1}, change("c", {"body": "x", "groups": None})).acl == ()
    assert event({"id": 1}, change("c", {"body": "x", "groups": '["a", "b"]'})).acl == ("a", "b")
    assert event({"id": 1}, change("c", {"body": "x", "groups": ["b"]})).acl == ("b",)


def test_rows_of_connect_come_with_their_schema_or_alone() -> None:
    row = {"id": 1, "body": "The heron.", "name": None}
    for value in (row, {"schema": {"type": "struct"}, "payload": row}, {"schema": None, "payload": row}):
        parsed = event({"id": 1}, value, ROWS)
        assert (parsed.payload, parsed.title) == (Inline(b"The heron."), "")
    for value in ({**row, "__deleted": "true"}, {**row, "__deleted": True}, {"schema": None, "payload": None}, None):
        assert event({"id": 1}, value, ROWS).is_tombstone, value
    assert not event({"id": 1}, {**row, "__deleted": "false"}, ROWS).is_tombstone
    refused = parse({"id": 1}, {"schema": {"type": "string"}, "payload": "The heron."}, ROWS)
    assert isinstance(refused, Rejected)


def test_media_are_a_column_of_bytes_or_an_address() -> None:
    data = EnvelopeSettings(kind=EnvelopeKind.CONNECT, data="image")
    assert event("k", {"image": base64.b64encode(b"\x89PNG").decode()}, data).payload == Inline(b"\x89PNG")
    assert isinstance(parse("k", {"image": "no base64!"}, data), Rejected)
    uri = EnvelopeSettings(kind=EnvelopeKind.CONNECT, uri="url", time="at")
    parsed = event("k", {"url": "s3://bucket/a.png", "at": "2026-01-01T00:00:00Z"}, uri)
    assert (parsed.payload, parsed.event_time_ms) == (ClaimCheck("s3://bucket/a.png"), CHANGED_MS)


def test_cloud_events_pass_by_the_envelope() -> None:
    sent = encode_event(topic="media.text", key="canary", payload=Inline(b"here"), source="canary")
    record = Record(Position("media.text", 0, 1), sent.key, sent.value, sent.headers, 1_000)
    parsed = parse_record(record, modality=Modality.TEXT, default_tenant="acme", max_inline_bytes=MIB, envelope=TABLE)
    assert isinstance(parsed, Event)
    assert (parsed.asset.key, parsed.payload) == ("canary", Inline(b"here"))


def test_a_document_of_a_million_columns_is_read_without_objects_for_them() -> None:
    row = b'{"body": "x",' + b",".join(b'"%d":{}' % number for number in range(200_000)) + b"}"
    value = b'{"op": "c", "after": ' + row + b"}"
    assert event({"id": 1}, value).payload == Inline(b"x")
    nested = b'{"op": "c", "after": {"body": ' + b"[" * 100_000 + b"]" * 100_000 + b"}}"
    assert isinstance(parse({"id": 1}, nested), Rejected)


_OPERATIONS = st.lists(
    st.tuples(st.sampled_from("crudd"), st.integers(0, 5), st.text(min_size=1, max_size=8)), max_size=40
)


@given(_OPERATIONS, st.booleans())
def test_a_stream_of_changes_ends_as_the_table_does(operations: list[tuple[str, int, str]], has_schema: bool) -> None:
    table: dict[int, str] = {}
    index: dict[str, bytes] = {}
    offsets = itertools.count()

    def settle(parsed: Event) -> None:
        if isinstance(parsed.payload, Inline):
            index[parsed.asset.id] = parsed.payload.data
        else:
            index.pop(parsed.asset.id, None)

    for op, number, body in operations:
        if op == "d":
            if number not in table:
                continue
            del table[number]
            settle(event({"id": number}, change("d", None, has_schema=has_schema), offset=next(offsets)))
            settle(event({"id": number}, None, offset=next(offsets)))
        else:
            table[number] = body
            row = {"id": number, "body": body}
            settle(event({"id": number}, change(op, row, has_schema=has_schema), offset=next(offsets)))
    assert sorted(index.values()) == sorted(body.encode() for body in table.values())


def test_the_settings_refuse_topics_without_media_and_two_columns_of_media() -> None:
    with pytest.raises(ValidationError, match="no topic of media"):
        Settings(kafka={"envelopes": {"shop.items": {"kind": "connect", "text": "body"}}})  # type: ignore[arg-type]
    with pytest.raises(ValidationError, match="exactly one"):
        EnvelopeSettings(kind=EnvelopeKind.CONNECT, text="a", uri="b")
    settings = Settings(kafka={"envelopes": {"media.text": {"kind": "debezium", "text": "body"}}})  # type: ignore[arg-type]
    assert settings.kafka.envelopes["media.text"].kind is EnvelopeKind.DEBEZIUM
