"""Finds the words of a question that say in which collections its answer is, such as "photo of" or 视频.

The words are data: a shipped file in several languages, and one of the user's that adds to it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from penstock.errors import ConfigError
from penstock.query.routing.phrases import PhraseLine, fold, pattern_of, read_phrases
from penstock.records import Collection

SHIPPED_WORDS = Path(__file__).with_name("modality_words.txt")


@dataclass(frozen=True, slots=True)
class NamedCollections:
    """The collections that a question names, with the words that do."""

    collections: frozenset[Collection]
    words: tuple[str, ...]


class ModalityWords:
    """The words of one or more files.

    Args:
        files: in the format that the shipped one explains.

    Raises:
        ConfigError: a file cannot be read or has an invalid line, whose number it says.
    """

    def __init__(self, files: Iterable[Path] = (SHIPPED_WORDS,)) -> None:
        words_of: dict[frozenset[Collection], list[str]] = {}
        for file in files:
            for line in read_phrases(file):
                words_of.setdefault(collections_of(line, file), []).extend(line.phrases)
        self._patterns = [(collections, pattern_of(words)) for collections, words in words_of.items()]

    def find(self, text: str) -> NamedCollections:
        """Returns the collections that a text names; none if it has no such word."""
        folded = fold(text)
        hits = [
            (collections, match.group())
            for collections, pattern in self._patterns
            for match in pattern.finditer(folded)
        ]
        named = frozenset[Collection]().union(*(collections for collections, _ in hits))
        return NamedCollections(named, tuple(dict.fromkeys(word for _, word in hits)))


def collections_of(line: PhraseLine, file: Path) -> frozenset[Collection]:
    """Returns the collections of a line; a name that is none may only be its last one, the language.

    Raises:
        ConfigError: it names something else, or no collection.
    """
    known = frozenset(Collection(name) for name in line.names if name in set(Collection))
    others = [name for name in line.names if name not in set(Collection)]
    if not known or others not in ([], [line.names[-1]]):
        raise ConfigError(
            f"{file}, line {line.number}: expected collections ({', '.join(Collection)}) and a language before the "
            "colon, such as `image, frame en: photo of, photos`"
        )
    return known
