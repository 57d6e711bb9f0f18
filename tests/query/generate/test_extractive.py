"""Tests which sentences answer a question where no generator does."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from penstock.query.generate.answer_check import AnswerCheck
from penstock.query.generate.check.sources import ReadSources, SourceSentence
from penstock.query.generate.extractive import ExtractedSentence, extract
from penstock.query.generate.types import Source
from penstock.query.types import Hit
from penstock.records import AssetRef, Collection, bare_entry
from tests.query.generate.hostile import HOSTILE, hostile_sources

FERRY = (
    "The island has one village. The ferry to the island leaves the old harbour at 9:40. It does not run on Sundays. "
    "Tickets cost four crowns. Dogs travel for free."
)
LIGHTHOUSE = (
    "The lighthouse was built in 1868 by Marta Lindqvist. It is 43 metres tall. The light reaches 21 nautical miles. "
    "Is the lighthouse open to visitors? The lighthouse is open to visitors from May to August."
)
MARKET = "Markets\n\nThe market is on the square. Farmers sell cheese, apples and bread. It opens at seven."


def read(*texts: str, relevance: Sequence[float | None] = (), title: str = "") -> ReadSources:
    sources = []
    for number, text in enumerate(texts, start=1):
        entry = replace(bare_entry(AssetRef("default", "notes", str(number)), Collection.TEXT), title=title, text=text)
        hit = Hit(entry, 1.0, (), relevance=relevance[number - 1] if relevance else None)
        sources.append(Source(number, hit, text))
    return ReadSources(sources, None)


def quote(question: str, sources: ReadSources, **options: Any) -> tuple[ExtractedSentence, ...]:
    """Returns the sentences that the product's own judge of answers, by words alone, lets through."""
    check = AnswerCheck(question)

    def answers(sentence: SourceSentence) -> float:
        source = sources.sources[sentence.source]
        return check.probability(sentence.text, f"{source.hit.entry.title}\n{source.text}")

    return extract(question, sources, answers, **options)


def texts(extracted: Sequence[ExtractedSentence]) -> list[str]:
    return [sentence.sentence.text for sentence in extracted]


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("When does the ferry leave the harbour?", "The ferry to the island leaves the old harbour at 9:40."),
        ("What do tickets cost?", "Tickets cost four crowns."),
        ("who built the lighthouse", "The lighthouse was built in 1868 by Marta Lindqvist."),
        ("How far does the light reach?", "The light reaches 21 nautical miles."),
        ("Is the lighthouse open to visitors?", "The lighthouse is open to visitors from May to August."),
        ("What do farmers sell?", "Farmers sell cheese, apples and bread."),
    ],
)
def test_the_sentence_that_answers_comes_first_verbatim_and_cited(question: str, answer: str) -> None:
    sources = read(FERRY, LIGHTHOUSE, MARKET)
    best = quote(question, sources)[0].sentence
    assert best.text == answer
    text = sources.sources[best.source].text
    assert text[best.start_char : best.end_char] == answer


@pytest.mark.parametrize(
    "question",
    [
        "What is the boiling point of helium?",
        "Who wrote the opera?",
        "When was the railway opened?",
        "水は何度で沸騰しますか",
    ],
)
def test_nothing_is_extracted_where_nothing_fits(question: str) -> None:
    assert quote(question, read(FERRY, LIGHTHOUSE, MARKET)) == ()
    assert quote(question, read()) == ()


def test_at_most_three_sentences_and_none_that_is_much_worse_than_the_best() -> None:
    many = " ".join(f"The heron eats fish number {number} near the river." for number in range(9))
    assert len(quote("Which fish does the heron eat near the river?", read(many))) == 3
    extracted = quote("When does the ferry leave the harbour?", read(FERRY, "The harbour is old."))
    assert texts(extracted) == ["The ferry to the island leaves the old harbour at 9:40."]
    assert len(quote("Which fish does the heron eat?", read(many), max_sentences=1)) == 1


def test_what_two_sources_say_alike_is_said_once_and_what_differs_in_a_number_twice() -> None:
    same = read("The bridge was opened in 1932.", "The bridge was opened in 1932!")
    assert texts(quote("When was the bridge opened?", same)) == ["The bridge was opened in 1932."]
    other = read("The bridge was opened in 1932.", "The bridge was opened in 1933.")
    assert len(quote("When was the bridge opened?", other)) == 2


def test_the_sentence_before_comes_along_where_the_best_one_refers_back_to_it() -> None:
    sources = read("The old kiln stands in the yard. It reaches 1260 degrees.")
    assert texts(quote("How many degrees does it reach?", sources)) == [
        "The old kiln stands in the yard.",
        "It reaches 1260 degrees.",
    ]


def test_sentences_of_a_source_stay_together_in_its_order_that_of_the_best_one_first() -> None:
    first = "Herons nest in trees. A heron eats fish and frogs in the river."
    second = "Some say a heron eats frogs only. A heron eats fish, frogs and mice in the river."
    extracted = quote("What does a heron eat in the river?", read(first, second))
    rows = [(result.sentence.source, result.sentence.row) for result in extracted]
    best = max(extracted, key=lambda result: result.score).sentence.source
    assert rows[0][0] == best
    assert rows == sorted(rows, key=lambda row: (row[0] != best, row))


def test_a_judge_of_answers_may_refuse_sentences_that_fit() -> None:
    sources = read("The ferry leaves the harbour early.", "The ferry leaves the harbour at 9:40.")
    question = "When does the ferry leave the harbour?"
    extracted = extract(question, sources, lambda sentence: 0.9 if "9:40" in sentence.text else 0.4)
    assert texts(extracted) == ["The ferry leaves the harbour at 9:40."]
    assert extract(question, sources, lambda sentence: 0.1) == ()


def test_of_equal_sentences_that_of_the_more_relevant_hit_is_better() -> None:
    sources = read("The ferry leaves at nine.", "The ferry leaves at ten.", relevance=[0.2, 0.9])
    assert quote("When does the ferry leave?", sources)[0].sentence.source == 2


def test_rare_words_of_the_question_count_more_than_those_that_many_sentences_have() -> None:
    birds = " ".join(f"The bird {name} lives by the river." for name in ("heron", "kingfisher", "dipper", "wagtail"))
    extracted = extract("Where does the bird dipper live?", read(birds), lambda sentence: 0.9)
    assert max(extracted, key=lambda result: result.score).sentence.text == "The bird dipper lives by the river."


def vectors(sources: ReadSources, near: str) -> dict[str, Any]:
    """Returns vectors by which one sentence has the meaning of the question."""
    rows = [[1.0, 0.0] if sentence.text == near else [0.0, 1.0] for sentence in sources.sentences]
    return {"sentence_vectors": np.array(rows, np.float32), "question_vector": np.array([0.95, 0.31], np.float32)}


def test_meaning_decides_between_sentences_with_the_same_words() -> None:
    sources = read("The ferry leaves the harbour at noon. The harbour leaves the ferry no room.")
    near = "The ferry leaves the harbour at noon."
    assert texts(quote("When does the ferry leave the harbour?", sources, **vectors(sources, near)))[0] == near


def test_headings_questions_and_sentences_without_a_word_of_their_own_answer_nothing() -> None:
    sources = read("The ferry\n\nWhen does the ferry leave?\n\nThe ferry leaves!")
    assert quote("When does the ferry leave?", sources) == ()


def test_hostile_sources_are_quoted_verbatim_and_no_more() -> None:
    sources = ReadSources(hostile_sources(), None)
    quoted = [extracted.sentence for hostile in HOSTILE for extracted in quote(hostile.fact, sources)]
    assert quoted
    for sentence in quoted:
        assert sources.sources[sentence.source].text[sentence.start_char : sentence.end_char] == sentence.text


def test_vectors_that_the_sources_compute_are_used() -> None:
    async def run() -> list[str]:
        async def encode(sentences: Sequence[str]) -> Any:
            return np.array([[1.0, 0.0] if "noon" in text else [0.0, 1.0] for text in sentences], np.float32)

        entry = replace(bare_entry(AssetRef("default", "notes", "1"), Collection.TEXT), text="x")
        sources = ReadSources([Source(1, Hit(entry, 1.0, ()), "It rains. It leaves at noon.")], encode)
        sentence_vectors = await sources.vectors(5)
        question = np.array([1, 0], np.float32)
        extracted = extract(
            "几点？",
            sources,
            lambda sentence: 0.9,
            question_vector=question,
            sentence_vectors=sentence_vectors,
            max_sentences=1,
        )
        return texts(extracted)

    assert asyncio.run(run()) == ["It leaves at noon."]
