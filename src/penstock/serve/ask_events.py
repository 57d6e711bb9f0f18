"""The events of `POST /v1/ask` as a stream: search, token, sentence, done and error."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing

from penstock.errors import PenstockError
from penstock.query.generate.types import AnswerEvent, DoneEvent, SearchEvent, SentenceEvent, TokenEvent
from penstock.serve.event_stream import ServerEvent
from penstock.serve.problems import problem_of
from penstock.serve.schemas.answer import TokenEventOut, answer_out, search_event_out, sentence_event_out


class AskEvents:
    """Turns the events of an answer into those of a stream.

    Args:
        path: of the request, for problem documents.
        notice: of the models of the profile.
        unnamed_tenant: whose media need no tenant in their paths; None: all need one.
    """

    def __init__(self, path: str, *, notice: str | None, unnamed_tenant: str | None) -> None:
        self._path = path
        self._notice = notice
        self._unnamed_tenant = unnamed_tenant

    def __call__(self, event: AnswerEvent | Exception) -> Iterator[ServerEvent]:
        """Yields the event, or the problem that ended the answer."""
        yield self._event(event)

    def _event(self, event: AnswerEvent | Exception) -> ServerEvent:
        tenant = self._unnamed_tenant
        match event:
            case TokenEvent():
                return ServerEvent(TokenEventOut(text=event.text).model_dump_json(), "token")
            case SentenceEvent():
                return ServerEvent(sentence_event_out(event, unnamed_tenant=tenant).model_dump_json(), "sentence")
            case SearchEvent():
                out = search_event_out(event, unnamed_tenant=tenant)
                return ServerEvent(out.model_dump_json(by_alias=True), "search")
            case DoneEvent():
                answer = answer_out(event.answer, notice=self._notice, unnamed_tenant=tenant)
                return ServerEvent(answer.model_dump_json(by_alias=True), "done")
            case _:
                return error_event(event, self._path)


def error_event(error: Exception, path: str) -> ServerEvent:
    """Returns the event that ends a stream whose answer failed."""
    return ServerEvent(problem_of(error, path).model_dump_json(exclude_none=True), "error")


async def encoded(events: AsyncGenerator[Sequence[ServerEvent], None], path: str) -> AsyncGenerator[bytes, None]:
    """Yields the bytes of events, and of the error that ends them."""
    async with aclosing(events):
        try:
            async for together in events:
                yield b"".join(event.encode() for event in together)
        except PenstockError as exc:
            yield error_event(exc, path).encode()
