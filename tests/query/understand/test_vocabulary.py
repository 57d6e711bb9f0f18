from __future__ import annotations

import tracemalloc
from dataclasses import replace

import pytest

from penstock.query.understand.vocabulary import (
    EMPTY,
    MAX_TITLE_CHARS,
    Neighbour,
    Title,
    Vocabulary,
    WordCounts,
    count_words,
    vocabulary_of,
)
from penstock.records import Collection
from penstock.store.base import EntryText


def text(content: str, *, title: str = "", part: int = 0) -> EntryText:
    return EntryText("id", part, title, content)


def vocabulary(*entries: EntryText, collection: Collection = Collection.TEXT) -> Vocabulary:
    return Vocabulary(count_words([(collection, entries)]))


def test_a_word_counts_once_for_each_entry() -> None:
    words = vocabulary(text("anchor Anchor chain"), text("anchor"))
    assert [words.count(word) for word in ("anchor", "chain", "rope")] == [2, 1, 0]
    assert "anchor" in words
    assert "rope" not in words
    assert (len(words), words.entries) == (2, 2)


def test_a_title_counts_with_the_first_part_of_its_asset() -> None:
    words = vocabulary(text("one", title="Ropes"), text("two", title="Ropes", part=1))
    assert words.count("ropes") == 1
    assert words.complete_title("rop", 5) == [Title("Ropes", 1)]
    assert vocabulary(text("", title="x" * (MAX_TITLE_CHARS + 1))).complete_title("x", 5) == []


def test_neighbours_have_their_counts_and_distances() -> None:
    words = vocabulary(text("captain"), text("captain captions"))
    assert sorted(words.near("captian", 2), key=lambda neighbour: neighbour.word) == [
        Neighbour("captain", 2, 1),
        Neighbour("captions", 1, 2),
    ]


def test_completions_are_ordered_by_the_number_of_entries_and_shown_as_written() -> None:
    entries = [text("cafeteria cafe"), text("Café cafés"), text("cafés")]
    words = vocabulary(*entries, *[text("cafard")] * 3)
    assert words.complete("caf", 3) == [("cafard", 3), ("café", 2), ("cafés", 2)]
    assert words.complete("caf", 1) == [("cafard", 3)]
    assert words.complete("", 3) == words.complete("x", 3) == EMPTY.complete("c", 3) == []


def test_languages_are_those_of_a_good_part_of_the_texts() -> None:
    english = text("The captain of the ship dropped the anchor in the bay.")
    assert vocabulary(*[english] * 8).languages == {"en"}
    assert EMPTY.languages == frozenset()


def test_counts_continue_where_a_vocabulary_ended() -> None:
    first, second = text("Café anchor", title="A"), text("anchor", title="A")
    counts = vocabulary(first).counts()
    counts.add(Collection.TEXT, second)
    continued, together = Vocabulary(counts), vocabulary(first, second)
    assert continued.complete("a", 9) == together.complete("a", 9)
    assert continued.complete("caf", 9) == [("café", 1)]
    assert continued.complete_title("a", 9) == [Title("A", 2)]
    assert continued.entries == 2


def test_the_rarest_words_and_titles_are_forgotten_first() -> None:
    counts = count_words([(Collection.TEXT, [text("an anchor"), text("anchor is ñu"), text("is", title="T")])])
    assert counts.keep_most_frequent(2, 0)
    assert counts.words == {"anchor": 2, "is": 2}
    assert not counts.written
    assert not counts.titles
    assert not counts.keep_most_frequent(2, 0)


@pytest.mark.parametrize("words", [20_000])
def test_a_vocabulary_takes_less_than_500_bytes_a_word(words: int) -> None:
    letters = "abcdefghijklmnopqrst"
    counts = WordCounts(
        {
            f"{letters[n % 20]}{letters[n // 20 % 20]}e{letters[n // 400 % 20]}a{n // 8000 + 10:x}".translate(
                str.maketrans("0123456789", "uvwxyzklmn")
            ): 1
            for n in range(words)
        }
    )
    assert len(counts.words) == words
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    vocabulary = Vocabulary(replace(counts, words=dict(counts.words)))
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    strings = sum(map(len, counts.words)) + 49 * words
    assert len(vocabulary) == words
    assert after - before + strings < 500 * words


def test_texts_by_title_make_a_vocabulary() -> None:
    assert vocabulary_of({"Boats": "an anchor"}).count("boats") == 1
