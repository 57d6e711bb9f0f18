"""An answer that is being generated, as the numbered events of a stream."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Sequence
from contextlib import suppress
from typing import TypeAlias

from penstock.errors import PenstockError
from penstock.query.generate.types import AnswerEvent, SearchEvent
from penstock.serve.event_stream import ServerEvent

logger = logging.getLogger(__name__)

EventsOf: TypeAlias = Callable[[AnswerEvent | Exception], Iterable[ServerEvent]]
"""Returns the events of a stream for one of an answer, or for the error that ended it. Named ones are numbered."""


class RunningAnswer:
    """Generates an answer in a task of its own, and keeps its events for those that follow. Belongs to one event loop.

    Args:
        first: the first event of the answer.
        events: the others; closed at the end.
        events_of: the events of the stream for each of them.
        resumable: whether the answer is completed although its client has gone.
        ended: called once, when no further event will come.

    Attributes:
        answer_id: of the answer.
        stopped: whether it was stopped before it was complete.
    """

    def __init__(
        self,
        first: SearchEvent,
        events: AsyncIterator[AnswerEvent],
        events_of: EventsOf,
        *,
        resumable: bool,
        ended: Callable[[RunningAnswer], None],
    ) -> None:
        self.answer_id = first.answer_id
        self.stopped = False
        self._events = events
        self._events_of = events_of
        self._resumable = resumable
        self._ended = ended
        self._made: list[ServerEvent] = []
        self._complete = False
        self._changed = asyncio.Event()
        self._end = asyncio.Event()
        self._add(first)
        self._task = asyncio.create_task(self._run())

    async def follow(self) -> AsyncGenerator[Sequence[ServerEvent], None]:
        """Yields the events as they come, those that came in the time of one chunk together. See `leave`."""
        position, complete = 0, False
        while not complete:
            events, complete = await self.after(position)
            position += len(events)
            if events:
                yield events

    async def leave(self) -> None:
        """Says that the client follows no longer, which stops the answer unless it is complete or resumable."""
        if not self._resumable:
            await self.stop()

    async def after(self, position: int, *, wait_s: float | None = None) -> tuple[Sequence[ServerEvent], bool]:
        """Returns the events behind a position, and whether no more will come.

        Waits until there are events, or the time is up.
        """
        if position == len(self._made) and not self._complete:
            changed = self._changed
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await changed.wait()
        return self._made[position:], self._complete

    async def has_ended(self, *, within_s: float) -> bool:
        """Returns whether no more events will come, after some seconds or as soon as that is so."""
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await self._end.wait()
        return self._complete

    async def stop(self, reason: PenstockError | None = None) -> None:
        """Ends the answer and what runs for it. Those that still follow receive the reason, if there is one."""
        if self._complete:
            return
        if not self.stopped and reason is not None:
            self._add(reason)
        self.stopped = True
        self._task.cancel()
        await asyncio.wait((self._task,))
        await self._finish()  # a task that is cancelled before its first step does not

    async def _run(self) -> None:
        try:
            async for event in self._events:
                self._add(event)
        except PenstockError as exc:
            self._add(exc)
        except Exception as exc:
            logger.exception("answer %s failed", self.answer_id)
            self._add(exc)
        finally:
            await self._finish()

    async def _finish(self) -> None:
        try:
            await close(self._events)
        finally:
            if not self._complete:
                self._complete = True
                self._end.set()
                self._wake()
                self._ended(self)

    def _add(self, event: AnswerEvent | Exception) -> None:
        if self.stopped:
            return
        for item in self._events_of(event):
            number = None if item.name is None else len(self._made) + 1
            self._made.append(ServerEvent(item.data, item.name, number))
        self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


async def close(events: AsyncIterator[AnswerEvent]) -> None:
    """Closes an iterator that is a generator, which cancels what runs for it."""
    if isinstance(events, AsyncGenerator):
        await events.aclose()
