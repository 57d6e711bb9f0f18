from __future__ import annotations

from pathlib import Path

import pytest

from penstock.errors import ConfigError
from penstock.query.understand.dictionary import Dictionary, english_words, read_words
from penstock.query.understand.spelling import apply, correct, unknown_words
from penstock.query.understand.vocabulary import Vocabulary, vocabulary_of

INDEX = vocabulary_of(
    {
        "one": "an anchor of silver on a silver chain, as the captain has it",
        "two": "the isar at dawn with a heron and a wolf, who begins to howl",
        "three": "the captain of the ship searches for the recognised harbour",
        "four": "harbour harbour lights",
        "five": "a café in the harbour",
    }
)
DICTIONARY = Dictionary()


def corrected(question: str, vocabulary: Vocabulary = INDEX, language: str | None = None) -> str:
    unknown = unknown_words(question, vocabulary, DICTIONARY, language)
    return apply(question, correct(unknown, vocabulary))


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("ancor silvr", "anchor silver"),
        ("wolf howwl", "wolf howl"),
        ("captian", "captain"),
        ("Captian of the ship", "Captain of the ship"),
        ("the captian, (ancor)!", "the captain, (anchor)!"),
        ("recogniced harbuor", "recognised harbour"),
        ("caffé", "café"),
    ],
)
def test_an_unknown_word_becomes_the_word_of_the_index_that_was_meant(question: str, expected: str) -> None:
    assert corrected(question) == expected


@pytest.mark.parametrize(
    "question",
    [
        "isar heron",  # known to the index
        "wolf howls", "howling wolf",  # a form of a word of the index
        "chair of silver",  # English, though the index has chain
        "zeppelin hangar",
        "xqzv anchor",  # nothing is near
        '"ancor" of silver', "old Ancor", "ancor2 silvr7",
        "智能手机壳", "ภาษาไทยภาษา", "كتاب جديد",
        "l'ancre d'argent du capitaine du bateau est belle",  # no language of the index
    ],
)  # fmt: skip
def test_other_questions_stay_as_they_are(question: str) -> None:
    assert corrected(question) == question


def test_a_word_that_no_text_has_is_not_what_was_meant() -> None:
    assert corrected("captian", vocabulary_of({"": "an anchor"})) == "captian"


def test_two_words_that_are_as_likely_are_not_chosen_from() -> None:
    assert corrected("anchyr", vocabulary_of({"": "anchor anchar"})) == "anchyr"
    assert corrected("anchyr", vocabulary_of({"": "anchor anchar", "b": "anchor"})) == "anchor"


def test_a_nearer_word_is_meant_rather_than_a_frequent_one() -> None:
    texts = {str(n): "recognised" for n in range(9)} | {"x": "recognisor"}
    assert corrected("recognisoor", vocabulary_of(texts)) == "recognisor"


def test_two_mistakes_are_corrected_in_long_frequent_words_only() -> None:
    often = vocabulary_of({str(n): "harbour boats" for n in range(3)})
    assert corrected("harboxxr", often) == "harbour"
    assert corrected("harboxxr", vocabulary_of({"": "harbour"})) == "harboxxr"
    assert corrected("boxxs", often) == "boxxs"


def test_a_question_of_mostly_unknown_words_is_another_language() -> None:
    assert corrected("ancor silvr captian") == "ancor silvr captian"


def test_the_english_dictionary_holds_for_english_questions_only() -> None:
    index = vocabulary_of({"": "die hangár"})
    assert corrected("hangar", index) == "hangar"
    german = vocabulary_of({"": "der hafen und die zange"})
    assert corrected("range", german, "en") == corrected("range", german, None) == "range"
    assert corrected("range", german, "de") == "zange"


def test_a_file_adds_words_to_the_dictionary(tmp_path: Path) -> None:
    file = tmp_path / "words.txt"
    file.write_text("Captian\nGröße\n")
    assert read_words(file) == {"captian", "grosse"}
    assert read_words(None) == frozenset()
    own = Dictionary(read_words(file))
    assert unknown_words("captian", INDEX, own, "de") == []
    with pytest.raises(ConfigError, match=r"query\.dictionary cannot be read"):
        read_words(tmp_path / "none.txt")


def test_the_english_dictionary_is_that_of_symspellpy() -> None:
    assert {"captain", "zeppelin"} <= english_words()
    assert len(english_words()) > 80_000
