from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from cloudevents.core.bindings import kafka as ce_kafka
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from hypothesis import given
from hypothesis import strategies as st

from penstock.broker import headers as names
from penstock.broker import wire
from penstock.broker.base import Message
from penstock.errors import BadInputError, Reason
from penstock.records import AssetRef, ClaimCheck, Event, Inline, Modality, Position, Record, Rejected
from tests.replays import KEYS, as_replay

HERE = Position("media.text", 2, 41)
REQUIRED = {"ce_id": "1", "ce_source": "camera", "ce_type": "shot", "ce_specversion": "1.0"}


def record(
    value: bytes | None = b"hello",
    key: bytes | None = b"k",
    headers: dict[str, str | bytes] | None = None,
    position: Position = HERE,
) -> Record:
    encoded = {name: value if isinstance(value, bytes) else value.encode() for name, value in (headers or {}).items()}
    return Record(position, key, value, tuple(encoded.items()), 1_700_000_000_000)


def parse(received: Record, max_inline_bytes: int = 1_000_000) -> Event | Rejected:
    return wire.parse_record(
        received, modality=Modality.TEXT, default_tenant="default", max_inline_bytes=max_inline_bytes, replays=KEYS
    )


def event(received: Record) -> Event:
    parsed = parse(received)
    assert isinstance(parsed, Event), parsed
    return parsed


def reason(received: Record) -> Reason:
    parsed = parse(received)
    assert isinstance(parsed, Rejected), parsed
    assert parsed.position == received.position
    assert parsed.step == "receive"
    assert "\n" not in parsed.detail
    return parsed.reason


def structured(body: dict[str, Any] | bytes) -> Record:
    value = body if isinstance(body, bytes) else json.dumps(body).encode()
    return record(value, None, {"content-type": "application/cloudevents+json; charset=UTF-8"})


BODY = {"id": "1", "source": "camera", "type": "shot", "specversion": "1.0"}


# --- bare media ------------------------------------------------------------------------------------------------------


def test_bare_media_is_its_value_under_its_key() -> None:
    parsed = event(record())
    assert parsed.asset == AssetRef("default", "media.text", "k")
    assert parsed.payload == Inline(b"hello")
    assert parsed.origin == parsed.position == HERE
    assert parsed.timestamp_ms == parsed.event_time_ms == 1_700_000_000_000
    assert (parsed.title, parsed.attributes_json, parsed.content_type) == ("", "{}", None)


def test_bare_media_without_key_is_named_by_its_position() -> None:
    assert event(record(key=None)).asset.key == "media.text-2-41"


def test_an_empty_key_counts_as_none_so_that_unkeyed_media_do_not_replace_each_other() -> None:
    assert event(record(key=b"")).asset.key == "media.text-2-41"


def test_a_foreign_header_does_not_make_a_cloudevent() -> None:
    assert event(record(headers={"traceparent": b"\xff\xfe"})).payload == Inline(b"hello")


def test_an_empty_value_is_media_of_no_bytes_and_no_tombstone() -> None:
    assert event(record(b"")).payload == Inline(b"")


def test_a_null_value_with_key_is_a_tombstone() -> None:
    assert event(record(None)).is_tombstone


@pytest.mark.parametrize("key", [None, b""])
def test_a_null_value_without_key_is_malformed(key: bytes | None) -> None:
    assert reason(record(None, key)) is Reason.MALFORMED


def test_a_value_above_the_limit_is_too_large() -> None:
    parsed = parse(record(b"x" * 11), max_inline_bytes=10)
    assert isinstance(parsed, Rejected)
    assert parsed.reason is Reason.TOO_LARGE


# --- keys ------------------------------------------------------------------------------------------------------------


def test_keys_that_are_not_utf8_stay_apart() -> None:
    keys = [b"\xff", b"\xfe", b"hex:ff", b"ff", b"hex:", "ÿ".encode()]
    assert len({wire.render_key(key) for key in keys}) == len(keys)
    assert wire.render_key(b"\xff") == "hex:ff"


@given(st.binary(min_size=1, max_size=64), st.binary(min_size=1, max_size=64))
def test_rendering_of_keys_is_lossless(key: bytes, other: bytes) -> None:
    assert (wire.render_key(key) == wire.render_key(other)) == (key == other)
    wire.render_key(key).encode()  # can be stored


def test_a_key_above_the_limit_is_malformed() -> None:
    assert event(record(key=b"k" * wire.MAX_KEY_BYTES)).asset.key == "k" * wire.MAX_KEY_BYTES
    assert reason(record(key=b"k" * (wire.MAX_KEY_BYTES + 1))) is Reason.MALFORMED
    assert reason(record(key=None, headers=REQUIRED | {"ce_subject": "ä" * 513})) is Reason.MALFORMED


@pytest.mark.parametrize(
    ("key", "subject", "expected"),
    [(b"k", "s", "k"), (None, "s", "s"), (None, None, "1")],
    ids=["message key", "subject", "id"],
)
def test_the_assets_key_is_the_first_there_is(key: bytes | None, subject: str | None, expected: str) -> None:
    headers: dict[str, str | bytes] = {**REQUIRED}
    if subject:
        headers["ce_subject"] = subject
    assert event(record(key=key, headers=headers)).asset.key == expected


# --- binary mode -----------------------------------------------------------------------------------------------------


def test_binary_mode_is_read_with_its_extensions() -> None:
    headers = REQUIRED | {
        "content-type": "image/png",
        "ce_time": "2026-01-02T03:04:05.678Z",
        "ce_tenant": "acme",
        "ce_title": "A cat",
        "ce_attributes": '{"camera": "x100", "tags": ["a", 1]}',
        "ce_traceparent": "00-a-b-01",
    }
    parsed = event(record(b"png", headers=headers))
    assert parsed.traceparent == "00-a-b-01"
    assert parsed.asset == AssetRef("acme", "media.text", "k")
    assert parsed.content_type == "image/png"
    assert parsed.event_time_ms == round(datetime(2026, 1, 2, 3, 4, 5, 678_000, UTC).timestamp() * 1000)
    assert parsed.title == "A cat"
    assert json.loads(parsed.attributes_json) == {"camera": "x100", "tags": ["a", 1]}


@pytest.mark.parametrize("value", [b"", None], ids=["empty", "null"])
def test_dataref_without_a_value_is_a_claim_check(value: bytes | None) -> None:
    parsed = event(record(value, headers=REQUIRED | {"ce_dataref": "s3://bucket/a.png"}))
    assert parsed.payload == ClaimCheck("s3://bucket/a.png")


def test_dataref_beside_a_value_is_not_fetched() -> None:
    assert event(record(b"x", headers=REQUIRED | {"ce_dataref": "s3://b/a"})).payload == Inline(b"x")


def test_a_tombstone_may_name_its_tenant() -> None:
    parsed = event(record(None, headers=REQUIRED | {"ce_tenant": "acme"}))
    assert parsed.is_tombstone
    assert parsed.asset.tenant == "acme"


@pytest.mark.parametrize("missing", sorted(REQUIRED))
def test_a_cloudevent_without_a_required_attribute_is_malformed(missing: str) -> None:
    headers = {name: value for name, value in REQUIRED.items() if name != missing}
    assert reason(record(headers=headers)) is Reason.MALFORMED
    assert reason(record(headers=headers | {missing: ""})) is Reason.MALFORMED


@pytest.mark.parametrize(
    "extra",
    [
        {"ce_specversion": "0.3"},
        {"ce_tenant": "a/b"},
        {"ce_tenant": ""},
        {"ce_tenant": "a" * 65},
        {"ce_tenant": "acme\n"},
        {"ce_time": "yesterday"},
        {"ce_time": "2026-01-02T03:04:05"},
        {"ce_title": b"\xff"},
        {"ce_dataref": "x" * 8_193, "value": ""},
        {"ce_attributes": "no json"},
        {"ce_attributes": "[]"},
        {"ce_attributes": '{"a": {"b": 1}}'},
        {"ce_attributes": '{"a": [[1]]}'},
        {"ce_attributes": '{"a": NaN}'},
        {"ce_attributes": '{"a": "\\ud800"}'},
        {"ce_attributes": "[" * 100_000},
        {"ce_attributes": json.dumps({"a": "x" * 60_000})},
    ],
    ids=lambda extra: next(iter(extra)) + "=" + str(next(iter(extra.values())))[:20],
)
def test_a_wrong_attribute_is_malformed(extra: dict[str, str | bytes]) -> None:
    value = extra.pop("value", "hello")
    assert isinstance(value, str)
    assert reason(record(value.encode(), headers=REQUIRED | extra)) is Reason.MALFORMED


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("2026-01-02t03:04:05z", "2026-01-02T03:04:05+00:00"),
        ("2026-01-02 03:04:05Z", "2026-01-02T03:04:05+00:00"),
        ("2026-01-02T03:04:05.123456789Z", "2026-01-02T03:04:05.123456+00:00"),
        ("2026-01-02T03:04:05-00:00", "2026-01-02T03:04:05+00:00"),
        ("2016-12-31T23:59:60Z", "2017-01-01T00:00:00+00:00"),
        ("2017-01-01T00:59:60.5+01:00", "2017-01-01T00:00:00.5+00:00"),
    ],
)
def test_a_time_may_have_every_form_of_rfc_3339(text: str, same: str) -> None:
    expected_ms = round(datetime.fromisoformat(same).timestamp() * 1000)
    assert event(record(headers=REQUIRED | {"ce_time": text})).event_time_ms == expected_ms


@pytest.mark.parametrize("text", ["0001-01-01T00:00:00+23:59", "9999-12-31T23:59:60Z", "9999-12-31T23:59:59-23:59"])
def test_a_time_at_the_edge_of_the_calendar_stops_no_lane(text: str) -> None:
    assert isinstance(parse(record(headers=REQUIRED | {"ce_time": text})), Event | Rejected)


@pytest.mark.parametrize("time_ms", [253_402_300_800_000, -62_135_596_800_001, 10**18])
def test_a_time_that_rfc_3339_cannot_write_is_not_sent(time_ms: int) -> None:
    with pytest.raises(BadInputError, match="years 1 to 9999"):
        wire.encode_event(topic="media.text", key="k", payload=Inline(b"x"), source="test", time_ms=time_ms)


def test_an_error_that_no_rule_foresaw_is_a_rejection(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(text: str) -> int:
        raise ZeroDivisionError(text)

    monkeypatch.setattr(wire, "_time_ms", fail)
    assert reason(record(headers=REQUIRED | {"ce_time": "2026-01-01T00:00:00Z"})) is Reason.MALFORMED
    assert "unexpected error" in caplog.text


def test_a_lack_of_memory_is_no_fault_of_the_record(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(text: str) -> int:
        raise MemoryError(text)

    monkeypatch.setattr(wire, "_time_ms", fail)
    with pytest.raises(MemoryError):
        parse(record(headers=REQUIRED | {"ce_time": "2026-01-01T00:00:00Z"}))


def test_long_titles_are_cut_at_a_code_point() -> None:
    assert event(record(headers=REQUIRED | {"ce_title": "🐈" * 1_001})).title == "🐈" * 1_000


# --- structured mode -------------------------------------------------------------------------------------------------


def test_structured_mode_written_by_the_sdk_is_read() -> None:
    written = CloudEvent(
        {"type": "shot", "source": "camera", "subject": "cat", "datacontenttype": "image/png", "tenant": "acme"},
        b"\x89PNG",
    )
    message = ce_kafka.to_structured(written, JSONFormat())
    parsed = event(Record(HERE, None, message.value, tuple(message.headers.items()), 5))
    assert parsed.asset == AssetRef("acme", "media.text", "cat")
    assert parsed.payload == Inline(b"\x89PNG")
    assert parsed.content_type == "image/png"


def test_binary_mode_written_by_the_sdk_is_read() -> None:
    written = CloudEvent({"type": "shot", "source": "camera", "subject": "cat", "datacontenttype": "text/plain"}, "hi")
    message = ce_kafka.to_binary(written, JSONFormat())
    parsed = event(Record(HERE, None, message.value, tuple(message.headers.items()), 5))
    assert (parsed.asset.key, parsed.payload, parsed.content_type) == ("cat", Inline(b"hi"), "text/plain")


@pytest.mark.parametrize(
    ("extra", "expected"),
    [
        ({"data": "hi"}, b"hi"),
        ({"data": "hi", "datacontenttype": "text/plain"}, b"hi"),
        ({"data": "hi", "datacontenttype": "application/json"}, b'"hi"'),
        ({"data": {"a": 1}}, b'{"a": 1}'),
        ({"data_base64": "aGk="}, b"hi"),
        ({"data": ""}, b""),
    ],
)
def test_structured_data_becomes_the_bytes_it_stands_for(extra: dict[str, Any], expected: bytes) -> None:
    assert event(structured(BODY | extra)).payload == Inline(expected)


def test_structured_dataref_is_a_claim_check() -> None:
    assert event(structured(BODY | {"dataref": "file:///a"})).payload == ClaimCheck("file:///a")


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"\xff",
        b"[]",
        b'"x"',
        {**BODY, "data": "x", "specversion": "0.3"},
        {name: value for name, value in BODY.items() if name != "id"} | {"data": "x"},
        {name: value for name, value in BODY.items() if name != "specversion"} | {"data": "x"},
        {**BODY, "id": "", "data": "x"},
        {**BODY, "data_base64": "a"},
        {**BODY, "data_base64": 1},
        {**BODY, "data": "\ud800"},
        {**BODY, "data": "x", "attributes": {"a": 1}},
        {**BODY, "data": "x", "subject": "\ud800"},
        {**BODY, "data": "x", "title": 1.5},
        BODY,
    ],
    ids=str,
)
def test_a_wrong_structured_event_is_malformed(body: dict[str, Any] | bytes) -> None:
    assert reason(structured(body)) is Reason.MALFORMED


def test_a_structured_event_without_id_is_never_given_a_random_one() -> None:
    """Read twice it would be two assets."""
    body = {name: value for name, value in BODY.items() if name != "id"} | {"data": "x"}
    assert parse(structured(body)) == parse(structured(body))


@pytest.mark.parametrize("content_type", ["application/cloudevents-batch+json", "application/cloudevents+avro"])
def test_modes_that_the_kafka_binding_lacks_are_malformed(content_type: str) -> None:
    assert reason(record(b"[]", headers={"content-type": content_type})) is Reason.MALFORMED


@pytest.mark.parametrize("content_type", [None, "application/json", "text/json; charset=utf-8"])
def test_a_structured_event_is_recognised_without_its_content_type(content_type: str | None) -> None:
    headers: dict[str, str | bytes] = {} if content_type is None else {"content-type": content_type}
    value = json.dumps({**BODY, "title": "Hill", "datacontenttype": "text/plain", "data": "hi"}).encode()
    parsed = event(record(value, headers=headers))
    assert (parsed.payload, parsed.title, parsed.content_type) == (Inline(b"hi"), "Hill", "text/plain")
    incomplete = json.dumps({name: value for name, value in BODY.items() if name != "id"}).encode()
    assert reason(record(incomplete, headers=headers)) is Reason.MALFORMED


@pytest.mark.parametrize(
    ("value", "headers"),
    [
        (b'{"specversion": "1.0", "of": "another format"}', {}),
        (b'["specversion", "type", "source"]', {}),
        (b'{"specversion": "1.0", "type": "shot", "source": "camera"', {}),
        (json.dumps(BODY).encode(), {"content-type": "text/plain"}),
        (json.dumps(BODY).encode(), REQUIRED),
    ],
)
def test_json_that_is_no_event_is_media(value: bytes, headers: dict[str, str | bytes]) -> None:
    assert event(record(value, headers=headers)).payload == Inline(value)


# --- frames of a Schema Registry -------------------------------------------------------------------------------------

FRAME = b"\0\0\0\0\x07"


@pytest.mark.parametrize("value", [b"hello", b'{"a": 1}', json.dumps({**BODY, "data": "hello"}).encode()])
def test_the_frame_is_taken_off_where_the_topic_has_frames(value: bytes) -> None:
    framed, bare = record(FRAME + value), record(value)
    parsed = wire.parse_record(
        framed, modality=Modality.TEXT, default_tenant="default", max_inline_bytes=1_000, framed=True
    )
    assert parsed == parse(bare)


@pytest.mark.parametrize("value", [b"hello", FRAME, b"\x01\0\0\0\x07hello"])
def test_a_value_without_a_frame_is_refused_there(value: bytes) -> None:
    parsed = wire.parse_record(
        record(value), modality=Modality.TEXT, default_tenant="default", max_inline_bytes=1_000, framed=True
    )
    assert isinstance(parsed, Rejected)
    assert (parsed.reason, "kafka.framed_topics" in parsed.detail) == (Reason.MALFORMED, True)


def test_a_deletion_needs_no_frame() -> None:
    parsed = wire.parse_record(
        record(None), modality=Modality.TEXT, default_tenant="default", max_inline_bytes=1_000, framed=True
    )
    assert isinstance(parsed, Event)
    assert parsed.payload is None


def test_json_behind_a_frame_is_refused_by_its_name_elsewhere() -> None:
    parsed = parse(record(FRAME + b'{"a": 1}'))
    assert isinstance(parsed, Rejected)
    assert "Schema Registry serializer (schema 7)" in parsed.detail


@pytest.mark.parametrize(
    "value",
    [b"\0\0\x01\0\x01\0\x10\x10", b"\0\0\0\x18ftypisom", "ab{".encode("utf-16-be"), FRAME + b"{not JSON"],
    ids=["icon", "mp4", "utf-16", "other"],
)
def test_media_that_begin_like_a_frame_are_media(value: bytes) -> None:
    assert event(record(value)).payload == Inline(value)


# --- replays ---------------------------------------------------------------------------------------------------------


def test_a_replay_keeps_origin_and_timestamp_and_the_name_that_came_from_them() -> None:
    replay = as_replay(Message(HERE.topic, None, b"value", partition=HERE.partition), Position("media.text", 0, 7), 99)
    parsed = event(Record(HERE, None, b"value", replay.headers, 1_700_000_000_000))
    assert parsed.origin == Position("media.text", 0, 7)
    assert parsed.position == HERE
    assert parsed.timestamp_ms == parsed.event_time_ms == 99
    assert parsed.asset.key == "media.text-0-7"


@pytest.mark.parametrize(
    "headers",
    [
        {names.ORIGIN: "media.text/0"},
        {names.ORIGIN: "media.text/x/1"},
        {names.ORIGIN: "media.text/-1/1"},
        {names.ORIGIN: b"\xff"},
        {names.ORIGIN: "media.image/0/7"},
        {names.ORIGIN: "media.text/0/7", names.ORIGIN_TIMESTAMP: "now"},
    ],
)
def test_a_forged_origin_is_malformed(headers: dict[str, str | bytes]) -> None:
    assert reason(record(headers=headers)) is Reason.MALFORMED


# --- anything --------------------------------------------------------------------------------------------------------


@given(
    st.none() | st.binary(max_size=200),
    st.none() | st.binary(max_size=20),
    st.lists(
        st.tuples(
            st.sampled_from([*REQUIRED, "content-type", "ce_time", "ce_attributes", "ce_dataref", names.ORIGIN, "x"]),
            st.binary(max_size=20) | st.sampled_from([b"1.0", b"application/cloudevents+json", b"{}"]),
        ),
        max_size=8,
    ),
)
def test_no_record_raises(value: bytes | None, key: bytes | None, headers: list[tuple[str, bytes]]) -> None:
    received = Record(HERE, key, value, tuple(headers), 0)
    assert parse(received) == parse(received)


# --- writing ---------------------------------------------------------------------------------------------------------


def roundtrip(**arguments: Any) -> Event:
    message = wire.encode_event(topic="media.text", source="test", **arguments)
    return event(Record(HERE, message.key, message.value, message.headers, 5))


@pytest.mark.parametrize("as_structured", [False, True])
@pytest.mark.parametrize("payload", [Inline(b"\x00\xff"), Inline(b""), ClaimCheck("file:///a"), None], ids=repr)
def test_what_is_written_is_read_back(payload: Inline | ClaimCheck | None, as_structured: bool) -> None:
    parsed = roundtrip(
        key="clé",
        payload=payload,
        content_type="text/plain",
        tenant="acme",
        title="Öl",
        attributes={"n": 1, "tags": ["ä"]},
        time_ms=1_234_567,
        structured=as_structured,
    )
    assert parsed.asset == AssetRef("acme", "media.text", "clé")
    assert parsed.payload == payload
    assert (parsed.content_type, parsed.title, parsed.event_time_ms) == ("text/plain", "Öl", 1_234_567)
    assert json.loads(parsed.attributes_json) == {"n": 1, "tags": ["ä"]}


def test_little_is_written_where_little_is_said() -> None:
    parsed = roundtrip(key=None, payload=Inline(b"x"), event_id="7")
    assert parsed.asset == AssetRef("default", "media.text", "7")
    assert parsed.event_time_ms == 5


@pytest.mark.parametrize("wrong", [{"key": "k" * 1_025}, {"tenant": "a b"}, {"attributes": {"a": {}}}])
def test_what_could_not_be_read_back_is_not_written(wrong: dict[str, Any]) -> None:
    with pytest.raises(BadInputError):
        wire.encode_event(**{"topic": "t", "key": "k", "payload": Inline(b"x"), "source": "test"} | wrong)


@pytest.mark.parametrize(
    ("acl", "labels"),
    [
        ('["tenant"]', ("tenant",)),
        ('["user:a@b.example/1", "group:a_b", "group:a_b"]', ("group:a_b", "user:a@b.example/1")),
        ("[]", ()),
        (json.dumps(["x" * 128]), ("x" * 128,)),
    ],
)
def test_the_labels_of_an_event(acl: str, labels: tuple[str, ...]) -> None:
    parsed = event(record(headers={**REQUIRED, "ce_acl": acl}))
    assert (parsed.acl, parsed.names_acl) == (labels, True)
    document = {"specversion": "1.0", "id": "1", "source": "s", "type": "t", "data": "x", "acl": acl}
    assert event(structured(document)).acl == labels


@pytest.mark.parametrize(
    "acl",
    [
        "",
        "tenant",
        "null",
        "{}",
        '"tenant"',
        '[""]',
        '["a b"]',
        '["a%"]',
        '["ä"]',
        '["a", 1]',
        '[["a"]]',
        '["a\\n"]',
        json.dumps(["x" * 129]),
        json.dumps([str(number) for number in range(65)]),
    ],
)
def test_malformed_labels_make_nothing_public(acl: str) -> None:
    assert reason(record(headers={**REQUIRED, "ce_acl": acl})) is Reason.MALFORMED
    document = {"specversion": "1.0", "id": "1", "source": "s", "type": "t", "data": "x", "acl": acl}
    assert reason(structured(document)) is Reason.MALFORMED


def test_labels_as_a_json_list_of_a_structured_event_are_refused() -> None:
    document = {"specversion": "1.0", "id": "1", "source": "s", "type": "t", "data": "x", "acl": ["tenant"]}
    assert reason(structured(document)) is Reason.MALFORMED


def test_an_event_without_labels_has_the_default_ones() -> None:
    parsed = wire.parse_record(
        record(headers=REQUIRED),
        modality=Modality.TEXT,
        default_tenant="default",
        max_inline_bytes=100,
        replays=KEYS,
        default_acl=("group:staff",),
    )
    assert isinstance(parsed, Event)
    assert (parsed.acl, parsed.names_acl) == (("group:staff",), False)
    assert event(record()).acl == ("tenant",)


@pytest.mark.parametrize("is_structured", [True, False])
def test_written_labels_are_read_back(is_structured: bool) -> None:
    message = wire.encode_event(
        topic="t", key="k", payload=Inline(b"x"), source="s", acl=["b", "a"], structured=is_structured
    )
    assert event(Record(HERE, message.key, message.value, message.headers, 0)).acl == ("a", "b")
    with pytest.raises(BadInputError, match="acl"):
        wire.encode_event(topic="t", key="k", payload=None, source="s", acl=["not a label"])
