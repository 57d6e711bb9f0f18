"""Reads what a sentence says, in the form in which rules compare it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from penstock.analysis import terms
from penstock.query.generate.check.lexicon import common_words, stem
from penstock.query.generate.check.numbers import Quantity, read_quantities
from penstock.query.generate.check.words import LIGHT_WEIGHT, Word, read_words

_NEGATIVE_PREFIXES = ("un", "in", "im", "ir", "il", "dis", "non", "mis")
_MIN_PREFIXED_CHARS = 6
_PASSIVE = frozenset({"is", "are", "was", "were", "been", "being", "be", "get", "gets", "got"})
_MAX_FOCUS_WORDS = 6


@dataclass(frozen=True, slots=True)
class Negation:
    """A word that negates.

    Attributes:
        place: its number in the sentence.
        clause: the number of its clause.
        focus: the word that it negates before others; None: there is none.
    """

    place: int
    clause: int
    focus: Word | None


@dataclass(frozen=True, slots=True)
class Statement:
    """The content of a sentence, or of neighbouring ones.

    Attributes:
        text: the sentence.
        words: all, in order.
        content: those that claim something, without those of quantities.
        by_stem: the same by their stems.
        stems: the terms of the whole text, stop words among them.
        quantities: its numbers.
        negations: words that negate.
        passive: whether an agent follows with "by".
    """

    text: str
    words: tuple[Word, ...]
    content: tuple[Word, ...]
    by_stem: Mapping[str, Sequence[Word]]
    stems: frozenset[str]
    quantities: tuple[Quantity, ...]
    negations: tuple[Negation, ...]
    passive: bool

    def clause(self, number: int) -> list[Word]:
        """Returns the content of a clause."""
        return [word for word in self.content if word.clause == number]

    def is_negated(self, clause: int) -> bool:
        """Returns whether a clause has an odd number of negations."""
        return sum(negation.clause == clause for negation in self.negations) % 2 == 1


def read_statement(text: str, language: str | None = None) -> Statement:
    """Returns what a sentence says.

    Args:
        text: one sentence, or some.
        language: ISO 639-1; None: not known.
    """
    words = read_words(text, language)
    quantities = read_quantities(words, language)
    counted = {place for quantity in quantities for place in range(quantity.start, quantity.end)}
    content = tuple(word for word in words if word.weight and word.place not in counted and not word.negates)
    by_stem: dict[str, list[Word]] = {}
    for word in content:
        by_stem.setdefault(word.stem, []).append(word)
    folded = [word.folded for word in words]
    return Statement(
        text,
        tuple(words),
        content,
        by_stem,
        frozenset(terms(text)),
        tuple(quantities),
        tuple(_negations(words, content)),
        "by" in folded and any(word in _PASSIVE for word in folded[: folded.index("by")]),
    )


def joined(statements: Sequence[Statement]) -> Statement:
    """Returns what some sentences say together, each in clauses of its own."""
    words: list[Word] = []
    quantities: list[Quantity] = []
    negations: list[Negation] = []
    content: list[Word] = []
    by_stem: dict[str, list[Word]] = {}
    for statement in statements:
        place, clause = len(words), words[-1].clause + 1 if words else 0
        moved = {word.place: replace(word, place=word.place + place, clause=word.clause + clause)
                 for word in statement.words}  # fmt: skip
        words.extend(moved.values())
        content.extend(moved[word.place] for word in statement.content)
        quantities.extend(
            replace(quantity, start=quantity.start + place, end=quantity.end + place)
            for quantity in statement.quantities
        )
        negations.extend(
            Negation(
                negation.place + place,
                negation.clause + clause,
                None if negation.focus is None else moved[negation.focus.place],
            )
            for negation in statement.negations
        )
    for word in content:
        by_stem.setdefault(word.stem, []).append(word)
    return Statement(
        " ".join(statement.text for statement in statements),
        tuple(words),
        tuple(content),
        by_stem,
        frozenset().union(*(statement.stems for statement in statements)),
        tuple(quantities),
        tuple(negations),
        any(statement.passive for statement in statements),
    )


def positive_stem(word: Word) -> str | None:
    """Returns the stem of a word without its negative prefix or ending: like for unlikely; None: it has none."""
    return _positive_stem(word.folded)


@lru_cache(20_000)  # each word of a sentence meets each one of many others
def _positive_stem(folded: str) -> str | None:
    if len(folded) < _MIN_PREFIXED_CHARS:
        return None
    for prefix in _NEGATIVE_PREFIXES:
        if folded.startswith(prefix):
            return stem(folded[len(prefix) :])
    return stem(folded[:-4]) if folded.endswith("less") else None


def is_negative(word: Word) -> bool:
    """Returns whether a word is another one with a negative prefix or ending, such as impossible."""
    folded = word.folded
    if len(folded) < _MIN_PREFIXED_CHARS + 2:
        return False
    positives = [folded[len(prefix) :] for prefix in _NEGATIVE_PREFIXES if folded.startswith(prefix)]
    return any(positive in common_words() for positive in positives)


def _negations(words: Sequence[Word], content: Sequence[Word]) -> list[Negation]:
    negations: list[Negation] = []
    for word in words:
        if word.negates:
            focus = _focus(word, content)
            if focus is not None and 0 < focus.place - word.place <= 2 and is_negative(focus):
                continue  # not impossible
            negations.append(Negation(word.place, word.clause if focus is None else focus.clause, focus))
    return negations


def _focus(cue: Word, content: Sequence[Word]) -> Word | None:
    """Returns the word that a negation is about: the next of some weight in its clause, else the one before.

    The clause of "not that it has gone bad" is the next one.
    """
    if cue.cjk:
        return None
    own = [word for word in content if word.clause == cue.clause]
    near = own or [word for word in content if word.clause == cue.clause + 1]
    after = [word for word in near if 0 < word.place - cue.place <= _MAX_FOCUS_WORDS]
    heavy = [word for word in after if word.weight > LIGHT_WEIGHT]
    before = [word for word in own if word.place < cue.place]
    return next(iter(heavy or after or before[-1:]), None)
