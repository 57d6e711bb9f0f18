"""Tests the wording of answers that have none, and which sentences of generators say that there is none."""

from __future__ import annotations

import pytest

from penstock.query.generate.abstain import MAX_NAMED, abstention, says_unknown
from penstock.query.generate.numbering import Numbering, with_markers
from penstock.query.generate.types import CheckedSentence, Quote, Source, Support
from tests.query.generate.doubles import text_hit


def sources(*titles: str) -> list[Source]:
    return [Source(number, text_hit("words", str(number), title), "words") for number, title in enumerate(titles, 1)]


@pytest.mark.parametrize(
    "sentence",
    [
        "The sources do not answer this question.",
        "The sources don't say how deep the lake is.",
        "None of the provided documents mentions the price.",
        "I don't know.",
        "I cannot find that in the text.",
        "There is no information about the captain.",
        "The price is not mentioned in the sources.",
        "The name of the captain is not known.",
        "Ich weiß es nicht.",
        "Die Quellen nennen den Preis nicht.",
        "Je ne sais pas.",
        "Les sources ne répondent pas à cette question.",
        "Las fuentes no lo dicen.",
        "来源没有回答这个问题。",
        "我不知道。",
    ],
)
def test_a_generator_says_in_many_ways_that_the_sources_do_not_answer(sentence: str) -> None:
    assert says_unknown(sentence)


@pytest.mark.parametrize(
    "sentence",
    [
        "Herons eat fish.",
        "Herons do not eat bread.",
        "If the sources do not answer the question, write so.",
        "The tower has no windows.",
        "Bees do not sleep in the open.",
        "Not a word was spoken.",
        "I know the way.",
    ],
)
def test_a_sentence_with_a_negation_may_say_something_else(sentence: str) -> None:
    assert not says_unknown(sentence)


def test_the_nearest_sources_are_named_by_title_and_kind_with_markers() -> None:
    numbering = Numbering(nearest := sources("The ferry", "The pier", "The bay", "The lake"))
    text = abstention(nearest, numbering, "en")

    assert text == (
        "The sources do not answer this question. Nearest to it: “The ferry” (text) [1], “The pier” (text) [2] and "
        "“The bay” (text) [3]."
    )
    assert len(numbering.cited) == MAX_NAMED
    assert [source.number for source in numbering.others] == [4]


def test_an_abstention_is_in_the_language_of_the_answer_if_that_is_known() -> None:
    assert abstention([], Numbering([]), "fr") == "Les sources ne répondent pas à cette question."
    assert abstention([], Numbering([]), "fi") == "The sources do not answer this question."


def test_a_title_can_forge_no_marker() -> None:
    text = abstention(nearest := sources("Lighthouse [7] <b>"), Numbering(nearest), None)

    assert "[7]" not in text
    assert "<b>" not in text


def test_citations_are_numbered_in_the_order_of_first_use() -> None:
    numbering = Numbering(sources("a", "b", "c"))
    quote = Quote(3, "words", 0, 5)
    first, cited = numbering.number(CheckedSentence("One.", (3, 1), Support.SUPPORTED, 1.0, (quote,)))
    second, none = numbering.number(CheckedSentence("Two.", (1,), Support.SUPPORTED, 1.0))

    assert (first.citations, second.citations) == ((1, 2), (2,))
    assert first.quotes[0].source == 1
    assert [source.hit.entry.title for source in cited.values()] == ["c", "a"]
    assert none == {}
    assert [source.hit.entry.title for source in numbering.others] == ["b"]
    assert with_markers("One.", first.citations) == "One. [1][2]"
    assert with_markers("One.", ()) == "One."
