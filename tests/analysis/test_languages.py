"""Words of eight languages are found in texts by their terms, and hardly any other text is."""

from __future__ import annotations

import pytest

from penstock.analysis import query_terms, terms
from tests.analysis.languages import Language, languages

MIN_RECALL = 0.98
MIN_PRECISION = 0.9  # stemmers match further forms of a word, which are right but not literal


@pytest.mark.parametrize("language", languages(), ids=lambda language: language.code)
def test_words_match_the_texts_that_have_them(language: Language) -> None:
    texts = [set(terms(text)) for text in language.texts]
    expected = {(word, number) for word in language.words for number in language.containing(word)}
    matched = {
        (word, number) for word in language.words for number, text in enumerate(texts) if text & set(query_terms(word))
    }
    assert len(expected & matched) >= MIN_RECALL * len(expected), sorted(expected - matched)
    precision = len(expected & matched) / len(matched)
    assert precision >= MIN_PRECISION, sorted(matched - expected)


@pytest.mark.parametrize("language", languages(), ids=lambda language: language.code)
def test_every_language_has_ten_texts_and_fifty_words_of_them(language: Language) -> None:
    assert len(language.texts) == 10
    assert len(set(language.words)) == 50
    assert all(language.containing(word) or language.code == "ar" for word in language.words)
