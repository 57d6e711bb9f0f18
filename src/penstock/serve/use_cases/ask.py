"""Answers questions, whole or as streams that a client may resume, and bounds how many."""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Sequence
from functools import partial
from typing import Any, Protocol

from penstock.encoders.profiles import Profile
from penstock.errors import OverloadedError, QueryError, UnauthenticatedError, UnavailableError
from penstock.observability import audit_log
from penstock.query.generate.types import AnswerEvent, AskRequest, DoneEvent, GeneratedAnswer, SearchEvent
from penstock.query.types import SearchResult
from penstock.serve.answer_logs import AnswerLogs, AnswerOwner, LogPage
from penstock.serve.event_stream import ServerEvent
from penstock.serve.limits.admission import Hold, Kind, admit, hand_over, kinds_of
from penstock.serve.running_answer import EventsOf, RunningAnswer, close
from penstock.serve.stream_access import StreamAccess

logger = logging.getLogger(__name__)

# About as long as a small generator takes for an answer.
RETRY_AFTER_S = 2.0
# How often a replica looks whether an answer was cancelled: half of the second within which it has to stop.
PUBLISH_EVERY_S = 0.5
_READ_WAIT_S = 5.0  # after which the next read follows, so that those of clients that have gone end


class Answers(Protocol):
    """Answers questions, as `AnswerPipeline` does."""

    def answer(self, request: AskRequest) -> AsyncIterator[AnswerEvent]:
        """Yields the events of an answer. Closing the iterator cancels everything that runs for it."""

    async def close(self) -> None:
        """Ends connections."""


class Links(Protocol):
    """Completes traces, as `SearchService` does."""

    async def link_found_events(self, result: SearchResult) -> None:
        """Links the current trace to those of what a search found."""


class AskService:
    """The use case behind `POST /v1/ask` and `POST /v1/chat/completions`. Belongs to one event loop.

    Args:
        answers: answers the questions.
        logs: keep the events of streams.
        links: completes the traces of questions.
        max_answers: number of answers that are generated concurrently.
        max_image_bytes: of one image of a question.
        profile: of the encoders; its notice goes into every answer.

    Attributes:
        profile, max_image_bytes: as given.
        running: the number of answers that are being generated.
    """

    def __init__(
        self,
        answers: Answers,
        logs: AnswerLogs,
        links: Links,
        *,
        max_answers: int,
        max_image_bytes: int,
        profile: Profile,
    ) -> None:
        self._answers = answers
        self._logs = logs
        self._links = links
        self._max_answers = max_answers
        self._streams: set[RunningAnswer] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.profile = profile
        self.max_image_bytes = max_image_bytes
        self.running = 0

    async def answer(self, request: AskRequest, allowed: StreamAccess | None = None) -> GeneratedAnswer:
        """Returns the answer to a question. Cancelling the call cancels what runs for it.

        Args:
            request: the question.
            allowed: says whether its caller may still read it once it is complete; None: it may.

        Raises:
            UnauthenticatedError: it may not any more.
            QueryError: the request is invalid.
            OverloadedError: too many answers are being generated, too many searches are running, or the request is
                beyond the limits of its caller or its tenant.
            UnavailableError: the store or the encoders do not answer.
        """
        await admit(request.search.access.tenant, Kind.ANSWERS, *kinds_of(request.search))
        self._admit()
        _note(request)
        events = self._answers.answer(request)
        try:
            async for event in events:
                if isinstance(event, DoneEvent):
                    self._start(self._links.link_found_events(event.answer.search))
                    if allowed is not None and not await allowed.holds():
                        raise _refused()
                    return event.answer
        finally:
            self.running -= 1
            await close(events)
        raise UnavailableError("the answer ended before it was complete: ask again")

    async def stream(
        self,
        request: AskRequest,
        events_of: EventsOf,
        *,
        resumable: bool = False,
        owner: AnswerOwner | None = None,
        allowed: StreamAccess | None = None,
    ) -> RunningAnswer:
        """Begins an answer, and returns it as a stream once its search has ended. Raises as `answer` does.

        Args:
            request: the question.
            events_of: the events of the stream for each of the answer.
            resumable: whether the answer is completed although its client has gone.
            owner: may continue the stream, by events that are kept for a while; None: they are not kept.
            allowed: says whether its caller may still read it, which else ends it; None: it may.
        """
        await admit(request.search.access.tenant, Kind.ANSWERS, *kinds_of(request.search))
        self._admit()
        held = hand_over(Kind.ANSWERS)
        _note(request)
        events = self._answers.answer(request)
        try:
            first = await anext(events)
            if not isinstance(first, SearchEvent):
                raise TypeError(f"an answer begins with its search, and this one with a {type(first).__name__}")
            stream = RunningAnswer(first, events, events_of, resumable=resumable, ended=partial(self._ended, held))
        except BaseException:
            self.running -= 1
            held.end()
            await close(events)
            raise
        self._streams.add(stream)
        self._start(self._links.link_found_events(first.search))
        # Ray cancels the calls of a request with it, by the context: these have to outlive their request.
        if owner is not None:
            self._start(self._publish(stream, owner), contextvars.Context())
        if allowed is not None:
            self._start(_stop_when_refused(stream, allowed), contextvars.Context())
        return stream

    async def resume(
        self, answer_id: str, owner: AnswerOwner, *, after: int, allowed: StreamAccess | None = None
    ) -> AsyncGenerator[Sequence[ServerEvent], None] | None:
        """Returns the events of a stream whose number is above `after`, as they come; None: the client has all.

        Args:
            answer_id: of the answer.
            owner: whose answer it is.
            after: the number of the last event that the client has.
            allowed: says whether the client may still read it; None: it may.

        Raises:
            UnauthenticatedError: while the events are read, the client may not read them any more.
            QueryError: 404, there is no such answer, it ended over a minute ago, or it was stopped; also while the
                events are read, if it is stopped then.
            UnavailableError: the logs of answers cannot be reached.
        """
        page = await self._logs.read(answer_id, owner, after=after, wait_s=0)
        if page is None and self._logs.lag_s > 0:
            await asyncio.sleep(self._logs.lag_s)
            page = await self._logs.read(answer_id, owner, after=after, wait_s=0)
        if page is None:
            raise _absent(answer_id)
        if page.complete and not page.events:
            return None
        return self._rest(answer_id, owner, page, after, allowed)

    async def cancel(self, answer_id: str, owner: AnswerOwner) -> None:
        """Stops an answer that any replica generates, within a second.

        Raises:
            QueryError: 404, no such answer is being generated.
            UnavailableError: the logs of answers cannot be reached.
        """
        if not await self._logs.cancel(answer_id, owner):
            raise _absent(answer_id)

    async def close(self) -> None:
        """Stops all streams. Their clients receive an error."""
        for stream in list(self._streams):
            await stream.stop(UnavailableError("the query plane is shutting down: ask again"))
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=1)
        await self._answers.close()

    def _admit(self) -> None:
        if self.running >= self._max_answers:
            raise OverloadedError(
                f"{self.running} answers are being generated, which is the limit of this replica "
                "(generate.max_answers)",
                retry_after_s=RETRY_AFTER_S,
            )
        self.running += 1

    def _ended(self, held: Hold, stream: RunningAnswer) -> None:
        self.running -= 1
        held.end()
        self._streams.discard(stream)

    async def _publish(self, stream: RunningAnswer, owner: AnswerOwner) -> None:
        """Appends the events of a stream to its log as they come, and stops it if a client cancels it."""
        position, complete = 0, False
        try:
            while not complete:
                events, complete = await stream.after(position, wait_s=PUBLISH_EVERY_S)
                if stream.stopped:
                    await self._logs.forget(stream.answer_id)
                    return
                cancelled = await self._logs.append(stream.answer_id, owner, events, complete=complete)
                position += len(events)
                if cancelled:
                    await stream.stop(QueryError("the answer was cancelled", status=404))
        except UnavailableError as exc:
            logger.warning("answer %s cannot be resumed: %s", stream.answer_id, exc)

    async def _rest(
        self, answer_id: str, owner: AnswerOwner, page: LogPage | None, after: int, allowed: StreamAccess | None
    ) -> AsyncGenerator[Sequence[ServerEvent], None]:
        while True:
            if page is None:
                raise _absent(answer_id)
            if allowed is not None and not await allowed.holds():
                raise _refused()
            if page.events:
                yield page.events
            if page.complete:
                return
            after += len(page.events)
            wait_s = _READ_WAIT_S if allowed is None else min(_READ_WAIT_S, allowed.due_s)
            page = await self._logs.read(answer_id, owner, after=after, wait_s=wait_s)

    def _start(self, work: Coroutine[Any, Any, None], context: contextvars.Context | None = None) -> None:
        """Runs a coroutine beside the requests, in the context of this one unless another is given."""
        task = asyncio.create_task(work, context=context)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _note(request: AskRequest) -> None:
    text = request.question or (request.messages[-1].content if request.messages else None)
    audit_log.note(tenant=request.search.access.tenant, text=text)


async def _stop_when_refused(stream: RunningAnswer, allowed: StreamAccess) -> None:
    """Stops an answer whose caller may not read it any more, also where the client has gone and may come back."""
    while not await stream.has_ended(within_s=allowed.due_s):
        if not await allowed.holds():
            await stream.stop(_refused())


def _refused() -> UnauthenticatedError:
    return UnauthenticatedError("the credentials do not permit this answer any more", has_credentials=True)


def _absent(answer_id: str) -> QueryError:
    return QueryError(
        f"there is no answer {answer_id[:64]}: it ended over a minute ago, was stopped, or was never begun. Ask again",
        status=404,
    )
