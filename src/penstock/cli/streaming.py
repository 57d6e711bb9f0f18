"""Sends messages at a bounded rate and with bounded memory, and counts the acknowledgements."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field

from penstock.broker.base import Producer
from penstock.errors import PenstockError, PermanentError, UnavailableError
from penstock.observability import metrics
from penstock.produce.items import OutgoingMessage, RefusalCount, RefusedSource, SourceMark
from penstock.records import Position

# Enough messages to keep the broker busy during a round trip; few enough bytes for a small machine.
_WINDOW_MESSAGES = 1_000
_WINDOW_BYTES = 64 * 1024 * 1024


@dataclass(slots=True)
class ProduceTally:
    """Counts of the messages.

    Attributes:
        refused, failed: sources that were not sent, and those that were not acknowledged, in their order.
        refused_before, failed_before: the same of earlier runs, behind which this one continued.
    """

    acknowledged: int = 0
    acknowledged_bytes: int = 0
    by_topic: dict[str, int] = field(default_factory=dict)
    refused: list[RefusedSource] = field(default_factory=list)
    failed: list[RefusedSource] = field(default_factory=list)
    refused_before: RefusalCount = field(default_factory=RefusalCount)
    failed_before: RefusalCount = field(default_factory=RefusalCount)

    @property
    def complete(self) -> bool:
        """Whether every source was sent and acknowledged, in this run and before it."""
        return not (self.refused or self.failed or self.refused_before.count or self.failed_before.count)


class ProduceStream:
    """Sends messages to Kafka with a bounded number and size in flight. Not thread-safe.

    Args:
        producer: the Kafka producer.
        rate_per_s: maximum messages per second; None: as fast as they are acknowledged.
        on_change: called after each acknowledgement or failure.
        on_settled: called with the place in its source that is reached, once an item and all before it are settled, and
            the tally, which has exactly these.
        clock: returns monotonic seconds.
        sleep: waits for a number of seconds.
    """

    def __init__(
        self,
        producer: Producer,
        *,
        rate_per_s: float | None = None,
        on_change: Callable[[ProduceTally], None] = lambda _: None,
        on_settled: Callable[[SourceMark, ProduceTally], None] = lambda *_: None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.tally = ProduceTally()
        self._producer = producer
        self._interval_s = 1.0 / rate_per_s if rate_per_s else 0.0
        self._on_change = on_change
        self._on_settled = on_settled
        self._admit: Callable[[], None] | None = None
        self._clock = clock
        self._sleep = sleep
        self._next_at = clock()
        # A refused item has no future: it and its place count once all before it are settled.
        self._open: deque[tuple[OutgoingMessage | RefusedSource, Future[Position] | None]] = deque()
        self._open_bytes = 0

    def wait_for(self, admit: Callable[[], None]) -> None:
        """Calls a function before each message, which returns once it may be sent."""
        self._admit = admit

    def send(self, item: OutgoingMessage | RefusedSource) -> None:
        """Sends a message, or records a refusal. Blocks while the window is full or the rate is used up.

        Raises:
            UnavailableError: the broker is unavailable; with the number of acknowledged events.
        """
        if isinstance(item, RefusedSource):
            self._open.append((item, None))
            self._make_room(0)
            return
        self._pace()
        if self._admit is not None:
            self._settle_known()
            self._admit()
        self._make_room(item.size_bytes)
        try:
            future = self._producer.send(item.message)
        except PermanentError as exc:
            future = Future()
            future.set_exception(exc)
        self._open.append((item, future))
        self._open_bytes += item.size_bytes

    def finish(self) -> None:
        """Waits until every message is acknowledged or has failed.

        Raises:
            UnavailableError: the broker is unavailable; with the number of acknowledged events.
        """
        while self._open:
            self._settle_oldest()

    def _pace(self) -> None:
        if self._interval_s:
            wait_s = self._next_at - self._clock()
            if wait_s > 0:
                self._sleep(wait_s)
            self._next_at = max(self._next_at, self._clock() - 1.0) + self._interval_s

    def in_flight(self) -> int:
        """Returns the number of messages that are not acknowledged."""
        return sum(future is not None and not future.done() for _, future in self._open)

    def _make_room(self, size_bytes: int) -> None:
        self._settle_known()
        while self._open and (len(self._open) >= _WINDOW_MESSAGES or self._open_bytes + size_bytes > _WINDOW_BYTES):
            self._settle_oldest()

    def _settle_known(self) -> None:
        """Settles the oldest items that need no waiting."""
        while self._open and ((future := self._open[0][1]) is None or future.done()):
            self._settle_oldest()

    def _settle_oldest(self) -> None:
        item, future = self._open.popleft()
        if isinstance(item, RefusedSource):
            self.tally.refused.append(item)
            metrics.PRODUCED_ITEMS.labels("refused").inc()
        elif future is not None:
            self._settle_message(item, future)
        if item.mark is not None:
            self._on_settled(item.mark, self.tally)

    def _settle_message(self, item: OutgoingMessage, future: Future[Position]) -> None:
        self._open_bytes -= item.size_bytes
        try:
            position = future.result()
        except UnavailableError as exc:
            done = f"{self.tally.acknowledged} events were acknowledged before"
            raise UnavailableError(
                f"{exc} {done}; run the command again to continue: events that are sent twice are indexed once"
            ) from exc
        except PenstockError as exc:
            self.tally.failed.append(RefusedSource(item.label, str(exc)))
            metrics.PRODUCED_ITEMS.labels("unacknowledged").inc()
        else:
            self.tally.acknowledged += 1
            metrics.PRODUCED_ITEMS.labels("acknowledged").inc()
            self.tally.acknowledged_bytes += item.size_bytes
            self.tally.by_topic[position.topic] = self.tally.by_topic.get(position.topic, 0) + 1
        self._on_change(self.tally)
