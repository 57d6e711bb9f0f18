"""The words and titles of one tenant's index, with the number of entries of each."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from penstock.analysis.folding import fold
from penstock.query.understand.deletes import DeleteIndex
from penstock.query.understand.language import detect_language
from penstock.query.understand.words import is_alphabetic, text_words
from penstock.records import Collection
from penstock.store.base import EntryText

_T = TypeVar("_T")
# The asset of a frame or a sound mostly has a passage of speech, too, with the same title.
COUNTED_COLLECTIONS = frozenset({Collection.TEXT, Collection.IMAGE, Collection.SPEECH})
MAX_TITLE_CHARS = 120  # a longer one is not suggested; its words are
# One deletion makes a word of three letters of one of four.
_MIN_CANDIDATE_CHARS = 3
_LAST = chr(0x10FFFF)
# A detection takes 0.1 ms: 2,000 of them estimate a share of 5 % within 1 %.
_SAMPLED_EVERY, _MAX_SAMPLES, _MIN_SHARE = 4, 2_000, 0.05


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A word of the index beside another one, at an edit distance."""

    word: str
    count: int
    distance: int


@dataclass(frozen=True, slots=True)
class Title:
    """A title as producers wrote it, and the number of assets that have it."""

    text: str
    count: int


@dataclass(slots=True)
class WordCounts:
    """Counts words and titles while entries are read. Belongs to one thread.

    Attributes:
        words: the number of entries of each folded word.
        written: the form of folded words that were written otherwise, such as `café` for `cafe`.
        titles: by folded title.
        entries: how many were read.
        languages: of a sample of their texts, those that are certain.
    """

    words: dict[str, int] = field(default_factory=dict)
    written: dict[str, str] = field(default_factory=dict)
    titles: dict[str, Title] = field(default_factory=dict)
    entries: int = 0
    languages: Counter[str] = field(default_factory=Counter)

    def add(self, collection: Collection, entry: EntryText) -> None:
        """Counts an entry. A title belongs to a whole asset, and counts with its first part."""
        if self.entries % _SAMPLED_EVERY == 0 and self.languages.total() < _MAX_SAMPLES:
            detected = detect_language(entry.text)
            if detected is not None and detected.code is not None:
                self.languages[detected.code] += 1
        self.entries += 1
        title = entry.title if entry.part == 0 and self._add_title(collection, " ".join(entry.title.split())) else ""
        for folded, form in text_words(f"{title}\n{entry.text}").items():
            self.words[folded] = self.words.get(folded, 0) + 1
            if form != folded:
                self.written.setdefault(folded, form)

    def _add_title(self, collection: Collection, text: str) -> bool:
        """Counts a title unless an entry of another collection has counted it; returns whether it did."""
        folded = " ".join(fold(text).split())
        known = self.titles.get(folded)
        if not folded or (known and collection not in COUNTED_COLLECTIONS):
            return False
        if len(text) <= MAX_TITLE_CHARS:
            self.titles[folded] = Title(text, 1) if known is None else Title(known.text, known.count + 1)
        return True

    def keep_most_frequent(self, max_words: int, max_titles: int) -> bool:
        """Forgets the rarest words and titles beyond these numbers; returns whether there were any."""
        excess = len(self.words) > max_words or len(self.titles) > max_titles
        if len(self.words) > max_words:
            self.words = _most_counted(
                self.words, np.fromiter((count for count in self.words.values()), np.int64), max_words
            )
            self.written = {word: form for word, form in self.written.items() if word in self.words}
        if len(self.titles) > max_titles:
            counts = np.fromiter((title.count for title in self.titles.values()), np.int64)
            self.titles = _most_counted(self.titles, counts, max_titles)
        return excess


class Vocabulary:
    """The words and titles of a tenant at one time. Immutable, and safe to use from several threads.

    A word is in folded form: without case and accents.

    Args:
        counts: of its entries; copied.

    Attributes:
        entries: how many were counted.
        languages: those in which a good part of its texts is written; empty if that is not certain.
    """

    def __init__(self, counts: WordCounts) -> None:
        self._words = _ordered(counts.words)
        self._counts = np.fromiter((counts.words[word] for word in self._words), np.uint32, len(self._words))
        self._written = dict(counts.written)
        candidates = [word for word in self._words if len(word) >= _MIN_CANDIDATE_CHARS and is_alphabetic(word)]
        self._candidates = candidates
        self._deletes = DeleteIndex(candidates)
        self._titles = _ordered(counts.titles)
        self._title_texts = [counts.titles[title] for title in self._titles]
        self._title_counts = np.fromiter((title.count for title in self._title_texts), np.uint32, len(self._titles))
        self.entries = counts.entries
        self._sampled = Counter(counts.languages)
        self.languages = frozenset(
            language for language, texts in self._sampled.items() if texts >= _MIN_SHARE * self._sampled.total()
        )

    def __len__(self) -> int:
        return len(self._words)

    def __contains__(self, word: str) -> bool:
        return self._place(word) is not None

    def count(self, word: str) -> int:
        """Returns the number of entries with a word; 0 without any."""
        place = self._place(word)
        return 0 if place is None else int(self._counts[place])

    def written(self, word: str) -> str:
        """Returns the form in which a folded word was written first, in lower case."""
        return self._written.get(word, word)

    def near(self, word: str, distance: int) -> list[Neighbour]:
        """Returns the words within an edit distance of 1 or 2, in no order. Takes some milliseconds."""
        matches = ((self._candidates[place], edits) for place, edits in self._deletes.within(word, distance))
        return [Neighbour(candidate, self.count(candidate), edits) for candidate, edits in matches]

    def complete(self, prefix: str, limit: int) -> list[tuple[str, int]]:
        """Returns the words that begin with a folded prefix as they were written, the most frequent first."""
        places = _most_frequent(self._words, self._counts, prefix, limit)
        return [(self.written(self._words[place]), int(self._counts[place])) for place in places]

    def complete_title(self, prefix: str, limit: int) -> list[Title]:
        """Returns the titles that begin with a folded prefix, the most frequent first."""
        places = _most_frequent(self._titles, self._title_counts, prefix, limit)
        return [self._title_texts[place] for place in places]

    def counts(self) -> WordCounts:
        """Returns its content as counts, to add further entries to."""
        words = _paired(self._words, self._counts.tolist())
        titles = _paired(self._titles, self._title_texts)
        return WordCounts(words, dict(self._written), titles, self.entries, Counter(self._sampled))

    def _place(self, word: str) -> int | None:
        place = bisect_left(self._words, word)
        return place if place < len(self._words) and self._words[place] == word else None


def count_words(pages: Iterable[tuple[Collection, Iterable[EntryText]]]) -> WordCounts:
    """Returns the counts of entries that are at hand."""
    counts = WordCounts()
    for collection, entries in pages:
        for entry in entries:
            counts.add(collection, entry)
    return counts


def vocabulary_of(texts: Mapping[str, str]) -> Vocabulary:
    """Returns the vocabulary of texts by title, for evaluations and tests."""
    entries = (EntryText(str(number), 0, title, text) for number, (title, text) in enumerate(texts.items()))
    return Vocabulary(count_words([(Collection.TEXT, entries)]))


# One call of C holds the interpreter until it ends, and with it the event loop of a replica: 100 ms to sort 200,000
# words. So they are sorted by their first letters, and chosen by arrays.


def _ordered(words: Iterable[str]) -> list[str]:
    """Returns the words in order."""
    by_beginning: dict[str, list[str]] = {}
    for word in words:
        by_beginning.setdefault(word[:3], []).append(word)
    ordered: list[str] = []
    for beginning in sorted(by_beginning):
        ordered += sorted(by_beginning[beginning])
    return ordered


def _paired(keys: Sequence[str], items: Sequence[_T]) -> dict[str, _T]:
    """Returns the items by key, a thousand at a time."""
    paired: dict[str, _T] = {}
    for start in range(0, len(keys), 1_000):
        paired.update(zip(keys[start : start + 1_000], items[start : start + 1_000], strict=True))
    return paired


def _most_counted(items: Mapping[str, _T], counts: NDArray[np.int64], limit: int) -> dict[str, _T]:
    """Returns the items of the largest counts, which are in the same order; of equal ones the first."""
    if limit == 0:
        return {}
    least = np.partition(counts, -limit)[-limit]
    room = limit - int((counts > least).sum())
    kept: dict[str, _T] = {}
    for (key, item), count in zip(items.items(), counts.tolist(), strict=True):
        if count == least:
            room -= 1
        if count > least or (count == least and room >= 0):
            kept[key] = item
    return kept


def _most_frequent(words: Sequence[str], counts: NDArray[np.uint32], prefix: str, limit: int) -> list[int]:
    """Returns the places of the most frequent words that begin with a prefix; those of one count in their order."""
    low, high = bisect_left(words, prefix), bisect_left(words, prefix + _LAST)
    if not prefix or low == high:
        return []
    chosen = counts[low:high].astype(np.int64)
    if len(chosen) > limit:  # the least count of the most frequent ones leaves few to order
        chosen[chosen < np.partition(chosen, -limit)[-limit]] = -1
    order = np.argsort(-chosen, kind="stable")[:limit]
    return [low + int(place) for place in order]


EMPTY = Vocabulary(WordCounts())
