"""Small messages that unpack or parse to much more, through a real broker and a real lane."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator

import pytest
from kafka import KafkaProducer

from penstock.broker.topics import ensure_topics
from penstock.config import KafkaSettings
from penstock.errors import Reason
from penstock.records import Modality
from tests.services import kafka_broker

pytestmark = [pytest.mark.services, pytest.mark.exhaustive, pytest.mark.timeout(900)]

MB = 1_000_000
_UNPACKED_BYTES = 250 * MB
_BINARY = [("ce_specversion", b"1.0"), ("ce_id", b"1"), ("ce_source", b"/bomb"), ("ce_type", b"t")]


def _structured(data: bytes) -> bytes:
    return b'{"specversion":"1.0","id":"1","source":"/bomb","type":"t","data":' + data + b"}"


def _bombs() -> Iterator[tuple[bytes, list[tuple[str, bytes]], bytes, Reason]]:
    """Yields key, headers, value and what becomes of the record."""
    json = [("content-type", b"application/cloudevents+json")]
    objects = b"[" + b"{}," * (_UNPACKED_BYTES // 3) + b"{}]"
    yield b"250 MB of objects", json, _structured(objects), Reason.TOO_LARGE
    yield b"250 MB without a type", [], _structured(objects), Reason.TOO_LARGE
    depth = 7 * MB
    yield b"deep data", json, _structured(b"[" * depth + b"]" * depth), Reason.MALFORMED
    attributes = b'{"a":[' + b"[]," * (5 * MB) + b"[]]}"
    yield b"15 MB of attributes", [*_BINARY, ("ce_attributes", attributes)], b"text", Reason.MALFORMED
    deep = b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    yield b"deep attributes", [*_BINARY, ("ce_attributes", deep)], b"text", Reason.MALFORMED


def _send(settings: KafkaSettings) -> dict[str, str]:
    """Sends the bombs, and a text behind them. Returns the reasons by offset."""
    producer = KafkaProducer(
        bootstrap_servers=settings.bootstrap_servers,
        compression_type="zstd",
        max_request_size=2 * _UNPACKED_BYTES,
    )
    expected: dict[str, str] = {}
    for key, headers, value, reason in _bombs():
        sent = producer.send(settings.text_topic, value, key=key, headers=headers, partition=0).get(120)
        expected[str(sent.offset)] = reason.value
    producer.send(settings.text_topic, b"a text behind them", key=b"text", partition=0).get(120)
    producer.close()
    return expected


def test_bombs_are_dead_letters_and_a_lane_lives_on_in_bounded_memory() -> None:
    with kafka_broker() as broker:
        settings = KafkaSettings(bootstrap_servers=broker.bootstrap_servers, session_timeout_ms=30_000)
        ensure_topics(settings, [Modality.TEXT])
        expected = _send(settings)
        lane = subprocess.run(
            [sys.executable, "-m", "tests.ingest.lane.bombed", broker.bootstrap_servers, str(len(expected))],
            capture_output=True, text=True, check=False, timeout=600,
        )  # fmt: skip
    assert lane.returncode == 0, lane.stderr[-3_000:]
    result = json.loads(lane.stdout)
    assert result["letters"] == expected
    assert result["indexed"] == 1
    assert result["peak_bytes"] < 4 * _UNPACKED_BYTES + 32 * 2**20
