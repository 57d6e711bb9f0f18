"""Begins a trace with each message that is sent to Kafka."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import replace

from penstock.broker.base import Message, Producer
from penstock.observability import tracing
from penstock.observability.tracing import OpenSpan
from penstock.records import Position


class TracedProducer:
    """A producer whose messages carry the trace that they begin, in the header `traceparent`.

    Args:
        producer: sends the messages; closed with this object.
    """

    def __init__(self, producer: Producer) -> None:
        self._producer = producer

    def send(self, message: Message) -> Future[Position]:
        """See `broker.base.Producer.send`."""
        span = tracing.current().send(message.topic)
        acknowledged = self._producer.send(replace(message, headers=(*message.headers, *span.headers)))
        acknowledged.add_done_callback(lambda future: _end(span, future))
        return acknowledged

    def flush(self, timeout_s: float) -> None:
        """See `broker.base.Producer.flush`."""
        self._producer.flush(timeout_s)

    def close(self, timeout_s: float) -> None:
        """See `broker.base.Producer.close`."""
        self._producer.close(timeout_s)


def _end(span: OpenSpan, acknowledged: Future[Position]) -> None:
    if acknowledged.cancelled() or acknowledged.exception() is not None:
        span.end("failed", failed=True)
        return
    position = acknowledged.result()
    span.end("acknowledged", partition=position.partition, offset=position.offset)
