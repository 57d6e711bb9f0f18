"""Runs the batches of a lane through the pipeline, each in a thread of its own."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor

from penstock.ingest.delivery import Batch
from penstock.ingest.pipeline.driver import Pipeline
from penstock.ingest.pipeline.types import BatchReport, StoppedError
from penstock.observability import tracing

logger = logging.getLogger(__name__)


class BatchThreads:
    """Starts batches, and queues their reports for the lane's thread.

    Args:
        lane: name, for logs.
        pipeline: drives a batch.
        executor: runs each batch in a thread until it is settled; shut down with this object.
        abandon: set at shutdown: ends the waits of the pipeline.
        on_failure: called in the batch's thread if the pipeline raised an unexpected error.
    """

    def __init__(
        self,
        lane: str,
        pipeline: Pipeline,
        executor: Executor,
        abandon: threading.Event,
        on_failure: Callable[[], None],
    ) -> None:
        self._lane = lane
        self._pipeline = pipeline
        self._executor = executor
        self._abandon = abandon
        self._on_failure = on_failure
        self._reports: queue.SimpleQueue[tuple[Batch, BatchReport | None]] = queue.SimpleQueue()

    @property
    def lease_error(self) -> str:
        """Returns why the writers refuse requests without the driver's lease; empty while they do not."""
        return self._pipeline.lease_error

    @property
    def store_error(self) -> str:
        """Returns why the store does not answer; empty while it does."""
        return self._pipeline.store_error

    def start(self, batch: Batch) -> None:
        """Starts a batch. Its thread reads nothing of the lane's state; it only queues a report."""
        self._executor.submit(self._run, batch)

    def reports(self) -> Iterator[tuple[Batch, BatchReport | None]]:
        """Yields the batches that have ended since the last call, each with its report; None if it is not settled."""
        while True:
            try:
                yield self._reports.get_nowait()
            except queue.Empty:
                return

    def abandon(self, *, flush_s: float) -> None:
        """Gives up the batches that are still in flight, which will be redelivered.

        Args:
            flush_s: how long changes of earlier batches may take to reach the change feed.
        """
        try:
            self._pipeline.close(flush_s)
        finally:
            self._abandon.set()

    def shut_down(self) -> None:
        """Ends the executor without waiting: a thread may hang on a worker that was stopped."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _run(self, batch: Batch) -> None:
        report: BatchReport | None = None
        try:
            with tracing.current().batch(batch.topic, [delivery.span for delivery in batch.deliveries]):
                report = self._pipeline.run(batch)
        except StoppedError:
            logger.info("%s: gave up a batch of %s unsettled; it will be redelivered", self._lane, batch.topic)
        except Exception:
            logger.exception(
                "%s: unexpected error in a batch of %s; the lane will be restarted", self._lane, batch.topic
            )
            self._on_failure()
        finally:
            self._reports.put((batch, report))
