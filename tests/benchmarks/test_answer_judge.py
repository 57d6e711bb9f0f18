"""Tests that the judge of answers counts facts, sources and unsupported sentences by their strings."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from benchmarks.answer_index import LabelledQuestion, labelled_questions
from benchmarks.answer_judge import Verdicts, is_stated
from penstock.query.generate.types import CheckedSentence, GeneratedAnswer, Source, Support, TokenUsage
from penstock.query.types import SearchResult
from tests.query.generate.doubles import text_hit

CRANE = "The old crane in the harbour of Tolsund lifts nine tons. It was bought from Rostock in 1931."
QUESTION = LabelledQuestion("report", "How much can the crane lift?", "crane", ("nine tons",))


def source(text: str = CRANE, key: str = "crane") -> Source:
    return Source(1, text_hit(text, key), text)


def answer(
    *texts: str, cited: Sequence[Source] = (), generator: str = "smollm2", abstained: bool = False
) -> GeneratedAnswer:
    sentences = tuple(CheckedSentence(text, (1,), Support.SUPPORTED, 1.0) for text in texts if text)
    result = SearchResult([], False, {}, {})
    return GeneratedAnswer(
        "0" * 32, " ".join(texts), sentences, tuple(cited), (), (), abstained, None, generator, TokenUsage(), False, (),
        result, {},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("sentence", "stated"),
    [
        ("The crane of Tolsund lifts nine tons.", True),
        ("The crane was bought in 1931.", True),
        ("The crane lifts ten tons.", False),
        ("The crane was bought in 1932.", False),
        ("The crane does not lift nine tons.", False),
        ("The crane was bought by Hamburg.", False),
        ("Penguins repair seventeen umbrellas.", False),
    ],
)
def test_a_sentence_is_stated_if_its_source_has_its_numbers_names_negations_and_words(
    sentence: str, stated: bool
) -> None:
    assert is_stated(CheckedSentence(sentence, (1,), Support.SUPPORTED, 1.0), [source()]) is stated


def test_an_answer_is_right_with_the_fact_and_its_own_source_first() -> None:
    verdicts = Verdicts()
    verdicts.add(QUESTION, answer("It lifts nine tons.", cited=[source()]))
    verdicts.add(QUESTION, answer("It lifts nine tons.", cited=[source(key="other")], generator="extractive"))
    verdicts.add(QUESTION, answer("It lifts seven tons.", cited=[source()]))
    verdicts.add(QUESTION, answer("", abstained=True))

    assert dict(verdicts.right) == {"model": 1}
    assert dict(verdicts.wrong) == {"extractive": 1, "model": 1}
    assert (verdicts.right_anywhere, verdicts.missed) == (2, 1)
    assert len(verdicts.unsupported) == 1


def test_a_question_without_an_answer_is_to_get_none() -> None:
    verdicts = Verdicts()
    nothing = LabelledQuestion("report", "Who built the crane?", None, ())
    verdicts.add(nothing, answer("", abstained=True))
    verdicts.add(nothing, answer("It was bought from Rostock in 1931.", cited=[source()]))

    assert (verdicts.abstained, dict(verdicts.false)) == (1, {"model": 1})


def test_each_half_has_questions_with_and_without_an_answer_and_none_is_in_both() -> None:
    halves = {half: labelled_questions(half) for half in ("tune", "report")}

    assert sum(question.answerable for question in halves["report"]) == 40
    assert sum(not question.answerable for question in halves["report"]) == 40
    assert not {question.question for question in halves["tune"]} & {question.question for question in halves["report"]}
