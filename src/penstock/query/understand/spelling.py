"""Corrects the words of a question that neither the tenant's index nor the dictionary knows.

SymSpell's `lookup_compound`, which may replace, join and split every word, makes "is he on" of "isar heron" and
"of how" of "wolf howwl". Here a word is replaced by one other word, only if it is unknown and the other one is clearly
meant.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from penstock.analysis import query_terms
from penstock.query.understand.dictionary import ENGLISH, Dictionary
from penstock.query.understand.language import is_foreign
from penstock.query.understand.vocabulary import Neighbour, Vocabulary
from penstock.query.understand.words import QuestionWord, correctable_words

SHORT_CHARS = 6  # up to this length a correction changes one letter, beyond two
# A question with more unknown words is in another language, or a text that was pasted.
MAX_UNKNOWN = 8
_AFTER_E = frozenset("drn")  # used, larger, taken
_MIN_DISTANT_COUNT = 3


@dataclass(frozen=True, slots=True)
class Correction:
    """A word of a question and the word of the index that was probably meant.

    Attributes:
        start, end: its place in the question, in characters.
        original: the word as it was written.
        corrected: the word that replaces it.
    """

    start: int
    end: int
    original: str
    corrected: str


def unknown_words(
    question: str, vocabulary: Vocabulary, dictionary: Dictionary, language: str | None
) -> list[QuestionWord]:
    """Returns the words of a question that may be misspelt; none if too many are unknown to have been misspelt."""
    words = correctable_words(question)
    if ENGLISH in vocabulary.languages:
        language = None  # a misspelt English question may look like another language
    unknown = [word for word in words if word.folded not in vocabulary and not dictionary.knows(word.folded, language)]
    if not unknown or len(unknown) > MAX_UNKNOWN or (len(words) > 2 and len(unknown) * 2 > len(words)):
        return []
    return [] if is_foreign(question, vocabulary.languages) else unknown


def correct(words: Sequence[QuestionWord], vocabulary: Vocabulary) -> list[Correction]:
    """Returns the corrections of unknown words. Takes up to some milliseconds a word: not for an event loop."""
    corrections = []
    for word in words:
        meant = _meant(word.folded, vocabulary)
        if meant is not None:
            corrected = _in_case_of(word.text, vocabulary.written(meant))
            corrections.append(Correction(word.start, word.end, word.text, corrected))
    return corrections


def apply(question: str, corrections: Sequence[Correction]) -> str:
    """Returns the question with its corrections."""
    for correction in sorted(corrections, key=lambda correction: -correction.start):
        question = question[: correction.start] + correction.corrected + question[correction.end :]
    return question


def _meant(word: str, vocabulary: Vocabulary) -> str | None:
    """Returns the word of the index that an unknown one stands for; None if there is none, or more than one."""
    distance = 1 if len(word) <= SHORT_CHARS else 2
    neighbours = [near for near in vocabulary.near(word, distance) if near.distance == 1 or _is_plausible(word, near)]
    ranked = sorted(neighbours, key=lambda neighbour: (-_likelihood(neighbour), neighbour.word))
    if not ranked or _is_derived(word, ranked[0].word):
        return None
    ambiguous = len(ranked) > 1 and _likelihood(ranked[0]) == _likelihood(ranked[1])
    return None if ambiguous else ranked[0].word


def _is_plausible(word: str, distant: Neighbour) -> bool:
    """Returns whether two mistakes are likelier than a rare word: for a common one with the same beginning."""
    return distant.count >= _MIN_DISTANT_COUNT and distant.word[0] == word[0]


def _likelihood(neighbour: Neighbour) -> float:
    """Returns how likely the neighbour was meant, up to a factor: its frequency, less for each edit."""
    return neighbour.count * 0.01**neighbour.distance


def _is_derived(word: str, indexed: str) -> bool:
    """Returns whether a word is another form of one of the index, which is no mistake: travelers beside travels."""
    ending = word.removeprefix(indexed)
    regular = len(ending) > 1 or ending in ("s", "y") or (ending in _AFTER_E and indexed[-1] == "e")
    if word.startswith(indexed) and regular:
        return True
    return abs(len(word) - len(indexed)) > 1 and (indexed.startswith(word) or query_terms(word) == query_terms(indexed))


def _in_case_of(original: str, corrected: str) -> str:
    return corrected[:1].upper() + corrected[1:] if original[:1].isupper() else corrected
