"""Exports spans from a bounded queue in a thread of its own, so that no collector slows the work."""

from __future__ import annotations

import logging
import threading
from collections import deque

from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from penstock.observability import metrics

logger = logging.getLogger(__name__)

MAX_SPANS = 2_048  # some 4 MB, in each process
_BATCH = 512  # one request of some 60 kB
_INTERVAL_S = 5.0  # between exports of less than a batch: a request takes 2 ms of CPU time, whatever its size


class SpanQueue(SpanProcessor):
    """Takes spans as they end. A full queue drops them and counts it; a batch that the collector refuses is dropped.

    Args:
        exporter: sends a batch, within its own timeout.
        collector: its address, for the log.
        max_spans: in the queue.
        interval_s: longest wait of a span for its export.
    """

    def __init__(
        self, exporter: SpanExporter, collector: str, *, max_spans: int = MAX_SPANS, interval_s: float = _INTERVAL_S
    ) -> None:
        self._exporter = exporter
        self._collector = collector
        self._max_spans = max_spans
        self._interval_s = interval_s
        self._queue: deque[ReadableSpan] = deque()
        self._wake = threading.Event()
        self._drained = threading.Condition()
        self._exporting = False
        self._closed = False
        self._answers = True
        self._thread: threading.Thread | None = None

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Does nothing: a span is exported when it ends."""

    def on_end(self, span: ReadableSpan) -> None:
        """Queues a span, and returns immediately."""
        if len(self._queue) >= self._max_spans or self._closed:
            metrics.SPANS.labels("dropped").inc()
            return
        self._queue.append(span)
        if self._thread is None:
            self._start()
        if len(self._queue) >= _BATCH:
            self._wake.set()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Exports what is queued, and returns whether that took less than this time."""
        self._wake.set()
        with self._drained:
            return self._drained.wait_for(lambda: not self._queue and not self._exporting, timeout_millis / 1000)

    def shutdown(self) -> None:
        """Ends the thread after one more export."""
        self._closed = True
        self._wake.set()

    def _start(self) -> None:
        with self._drained:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="spans", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        while not self._closed:
            self._wake.wait(self._interval_s)
            self._wake.clear()
            while self._queue:
                self._export()
        self._exporter.shutdown()

    def _export(self) -> None:
        """Exports a batch, or drops it."""
        self._exporting = True
        batch = [self._queue.popleft() for _ in range(min(_BATCH, len(self._queue)))]
        try:
            answered = self._exporter.export(batch) is SpanExportResult.SUCCESS
        except Exception:  # whatever it is, the next batch is worth a try
            logger.debug("spans could not be exported", exc_info=True)
            answered = False
        metrics.SPANS.labels("exported" if answered else "dropped").inc(len(batch))
        self._note(answered)
        with self._drained:
            self._exporting = False
            self._drained.notify_all()

    def _note(self, answered: bool) -> None:
        """Logs the begin and the end of an outage, once each."""
        if answered == self._answers:
            return
        self._answers = answered
        if answered:
            logger.warning("the collector at %s takes spans again", self._collector)
        else:
            logger.warning(
                "the collector at %s takes no spans (tracing.endpoint): they are dropped until it does, and all else "
                "continues",
                self._collector,
            )
