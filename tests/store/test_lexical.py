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


def test_terms_beyond_the_column_are_cut_between_terms() -> None:
    joined = terms_of(entry(asset(), collection=Collection.TEXT, text="図書館の本 " * 10_000))
    whole = set(terms_of(entry(asset(), collection=Collection.TEXT, text="図書館の本")).split())
    assert MAX_TERMS_BYTES - 20 < len(joined.encode()) <= MAX_TERMS_BYTES
    assert set(joined.split()) == whole


def test_a_question_without_a_word_has_no_terms() -> None:
    assert terms_of_question("?!") == ""
