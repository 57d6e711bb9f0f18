"""Every store with BM25 finds words of eight languages, among texts of all of them."""

from __future__ import annotations

import pytest

from penstock.records import Access, Channel, Collection, Field
from penstock.store.base import EntryQuery, Store
from tests.analysis.languages import Language, languages
from tests.store.builders import asset, entry

LEXICAL = Channel(Collection.TEXT, Field.LEXICAL)
TENANT = "eight languages"
LIMIT = 10


def found(store: Store, question: str) -> list[str]:
    """Returns the keys of the assets that a question finds."""
    return [
        hit.entry.asset.key
        for hit in store.search(EntryQuery(LEXICAL, question, Access.to_all_of(TENANT), None, LIMIT, timeout_s=20))
    ]


@pytest.fixture(scope="module")
def filled(store: Store) -> Store:
    if not store.capabilities.lexical:
        pytest.skip("this store has no BM25")
    texts = {
        f"{language.code}-{number}": text for language in languages() for number, text in enumerate(language.texts)
    }
    entries = [entry(asset(TENANT, key), collection=Collection.TEXT, text=text) for key, text in texts.items()]
    store.upsert(Collection.TEXT, entries)
    return store


@pytest.mark.parametrize("language", languages(), ids=lambda language: language.code)
def test_words_of_a_language_find_their_texts(filled: Store, language: Language) -> None:
    expected = found_again = 0
    for word in language.words:
        right = {f"{language.code}-{number}" for number in language.containing(word)}
        expected += len(right)
        found_again += len(right.intersection(found(filled, word)))
    assert found_again >= 0.95 * expected


@pytest.mark.parametrize("question", ["", " … !", "ก", "ม", "น", "ห"])
def test_a_question_without_a_word_finds_nothing(filled: Store, question: str) -> None:
    assert found(filled, question) == []


@pytest.mark.parametrize(
    "question", ["宇宙飞船", "クジラ", "자전거포", "พิพิธภัณฑ์", "ديناصور", "हवाईअड्डा", "вулканы", "Nashörner"]
)
def test_a_word_that_no_text_has_finds_nothing(filled: Store, question: str) -> None:
    assert found(filled, question) == []
