"""Splits the text of an answer into sentences, also while it arrives.

Whether a full stop ends a sentence is decided once the word after it is complete, from the text up to there alone. So
the sentences do not depend on the pieces in which a text arrives.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass

import regex
import sentencex

from penstock.query.generate.markers import MARKER, may_begin_marker, without_markers

logger = logging.getLogger(__name__)

# A sentence that does not end is cut at a space here; sentencex takes quadratic time for quotes that never close.
MAX_SENTENCE_CHARS = 1_500
MAX_MARKER_ROOM = 100  # characters behind a sentence of the maximum length, for its markers
_PIECE_CHARS = 500
_RECENT_CHARS = 300  # before a full stop, which decide with the word after it
_MAX_WORD_CHARS = 24  # of the word after a full stop, the part that decides


@dataclass(frozen=True, slots=True)
class AnswerSentence:
    """A sentence of an answer.

    Attributes:
        text: without markers, bullets and white space around it.
        written: the numbers of its markers, in order.
        start, end: its range in the whole text, in characters, with its markers.
        before: the text between the sentence before and this one: white space, and the bullet of a list.
    """

    text: str
    written: tuple[int, ...]
    start: int
    end: int
    before: str = ""


_CLOSING = "\"'”’»›)\\]）」』】》〉"
_OPENING = _CLOSING + "([{“„«¿¡"
_STOP = regex.compile(
    rf"(?P<dense>[。！？｡．]+[{_CLOSING}」』]*)|(?P<stop>[.!?…؟۔।॥‼⁇⁈⁉։።፧]+[{_CLOSING}]*)|(?P<line>\n)"
)
_MARKERS = regex.compile(rf"(?:[^\S\n]*{MARKER.pattern})+", regex.IGNORECASE)
_SPACE = regex.compile(r"[^\S\n]+")
_BULLET = regex.compile(r"\s*(?:(?:[-*•‣–]|#{1,6}|>|\(?\p{Nd}{1,2}[.)]|\p{L}\))\s+)?")
_LIST_ITEM = regex.compile(r"[^\S\n]*(?:[-*•‣–]|#{1,6}|\(?\p{Nd}{1,2}[.)]|\p{L}\))[^\S\n]")
_BEGINS_LINE = regex.compile(r"[\[【]|(?:[-*•‣–]|#{1,6}|\(?\p{Nd}{1,2}[.)]|\p{L}\))\s")
_MAY_BE_BULLET = regex.compile(r"[^\S\n]*(?:[-*•‣–]|#{1,6}|\(?\p{Nd}{0,2}[.)]?|\p{L}\)?)?")
_NO_WORDS = regex.compile(r"[\s\p{P}\p{S}]*")
# Thai ends sentences by a space; it also separates clauses, so short ones stay together.
_MIN_THAI_CHARS = 20
# Before a word or a number, these end no sentence. sentencex knows the titles and months of its language besides.
_ABBREVIATED = (
    "approx ca cca max min fig figs no nos nr pp vol vols ch sec art ed eds eq tab cf resp incl excl est viz vs al "
    "dept tel ext mt ft bzw usw evtl ggf inkl zzgl bspw abb kap bd hrsg tzn np tj tzv "
    "т д п т.д т.п т.е напр рис см стр гл им ул г в тыс млн руб"
)
_ABBREVIATIONS = frozenset(_ABBREVIATED.split())
_MONTH = regex.compile(r"(?:jan|feb|mär|mar|apr|mai|may|jun|jul|aug|sep|okt|oct|nov|dez|dec)\p{L}*", regex.IGNORECASE)
_NUMBERING = regex.compile(r"\s*\(?(?:\p{Nd}{1,2}|\p{L})[.)]+")
_MAX_QUOTE_CHARS = 200  # an opening quotation mark without a closing one keeps no more than this together
_LAST_WORD = regex.compile(r"([\p{L}\p{N}.]+)\.$")


class SentenceSplitter:
    """Splits a text that arrives in pieces. One splitter serves one text.

    Args:
        language: ISO 639-1, of which sentencex takes abbreviations; it falls back to English.
    """

    def __init__(self, language: str = "en") -> None:
        self._language = language
        self._text = ""  # from the end of the last sentence on
        self._offset = 0  # of that in the whole text
        self._looked = 0  # no sentence ends before this place of the rest

    def feed(self, text: str) -> list[AnswerSentence]:
        """Takes the next piece of the text, and returns the sentences that are complete now."""
        sentences: list[AnswerSentence] = []
        for at in range(0, len(text), _PIECE_CHARS):  # a long rest is searched again and again
            self._text += text[at : at + _PIECE_CHARS]
            sentences += self._complete(final=False)
        return sentences

    def flush(self) -> list[AnswerSentence]:
        """Returns what is left at the end of the text."""
        return list(self._complete(final=True))

    def _complete(self, *, final: bool) -> Iterator[AnswerSentence]:
        while (end := self._next_end(final=final)) is not None:
            sentence = self._take(end)
            if sentence is not None:
                yield sentence
        if final and self._text:
            sentence = self._take(len(self._text))
            if sentence is not None:
                yield sentence

    def _take(self, end: int) -> AnswerSentence | None:
        """Cuts the sentence that ends here off the rest; None if it has no words."""
        start = _start(self._text, end)
        raw = self._text[start:end].rstrip()
        text, written = without_markers(raw)
        at = self._offset + start
        sentence = AnswerSentence(text, written, at, at + len(raw), self._text[:start])
        if _NO_WORDS.fullmatch(text):
            self._cut(end)
            return None
        self._cut(start + len(raw))
        return sentence

    def _cut(self, end: int) -> None:
        self._text = self._text[end:]
        self._offset += end
        self._looked = 0

    def _next_end(self, *, final: bool) -> int | None:
        """Returns the end of the first sentence of the rest, with its markers; None: not known yet."""
        while True:
            stop = _first_stop(self._text, self._looked)
            if stop is None or stop.start() >= MAX_SENTENCE_CHARS:
                return self._too_long()
            if stop.end() == len(self._text) and not final:
                return None  # more full stops or closing quotes may follow
            end = self._with_markers(stop, final=final)
            if end is None:
                return None
            ends = self._ends(stop, end, final=final)
            if ends is None:
                return None
            if ends and not _NO_WORDS.fullmatch(without_markers(self._text[_start(self._text, end) : end])[0]):
                return end
            self._looked = max(stop.end(), self._looked + 1)

    def _too_long(self) -> int | None:
        if len(self._text) < MAX_SENTENCE_CHARS + MAX_MARKER_ROOM:
            return None
        space = self._text.rfind(" ", MAX_SENTENCE_CHARS // 2, MAX_SENTENCE_CHARS)
        return space if space > 0 else MAX_SENTENCE_CHARS

    def _with_markers(self, stop: regex.Match[str], *, final: bool) -> int | None:
        """Returns the end of the markers that follow a full stop; None while more of them may arrive."""
        end: int = stop.end()
        if stop.lastgroup == "line":
            return int(stop.start())
        while (marker := _MARKERS.match(self._text, end)) is not None:
            end = marker.end()
        space = _SPACE.match(self._text, end)
        rest = self._text[space.end() if space is not None else end :]
        if not final and (not rest or may_begin_marker(rest)):
            return None
        return end

    def _ends(self, stop: regex.Match[str], end: int, *, final: bool) -> bool | None:
        """Returns whether a sentence ends at a stop, whose markers end at `end`; None: not known yet."""
        if stop.lastgroup == "line":
            return self._line_ends(stop, final=final)
        if stop.lastgroup in ("dense", "thai"):
            return True
        return self._word_begins(stop, end, final=final)

    def _word_begins(self, stop: regex.Match[str], end: int, *, final: bool) -> bool | None:
        """Returns whether a sentence ends at a full stop, by what follows its markers; None: not known yet."""
        sentence, rest = self._text[: stop.end()], self._text[end:]
        if _NUMBERING.fullmatch(sentence) or _quotes(sentence):
            return False
        if rest and not rest[0].isspace():
            return bool(end > stop.end())  # a marker stands between: `rains.[1]Then`
        word = rest.lstrip()
        is_whole = final or len(word) >= _MAX_WORD_CHARS or regex.search(r"\s", word) is not None
        if not word or not is_whole:
            return True if final else None
        if "\n" in rest[: len(rest) - len(word)] and _BEGINS_LINE.match(word):
            return True
        return self._stops_before(sentence, word[:_MAX_WORD_CHARS].split()[0])

    def _stops_before(self, sentence: str, word: str) -> bool:
        """Returns whether the sentence ends before this word."""
        word = word.lstrip(_OPENING) or word
        if (sentence[-1] in ".…" or sentence[-1] in _CLOSING) and word[0].islower():
            return False
        last = _LAST_WORD.search(sentence)
        if last is not None:
            abbreviation = last[1].lower().rstrip(".")
            if abbreviation in _ABBREVIATIONS or (abbreviation.isdecimal() and _MONTH.match(word)):
                return False
        return _splits(without_markers(sentence[-_RECENT_CHARS:])[0], word, self._language)

    def _line_ends(self, stop: regex.Match[str], *, final: bool) -> bool | None:
        """Returns whether a sentence ends with its line: before an empty line or an item of a list, and after one."""
        after = self._text[stop.end() :]
        line = after.partition("\n")
        if not final and not line[1] and _MAY_BE_BULLET.fullmatch(after):
            return None
        begins = self._text[: stop.start()]
        return (
            not line[0].strip()
            or _LIST_ITEM.match(after) is not None
            or _LIST_ITEM.match(begins.lstrip("\n")) is not None
            or begins.rstrip()[-1:] in (":", "：")
        )


def split_sentences(text: str, language: str = "en") -> list[AnswerSentence]:
    """Returns the sentences of a whole text."""
    splitter = SentenceSplitter(language)
    return [*splitter.feed(text), *splitter.flush()]


def _start(text: str, end: int) -> int:
    """Returns where the sentence begins, behind white space and a bullet."""
    bullet = _BULLET.match(text, 0, end)
    return bullet.end() if bullet is not None else 0


def _first_stop(text: str, at: int) -> regex.Match[str] | None:
    stop = _STOP.search(text, at)
    thai = _THAI_STOP.search(text, at, len(text) if stop is None else stop.start())
    if thai is not None:
        return thai
    return stop


_THAI_STOP = regex.compile(
    rf"(?P<thai>(?<=[\u0e00-\u0e7f]{{{_MIN_THAI_CHARS}}}|[\u0e00-\u0e7f\s]{{{_MIN_THAI_CHARS}}}[\u0e00-\u0e7f])"
    r"(?=[^\S\n]+[\u0e00-\u0e7f]))"
)


def _quotes(sentence: str) -> bool:
    """Returns whether a quotation is open at the end of a text."""
    recent = sentence[-_MAX_QUOTE_CHARS:]
    at = max(
        recent.rfind("“") if recent.rfind("“") > recent.rfind("”") else -1,
        recent.rfind("«") if recent.rfind("«") > recent.rfind("»") else -1,
        recent.rfind('"') if recent.count('"') % 2 and sentence.count('"') % 2 else -1,
    )
    return at >= 0


def _splits(sentence: str, word: str, language: str) -> bool:
    """Returns whether sentencex ends a sentence between a text and a word."""
    try:
        parts: list[str] = sentencex.segment(language, f"{sentence} {word}")
    except BaseException as exc:  # a Rust panic is no Exception
        if type(exc).__name__ != "PanicException":
            raise
        logger.warning("sentencex failed on a sentence of %d characters; it ends at its full stop", len(sentence))
        return True
    return len(parts) > 1 and parts[-1].strip() == word
