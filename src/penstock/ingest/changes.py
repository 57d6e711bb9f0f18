"""Publishes the changes of the index to the change feed, before the offsets of their events may be committed.

A change is published after the store has acknowledged it and before its event counts as settled. So a crash in between
publishes it again: at least once. A feed that takes nothing must not hold up ingest for long, however:

1. A batch sends its changes and waits for their acknowledgement, with repeats, for at most `patience_s`, and one call
   of the producer more (which blocks for 10 s while the topic does not exist). While no broker answers nothing can be
   committed either, so that waiting costs nothing.
2. Then the batch continues. Its changes stay in memory, and a thread sends them until the feed takes them, before any
   later ones. A lane that stops leaves it `FLUSH_S` more. Lost are those that are left then, or when a lane crashes,
   and the oldest where there are more than `MAX_BACKLOG`.
3. Changes that the feed can never take (the topic is not authorised) are dropped.

Dropped and lost changes cost cached results their freshness for at most their time to live, and watches their matches.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from itertools import islice
from typing import Protocol

from penstock.broker.base import Message, Producer
from penstock.broker.change_messages import change_messages
from penstock.errors import PenstockError, TransientError
from penstock.ingest.pipeline.types import StoppedError
from penstock.observability import metrics
from penstock.records import IndexChange, Position

logger = logging.getLogger(__name__)

# A restart of a broker takes seconds, and a producer repeats by itself for 30 s.
PATIENCE_S = 30.0
MAX_BACKLOG = 100_000  # some 60 MB
FLUSH_S = 2.0  # for the backlog of a lane that stops: one retry, and some 30,000 changes
_RETRY_S = 1.0
_STOP_CHECK_S = 1.0  # between two checks whether the lane stops, while an acknowledgement is awaited
_CHUNK = 1_000  # changes that are sent at a time from the backlog


class ChangeSink(Protocol):
    """Accepts changes of the index that the store has acknowledged."""

    def publish(self, changes: Sequence[IndexChange]) -> None:
        """Returns when the feed has the changes, or has not taken them for long enough.

        Raises:
            StoppedError: the lane stops; the changes are published again when their batch is delivered again.
        """

    def close(self, timeout_s: float) -> None:
        """Gives the changes that the feed has not taken yet this long to reach it. The others are lost."""


class ChangePublisher:
    """Publishes changes (`ChangeSink`). Safe to call from several threads.

    Args:
        producer: writes the messages; belongs to the caller.
        topic: of the change feed.
        index_version: that the changes are of; 0: the messages do not state it.
        patience_s: how long a batch waits for the feed.
        sleep: waits for these seconds at most, 0 included; returns whether the lane stops.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        producer: Producer,
        topic: str,
        *,
        index_version: int = 0,
        patience_s: float = PATIENCE_S,
        sleep: Callable[[float], bool],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._producer = producer
        self._topic = topic
        self._index_version = index_version
        self._patience_s = patience_s
        self._sleep = sleep
        self._clock = clock
        self._lock = threading.Lock()
        self._backlog: deque[IndexChange] = deque(maxlen=MAX_BACKLOG)
        self._sender: threading.Thread | None = None
        self._refused = False

    def publish(self, changes: Sequence[IndexChange]) -> None:
        """See `ChangeSink.publish`."""
        if not changes:
            return
        if self._append_to_backlog(changes, only_if_it_exists=True):
            return  # after the older ones
        deadline_s = self._clock() + self._patience_s
        while not self._send(changes, deadline_s):  # 1
            if self._clock() >= deadline_s:
                self._append_to_backlog(changes)  # 2
                return
            if self._sleep(_RETRY_S):
                raise StoppedError

    def close(self, timeout_s: float) -> None:
        """See `ChangeSink.close`. Call it before `sleep` returns that the lane stops."""
        with self._lock:
            sender = self._sender
        if sender is not None:
            sender.join(timeout_s)
        with self._lock:
            lost = len(self._backlog)
            self._backlog.clear()
        if lost:
            metrics.INDEX_CHANGES.labels("dropped").inc(lost)
            logger.warning("the lane stops, and the change feed %s has not taken %d changes", self._topic, lost)

    @property
    def backlog(self) -> int:
        """The number of changes that the feed has not taken yet."""
        return len(self._backlog)

    def _send(self, changes: Sequence[IndexChange], deadline_s: float) -> bool:
        """Sends changes and awaits their acknowledgements; returns whether none of them has to be sent again.

        Raises:
            StoppedError: the lane stops.
        """
        try:
            messages = change_messages(self._topic, changes, index_version=self._index_version)
            sent = [self._send_message(message, deadline_s) for message in messages]
            for future in sent:
                self._await(future, deadline_s)
        except (TransientError, FutureTimeoutError) as exc:
            metrics.RETRIES.labels("change_feed").inc()
            logger.info("the change feed %s does not take changes; retrying: %r", self._topic, exc)
            return False
        except PenstockError as exc:
            metrics.INDEX_CHANGES.labels("dropped").inc(len(changes))
            # 3; the first of them is enough in the log
            level = logging.DEBUG if self._refused else logging.ERROR
            logger.log(level, "the change feed %s cannot take %d changes: %s", self._topic, len(changes), exc)
            self._refused = True
            return True
        self._refused = False
        metrics.INDEX_CHANGES.labels("published").inc(len(changes))
        return True

    def _send_message(self, message: Message, deadline_s: float) -> Future[Position]:
        """Sends one message. Raises the error of one that failed immediately: the next ones would fail as slowly."""
        self._check_time(deadline_s)
        future = self._producer.send(message)
        if future.done() and isinstance(error := future.exception(), TransientError):
            raise error
        return future

    def _await(self, future: Future[Position], deadline_s: float) -> None:
        while True:
            try:
                future.result(min(_STOP_CHECK_S, max(0.0, deadline_s - self._clock())))
                return
            except FutureTimeoutError:
                self._check_time(deadline_s)

    def _check_time(self, deadline_s: float) -> None:
        """Raises an error if the lane stops, or the time is over."""
        if self._sleep(0.0):
            raise StoppedError
        if self._clock() >= deadline_s:
            raise FutureTimeoutError

    def _append_to_backlog(self, changes: Sequence[IndexChange], *, only_if_it_exists: bool = False) -> bool:
        """Keeps changes for the thread that sends them later, which it starts; returns whether it did."""
        with self._lock:
            if only_if_it_exists and not self._backlog:
                return False
            if not self._backlog:
                logger.warning(
                    "the change feed %s has taken nothing for %g s: events continue without it, and their changes are "
                    "published once it does",
                    self._topic,
                    self._patience_s,
                )
            if (excess := len(self._backlog) + len(changes) - MAX_BACKLOG) > 0:
                metrics.INDEX_CHANGES.labels("dropped").inc(excess)
            self._backlog.extend(changes)
            if self._sender is None or not self._sender.is_alive():
                self._sender = threading.Thread(target=self._send_backlog, name="change-backlog", daemon=True)
                self._sender.start()
            return True

    def _send_backlog(self) -> None:
        """Sends the oldest changes of the backlog until there are none left, or the lane stops."""
        while True:
            with self._lock:
                oldest = list(islice(self._backlog, _CHUNK))
                if not oldest:
                    self._sender = None
                    logger.info("the change feed %s takes changes again", self._topic)
                    return
            try:
                taken = self._send(oldest, self._clock() + self._patience_s)
            except StoppedError:
                return
            if not taken:
                self._sleep(_RETRY_S)  # the next attempt raises if the lane stops
                continue
            with self._lock:
                for change in oldest:
                    if self._backlog and self._backlog[0] is change:  # else it was dropped for a later one
                        self._backlog.popleft()
