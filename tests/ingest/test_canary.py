"""The canary against a bus and a query plane of lists: what it sends, how it looks, what it makes of what it sees."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from penstock.broker.base import Message
from penstock.broker.wire import parse_record
from penstock.errors import UnavailableError
from penstock.ingest.canary import KEY, TENANT, Canary, CanaryResult
from penstock.media.sniff import sniff
from penstock.observability import metrics, tracing
from penstock.observability.open_telemetry import OpenTelemetryTracing
from penstock.observability.tracing import Header
from penstock.records import Event, Inline, Modality, Position, Record
from tests.counted import counted

TOPICS = {Modality.TEXT: "media.text", Modality.IMAGE: "media.image"}


class World:
    """Everything that a canary meets; time passes only while it sleeps."""

    def __init__(self, searchable_after_s: float = 0.0) -> None:
        self.now_s = 100.0
        self.sent: list[Message] = []
        self.asked: list[Mapping[str, Any]] = []
        self.headers: list[Mapping[str, bytes]] = []
        self.waits_s: list[float] = []
        self.kafka_error: Exception | None = None
        self.query_error: Callable[[], Exception | None] = lambda: None
        self.stopping = False
        self._searchable_after_s = searchable_after_s

    def canary(self, timeout_s: float = 30.0) -> Canary:
        return Canary(
            topics=TOPICS,
            produce=self._send,
            search=self._search,
            timeout_s=timeout_s,
            clock=lambda: self.now_s,
            sleep=self._sleep,
            rng=random.Random(0),
        )

    def _send(self, message: Message) -> Position:
        if self.kafka_error is not None:
            raise self.kafka_error
        self.sent.append(message)
        return Position(message.topic, 0, len(self.sent) - 1)

    def _search(self, body: Mapping[str, Any], headers: Sequence[Header]) -> int:
        self.asked.append(body)
        self.headers.append(dict(headers))
        if error := self.query_error():
            raise error
        nonce = json.loads(dict(self.sent[-1].headers)["ce_attributes"])["canary"]
        there = body["filter"] == {"attributes.canary": nonce} and self.now_s >= 100.0 + self._searchable_after_s
        return int(there)

    def _sleep(self, seconds: float) -> bool:
        self.waits_s.append(seconds)
        self.now_s += seconds
        return self.stopping


@pytest.fixture(autouse=True)
def _at_zero() -> None:
    metrics.CANARIES.clear()
    metrics.CANARY.clear()


def parsed(message: Message, modality: Modality) -> Event:
    record = Record(Position(message.topic, 0, 0), message.key, message.value, message.headers, timestamp_ms=0)
    event = parse_record(record, modality=modality, default_tenant="default", max_inline_bytes=1_000_000)
    assert isinstance(event, Event)
    return event


@pytest.mark.parametrize(("modality", "mime"), [(Modality.TEXT, "text/plain"), (Modality.IMAGE, "image/png")])
def test_it_sends_media_that_are_never_twice_the_same_under_one_key_and_its_own_tenant(
    modality: Modality, mime: str
) -> None:
    world = World()
    canary = world.canary()
    for _ in range(2):
        assert canary.send(modality) is CanaryResult.FOUND
    events = [parsed(message, modality) for message in world.sent]
    assert {(event.asset.tenant, event.asset.topic, event.asset.key) for event in events} == {
        (TENANT, TOPICS[modality], KEY)
    }
    data = [event.payload.data for event in events if isinstance(event.payload, Inline)]
    assert len(set(data)) == 2
    assert sniff(data[0], declared=None).mime == mime
    assert {body["tenant"] for body in world.asked} == {TENANT}


def test_the_measured_time_is_from_before_sending_until_it_is_found() -> None:
    world = World(searchable_after_s=1.0)
    world.canary().send(Modality.TEXT)
    assert counted(metrics.CANARY, "_count", modality="text") == 1
    assert counted(metrics.CANARY, "_sum", modality="text") == pytest.approx(sum(world.waits_s))
    assert 1.0 <= sum(world.waits_s) <= 1.25


def test_the_waits_between_searches_grow() -> None:
    world = World(searchable_after_s=29.0)
    world.canary().send(Modality.TEXT)
    assert world.waits_s == sorted(world.waits_s)
    assert len(world.asked) < 30


def test_a_canary_that_is_not_found_in_time_is_late_and_not_measured() -> None:
    world = World(searchable_after_s=31.0)
    assert world.canary(timeout_s=30.0).send(Modality.TEXT) is CanaryResult.LATE
    assert counted(metrics.CANARIES, modality="text", result="late") == 1
    assert counted(metrics.CANARY, "_count") == 0


def test_a_canary_outlasts_an_unavailable_query_plane() -> None:
    world = World()
    world.query_error = lambda: UnavailableError("away") if world.now_s < 105.0 else None
    assert world.canary().send(Modality.TEXT) is CanaryResult.FOUND


def test_an_unavailable_query_plane_is_distinguished_from_a_missing_event() -> None:
    world = World()
    world.query_error = lambda: UnavailableError("away")
    assert world.canary().send(Modality.TEXT) is CanaryResult.UNANSWERED


def test_a_canary_that_kafka_does_not_take_is_counted_and_not_searched_for() -> None:
    world = World()
    world.kafka_error = UnavailableError("no broker")
    assert world.canary().send(Modality.IMAGE) is CanaryResult.UNSENT
    assert counted(metrics.CANARIES, modality="image", result="unsent") == 1
    assert not world.asked


def test_the_searches_for_a_canary_are_in_the_trace_of_its_message() -> None:
    world, exporter = World(searchable_after_s=1.0), InMemorySpanExporter()
    with tracing.using(OpenTelemetryTracing(SimpleSpanProcessor(exporter), sample_rate=1.0)):
        world.canary().send(Modality.TEXT)
        world.kafka_error = UnavailableError("no broker")
        world.canary().send(Modality.TEXT)
    sent, unsent = exporter.get_finished_spans()
    context = sent.get_span_context()
    assert context is not None
    traceparent = f"00-{context.trace_id:032x}-{context.span_id:016x}-01".encode()
    (message,) = world.sent
    assert dict(message.headers)["traceparent"] == traceparent
    assert len(world.headers) > 1
    assert all(headers == {"traceparent": traceparent} for headers in world.headers)
    assert sent.name == "send media.text"
    assert [dict(span.attributes or {})["penstock.outcome"] for span in (sent, unsent)] == ["acknowledged", "failed"]


def test_a_canary_carries_nothing_while_tracing_is_off() -> None:
    world = World()
    world.canary().send(Modality.TEXT)
    assert "traceparent" not in dict(world.sent[0].headers)
    assert world.headers == [{}]


def test_a_stop_ends_it_uncounted() -> None:
    world = World()
    world.stopping = True
    assert world.canary().send(Modality.TEXT) is None
    assert counted(metrics.CANARIES) == 0
