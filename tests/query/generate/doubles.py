"""Searches with fixed hits and a generator with a script, for tests of whole answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from penstock.config import GenerateSettings, QuerySettings
from penstock.query.executor import BoundedExecutor
from penstock.query.generate.answer_tools import AnswerTools
from penstock.query.generate.check.checker import SentenceChecker
from penstock.query.generate.generators import AnswerGenerator, GeneratorRun
from penstock.query.generate.pipeline import AnswerPipeline
from penstock.query.generate.prompt import Prompt
from penstock.query.generate.sources import SourceReader
from penstock.query.generate.types import AnswerEvent, AskRequest, DoneEvent, GeneratedAnswer, TokenUsage
from penstock.query.types import Hit, SearchRequest, SearchResult
from penstock.records import Access, AssetRef, Collection, Entry, bare_entry

HERONS = "Herons eat fish and frogs. The grey heron weighs two kilograms. It nests in tall trees."
FERRY = "The ferry to Holm leaves at seven from pier four. A ticket costs eleven crowns."


def text_hit(text: str, key: str, title: str = "") -> Hit:
    """Returns the hit of a text."""
    entry = bare_entry(AssetRef("default", "notes", key), Collection.TEXT)
    return Hit(replace(entry, text=text, title=title), 1.0, ())


class FixedSearches:
    """Finds the same texts for every question.

    Attributes:
        requests: that were searched.
        result: of each.
    """

    def __init__(self, *texts: str, **result: Any) -> None:
        hits = [text_hit(text, f"note-{number}", f"Note {number}") for number, text in enumerate(texts, start=1)]
        self.requests: list[SearchRequest] = []
        self.result = replace(SearchResult(hits, False, {}, {"search": 1.0, "total": 1.0}), **result)

    async def search(self, request: SearchRequest) -> SearchResult:
        self.requests.append(request)
        return self.result


class ScriptedGenerator:
    """Writes what a test says.

    Args:
        script: pieces of text; an exception is raised, and an event awaited.

    Attributes:
        prompts: that it received.
        closed: whether the last stream was closed before its end.
        shortened: what it reports.
    """

    name = "scripted"
    sees_images = False

    def __init__(self, *script: str | Exception | asyncio.Event, shortened: bool = False) -> None:
        self._script = script
        self._shortened = shortened
        self.prompts: list[Prompt] = []
        self.closed = False
        self.written = 0

    async def stream(
        self, prompt: Prompt, run: GeneratorRun, *, timeout_s: float | None = None
    ) -> AsyncGenerator[str, None]:
        self.prompts.append(prompt)
        try:
            for step in self._script:
                if isinstance(step, Exception):
                    raise step
                if isinstance(step, asyncio.Event):
                    await step.wait()
                    continue
                self.written += 1
                yield step
                await asyncio.sleep(0)
            run.usage, run.shortened = TokenUsage(7, len(self._script)), self._shortened
        except (GeneratorExit, asyncio.CancelledError):
            self.closed = True
            raise

    async def close(self) -> None:
        return


class NoNeighbours:
    """A store in which no passage has another beside it."""

    def entries(self, ids: Sequence[str], *, access: Access, timeout_s: float) -> Mapping[str, Entry]:
        return {}


def pipeline_over(
    searches: FixedSearches, generator: AnswerGenerator | None = None, *, images: Any = None, **settings: Any
) -> AnswerPipeline:
    """Returns a pipeline that checks by rules alone."""
    executor = BoundedExecutor(
        threads=1, queue_size=8, clock=asyncio.get_running_loop().time, calls="lookups", retry_after_s=1.0
    )
    store: Any = NoNeighbours()
    tools = AnswerTools(SourceReader(store, executor), SentenceChecker(), generator, images=images)
    return AnswerPipeline(searches, tools, GenerateSettings(**settings), QuerySettings())


def ask(
    question: str | AskRequest, searches: FixedSearches, generator: ScriptedGenerator | None = None, **settings: Any
) -> list[AnswerEvent]:
    """Returns the events of an answer."""
    request = question if isinstance(question, AskRequest) else AskRequest(question, SearchRequest())

    async def run() -> list[AnswerEvent]:
        return [event async for event in pipeline_over(searches, generator, **settings).answer(request)]

    return asyncio.run(run())


def answer_of(events: Sequence[AnswerEvent]) -> GeneratedAnswer:
    """Returns the answer with which the events end."""
    last = events[-1]
    assert isinstance(last, DoneEvent)
    return last.answer
