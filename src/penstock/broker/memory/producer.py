"""The producer of a broker in memory."""

from __future__ import annotations

from concurrent.futures import Future

from penstock.broker.base import Message
from penstock.broker.memory.logs import MemoryLogs
from penstock.errors import PermanentError, UnavailableError
from penstock.records import Position


class MemoryProducer:
    """Writes to a `MemoryBroker` (`broker.base.Producer`). A message is acknowledged before `send` returns."""

    def __init__(self, logs: MemoryLogs) -> None:
        self._logs = logs

    def send(self, message: Message) -> Future[Position]:
        """See `broker.base.Producer.send`."""
        future: Future[Position] = Future()
        try:
            future.set_result(self._logs.append(message))
        except (UnavailableError, PermanentError) as exc:
            future.set_exception(exc)
        return future

    def flush(self, timeout_s: float) -> None:
        """See `broker.base.Producer.flush`."""

    def close(self, timeout_s: float) -> None:
        """See `broker.base.Producer.close`."""
