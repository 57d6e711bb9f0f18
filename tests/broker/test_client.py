from __future__ import annotations

from kafka.consumer.fetcher import ConsumerRecord

from penstock.broker.client import to_record


def test_a_header_without_a_value_is_as_absent() -> None:
    headers = [("ce_subject", None), ("note", b""), ("content-type", b"text/plain")]
    raw = ConsumerRecord("media.text", 0, None, 3, 1_000, 0, b"k", b"v", headers, None, 1, 1, 0)
    assert to_record(raw).headers == (("note", b""), ("content-type", b"text/plain"))
