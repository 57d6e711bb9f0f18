"""Finds the words of a claim in a passage: literally, or as another form of the word."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from penstock.query.generate.check.lexicon import common_words, opposites
from penstock.query.generate.check.statement import Statement
from penstock.query.generate.check.words import LIGHT_WEIGHT, Word

_IN_CONTEXT = 0.5  # a word that only the rest of the source has, such as the name behind a pronoun
_OTHER_FORM = 0.9
_MIN_SHARED_CHARS, _SHARED = 4, 0.65  # letters that forms of a word share, and of the longer stem their share
_NAMES_SHARED = 0.55  # Britain, British
_BELIEF_WORDS = "believed believe believes claimed claims claim supposed supposedly allegedly legend myth"
_BELIEFS = frozenset(_BELIEF_WORDS.split())
_ALL = frozenset({"all", "every", "always", "everyone", "everything", "each", "entirely", "completely"})
_SOME_WORDS = "some most often usually sometimes may might many mostly few half occasionally partly can could"
_SOME = frozenset(_SOME_WORDS.split())


@dataclass(frozen=True, slots=True)
class Matches:
    """The words of a claim, found or not.

    Attributes:
        same: for each word of the claim that was found, by its place, the same words of the passage.
        foreign: words that neither the passage nor its source has.
        foreign_names: those of them that are names.
        away: words that the passage does not have, but other sentences of its source.
        coverage: 0 to 1, the share of the weight of all words that was found.
        limits: what the passage restricts and the claim does not, or the other way round, in words.
    """

    same: Mapping[int, tuple[Word, ...]]
    foreign: tuple[Word, ...]
    foreign_names: tuple[Word, ...]
    away: tuple[Word, ...]
    coverage: float
    limits: tuple[str, ...]


def match_words(claim: Statement, passage: Statement, title: Statement, context: Statement) -> Matches:
    """Finds the words of a claim in a passage, or else in its source."""
    same_of: dict[int, tuple[Word, ...]] = {}
    foreign: list[Word] = []
    away: list[Word] = []
    total = matched = 0.0
    for word in claim.content:
        total += word.weight
        same, strength = _same_words(word, passage)
        if same:
            same_of[word.place] = same
            matched += strength * word.weight
        elif word.stem in passage.stems or _same_words(word, title)[0]:
            matched += word.weight
        elif word.stem in context.stems or _same_words(word, context)[0]:
            matched += _IN_CONTEXT * word.weight
            away.append(word)
        else:
            foreign.append(word)
    for quantity in claim.quantities:
        if not quantity.loose:
            total += 1.0
            matched += any(quantity.equals(other) for other in passage.quantities)
    names = tuple(
        word
        for word in foreign
        if word.is_name and word.folded not in common_words() and not _is_initials(word, context)
    )
    limits = tuple(_limits(claim, passage))
    return Matches(same_of, tuple(foreign), names, tuple(away), matched / total if total else 0.0, limits)


def _same_words(word: Word, passage: Statement) -> tuple[tuple[Word, ...], float]:
    """Returns the words of a passage that are the same as a word, and how surely."""
    literal = passage.by_stem.get(word.stem)
    if literal:
        return tuple(literal), 1.0
    if word.cjk or word.weight <= LIGHT_WEIGHT or len(word.stem) < _MIN_SHARED_CHARS:
        return (), 0.0
    forms = tuple(other for other in passage.content if _is_other_form(word, other))
    return forms, _OTHER_FORM if forms else 0.0


def _is_other_form(word: Word, other: Word) -> bool:
    """Returns whether two words share their beginning, as refrigerate and refrigerator do."""
    if other.cjk or word.is_name != other.is_name or word.stem[0] != other.stem[0]:
        return False
    shared, longer = 0, max(len(word.stem), len(other.stem))
    for mine, theirs in zip(word.stem, other.stem, strict=False):
        if mine != theirs:
            break
        shared += 1
    least = max(_MIN_SHARED_CHARS, (_NAMES_SHARED if word.is_name else _SHARED) * longer)
    return shared >= least and other.stem not in opposites().get(word.stem, ())


def _is_initials(name: Word, context: Statement) -> bool:
    """Returns whether a name is the initials of words of the source, such as UN for United Nations."""
    if not name.text.isupper() or len(name.text) < 2:
        return False
    initials = "".join(word.text[0] for word in context.words if word.text[0].isupper())
    return name.text in initials


def _limits(claim: Statement, passage: Statement) -> Iterator[str]:
    """Yields where one of both says less than the other: "unless", "only", "all" against "most"."""
    mine = {word.folded for word in claim.words}
    theirs = {word.folded for word in passage.words}
    for cue in ("unless", "except"):
        if cue in theirs and not mine & {"unless", "except", "if", "but", "other", "not", "without"}:
            yield f"the source says “{cue}”"
        if cue in mine and not theirs & {"unless", "except", "if", "but", "other", "not", "without", "only"}:
            yield f"the source does not say “{cue}”"
    if "only" in mine and not theirs & {"only", "just", "merely", "alone", "nothing", "no", "solely", "exclusively"}:
        yield "the source does not say “only”"
    if theirs & _BELIEFS and not mine & _BELIEFS:
        yield f"the source says it only as “{sorted(theirs & _BELIEFS)[0]}”"
    if mine & _ALL and not theirs & _ALL and theirs & _SOME:
        yield f"the source says “{sorted(theirs & _SOME)[0]}”, not “{sorted(mine & _ALL)[0]}”"
