"""Answers as a UI message stream of the AI SDK, version 1: https://ai-sdk.dev/docs/ai-sdk-ui/stream-protocol.

Text is sent sentence by sentence, as in `chat_events`; then a `source-url` or `source-document` for each source, and
the whole answer as `data-penstock`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

from penstock.query.generate.types import (
    AnswerEvent,
    DoneEvent,
    GeneratedAnswer,
    SearchEvent,
    SentenceEvent,
    TokenEvent,
)
from penstock.serve.chat_events import END, AnswerWriter, ShownText, title_of
from penstock.serve.event_stream import ServerEvent
from penstock.serve.problems import problem_of
from penstock.serve.schemas.answer import SourceOut

HEADERS = {"x-vercel-ai-ui-message-stream": "v1"}
_TEXT_ID = "answer"


class UiEvents:
    """Turns the events of one answer into parts of a UI message.

    Args:
        writer: of the answer.
    """

    def __init__(self, writer: AnswerWriter) -> None:
        self._writer = writer
        self._text = ShownText()
        self._began = False

    def __call__(self, event: AnswerEvent | Exception) -> Iterator[ServerEvent]:
        """Yields the parts of an event, or the problem that ended the answer."""
        match event:
            case SearchEvent():
                yield _part("start", messageId=event.answer_id)
                yield _part("start-step")
            case TokenEvent():
                return
            case SentenceEvent():
                yield from self._delta(self._text.add(event))
            case DoneEvent():
                yield from self._done(event.answer)
            case _:
                yield _part("error", errorText=problem_of(event, self._writer.path).detail)
                yield END

    def _delta(self, text: str) -> Iterator[ServerEvent]:
        if not text:
            return
        if not self._began:
            self._began = True
            yield _part("text-start", id=_TEXT_ID)
        yield _part("text-delta", id=_TEXT_ID, delta=text)

    def _done(self, answer: GeneratedAnswer) -> Iterator[ServerEvent]:
        out = self._writer.answer(answer)
        yield from self._delta(self._text.complete(answer.text))
        if self._began:
            yield _part("text-end", id=_TEXT_ID)
        for source in out.sources:
            yield self._source(source)
        yield _part("data-penstock", data=out.model_dump(mode="json", by_alias=True))
        yield _part("finish-step")
        yield _part("finish")
        yield END

    def _source(self, source: SourceOut) -> ServerEvent:
        named: Mapping[str, object] = {"sourceId": str(source.n), "title": title_of(source)}
        if source.hit.media_url is None:
            return _part("source-document", mediaType=source.hit.mime or "application/octet-stream", **named)
        return _part("source-url", url=self._writer.url_of(source), **named)


def _part(kind: str, **fields: object) -> ServerEvent:
    return ServerEvent(json.dumps({"type": kind, **fields}, ensure_ascii=False))
