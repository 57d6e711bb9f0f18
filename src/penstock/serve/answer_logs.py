"""Keeps the events of answers for a minute, so that a client that lost its connection receives the rest.

    a replica appends the events of an answer as they come ─► its log ─► a client reads those after the last it has

The logs are in memory, that of the replica where there is only one (`MemoryAnswerLogs`), else of an actor that all
replicas share (`shared_answer_logs`). They are bounded by bytes, number and age. What does not fit is forgotten, the
answers that ended first before others: such a client has to ask again, and no answer waits for its log.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from penstock.serve.event_stream import ServerEvent

KEPT_S = 60.0
MAX_ANSWERS = 1_000
# An answer with ten sources takes some 60 kB, twice as much with long words: 500 answers.
MAX_BYTES = 32 * 1024 * 1024
_EVENT_BYTES = 200  # of an event in memory, without its data


@dataclass(frozen=True, slots=True)
class AnswerOwner:
    """The caller that a question is of: only it may continue or stop the answer.

    Attributes:
        tenant: whose index was searched.
        subject: of the principal.
        labels: that it had with the question; None: no entry was forbidden to it. The sources of the answer may have
            them, so that a caller with others continues nothing.
    """

    tenant: str
    subject: str
    labels: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class LogPage:
    """The events of an answer after those that a client has.

    Attributes:
        events: in order, without gaps; empty if none came while the reader waited.
        complete: whether no further events will come after these.
    """

    events: tuple[ServerEvent, ...]
    complete: bool


class AnswerLogs(Protocol):
    """Keeps the events of answers by their id. A log is visible to its owner alone.

    Attributes:
        lag_s: by which a log may be behind what its client has, seconds; 0: it never is.
    """

    lag_s: float

    async def append(
        self, answer_id: str, owner: AnswerOwner, events: Sequence[ServerEvent], *, complete: bool
    ) -> bool:
        """Adds events, or none, to the log of an answer, which the first call creates.

        Returns whether `cancel` has been called for the answer.

        Raises:
            UnavailableError: the logs cannot be reached. The events before stay.
        """

    async def read(self, answer_id: str, owner: AnswerOwner, *, after: int, wait_s: float) -> LogPage | None:
        """Returns the events whose number is above `after`, once there are any; None: there is no such log.

        Args:
            answer_id: of the answer.
            owner: of the answer.
            after: the number of the last event that the client has; 0: none.
            wait_s: maximum time to wait for an event, seconds.

        Raises:
            UnavailableError: the logs cannot be reached.
        """

    async def cancel(self, answer_id: str, owner: AnswerOwner) -> bool:
        """Makes the replica that generates the answer stop, and returns whether one does. Raises as `read`."""

    async def forget(self, answer_id: str) -> None:
        """Removes the log of an answer, if there is one. Raises as `read`."""


@dataclass(slots=True)
class _AnswerLog:
    owner: AnswerOwner
    events: list[ServerEvent] = field(default_factory=list)
    size: int = 0
    complete: bool = False
    cancelled: bool = False
    changed_s: float = 0.0
    changed: asyncio.Event = field(default_factory=asyncio.Event)


class MemoryAnswerLogs:
    """Logs in the memory of one event loop.

    Args:
        kept_s: seconds for which a log is kept after its last event.
        max_answers: number of logs.
        max_bytes: of all logs together, estimated.
        clock: seconds, monotonic.

    Attributes:
        lag_s: 0.
    """

    lag_s = 0.0

    def __init__(
        self,
        *,
        kept_s: float = KEPT_S,
        max_answers: int = MAX_ANSWERS,
        max_bytes: int = MAX_BYTES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._kept_s = kept_s
        self._max_answers = max_answers
        self._max_bytes = max_bytes
        self._clock = clock
        self._logs: dict[str, _AnswerLog] = {}
        self._size = 0

    async def append(
        self, answer_id: str, owner: AnswerOwner, events: Sequence[ServerEvent], *, complete: bool
    ) -> bool:
        """Adds events. See `AnswerLogs`. An answer whose log was removed gets none again."""
        self._forget_outdated()
        log = self._logs.get(answer_id)
        if log is None:
            if not events or events[0].number != 1:
                return False  # nothing yet, or its beginning is forgotten
            log = self._logs[answer_id] = _AnswerLog(owner)
        log.events.extend(events)
        size = sum(len(event.data.encode()) + _EVENT_BYTES for event in events)
        log.size += size
        self._size += size
        log.complete = log.complete or complete
        log.changed_s = self._clock()
        log.changed.set()
        log.changed = asyncio.Event()
        self._make_room()
        return log.cancelled

    async def read(self, answer_id: str, owner: AnswerOwner, *, after: int, wait_s: float) -> LogPage | None:
        """Returns events. See `AnswerLogs`."""
        self._forget_outdated()
        log = self._logs.get(answer_id)
        if log is None or log.owner != owner:
            return None
        if len(log.events) <= after and not log.complete:
            changed = log.changed
            try:
                async with asyncio.timeout(wait_s):
                    await changed.wait()
            except TimeoutError:
                return LogPage((), complete=False)
            if self._logs.get(answer_id) is not log:
                return None
        return LogPage(tuple(log.events[after:]), log.complete)

    async def cancel(self, answer_id: str, owner: AnswerOwner) -> bool:
        """Marks an answer as cancelled. See `AnswerLogs`."""
        log = self._logs.get(answer_id)
        if log is None or log.owner != owner or log.complete:
            return False
        log.cancelled = True
        return True

    async def forget(self, answer_id: str) -> None:
        """Removes a log. See `AnswerLogs`."""
        if answer_id in self._logs:
            self._remove(answer_id)

    def _forget_outdated(self) -> None:
        """Removes logs that are old. One that grows is not: its replica appends to it every second or so."""
        oldest_s = self._clock() - self._kept_s
        for answer_id in [name for name, log in self._logs.items() if log.changed_s < oldest_s]:
            self._remove(answer_id)

    def _make_room(self) -> None:
        """Removes logs until the bounds hold: those that are complete first, and the oldest of these first."""
        while self._size > self._max_bytes or len(self._logs) > self._max_answers:
            self._remove(min(self._logs, key=lambda name: (not self._logs[name].complete, self._logs[name].changed_s)))

    def _remove(self, answer_id: str) -> None:
        log = self._logs.pop(answer_id)
        self._size -= log.size
        log.changed.set()
