from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Sequence

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from penstock.observability import metrics
from penstock.observability.span_queue import SpanQueue


class Exporter(SpanExporter):
    """Takes spans, once its gate is open, and answers as set."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()
        self.answer: SpanExportResult | Exception = SpanExportResult.SUCCESS
        self.batches: list[int] = []

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.entered.set()
        assert self.gate.wait(30)
        self.batches.append(len(spans))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.fixture
def exporter() -> Exporter:
    return Exporter()


@pytest.fixture
def queue(exporter: Exporter) -> Iterator[SpanQueue]:
    queue = SpanQueue(exporter, "http://collector", max_spans=10, interval_s=60.0)
    yield queue
    exporter.gate.set()
    queue.shutdown()


def counted(result: str) -> float:
    return metrics.SPANS.labels(result)._value.get()


def spans(count: int) -> list[ReadableSpan]:
    return [ReadableSpan("step") for _ in range(count)]


def test_what_is_queued_is_exported_together(exporter: Exporter, queue: SpanQueue) -> None:
    before = counted("exported")
    for span in spans(3):
        queue.on_end(span)
    assert queue.force_flush()
    assert exporter.batches == [3]
    assert counted("exported") == before + 3


def test_a_collector_that_hangs_holds_up_nobody_and_fills_the_queue_at_most(
    exporter: Exporter, queue: SpanQueue
) -> None:
    before = counted("dropped")
    exporter.gate.clear()
    queue.on_end(ReadableSpan("first"))
    assert not queue.force_flush(1)
    assert exporter.entered.wait(30)
    for span in spans(25):
        queue.on_end(span)
    assert counted("dropped") == before + 15
    exporter.gate.set()
    assert queue.force_flush()
    assert exporter.batches == [1, 10]


@pytest.mark.parametrize("answer", [SpanExportResult.FAILURE, RuntimeError("no")])
def test_an_outage_is_logged_once_at_its_begin_and_once_at_its_end(
    exporter: Exporter, queue: SpanQueue, answer: SpanExportResult | Exception, caplog: pytest.LogCaptureFixture
) -> None:
    before = counted("dropped")
    with caplog.at_level(logging.WARNING):
        for exporter.answer in (answer, answer, SpanExportResult.SUCCESS, SpanExportResult.SUCCESS):
            queue.on_end(ReadableSpan("step"))
            assert queue.force_flush()
    begin, end = caplog.messages
    assert "http://collector takes no spans" in begin
    assert "takes spans again" in end
    assert counted("dropped") == before + 2


def test_a_queue_that_is_shut_down_exports_what_it_has_and_drops_the_rest(exporter: Exporter, queue: SpanQueue) -> None:
    before = counted("dropped")
    queue.on_end(ReadableSpan("step"))
    queue.shutdown()
    queue.on_end(ReadableSpan("late"))
    assert queue.force_flush()
    assert exporter.batches == [1]
    assert counted("dropped") == before + 1
