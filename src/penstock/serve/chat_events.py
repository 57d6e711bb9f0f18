"""Answers in the shape of OpenAI's chat completions, whole and in chunks.

A chunk cannot be taken back. So a stream has no tokens: it has each sentence once it is checked and shown, and the
content of all chunks is that of the whole answer.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from urllib.parse import quote

from penstock.query.generate.numbering import marker_places, with_markers
from penstock.query.generate.types import (
    AnswerEvent,
    DoneEvent,
    GeneratedAnswer,
    SearchEvent,
    SentenceEvent,
    TokenEvent,
)
from penstock.serve.event_stream import ServerEvent
from penstock.serve.problems import problem_of
from penstock.serve.schemas.answer import AnswerOut, SourceOut, answer_out
from penstock.serve.schemas.openai import (
    AnnotationOut,
    ChatOut,
    ChatUsageOut,
    ChoiceOut,
    ChunkChoiceOut,
    ChunkOut,
    DeltaOut,
    MessageOut,
    UrlCitation,
)

END = ServerEvent("[DONE]")
_MARKER = re.compile(r"\[(\d+)\]")


class AnswerWriter:
    """Writes one answer for one client.

    Args:
        path: of the request, for problem documents.
        base_url: of the server as the client names it, for the addresses of citations.
        created_s: seconds since the epoch.
        notice: of the models of the profile.
        unnamed_tenant: whose media need no tenant in their paths; None: all need one.

    Attributes:
        path, created_s: as given.
    """

    def __init__(
        self, path: str, *, base_url: str, created_s: int, notice: str | None, unnamed_tenant: str | None
    ) -> None:
        self.path = path
        self.created_s = created_s
        self._base_url = base_url.rstrip("/")
        self._notice = notice
        self._unnamed_tenant = unnamed_tenant

    def answer(self, answer: GeneratedAnswer) -> AnswerOut:
        """Returns an answer as `POST /v1/ask` does."""
        return answer_out(answer, notice=self._notice, unnamed_tenant=self._unnamed_tenant)

    def whole(self, answer: GeneratedAnswer) -> ChatOut:
        """Returns a chat completion."""
        out = self.answer(answer)
        return ChatOut(
            id=completion_id(answer.id),
            created=self.created_s,
            choices=[ChoiceOut(message=MessageOut(content=answer.text, annotations=self.annotations(out)))],
            usage=usage_out(answer),
            penstock=out,
        )

    def annotations(self, answer: AnswerOut) -> list[AnnotationOut]:
        """Returns a citation for each mark in the text of an answer."""
        sources = {source.n: source for source in answer.sources}
        return [
            AnnotationOut(
                url_citation=UrlCitation(
                    start_index=start,
                    end_index=end,
                    title=title_of(source),
                    url=self.url_of(source),
                )
            )
            for start, end, number in _markers(answer)
            if (source := sources.get(number)) is not None
        ]

    def url_of(self, source: SourceOut) -> str:
        """Returns the address of the media of a source, with the seconds of its quote; else its URI.

        Where readers do not get the URI (`fetch.allow`), topic and key name the source.
        """
        path = source.play_url or source.hit.media_url
        if path is not None:
            return self._base_url + path
        return source.hit.uri or f"penstock:{source.hit.topic}/{quote(source.hit.key)}"


class ShownText:
    """The text of an answer as far as its sentences are shown, for streams that take nothing back."""

    def __init__(self) -> None:
        self._text = ""

    def add(self, event: SentenceEvent) -> str:
        """Returns what a sentence adds to the text; an empty text if it is dropped."""
        if event.dropped:
            return ""
        addition = event.before + with_markers(event.sentence.text, event.sentence.citations)
        self._text += addition
        return addition

    def complete(self, text: str) -> str:
        """Returns what the text of the whole answer adds, as an abstention does."""
        if text.startswith(self._text):
            return text[len(self._text) :]
        return "" if text.split() == self._text.split() else f"\n\n{text}"


class ChatEvents:
    """Turns the events of one answer into chunks.

    Args:
        writer: of the answer.
        include_usage: whether a last chunk has the tokens.
    """

    def __init__(self, writer: AnswerWriter, *, include_usage: bool) -> None:
        self._writer = writer
        self._include_usage = include_usage
        self._text = ShownText()
        self._id = ""

    def __call__(self, event: AnswerEvent | Exception) -> Iterator[ServerEvent]:
        """Yields the chunks of an event, or the problem that ended the answer."""
        match event:
            case SearchEvent():
                self._id = completion_id(event.answer_id)
                yield self._chunk([ChunkChoiceOut(delta=DeltaOut(role="assistant", content=""))])
            case TokenEvent():
                return
            case SentenceEvent():
                yield from self._content(self._text.add(event))
            case DoneEvent():
                yield from self._done(event.answer)
            case _:
                document = problem_of(event, self._writer.path).model_dump(exclude_none=True)
                error = {"message": document["detail"], "type": document["type"], "code": document["status"]}
                yield ServerEvent(json.dumps({"error": {**error, "problem": document}}))

    def _content(self, text: str) -> Iterator[ServerEvent]:
        if text:
            yield self._chunk([ChunkChoiceOut(delta=DeltaOut(content=text))])

    def _done(self, answer: GeneratedAnswer) -> Iterator[ServerEvent]:
        out = self._writer.answer(answer)
        yield from self._content(self._text.complete(answer.text))
        delta = DeltaOut(annotations=self._writer.annotations(out))
        yield self._chunk([ChunkChoiceOut(delta=delta, finish_reason="stop")], answer=out)
        if self._include_usage:
            yield self._chunk([], usage=usage_out(answer))
        yield END

    def _chunk(
        self, choices: Sequence[ChunkChoiceOut], *, usage: ChatUsageOut | None = None, answer: AnswerOut | None = None
    ) -> ServerEvent:
        chunk = ChunkOut(
            id=self._id, created=self._writer.created_s, choices=list(choices), usage=usage, penstock=answer
        )
        return ServerEvent(chunk.model_dump_json(by_alias=True, exclude_unset=True))


def _markers(answer: AnswerOut) -> Iterator[tuple[int, int, int]]:
    """Yields the range of each mark of a text, and its number. One without sentences names sources."""
    if answer.sentences:
        yield from marker_places(answer.answer, [(sentence.text, sentence.citations) for sentence in answer.sentences])
        return
    for marker in _MARKER.finditer(answer.answer):
        yield marker.start(), marker.end(), int(marker[1])


def title_of(source: SourceOut) -> str:
    """Returns the title of a source, else its key."""
    return source.hit.title or source.hit.key


def completion_id(answer_id: str) -> str:
    """Returns the id of a chat completion."""
    return f"chatcmpl-{answer_id}"


def usage_out(answer: GeneratedAnswer) -> ChatUsageOut:
    """Returns the tokens of an answer, 0 where they are not known: clients add them up."""
    prompt, completion = answer.usage.prompt_tokens or 0, answer.usage.completion_tokens or 0
    return ChatUsageOut(prompt_tokens=prompt, completion_tokens=completion, total_tokens=prompt + completion)
