"""Sends messages at a bounded rate with bounded memory, and keeps count of what was acknowledged."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field

from penstock.broker.base import Producer
from penstock.cli.sources import OutgoingMessage, RefusedSource
from penstock.errors import PenstockError, PermanentError, UnavailableError
from penstock.records import Position

# Enough to keep the broker busy over a round trip, little enough to hold in any memory.
_WINDOW_MESSAGES = 1_000
_WINDOW_BYTES = 64 * 1024 * 1024


@dataclass(slots=True)
class ProduceTally:
    """What became of the messages. `refused` are those that were never sent, `failed` those never acknowledged."""

    acknowledged: int = 0
    acknowledged_bytes: int = 0
    by_topic: dict[str, int] = field(default_factory=dict)
    refused: list[RefusedSource] = field(default_factory=list)
    failed: list[RefusedSource] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        return not self.refused and not self.failed


class ProduceStream:
    """Messages on their way to Kafka. For one thread.

    Args:
        producer: takes them.
        rate_per_s: messages a second at most; None: as fast as they are acknowledged.
        on_change: called after each acknowledgement or failure.
        clock, sleep: monotonic seconds, and how to wait for them.
    """

    def __init__(
        self,
        producer: Producer,
        *,
        rate_per_s: float | None = None,
        on_change: Callable[[ProduceTally], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.tally = ProduceTally()
        self._producer = producer
        self._interval_s = 1.0 / rate_per_s if rate_per_s else 0.0
        self._on_change = on_change
        self._clock = clock
        self._sleep = sleep
        self._next_at = clock()
        self._open: deque[tuple[OutgoingMessage, Future[Position]]] = deque()
        self._open_bytes = 0

    def send(self, item: OutgoingMessage | RefusedSource) -> None:
        """Sends a message, or notes a refusal. Waits while the window is full or the rate used up.

        Raises:
            UnavailableError: the broker is gone; says how many were acknowledged.
        """
        if isinstance(item, RefusedSource):
            self.tally.refused.append(item)
            return
        self._pace()
        self._settle(while_full_for=item.size_bytes)
        try:
            future = self._producer.send(item.message)
        except PermanentError as error:
            self.tally.failed.append(RefusedSource(item.label, str(error)))
            return
        self._open.append((item, future))
        self._open_bytes += item.size_bytes

    def finish(self) -> None:
        """Waits until everything sent is acknowledged or has failed.

        Raises:
            UnavailableError: the broker is gone; says how many were acknowledged.
        """
        while self._open:
            self._settle_oldest()

    def _pace(self) -> None:
        if self._interval_s:
            wait_s = self._next_at - self._clock()
            if wait_s > 0:
                self._sleep(wait_s)
            self._next_at = max(self._next_at, self._clock() - 1.0) + self._interval_s

    def _settle(self, *, while_full_for: int) -> None:
        while self._open and (
            self._open[0][1].done()
            or len(self._open) >= _WINDOW_MESSAGES
            or self._open_bytes + while_full_for > _WINDOW_BYTES
        ):
            self._settle_oldest()

    def _settle_oldest(self) -> None:
        item, future = self._open.popleft()
        self._open_bytes -= item.size_bytes
        try:
            position = future.result()
        except UnavailableError as error:
            done = f"{self.tally.acknowledged} events were acknowledged before"
            raise UnavailableError(f"{error} {done}; run it again to go on: nothing is doubled") from error
        except PenstockError as error:
            self.tally.failed.append(RefusedSource(item.label, str(error)))
        else:
            self.tally.acknowledged += 1
            self.tally.acknowledged_bytes += item.size_bytes
            self.tally.by_topic[position.topic] = self.tally.by_topic.get(position.topic, 0) + 1
        self._on_change(self.tally)
