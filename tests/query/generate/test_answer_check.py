"""Tests which sentences answer which questions, by their words alone and with vectors."""

from __future__ import annotations

import numpy as np
import pytest

from penstock.query.generate.answer_check import ANSWERS, AnswerCheck
from penstock.query.generate.answer_type import ExpectedAnswer
from penstock.query.generate.same_words import has, has_opposite

FERRY = "The ferry to Holm\nThe ferry to Holm leaves at seven from pier four. A ticket costs eleven crowns."


def answers(question: str, sentence: str, around: str = "") -> bool:
    return AnswerCheck(question).probability(sentence, f"{sentence}\n{around}") >= ANSWERS


@pytest.mark.parametrize(
    ("question", "name"),
    [
        ("When does it leave?", "time"),
        ("From where does the ferry leave?", "place"),
        ("Where does a bulb cost as much as a house?", "place"),
        ("Who pays for it?", "person"),
        ("How much is a ticket?", "money"),
        ("How much does an elephant weigh?", "weight"),
        ("How many bees live there?", "count"),
        ("How deep is the lake?", "depth"),
        ("How old is the tower?", "age"),
        ("How long does it last?", "duration"),
        ("What colour is the door?", "colour"),
        ("In which year was it built?", "year"),
        ("Why is the sky blue?", "reason"),
        ("What is the name of the calf?", "name"),
        ("Wie viele Bienen leben dort?", "count"),
        ("Où est le port ?", "place"),
        ("¿Quién toca el piano?", "person"),
        ("灯塔有多高？", "height"),
        ("What do herons eat?", None),
    ],
)
def test_a_question_expects_a_type_of_answer(question: str, name: str | None) -> None:
    assert ExpectedAnswer(question).name == name


@pytest.mark.parametrize(
    ("question", "has_it", "has_not"),
    [
        ("When does it leave?", "It leaves at seven.", "It leaves from pier four."),
        ("How much is a ticket?", "A ticket costs eleven crowns.", "A ticket is valid for two days."),
        ("How many goats does he have?", "He has forty goats.", "The cheese of his goats ripens for eighteen months."),
        ("How deep is the well?", "It is fifty metres deep.", "It is fifty metres from the house."),
        ("How old is the maker?", "He is 61 years old.", "He needs five months for a violin."),
        ("Who built it?", "It was built by Marta Lindqvist.", "It was built in Ostervik."),
        ("Who built it?", "A doctor built it.", "It was built of stone."),
        ("Who dances tonight?", "the penguin dances with the rabbit", "tonight dances"),
        ("What is the name of the calf?", "The calf is called Tamo.", "The calf weighs a lot."),
    ],
)
def test_a_sentence_has_the_expected_answer_or_has_it_not(question: str, has_it: str, has_not: str) -> None:
    assert ExpectedAnswer(question).is_in(has_it)
    assert not ExpectedAnswer(question).is_in(has_not)


@pytest.mark.parametrize(
    ("question", "sentence"),
    [
        ("When does the ferry to Holm leave?", "The ferry to Holm leaves at seven from pier four."),
        ("How much is a ticket for the ferry?", "A ticket costs eleven crowns."),
        ("From which pier does the ferry to Holm depart?", "The ferry to Holm leaves at seven from pier four."),
    ],
)
def test_a_sentence_of_the_right_thing_and_type_is_an_answer(question: str, sentence: str) -> None:
    assert answers(question, sentence, FERRY)


@pytest.mark.parametrize(
    ("question", "sentence"),
    [
        ("When does the ferry to Fyre leave?", "The ferry to Holm leaves at seven from pier four."),  # another ferry
        ("When does the ferry to Holm arrive?", "The ferry to Holm leaves at seven from pier four."),  # the opposite
        ("How long does the ferry to Holm take?", "The ferry to Holm leaves at seven from pier four."),  # another type
        ("Who owns the ferry to Holm?", "The ferry to Holm leaves at seven from pier four."),
        ("Does the ferry to Holm leave at seven in 1953?", "The ferry to Holm leaves at seven from pier four."),
        ("Where is the ferry to Holm?", "The ferry to Holm."),  # nothing that the question has not
    ],
)
def test_a_sentence_of_another_thing_or_type_is_none(question: str, sentence: str) -> None:
    assert not answers(question, sentence, FERRY)


def test_words_that_are_no_question_are_answered_by_a_sentence_that_has_them() -> None:
    assert answers("a cat on a mat", "a cat on a mat")


def test_resemblance_of_vectors_makes_an_answer_more_likely() -> None:
    vector = np.array([1.0, 0.0], np.float32)
    check = AnswerCheck("What does the grey heron eat?", vector)
    near, far = (
        check.probability("It feeds on fish.", "The grey heron. It feeds on fish.", np.array(other, np.float32))
        for other in ([0.9, 0.44], [0.1, 0.99])
    )

    assert near > far


@pytest.mark.parametrize(
    ("term", "words", "is_same"),
    [
        ("depart", {"leav"}, True),
        ("conduct", {"conductor"}, True),
        ("build", {"built"}, True),
        ("win", {"wing"}, False),
        ("ferri", {"boat"}, False),
    ],
)
def test_other_forms_and_synonyms_of_a_word_count_as_the_word(term: str, words: set[str], is_same: bool) -> None:
    assert has(term, frozenset(words)) is is_same


def test_the_opposite_of_a_word_counts_only_where_the_word_is_absent() -> None:
    assert has_opposite("arriv", frozenset({"leav"}))
    assert not has_opposite("arriv", frozenset({"leav", "arriv"}))
