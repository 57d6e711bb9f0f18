"""The terms of entries and questions as stores hold and compare them."""

from __future__ import annotations

import re

import pytest

from penstock.records import Collection
from penstock.store.lexical import MAX_TERMS_BYTES, terms_of, terms_of_question
from tests.analysis.languages import Language, languages
from tests.store.builders import asset, entry


@pytest.mark.parametrize("language", languages(), ids=lambda language: language.code)
def test_the_tokenizers_of_milvus_leave_terms_whole(language: Language) -> None:
    texts = (entry(asset(), collection=Collection.TEXT, text=text) for text in language.texts)
    joined = " ".join(map(terms_of, texts))
    assert re.findall(r"\w+", joined.lower()) == joined.split()


def test_a_text_is_found_by_its_words_and_not_by_its_title() -> None:
    written = entry(asset(), collection=Collection.TEXT, title="Chronicle", text="A turtle")
    assert set(terms_of_question("turtle").split()) <= set(terms_of(written).split())
    assert not set(terms_of_question("chronicle").split()) & set(terms_of(written).split())


def test_an_image_is_found_by_its_title_too() -> None:
    written = entry(asset(), collection=Collection.IMAGE, title="Golden Gate Bridge", text="toll ahead")
    assert set(terms_of_question("bridge toll").split()) <= set(terms_of(written).split())


def test_the_page_of_a_document_is_not_found_by_the_title_of_all_its_pages() -> None:
    written = entry(asset(), collection=Collection.PAGE, title="Chronicle", text="A turtle")
    assert set(terms_of_question("turtle").split()) <= set(terms_of(written).split())
    assert not set(terms_of_question("chronicle").split()) & set(terms_of(written).split())


def test_terms_beyond_the_column_are_cut_between_terms() -> None:
    joined = terms_of(entry(asset(), collection=Collection.TEXT, text="図書館の本 " * 10_000))
    whole = set(terms_of(entry(asset(), collection=Collection.TEXT, text="図書館の本")).split())
    assert MAX_TERMS_BYTES - 20 < len(joined.encode()) <= MAX_TERMS_BYTES
    assert set(joined.split()) == whole


@pytest.mark.parametrize("letters", ["\u0e01\u0e34" + "\u0e34" * 30_000, "\u0628" * 40_000])
def test_a_first_term_beyond_the_column_is_cut_between_characters(letters: str) -> None:
    written = entry(asset(), collection=Collection.TEXT, text=letters)
    assert len(terms_of(written).encode()) <= MAX_TERMS_BYTES
    assert len(terms_of_question(letters).encode()) <= MAX_TERMS_BYTES


def test_arabic_words_have_no_more_letters_than_others() -> None:
    word = "\u0628" * 200
    written = terms_of(entry(asset(), collection=Collection.TEXT, text=word)).split()
    assert max(map(len, written)) == 64
    assert terms_of_question(word) in written


def test_one_term_fills_the_column_to_a_whole_character(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("penstock.store.lexical.query_terms", lambda text: ["\u56f3" * 22_000, "book"])
    monkeypatch.setattr("penstock.store.lexical.MAX_TERMS_BYTES", 65_534)
    assert terms_of_question("anything") == "\u56f3" * 21_844


def test_a_question_without_a_word_has_no_terms() -> None:
    assert terms_of_question("?!") == ""
