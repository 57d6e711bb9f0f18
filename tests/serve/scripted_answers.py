"""Answers that tests write step by step."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

from fastapi import FastAPI

from penstock.query.generate.types import (
    AnswerEvent,
    AskRequest,
    CheckedSentence,
    DoneEvent,
    GeneratedAnswer,
    Quote,
    SearchEvent,
    SentenceEvent,
    Source,
    Support,
    TokenEvent,
    TokenUsage,
)
from penstock.query.types import Hit, Moment, SearchResult
from penstock.records import Collection
from penstock.serve.answer_logs import MemoryAnswerLogs
from penstock.serve.app import create_app
from penstock.serve.plane import QueryPlane
from penstock.serve.use_cases.ask import Answers, AskService
from tests.serve.sample_index import entry

ANSWER_ID = "a" * 32
SHA = "5" * 64
HERONS = "Herons eat fish. They stand in water."
HIT = Hit(entry(Collection.TEXT, "herons", text=HERONS, end_char=len(HERONS)), 1.0, ())
SPOKEN = entry(
    Collection.SPEECH,
    "film",
    text="A heron calls.",
    start_ms=12_300,
    end_ms=15_000,
    uri=f"asset:{SHA}",
    mime="video/mp4",
)
FRAME = entry(Collection.FRAME, "film", start_ms=12_000, end_ms=15_000, uri=f"asset:{SHA}", mime="video/mp4")
MOMENT_HIT = Hit(SPOKEN, 0.8, (), moment=Moment(12_000, 16_000, (), FRAME))
SOURCES = (Source(1, HIT, HERONS), Source(2, MOMENT_HIT, "A heron calls."))
FOUND = SearchResult([HIT, MOMENT_HIT], False, {}, {"total": 3.0})
SEARCH = SearchEvent(ANSWER_ID, FOUND, SOURCES)
SENTENCE = CheckedSentence("Herons eat fish.", (1,), Support.SUPPORTED, 0.96, (Quote(1, "Herons eat fish.", 0, 16),))
SENTENCE_2 = CheckedSentence(
    "A heron calls.", (2,), Support.SUPPORTED, 1.0, (Quote(2, "A heron calls.", 0, 14, 12_300, 15_000),)
)
TOKENS = ("Herons eat", " fish [1].", " A heron calls [2].")
CHECKED = SentenceEvent(SENTENCE, {1: SOURCES[0]}, (0, 19), dropped=False)
CHECKED_2 = SentenceEvent(SENTENCE_2, {2: SOURCES[1]}, (19, 38), dropped=False, before=" ")
ANSWER = GeneratedAnswer(
    id=ANSWER_ID,
    text="Herons eat fish. [1] A heron calls. [2]",
    sentences=(SENTENCE, SENTENCE_2),
    sources=SOURCES,
    also=(),
    dropped=(),
    abstained=False,
    why=None,
    generator="scripted",
    usage=TokenUsage(11, 7),
    partial=False,
    notices=(),
    search=FOUND,
    took_ms={"total": 9.0},
)
WHOLE: tuple[AnswerEvent, ...] = (
    SEARCH,
    *(TokenEvent(text) for text in TOKENS[:2]),
    CHECKED,
    TokenEvent(TOKENS[2]),
    CHECKED_2,
    DoneEvent(ANSWER),
)


def answer(answer_id: str = ANSWER_ID, **fields: Any) -> GeneratedAnswer:
    """Returns the scripted answer with other fields."""
    return replace(ANSWER, id=answer_id, **fields)


class ScriptedAnswers:
    """Yields events as a test feeds them, to one answer after the other.

    Attributes:
        requests: that it received.
        closed: set when the answer has been closed, however it ended.
    """

    def __init__(self, *events: AnswerEvent | Exception) -> None:
        self._events: asyncio.Queue[AnswerEvent | Exception] = asyncio.Queue()
        self.feed(*events)
        self.requests: list[AskRequest] = []
        self.closed = asyncio.Event()

    def feed(self, *events: AnswerEvent | Exception) -> None:
        """Adds events. An exception is raised."""
        for event in events:
            self._events.put_nowait(event)

    async def answer(self, request: AskRequest) -> AsyncIterator[AnswerEvent]:
        """Yields what was fed, up to the event that is the last of an answer."""
        self.requests.append(request)
        try:
            while True:
                event = await self._events.get()
                if isinstance(event, Exception):
                    raise event
                yield event
                if isinstance(event, DoneEvent):
                    return
        finally:
            self.closed.set()

    async def close(self) -> None:
        """Has no connections."""


class RepeatedAnswers:
    """Answers every question by the same events.

    Attributes:
        events: that it yields; an exception is raised.
        requests: that it received.
    """

    def __init__(self) -> None:
        self.events: tuple[AnswerEvent | Exception, ...] = WHOLE
        self.requests: list[AskRequest] = []

    async def answer(self, request: AskRequest) -> AsyncIterator[AnswerEvent]:
        self.requests.append(request)
        for event in self.events:
            if isinstance(event, Exception):
                raise event
            yield event

    async def close(self) -> None:
        """Has no connections."""


def app_over(answers: Answers, plane: QueryPlane) -> FastAPI:
    """Returns the application of a query plane with other answers."""
    service = AskService(
        answers,
        MemoryAnswerLogs(),
        plane.searches,
        max_answers=8,
        max_image_bytes=4096,
        profile=plane.profile,
    )
    return create_app(replace(plane, answers=service))
