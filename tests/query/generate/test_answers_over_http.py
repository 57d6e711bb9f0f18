"""Tests whole answers by a generator behind HTTP: cancelled, cut, silent, overloaded, echoing, split."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from penstock.config import GenerateSettings
from penstock.query.generate.chat_generator import ChatGenerator
from penstock.query.generate.pipeline import AnswerPipeline
from penstock.query.generate.types import EXTRACTIVE, AskRequest, DoneEvent, GeneratedAnswer, SearchEvent, SentenceEvent
from penstock.query.types import SearchRequest
from tests.query.generate.doubles import HERONS, FixedSearches, pipeline_over
from tests.query.generate.generator_server import GeneratorDouble, chunk, running, split, streamed

REQUEST = AskRequest("What do herons eat?", SearchRequest())
WRITTEN = ("Herons eat ", "fish and frogs [1]. ", "The grey heron weighs ", "two kilograms [1].")


def with_double(
    double: GeneratorDouble, scenario: Callable[[AnswerPipeline, GeneratorDouble], Awaitable[Any]], **settings: Any
) -> Any:
    async def run() -> Any:
        async with running(double) as server:
            generator = ChatGenerator(GenerateSettings(url=server.url, **settings))
            pipeline = pipeline_over(FixedSearches(HERONS), generator, **settings)
            try:
                return await asyncio.wait_for(scenario(pipeline, server), 20)
            finally:
                await pipeline.close()

    return asyncio.run(run())


async def whole(pipeline: AnswerPipeline, _: GeneratorDouble) -> GeneratedAnswer:
    async for event in pipeline.answer(REQUEST):
        if isinstance(event, DoneEvent):
            return event.answer
    raise AssertionError("an answer ends with itself")


@pytest.mark.parametrize("before", [SearchEvent, SentenceEvent])
def test_the_request_is_cancelled_within_a_second_when_the_client_goes(before: type) -> None:
    async def leave(pipeline: AnswerPipeline, server: GeneratorDouble) -> float:
        events = pipeline.answer(REQUEST)
        async for event in events:
            if isinstance(event, before):
                break
        waiting = asyncio.ensure_future(anext(events))
        await server.received.wait()
        left_s = asyncio.get_running_loop().time()
        waiting.cancel()
        await asyncio.wait([waiting])
        await events.aclose()
        await server.left.wait()
        assert server.left_at_s is not None
        return server.left_at_s - left_s

    parts = streamed(WRITTEN)
    assert with_double(GeneratorDouble(parts=parts, hold_after=4), leave) < 1


def test_an_answer_is_what_the_generator_wrote_whatever_its_bytes_are_split_into() -> None:
    texts = [with_double(GeneratorDouble(parts=split(streamed(WRITTEN), size)), whole).text for size in (1, 7, 4096)]

    assert texts == ["Herons eat fish and frogs. [1] The grey heron weighs two kilograms. [1]"] * 3


def test_what_was_checked_stays_if_the_connection_breaks() -> None:
    answer = with_double(GeneratorDouble(parts=streamed(WRITTEN), cut_after=4), whole)

    assert answer.text == "Herons eat fish and frogs. [1]"
    assert answer.partial
    assert answer.generator == "default"


def test_a_generator_that_is_silent_is_replaced_by_the_sources() -> None:
    answer = with_double(GeneratorDouble(silent=True), whole, first_token_ms=100)

    assert (answer.text, answer.generator) == ("Herons eat fish and frogs. [1]", EXTRACTIVE)
    assert len(answer.notices) == 1


def test_a_generator_that_is_overloaded_is_replaced_by_the_sources() -> None:
    assert with_double(GeneratorDouble(parts=streamed(WRITTEN), failures=[429, 500]), whole).generator == EXTRACTIVE


def test_a_generator_that_repeats_its_prompt_writes_no_answer_of_its_own() -> None:
    answer = with_double(GeneratorDouble(parts=streamed([]), echo=True), whole)

    assert answer.text.startswith("Herons eat fish and frogs. [1]")
    assert "sources>" not in answer.text
    assert "What do herons eat?" not in answer.text


def test_a_generator_without_an_end_ends() -> None:
    double = GeneratorDouble(
        parts=[*streamed(WRITTEN[:2], usage=False, end=False)[:-1], chunk("and more ")], endless=True
    )
    answer = with_double(double, whole, max_tokens=16)

    assert answer.text == "Herons eat fish and frogs. [1]"
    assert answer.partial
