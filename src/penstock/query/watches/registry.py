"""Knows all watches: reads them from their compacted topic on a thread of its own, and writes changes to it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from penstock.broker.base import Message, Producer
from penstock.broker.tail import TopicTail
from penstock.broker.watch_messages import deletion_message, parse_watch, watch_message
from penstock.errors import PenstockError, QueryError, UnavailableError
from penstock.records import Access, Record, Watch

logger = logging.getLogger(__name__)

_POLL_S = 0.5
_ACK_TIMEOUT_S = 10.0


class WatchRegistry:
    """Knows the watches of all tenants. Safe to call from several threads.

    Args:
        tail: of the topic of watches, from its start; closed by the registry.
        topic: of watches.
        open_producer: makes a producer for the first change.
        max_watches: of a tenant.
        retry_s: between two attempts to read the topic, while no broker answers.
    """

    def __init__(
        self,
        tail: TopicTail,
        topic: str,
        open_producer: Callable[[], Producer],
        *,
        max_watches: int,
        retry_s: float = 1.0,
    ) -> None:
        self._tail = tail
        self._topic = topic
        self._open_producer = open_producer
        self._max_watches = max_watches
        self._retry_s = retry_s
        self._producer: Producer | None = None
        self._watches: dict[str, Watch] = {}
        self._changed = threading.Condition()
        self._caught_up = False
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watches", daemon=True)

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def wait_until_ready(self, timeout_s: float) -> bool:
        """Waits until every watch is known that existed when the registry started; returns whether they are."""
        with self._changed:
            return self._changed.wait_for(lambda: self._caught_up, timeout_s)

    def snapshot(self) -> Mapping[str, Watch]:
        """Returns all watches by id, as they are now."""
        with self._changed:
            return MappingProxyType(dict(self._watches))

    def of(self, access: Access) -> Sequence[Watch]:
        """Returns the watches that a caller may see, the oldest first.

        Raises:
            UnavailableError: not all of them are known yet.
        """
        self._require_ready()
        own = (watch for watch in self.snapshot().values() if watch.is_shown_to(access))
        return sorted(own, key=lambda watch: (watch.created_ms, watch.id))

    def add(self, watch: Watch) -> None:
        """Adds a watch, which is kept once this returns.

        Raises:
            QueryError: the tenant has too many.
            UnavailableError: no broker takes it.
        """
        if len(self.of(Access.to_all_of(watch.tenant))) >= self._max_watches:
            raise QueryError(
                f"tenant {watch.tenant} has {self._max_watches} watches, the most that query.max_watches allows: "
                "delete one first",
                status=409,
            )
        self._write(watch_message(self._topic, watch))
        self._put(watch)

    def delete(self, access: Access, watch_id: str) -> bool:
        """Deletes a watch; returns whether there was one. Those that the caller may not see are as absent ones."""
        self._require_ready()
        watch = self.snapshot().get(watch_id)
        if watch is None or not watch.is_shown_to(access):
            return False
        self._write(deletion_message(self._topic, watch_id))
        self._drop(watch_id)
        return True

    def close(self) -> None:
        """Ends thread and connections. Idempotent."""
        self._closed.set()
        if self._thread.is_alive():
            self._thread.join()
        self._tail.close()
        if self._producer is not None:
            self._producer.close(1.0)

    def _write(self, message: Message) -> None:
        with self._changed:
            if self._producer is None:
                self._producer = self._open_producer()
            producer = self._producer
        try:
            producer.send(message).result(_ACK_TIMEOUT_S)
        except TimeoutError as exc:
            raise UnavailableError(f"Kafka did not acknowledge the change of a watch in {_ACK_TIMEOUT_S:g} s") from exc

    def _require_ready(self) -> None:
        if not self._caught_up:
            raise UnavailableError(
                f"the watches are not known yet: the topic {self._topic} has not been read. Check that Kafka runs."
            )

    def _run(self) -> None:
        failing = False
        while not self._closed.is_set():
            try:
                polled = self._tail.poll(_POLL_S)
            except Exception as exc:
                if not failing:
                    unexpected = not isinstance(exc, PenstockError)
                    logger.warning("watches cannot be read: %s", exc, exc_info=unexpected)
                failing = True
                self._closed.wait(self._retry_s)
                continue
            failing = False
            for record in polled.records:
                self._apply(record)
            if polled.caught_up and not self._caught_up:
                with self._changed:
                    self._caught_up = True
                    self._changed.notify_all()

    def _apply(self, record: Record) -> None:
        """Applies a record of the topic. One that fails unexpectedly is passed over: reading it again cannot help."""
        try:
            if record.value is None:
                self._drop((record.key or b"").decode(errors="replace"))
            elif (watch := parse_watch(record)) is not None:
                self._put(watch)
        except Exception:
            logger.exception("%s cannot be read as a watch", record.position)

    def _put(self, watch: Watch) -> None:
        with self._changed:
            self._watches[watch.id] = watch

    def _drop(self, watch_id: str) -> None:
        with self._changed:
            self._watches.pop(watch_id, None)
