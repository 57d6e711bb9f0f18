"""Tests whole answers: their events, what is shown and what is dropped, and what becomes of a generator that fails."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from penstock.errors import QueryError, UnavailableError
from penstock.query.generate import answering, writing
from penstock.query.generate.abstain import GENERATOR_ABSTAINED, NOTHING_SUPPORTED
from penstock.query.generate.check.checker import SentenceChecker
from penstock.query.generate.draft import CUT, ECHOED, INSTRUCTIONS, LATE, NO_ANSWER, REPEATED
from penstock.query.generate.generators import GeneratorCutError, GeneratorError
from penstock.query.generate.numbering import with_markers
from penstock.query.generate.types import (
    EXTRACTIVE,
    AnswerEvent,
    AskRequest,
    CheckedSentence,
    SearchEvent,
    SentenceEvent,
    Source,
    Support,
    TokenEvent,
    TokenUsage,
)
from penstock.query.types import SearchRequest, SearchResult
from penstock.query.understand.understood import ChatMessage, Understood
from tests.query.generate import doubles
from tests.query.generate.doubles import FERRY, HERONS, FixedSearches, ScriptedGenerator, answer_of, ask, pipeline_over

QUESTION = "What do herons eat?"


def sentences_of(events: Sequence[AnswerEvent]) -> list[SentenceEvent]:
    return [event for event in events if isinstance(event, SentenceEvent)]


def tokens_of(events: Sequence[AnswerEvent]) -> str:
    return "".join(event.text for event in events if isinstance(event, TokenEvent))


# --- without a generator ---------------------------------------------------------------------------------------------


def test_without_a_generator_the_sentence_that_answers_is_quoted() -> None:
    events = ask(QUESTION, FixedSearches(FERRY, HERONS))
    answer = answer_of(events)

    assert isinstance(events[0], SearchEvent)
    assert events[0].answer_id == answer.id
    assert answer.text == "Herons eat fish and frogs. [1]"
    assert answer.generator == EXTRACTIVE
    assert [source.hit.entry.title for source in answer.sources] == ["Note 2"]
    assert [(source.number, source.hit.entry.title) for source in answer.also] == [(2, "Note 1")]
    assert answer.sentences[0].quotes[0].text == "Herons eat fish and frogs."
    assert tokens_of(events) == "Herons eat fish and frogs. [2]"


def test_a_question_that_no_sentence_answers_gets_the_nearest_sources() -> None:
    answer = answer_of(ask("How much does the ferry to Fyre cost?", FixedSearches(FERRY, HERONS)))

    assert answer.abstained
    assert answer.why == NOTHING_SUPPORTED
    assert answer.text == (
        "The sources do not answer this question. Nearest to it: “Note 1” (text) [1] and “Note 2” (text) [2]."
    )
    assert [source.number for source in answer.sources] == [1, 2]
    assert answer.sentences == ()


def test_nothing_found_is_said_without_reading_or_generating() -> None:
    generator = ScriptedGenerator("Herons eat fish [2].")
    searches = FixedSearches(FERRY, HERONS, nothing_found=True, why="the best hit has a relevance of 0.1")
    answer = answer_of(ask(QUESTION, searches, generator))

    assert answer.abstained
    assert answer.why == "the best hit has a relevance of 0.1"
    assert generator.prompts == []


def test_an_answer_in_another_language_abstains_in_it() -> None:
    request = AskRequest("Was kostet die Fähre nach Fyre?", SearchRequest(), answer_in="de")

    assert answer_of(ask(request, FixedSearches(FERRY))).text.startswith("Die Quellen beantworten diese Frage nicht.")


def test_hits_without_words_abstain() -> None:
    assert answer_of(ask(QUESTION, FixedSearches())).why == "nothing that was found has words"


def test_an_invalid_request_fails_before_the_first_event() -> None:
    with pytest.raises(QueryError):
        ask(AskRequest(None, SearchRequest()), FixedSearches())


def test_a_search_that_fails_fails_the_answer() -> None:
    class Failing(FixedSearches):
        async def search(self, request: SearchRequest) -> SearchResult:
            raise UnavailableError("the store does not answer")

    with pytest.raises(UnavailableError):
        ask(QUESTION, Failing())


# --- with a generator ------------------------------------------------------------------------------------------------


def test_the_text_of_a_generator_is_shown_with_its_citations_in_order_of_first_use() -> None:
    generator = ScriptedGenerator("Herons eat ", "fish and frogs ", "[2]. The grey heron weighs two", " kilograms [2].")
    events = ask(QUESTION, FixedSearches(FERRY, HERONS), generator)
    answer = answer_of(events)

    assert answer.text == "Herons eat fish and frogs. [1] The grey heron weighs two kilograms. [1]"
    assert answer.generator == "scripted"
    assert answer.usage == TokenUsage(7, 4)
    assert tokens_of(events) == "Herons eat fish and frogs [2]. The grey heron weighs two kilograms [2]."
    first, second = sentences_of(events)
    assert first.replaces == (0, 30)
    assert list(first.sources) == [1]
    assert second.sources == {}
    assert {"search", "read", "generate", "first_token", "check", "total"} <= answer.took_ms.keys()


def test_the_shown_sentences_with_what_is_between_them_are_the_text() -> None:
    generator = ScriptedGenerator(
        "Herons eat fish and frogs [1].\n\n", "- The grey heron weighs two kilograms [1].\n- It nests"
    )
    events = ask(QUESTION, FixedSearches(HERONS), generator)
    shown = [event for event in sentences_of(events) if not event.dropped]
    pieces = [event.before + with_markers(event.sentence.text, event.sentence.citations) for event in shown]
    assert len(pieces) > 1
    assert "\n" in pieces[1]
    assert "".join(pieces) == answer_of(events).text


@pytest.mark.parametrize("generator", [None, ScriptedGenerator("Herons eat fish and frogs [1].")])
def test_the_prompt_is_in_the_answer_if_the_request_has_explain(generator: ScriptedGenerator | None) -> None:
    explained = AskRequest(QUESTION, SearchRequest(explain=True))
    prompt = answer_of(ask(explained, FixedSearches(HERONS), generator)).prompt
    assert prompt is not None
    assert prompt.startswith("[system]\n")
    assert QUESTION in prompt
    assert HERONS in prompt
    assert answer_of(ask(QUESTION, FixedSearches(HERONS), generator)).prompt is None


def test_sentences_come_while_the_generator_still_writes() -> None:
    async def run() -> None:
        rest = asyncio.Event()
        generator = ScriptedGenerator("Herons eat fish [1]. The grey", rest, " heron weighs two kilograms [1].")
        events = pipeline_over(FixedSearches(HERONS), generator).answer(AskRequest(QUESTION, SearchRequest()))
        async for event in events:
            if isinstance(event, SentenceEvent):
                assert not rest.is_set() or event.replaces[0] > 0
                rest.set()
        assert rest.is_set()

    asyncio.run(asyncio.wait_for(run(), 10))


def test_a_sentence_without_a_marker_gets_its_citation() -> None:
    answer = answer_of(ask(QUESTION, FixedSearches(FERRY, HERONS), ScriptedGenerator("Herons eat fish and frogs.")))

    assert answer.text == "Herons eat fish and frogs. [1]"
    assert answer.sources[0].hit.entry.title == "Note 2"
    assert answer.sentences[0].repaired


def test_a_sentence_that_no_source_supports_is_dropped_with_its_reason() -> None:
    generator = ScriptedGenerator("Herons eat fish [1]. Elephants invented the telephone in Paris [1].")
    events = ask(QUESTION, FixedSearches(HERONS), generator)

    assert answer_of(events).text == "Herons eat fish. [1]"
    assert [event.dropped for event in sentences_of(events)] == [False, True]
    assert answer_of(events).dropped[0].because is not None


def test_a_sentence_that_no_source_supports_is_marked_if_the_settings_say_so() -> None:
    generator = ScriptedGenerator("Herons eat fish [1]. Elephants invented the telephone in Paris [1].")
    answer = answer_of(ask(QUESTION, FixedSearches(HERONS), generator, unsupported="mark"))

    assert answer.text == "Herons eat fish. [1] Elephants invented the telephone in Paris."
    assert answer.sentences[1].support is Support.UNSUPPORTED


@pytest.mark.parametrize("written", ["The name of the vicar of Oxley is John.", "The vicar of Oxley is called Peter."])
def test_a_name_that_no_source_has_is_not_shown(written: str) -> None:
    source = "The apple called Winter Lantern was bred by a vicar in Oxley. It ripens in late October."
    answer = answer_of(
        ask("What is the name of the vicar of Oxley?", FixedSearches(source), ScriptedGenerator(written))
    )

    assert "John" not in answer.text
    assert "Peter" not in answer.text


def test_a_place_that_no_source_has_is_not_shown() -> None:
    source = "The old crane in the harbour of Tolsund lifts nine tons. It was bought from Rostock in 1931."
    generator = ScriptedGenerator("The harbour crane was bought in the town of Tolsund, Germany.")
    answer = answer_of(ask("Where was the harbour crane bought?", FixedSearches(source), generator))

    assert "Germany" not in answer.text


def test_a_supported_sentence_is_held_back_until_one_answers_the_question() -> None:
    generator = ScriptedGenerator("The grey heron weighs two kilograms [1]. Herons eat fish and frogs [1].")
    events = ask(QUESTION, FixedSearches(HERONS), generator)

    assert answer_of(events).text == "The grey heron weighs two kilograms. [1] Herons eat fish and frogs. [1]"


def test_a_supported_sentence_of_something_else_is_not_shown_beside_the_answer() -> None:
    generator = ScriptedGenerator("It nests in tall trees [1]. Herons eat fish and frogs [1]. Trees [1].")
    answer = answer_of(ask(QUESTION, FixedSearches(HERONS), generator))

    assert answer.text == "Herons eat fish and frogs. [1]"
    assert [sentence.because for sentence in answer.dropped] == [NO_ANSWER, NO_ANSWER]


def test_supported_sentences_that_do_not_answer_the_question_are_no_answer() -> None:
    generator = ScriptedGenerator("The ferry to Holm leaves at seven from pier four [1].")
    answer = answer_of(ask("How long does the ferry to Holm take?", FixedSearches(FERRY), generator))

    assert answer.abstained
    assert [sentence.because for sentence in answer.dropped] == [NO_ANSWER]


def test_the_best_sentences_take_over_from_a_generator_whose_sentences_do_not_survive() -> None:
    events = ask(QUESTION, FixedSearches(HERONS), ScriptedGenerator("Herons are made of cheese, says Rome [1]."))
    answer = answer_of(events)

    assert answer.text == "Herons eat fish and frogs. [1]"
    assert answer.generator == EXTRACTIVE
    assert answer.notices == ("the sources support no sentence of the generator that answers the question",)
    start, end = sentences_of(events)[-1].replaces
    assert tokens_of(events)[start:end] == "Herons eat fish and frogs. [1]"


@pytest.mark.parametrize(
    "written",
    [
        "The sources do not answer this question.",
        "I don't know.",
        "The provided documents do not mention what herons eat.",
        "Die Quellen enthalten dazu keine Angaben.",
    ],
)
def test_a_generator_that_says_so_abstains_and_is_stopped(written: str) -> None:
    generator = ScriptedGenerator(f"{written} ", "But herons eat fish and frogs [1]. ", "They do. ")
    answer = answer_of(ask(QUESTION, FixedSearches(HERONS), generator))

    assert answer.abstained
    assert answer.why == GENERATOR_ABSTAINED


def test_a_source_that_says_that_something_is_unknown_is_no_abstention() -> None:
    source = "It is not known who built the tower of Skarn."
    answer = answer_of(ask("Who built the tower of Skarn?", FixedSearches(source), ScriptedGenerator(f"{source} [1]")))

    assert answer.why != GENERATOR_ABSTAINED


# --- generators that misbehave ---------------------------------------------------------------------------------------


def test_a_generator_that_fails_before_its_first_token_is_replaced() -> None:
    answer = answer_of(ask(QUESTION, FixedSearches(HERONS), ScriptedGenerator(GeneratorError("it is down"))))

    assert answer.text == "Herons eat fish and frogs. [1]"
    assert answer.generator == EXTRACTIVE
    assert answer.notices == ("no answer was generated, so the sources are quoted: it is down",)
    assert not answer.partial


def test_what_was_checked_stays_if_the_generator_dies() -> None:
    generator = ScriptedGenerator("Herons eat fish [1]. The grey her", GeneratorCutError("the connection broke"))
    answer = answer_of(ask(QUESTION, FixedSearches(HERONS), generator))

    assert answer.text == "Herons eat fish. [1]"
    assert answer.partial
    assert answer.notices == ("the answer is not complete: the connection broke",)
    assert [sentence.because for sentence in answer.dropped] == [CUT]


def test_a_sentence_at_the_limit_of_tokens_is_dropped() -> None:
    generator = ScriptedGenerator("Herons eat fish [1]. The grey heron weighs two", shortened=True)
    answer = answer_of(ask(QUESTION, FixedSearches(HERONS), generator))

    assert [sentence.because for sentence in answer.dropped] == [CUT]


@pytest.mark.parametrize("slow", ["Sometimes", "Herons"])  # words of the generator alone, and of the source as well
def test_checks_that_take_too_long_end_the_answer(slow: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (writing, answering):
        monkeypatch.setattr(module, "MAX_CHECK_S", 0.3)

    class Hanging(SentenceChecker):
        async def check(self, text: str, *others: Any) -> CheckedSentence:
            if slow in text:
                await asyncio.Event().wait()
            return await super().check(text, *others)

    monkeypatch.setattr(doubles, "SentenceChecker", Hanging)
    generator = ScriptedGenerator("Sometimes Herons eat frogs [1]. They eat fish [1]. ", asyncio.Event())
    answer = answer_of(ask(QUESTION, FixedSearches(HERONS), generator))

    assert [sentence.because for sentence in answer.dropped] == [LATE]
    assert answer.partial
    assert any("and the generator was stopped" in notice for notice in answer.notices)
    assert generator.closed
    assert answer.abstained is (slow == "Herons")
    assert any("of the sources took more" in notice for notice in answer.notices) is answer.abstained


def test_a_generator_that_repeats_itself_is_stopped() -> None:
    repeated = ["The grey heron weighs two kilograms [1]. "] * 10
    generator = ScriptedGenerator("Herons eat fish [1]. ", *repeated, asyncio.Event())  # writes on, and never ends
    answer = answer_of(ask(QUESTION, FixedSearches(HERONS), generator))

    assert answer.text == "Herons eat fish. [1] The grey heron weighs two kilograms. [1]"
    assert {sentence.because for sentence in answer.dropped} == {REPEATED}
    assert generator.closed


def test_a_generator_without_an_end_is_stopped_at_its_bound() -> None:
    generator = ScriptedGenerator("Herons eat fish [1]. They ", *["eat frogs and "] * 10_000)
    answer = answer_of(ask(QUESTION, FixedSearches(HERONS), generator, max_tokens=16))

    assert answer.text == "Herons eat fish. [1]"
    assert answer.partial
    assert generator.written < 20


def test_a_generator_that_repeats_question_and_instructions_is_recognised() -> None:
    instruction = "Write in the language of the question, unless another is named after it."
    generator = ScriptedGenerator(f"{QUESTION} {instruction} Herons eat fish and frogs [1].")
    answer = answer_of(ask(QUESTION, FixedSearches(HERONS), generator))

    assert answer.text == "Herons eat fish and frogs. [1]"
    assert [sentence.because for sentence in answer.dropped] == [ECHOED, INSTRUCTIONS]


class SeenImages:
    """Notes the images of questions, as they are."""

    def __init__(self) -> None:
        self.of_question: tuple[bytes, ...] = ()

    async def add(
        self, sources: Sequence[Source], images: Sequence[bytes], *, timeout_s: float
    ) -> tuple[tuple[Source, ...], tuple[bytes, ...]]:
        self.of_question = tuple(images)
        return tuple(sources), tuple(images)


@pytest.mark.parametrize(
    ("images", "seen"), [((), (b"a",)), ((b"a",), (b"a",)), ((b"a", b"b"), (b"a", b"b")), ((b"b",), (b"a", b"b"))]
)
def test_the_generator_sees_each_image_of_a_question_once(images: tuple[bytes, ...], seen: tuple[bytes, ...]) -> None:
    noted = SeenImages()
    request = AskRequest("What do herons eat?", SearchRequest(image=b"a"), images=images)
    ask(request, FixedSearches(HERONS), ScriptedGenerator("Herons eat fish [1]."), images=noted)
    assert noted.of_question == seen


def test_text_that_cannot_be_split_ends_the_answer_with_an_error_at_once() -> None:
    generator = ScriptedGenerator("Herons eat fish. ", "\ud83e", " and frogs. ", "They nest in trees.")
    with pytest.raises(UnicodeEncodeError):
        ask("What do herons eat?", FixedSearches(HERONS), generator)


def test_closing_the_events_stops_the_generator() -> None:
    async def run() -> ScriptedGenerator:
        generator = ScriptedGenerator("Herons eat fish [1]. The grey", asyncio.Event())
        events = pipeline_over(FixedSearches(HERONS), generator).answer(AskRequest(QUESTION, SearchRequest()))
        async for event in events:
            if isinstance(event, SentenceEvent):
                break
        await events.aclose()
        return generator

    assert asyncio.run(asyncio.wait_for(run(), 10)).closed


# --- the question ----------------------------------------------------------------------------------------------------


def test_a_rewritten_question_is_the_one_that_is_answered() -> None:
    understood = Understood("What do they eat?", QUESTION, rewritten=QUESTION)
    request = AskRequest("What do they eat?", SearchRequest(), messages=(ChatMessage("user", "Where are herons?"),))
    generator = ScriptedGenerator("Herons eat fish [1].")
    ask(request, searches := FixedSearches(HERONS, understood=understood), generator)

    assert searches.requests[0].understand.messages == request.messages
    assert QUESTION in str(generator.prompts[0].messages[-1]["content"])


def test_a_spoken_question_is_what_was_heard() -> None:
    request = AskRequest(None, SearchRequest(audio=b"RIFF"))

    assert answer_of(ask(request, FixedSearches(HERONS, transcript=QUESTION))).text == "Herons eat fish and frogs. [1]"


def test_a_partial_search_gives_a_partial_answer() -> None:
    assert answer_of(ask(QUESTION, FixedSearches(HERONS, partial=True))).partial


def test_extractive_answers_are_had_beside_a_generator() -> None:
    generator = ScriptedGenerator("Herons eat fish [1].")
    answer = answer_of(
        ask(replace(AskRequest(QUESTION, SearchRequest()), generator=EXTRACTIVE), FixedSearches(HERONS), generator)
    )

    assert answer.generator == EXTRACTIVE
    assert generator.prompts == []
