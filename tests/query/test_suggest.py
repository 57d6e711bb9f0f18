from __future__ import annotations

import pytest

from penstock.errors import QueryError
from penstock.query.suggest import MAX_SUGGESTIONS, Suggestion, SuggestionKind, suggest
from penstock.query.understand.vocabulary import EMPTY, Vocabulary, count_words
from penstock.records import Collection
from penstock.store.base import EntryText


def vocabulary(*entries: tuple[str, str]) -> Vocabulary:
    """Returns the vocabulary of entries by title and text."""
    texts = [EntryText(str(number), 0, title, text) for number, (title, text) in enumerate(entries)]
    return Vocabulary(count_words([(Collection.TEXT, texts)]))


INDEX = vocabulary(
    ("Anchors of silver", "anchor chain"),
    ("Anchors of silver", "anchor"),
    ("Åland islands", "anchovy"),
    ("Café au lait", "café"),
    ("智能手机评测", "手机"),
    ("", "anchor"),
)


def texts(typed: str, index: Vocabulary = INDEX) -> list[str]:
    return [suggestion.text for suggestion in suggest(typed, index)]


def test_completions_are_ordered_by_the_number_of_entries_titles_before_words() -> None:
    assert suggest("anch", INDEX) == [
        Suggestion("anchor", SuggestionKind.WORD, 3),
        Suggestion("Anchors of silver", SuggestionKind.TITLE, 2),
        Suggestion("anchors", SuggestionKind.WORD, 2),
        Suggestion("anchovy", SuggestionKind.WORD, 1),
    ]


def test_the_last_word_of_a_text_is_completed() -> None:
    assert texts("an old anc") == ["an old anchor", "an old anchors", "an old anchovy"]
    assert texts("  silver  chai") == ["silver  chain"]


def test_case_and_accents_do_not_matter() -> None:
    assert texts("ANCHO") == texts("ancho")
    assert texts("cafe") == texts("CAFÉ") == ["Café au lait", "café"]
    assert texts("aland i") == ["Åland islands"]  # of a title and a word, the title


def test_a_title_is_completed_over_its_spaces() -> None:
    assert texts("anchors  of") == ["Anchors of silver", "anchors  of"]
    assert texts("anchors of ") == ["Anchors of silver"]
    assert texts("智能") == ["智能手机评测"]


def test_nothing_is_suggested_without_text_or_words() -> None:
    for typed in ("", " ", "...", "zzz", '" or 1 == 1', "\x00"):
        assert texts(typed) == []
    assert texts("a", EMPTY) == []


def test_there_are_at_most_ten() -> None:
    index = vocabulary(*[("", f"word{chr(97 + n)}") for n in range(20)])
    assert len(texts("word", index)) == MAX_SUGGESTIONS
    assert len(suggest("word", index, 3)) == 3


def test_limits_are_checked() -> None:
    with pytest.raises(QueryError, match="limit is 11"):
        suggest("a", INDEX, 11)
    with pytest.raises(QueryError, match="q has 201 characters"):
        suggest("a" * 201, INDEX)
