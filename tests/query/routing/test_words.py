"""Tests of the words that name collections, on labelled questions and on a user's file."""

from __future__ import annotations

from pathlib import Path

import pytest

from penstock.errors import ConfigError
from penstock.query.routing.words import SHIPPED_WORDS, ModalityWords
from penstock.records import Collection
from tests.query.routing.questions import labelled_questions

WORDS = ModalityWords()


@pytest.mark.parametrize(
    ("question", "collections"),
    [
        ("a Photo of a bicycle", {"image", "frame", "page"}),
        ("自行车的照片", {"image", "frame", "page"}),
        ("what did the doctor say about it, and who is he", {"speech", "text"}),
        ("photosynthesis", set()),  # no whole word
        ("saids", set()),
        ("qu’est-ce qu’un vélo", {"text", "speech"}),  # a typographic apostrophe
        ("犬が泳いでいる動画", {"frame", "speech"}),
        ("", set()),
    ],
)
def test_a_question_names_collections_by_whole_words_and_phrases(question: str, collections: set[str]) -> None:
    assert WORDS.find(question).collections == collections


def test_the_words_are_given_once_each() -> None:
    assert WORDS.find("photo, photo and video").words == ("photo", "video")


def test_words_of_labelled_questions_name_the_collection_of_the_answer() -> None:
    """The labels are by hand. A question without such a word names nothing, which costs nothing."""
    questions = labelled_questions()
    assert len(questions) >= 80
    assert sum(question.language == "zh" for question in questions) >= 20
    named = [(question, WORDS.find(question.text).collections) for question in questions]
    wrong = [question for question, collections in named if collections and question.collection not in collections]
    assert len(wrong) <= 0.01 * len(questions), wrong
    assert sum(bool(collections) for _, collections in named) >= 0.9 * len(questions)


def test_a_file_of_the_user_adds_words(tmp_path: Path) -> None:
    file = tmp_path / "words.txt"
    file.write_text("# Klingon\n\nimage tlh: mIllogh\n", encoding="utf-8")
    words = ModalityWords((SHIPPED_WORDS, file))
    assert words.find("millogh of a ship").collections == {Collection.IMAGE}
    assert words.find("photo of a ship").collections == {Collection.IMAGE, Collection.FRAME, Collection.PAGE}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("image: ", "line 2: expected names, a colon, and phrases"),
        ("photo of", "line 2: expected names, a colon, and phrases"),
        ("picture en: photo", r"line 2: expected collections \(text, image"),
        ("picture, image en: photo", "line 2: expected collections"),
    ],
)
def test_an_invalid_line_is_named_by_its_number(tmp_path: Path, line: str, message: str) -> None:
    file = tmp_path / "words.txt"
    file.write_text(f"# words\n{line}\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=message):
        ModalityWords((file,))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.txt cannot be read: No such file"):
        ModalityWords((tmp_path / "none.txt",))
