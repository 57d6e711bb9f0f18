from __future__ import annotations

from dataclasses import replace

from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from penstock.errors import Reason
from penstock.ingest.delivery import Delivery
from penstock.observability import tracing
from penstock.observability.open_telemetry import OpenTelemetryTracing
from penstock.observability.tracing import NO_SPAN, Tracing
from penstock.records import Assignment, Rejected
from tests.ingest.builders import TOPIC, event, record

ASSIGNMENT = Assignment(TOPIC, 0, 1)
TRACEPARENT = f"00-{'a' * 32}-{'b' * 16}-01"


def traces(sample_rate: float = 0.0) -> Tracing:
    return OpenTelemetryTracing(SimpleSpanProcessor(InMemorySpanExporter()), sample_rate=sample_rate)


def test_an_event_carries_the_context_of_its_own_span() -> None:
    with tracing.using(traces()):
        delivery = Delivery.receive(record(5), ASSIGNMENT, replace(event(5), traceparent=TRACEPARENT))
    assert delivery.event.traceparent == delivery.span.traceparent
    assert delivery.event.traceparent.startswith(f"00-{'a' * 32}-")
    assert delivery.event.traceparent != TRACEPARENT


def test_an_event_that_is_not_traced_here_carries_no_context() -> None:
    traced = replace(event(5), traceparent=TRACEPARENT)
    assert Delivery.receive(record(5), ASSIGNMENT, traced).event.traceparent == ""
    with tracing.using(traces()):
        assert Delivery.receive(record(5), ASSIGNMENT, event(5)).event.traceparent == ""
        unsampled = Delivery.receive(record(5), ASSIGNMENT, replace(traced, traceparent=f"{TRACEPARENT[:-1]}0"))
    assert (unsampled.event.traceparent, unsampled.span) == ("", NO_SPAN)


def test_a_record_without_an_event_is_traced_by_its_headers() -> None:
    rejected = Rejected(record(5).position, "receive", Reason.MALFORMED, "it is bad")
    headed = replace(record(5), headers=(("traceparent", TRACEPARENT.encode()),))
    with tracing.using(traces()):
        assert "a" * 32 in Delivery.receive(headed, ASSIGNMENT, rejected).span.traceparent
