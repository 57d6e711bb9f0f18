from __future__ import annotations

import pytest
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from penstock.broker.base import Message
from penstock.broker.memory.broker import MemoryBroker
from penstock.broker.traced_producer import TracedProducer
from penstock.errors import PenstockError
from penstock.observability import tracing
from penstock.observability.open_telemetry import OpenTelemetryTracing
from penstock.records import Position

TOPIC = "media.text"
MESSAGE = Message(TOPIC, b"k", b"v", (("ce_id", b"1"),))


@pytest.fixture
def broker() -> MemoryBroker:
    broker = MemoryBroker()
    broker.create_topic(TOPIC, 1)
    return broker


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


def headers_of(broker: MemoryBroker) -> list[tuple[str, bytes]]:
    consumer = broker.consumer("g", [TOPIC], drain_timeout_s=1)
    while not (records := consumer.poll(1.0, 10).records):
        pass
    return list(records[-1].headers)


def test_messages_stay_as_they_are_while_tracing_is_off(broker: MemoryBroker) -> None:
    assert TracedProducer(broker.producer()).send(MESSAGE).result() == Position(TOPIC, 0, 0)
    assert headers_of(broker) == [("ce_id", b"1")]


def test_a_message_carries_its_trace_and_its_span_ends_with_the_acknowledgement(
    broker: MemoryBroker, exporter: InMemorySpanExporter
) -> None:
    with tracing.using(OpenTelemetryTracing(SimpleSpanProcessor(exporter), sample_rate=1.0)):
        TracedProducer(broker.producer()).send(MESSAGE).result()
    (span,) = exporter.get_finished_spans()
    context = span.get_span_context()
    traceparent = f"00-{context.trace_id:032x}-{context.span_id:016x}-01"
    assert headers_of(broker) == [("ce_id", b"1"), ("traceparent", traceparent.encode())]
    assert span.attributes is not None
    assert span.attributes["penstock.outcome"] == "acknowledged"
    assert span.attributes["penstock.offset"] == 0


def test_a_message_that_is_not_acknowledged_fails_its_span(
    broker: MemoryBroker, exporter: InMemorySpanExporter
) -> None:
    with tracing.using(OpenTelemetryTracing(SimpleSpanProcessor(exporter), sample_rate=1.0)):
        future = TracedProducer(broker.producer()).send(Message("no.such.topic", b"k", b"v"))
    with pytest.raises(PenstockError):
        future.result()
    (span,) = exporter.get_finished_spans()
    assert not span.status.is_ok
