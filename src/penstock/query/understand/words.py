"""Cuts texts and questions into words in folded form, and finds those of a question that may be misspelt."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass

import regex

from penstock.analysis.folding import fold

MIN_CORRECTED_CHARS = 4  # shorter words have a neighbour at distance 1 nearly always
MIN_WORD_CHARS, MAX_WORD_CHARS = 2, 40

_WORD = regex.compile(r"[\p{L}\p{M}\p{N}]+")
# Their words have no spaces between them: a run of letters is a clause.
_WITHOUT_SPACES = regex.compile(r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Bopomofo}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]")
# The alphabets in which one wrong letter makes a wrong word. An Arabic or Hebrew word carries its particles, a Korean
# one its endings, and letters of Devanagari are two code points or more.
_ALPHABETIC = regex.compile(r"[\p{Latin}\p{Greek}\p{Cyrillic}\p{Armenian}\p{Georgian}\p{Mn}]+")
_CHUNK = regex.compile(r"\S+")
_EDGES = "\"'“”„«»‚‘’()[]{}<>.,;:!?¿¡…*_"
_OPENING = _EDGES.replace(".", "")  # .dmod is no word
_ENDS_SENTENCE = frozenset(".!?…:")
_QUOTES = {'"': '"', "“": "”", "„": "“”", "«": "»", "‘": "’", "'": "'"}


@dataclass(frozen=True, slots=True)
class QuestionWord:
    """A word of a question that may be replaced.

    Attributes:
        start, end: its place in the question, in characters.
        text: as it was written.
        folded: as vocabularies hold it.
    """

    start: int
    end: int
    text: str
    folded: str


def text_words(text: str) -> dict[str, str]:
    """Returns the distinct words of a text: the folded form of each, and the form of its first occurrence.

    A form is in NFC and lower case. Clauses of scripts without spaces are left out.
    """
    if text.isascii():
        return {word: word for word in fold(text).split() if _is_kept(word)}
    words: dict[str, str] = {}
    for token in dict.fromkeys(_WORD.findall(unicodedata.normalize("NFC", text).lower())):
        if _WITHOUT_SPACES.search(token):
            continue
        folded = fold(token)
        if " " not in folded and _is_kept(folded):
            words.setdefault(folded, token)
    return words


def has_no_spaces(phrase: str) -> bool:
    """Returns whether a phrase has letters of a script without spaces, so that it may stand anywhere in a clause."""
    return _WITHOUT_SPACES.search(phrase) is not None


def is_alphabetic(word: str) -> bool:
    """Returns whether a word has letters of an alphabet alone."""
    return (word.isascii() and word.isalpha()) or _ALPHABETIC.fullmatch(word) is not None


def correctable_words(question: str) -> list[QuestionWord]:
    """Returns the words of a question that spelling may change.

    These are never: words with digits or signs within, in quotes, capitalised inside a sentence, shorter than
    `MIN_CORRECTED_CHARS`, or in another script than an alphabet.
    """
    quoted = _quoted_ranges(question)
    words: list[QuestionWord] = []
    begins = True
    for chunk in _CHUNK.finditer(question):
        left = chunk[0].lstrip(_OPENING)
        text = left.rstrip(_EDGES)
        start = chunk.end() - len(left)
        inside, begins = not begins, chunk[0][-1] in _ENDS_SENTENCE or (begins and not text)
        if not MIN_CORRECTED_CHARS <= len(text) <= MAX_WORD_CHARS or not is_alphabetic(text):
            continue
        if _is_name(text, inside) or any(low <= start < high for low, high in quoted):
            continue
        words.append(QuestionWord(start, start + len(text), text, fold(text)))
    return words


def _is_kept(word: str) -> bool:
    return MIN_WORD_CHARS <= len(word) <= MAX_WORD_CHARS and not word.isdecimal()


def _is_name(text: str, inside: bool) -> bool:
    """Returns whether capitals mark a name or an abbreviation: GTK, LaTeX, and Berlin inside a sentence."""
    return text != text.lower() and (inside or text[1:] != text[1:].lower())


def _quoted_ranges(question: str) -> list[tuple[int, int]]:
    """Returns where the question quotes; an opening mark without a closing one quotes nothing."""
    return list(_quotations(question)) if any(mark in question for mark in _QUOTES) else []


def _quotations(question: str) -> Iterator[tuple[int, int]]:
    at = 0
    while at < len(question):
        closing = _QUOTES.get(question[at])
        opens = closing is not None and (at == 0 or not question[at - 1].isalnum())  # not the apostrophe of don't
        end = _closing(question, at + 1, closing or "") if opens else -1
        if end > 0:
            yield at, end
            at = end
        at += 1


def _closing(question: str, at: int, marks: str) -> int:
    """Returns the place of the first of the marks that ends a word; -1 without one."""
    for place in range(at, len(question)):
        if question[place] in marks and not question[place + 1 : place + 2].isalnum():
            return place
    return -1
