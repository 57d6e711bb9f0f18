"""Parsing bombs in structured events and headers costs memory in proportion to their size."""

from __future__ import annotations

import base64
import gc
import json
import tracemalloc
from collections.abc import Callable, Mapping

import pytest

from penstock.broker.event_values import MAX_HEADER_BYTES
from penstock.broker.structured import MAX_STRUCTURED_BYTES
from penstock.broker.wire import parse_record
from penstock.errors import Reason
from penstock.records import Event, Inline, Modality, Position, Record, Rejected

MIB = 1024 * 1024
HEAD = b'{"id":"1","source":"s","type":"t","specversion":"1.0",'
STRUCTURED = (("content-type", b"application/cloudevents+json"),)
BINARY = (("ce_id", b"1"), ("ce_source", b"s"), ("ce_type", b"t"), ("ce_specversion", b"1.0"))


def parse(value: bytes, headers: tuple[tuple[str, bytes], ...] = STRUCTURED) -> Event | Rejected:
    record = Record(Position("media.text", 0, 1), b"k", value, headers, 0)
    return parse_record(record, modality=Modality.TEXT, default_tenant="default", max_inline_bytes=256 * MIB)


def filled(begin: bytes, member: bytes, end: bytes, size: int = MAX_STRUCTURED_BYTES) -> bytes:
    """Returns JSON of at most this size: the member again and again, joined by commas."""
    count = (size - len(HEAD) - len(begin) - len(end) + 1) // (len(member) + 1)
    return HEAD + begin + b",".join([member] * count) + end


# Made when a test needs one: each worker reads this file, and most run none of its tests.
BOMBS: Mapping[str, Callable[[], bytes]] = {
    "objects": lambda: filled(b'"data":[', b"{}", b"]}"),
    "members": lambda: filled(b'"data":"x",', b'"a":0', b"}"),
    "nesting": lambda: HEAD + b'"data":' + b"[" * 4 * MIB + b"]" * 4 * MIB + b"}",
    "escapes": lambda: HEAD + b'"data":{"a":"' + b"\\u0041" * (MIB // 2) + b'"}}',
    "text": lambda: HEAD + b'"data":"' + b"a" * 15 * MIB + b'"}',
    "base64": lambda: HEAD + b'"data_base64":"' + base64.b64encode(b"a" * 11 * MIB) + b'"}',
    "attributes": lambda: filled(b'"data":"x","attributes":[', b"{}", b"]}"),
    "title": lambda: HEAD + b'"data":"x","title":"' + b"a" * 15 * MIB + b'"}',
    "too large": lambda: filled(b'"data":[', b"{}", b"]}", 64 * MIB),
}


@pytest.mark.parametrize("name", sorted(BOMBS))
def test_an_event_takes_four_times_its_size_at_most(name: str) -> None:
    value = BOMBS[name]()
    gc.collect()
    tracemalloc.start()
    try:
        parsed = parse(value)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak <= 4 * len(value) + 32 * MIB
    assert isinstance(parsed, Event) or "\n" not in parsed.detail


@pytest.mark.parametrize(
    ("name", "reason"),
    [("too large", Reason.TOO_LARGE), ("nesting", Reason.MALFORMED), ("attributes", Reason.MALFORMED)],
)
def test_what_cannot_be_read_within_bounds_is_refused_in_words(name: str, reason: Reason) -> None:
    parsed = parse(BOMBS[name]())
    assert isinstance(parsed, Rejected)
    assert parsed.reason is reason


def test_headers_are_bounded() -> None:
    bomb = json.dumps([{}] * (MAX_HEADER_BYTES // 4)).encode()
    parsed = parse(b"x", (*BINARY, ("ce_attributes", bomb)))
    assert isinstance(parsed, Rejected)
    assert (parsed.reason, "headers have" in parsed.detail) == (Reason.MALFORMED, True)


@pytest.mark.parametrize(
    ("written", "read"),
    [
        (b'{"a":"\\u00e9","b":[1,2]}', '{"a": "é", "b": [1, 2]}'),
        (b'{"a":"\\ud83d\\udc22"}', '{"a": "🐢"}'),
        (b'{"a":"\\u0022\\u005c\\u000a"}', '{"a": "\\u0022\\u005c\\u000a"}'),
        (b'{"a":"\\\\u00e9"}', '{"a": "\\\\u00e9"}'),
        (b"1e400", "1e400"),
        (b"true", "true"),
    ],
)
def test_json_stays_json_with_its_characters_readable(written: bytes, read: str) -> None:
    parsed = parse(HEAD + b'"data":' + written + b"}")
    assert isinstance(parsed, Event)
    assert parsed.payload == Inline(read.encode())
    assert json.loads(read) == json.loads(written)
