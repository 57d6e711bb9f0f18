"""Reads synonyms in Solr's format, and finds those of a question's words.

    small, tiny => little       a question with `small` is searched for `little`, too
    tv, television, 电视        each of these for the others

A word may be several words. `#` begins a comment, and a backslash keeps the character after it. Questions and files are
compared in folded form; in scripts without spaces a word is found anywhere.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from penstock.analysis.folding import fold
from penstock.errors import ConfigError
from penstock.observability import metrics
from penstock.query.understand.words import has_no_spaces

logger = logging.getLogger(__name__)

MAX_FILE_BYTES = 16 * 1024 * 1024
MAX_PHRASE_WORDS = 5
# A word with hundreds of synonyms must not take the lexical channels' time.
MAX_EXPANSIONS = 16
RELOAD_S = 5.0  # between two looks at the file; a look is a system call


@dataclass(frozen=True, slots=True)
class Synonyms:
    """The expansions of folded words and phrases. Immutable.

    Attributes:
        of: the words to search, too, as the file has them.
        clauses: those of the phrases that are written without spaces, by their first character, the longest first.
    """

    of: Mapping[str, tuple[str, ...]]
    clauses: Mapping[str, tuple[str, ...]]

    def expand(self, question: str) -> dict[str, tuple[str, ...]]:
        """Returns the expansions of the words and phrases of a question, the longest phrases first of all.

        What the question has already is no expansion.
        """
        folded = fold(question)
        expansions: dict[str, tuple[str, ...]] = {}
        left = MAX_EXPANSIONS
        for phrase in dict.fromkeys((*self._phrases(folded.split()), *self._runs(folded))):
            words = tuple(word for word in self.of[phrase] if not _contains(folded, fold(word)))[:left]
            if words:
                expansions[phrase] = words
                left -= len(words)
        return expansions

    def _phrases(self, words: Sequence[str]) -> Iterator[str]:
        start = 0
        while start < len(words):
            lengths = range(min(MAX_PHRASE_WORDS, len(words) - start), 0, -1)
            length = next((n for n in lengths if " ".join(words[start : start + n]) in self.of), 0)
            if length:
                yield " ".join(words[start : start + length])
            start += max(length, 1)

    def _runs(self, folded: str) -> Iterator[str]:
        start = 0
        while start < len(folded):
            phrase = next((p for p in self.clauses.get(folded[start], ()) if folded.startswith(p, start)), "")
            if phrase:
                yield phrase
            start += max(len(phrase), 1)


NO_SYNONYMS = Synonyms({}, {})


def parse_synonyms(text: str, source: str) -> Synonyms:
    """Returns the synonyms of a file's text.

    Raises:
        ConfigError: a line is wrong; the message has its number.
    """
    expansions: dict[str, dict[str, None]] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        for phrase, words in _rules(line, f"{source}, line {number}"):
            expansions.setdefault(phrase, {}).update(dict.fromkeys(words))
    of = {phrase: tuple(words) for phrase, words in expansions.items()}
    clauses: dict[str, list[str]] = {}
    for phrase in sorted(filter(has_no_spaces, of), key=len, reverse=True):
        clauses.setdefault(phrase[0], []).append(phrase)
    return Synonyms(of, {first: tuple(phrases) for first, phrases in clauses.items()})


def read_synonyms(file: Path) -> Synonyms:
    """Returns the synonyms of a file.

    Raises:
        ConfigError: it cannot be read, or a line is wrong; the message has its number.
    """
    try:
        if file.stat().st_size > MAX_FILE_BYTES:
            raise ConfigError(f"{file} (query.synonyms) has more than the {MAX_FILE_BYTES:,} bytes that are allowed")
        text = file.read_text("utf-8-sig")
    except OSError as exc:
        raise ConfigError(f"{file} (query.synonyms) cannot be read: {exc.strerror}") from exc
    except UnicodeDecodeError as exc:
        line = exc.object[: exc.start].count(b"\n") + 1
        raise ConfigError(f"{file} (query.synonyms), line {line}: not UTF-8") from exc
    return parse_synonyms(text, f"{file} (query.synonyms)")


class SynonymFile:
    """The synonyms of a file, read again when it changes. Safe to use from several threads.

    Args:
        file: read now.
        clock: seconds, monotonic.

    Raises:
        ConfigError: it cannot be read, or a line is wrong. A later version that is wrong leaves the one before in use.
    """

    def __init__(self, file: Path, clock: Callable[[], float]) -> None:
        self._file = file
        self._clock = clock
        self._version = self._version_of_file()
        self._looked_s = clock()
        self.current = read_synonyms(file)

    def is_due(self) -> bool:
        """Returns whether the file was not looked at for some seconds."""
        return self._clock() - self._looked_s >= RELOAD_S

    def reload(self) -> None:
        """Reads the file if it is another one than before. Blocks while it reads."""
        self._looked_s = self._clock()
        version = self._version_of_file()
        if version == self._version:
            return
        self._version = version
        try:
            self.current = read_synonyms(self._file)
        except ConfigError as exc:
            logger.warning("%s. The synonyms before it stay in use", exc)
            metrics.UNDERSTANDING.labels("synonyms", "refused").inc()
        else:
            logger.info("synonyms: %d words and phrases of %s", len(self.current.of), self._file)
            metrics.UNDERSTANDING.labels("synonyms", "reloaded").inc()

    def _version_of_file(self) -> tuple[int, int, int]:
        try:
            status = self._file.stat()
        except OSError:
            return (0, 0, 0)
        return (status.st_mtime_ns, status.st_size, status.st_ino)


def _rules(line: str, where: str) -> Iterator[tuple[str, list[str]]]:
    """Yields each phrase of a line with the words to search besides."""
    sides = _split(line, where)
    if not sides:
        return
    if len(sides) > 2:
        raise ConfigError(f"{where}: there is more than one =>")
    for side in sides:
        if not all(map(fold_phrase, side)):
            raise ConfigError(f"{where}: there is an empty word; write `a, b => c` or `a, b`")
    for word in sides[0]:
        phrase = fold_phrase(word)
        if phrase.count(" ") >= MAX_PHRASE_WORDS:
            raise ConfigError(f"{where}: {word!r} has more than {MAX_PHRASE_WORDS} words")
        yield phrase, [other for other in sides[-1] if fold_phrase(other) != phrase]
    if len(sides) == 1 and len(sides[0]) == 1:
        raise ConfigError(f"{where}: {sides[0][0]!r} stands alone; a line has two words at least")


def fold_phrase(phrase: str) -> str:
    """Returns the folded words of a phrase, joined by single spaces."""
    return " ".join(fold(phrase).split())


def _split(line: str, where: str) -> list[list[str]]:
    """Returns the words of each side of a line; no sides of an empty one."""
    sides, word, at = [[""]], "", 0
    while at < len(line) and line[at] != "#":
        if line[at] == "\\":
            if at + 1 == len(line):
                raise ConfigError(f"{where}: a backslash ends the line")
            word, at = word + line[at + 1], at + 2
        elif line[at] == "," or line.startswith("=>", at):
            sides[-1][-1] = word
            if line[at] == ",":
                sides[-1].append("")
            else:
                sides.append([""])
            word, at = "", at + (1 if line[at] == "," else 2)
        else:
            word, at = word + line[at], at + 1
    sides[-1][-1] = word
    stripped = [[" ".join(word.split()) for word in side] for side in sides]
    return [] if stripped == [[""]] else stripped


def _contains(folded: str, phrase: str) -> bool:
    if has_no_spaces(phrase):
        return phrase in folded
    return f" {' '.join(phrase.split())} " in f" {' '.join(folded.split())} "
