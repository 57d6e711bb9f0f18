"""Words answers that have none: what is not known, and which sources are nearest to the question.

Also recognises the sentence of a generator that the sources do not answer the question: the one that its prompt gives,
and those that models write instead of it.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import regex

from penstock.query.generate.neutral import neutral_name
from penstock.query.generate.numbering import Numbering
from penstock.query.generate.types import Source

_FILE = Path(__file__).with_name("abstentions.toml")
_ENGLISH = "en"
MAX_NAMED = 3
_MAX_TITLE_CHARS = 80
# A sentence that says that nothing is known is short; a longer one says more than that.
_MAX_UNKNOWN_CHARS = 300

NOTHING_SUPPORTED = "no sentence that the sources support answers the question"
GENERATOR_ABSTAINED = "the generator wrote that the sources do not answer the question"
NO_WORDS = "nothing that was found has words"


@dataclass(frozen=True, slots=True)
class _Wording:
    """The words of an abstention in one language.

    Attributes:
        unknown: the sentence for it.
        nearest: before the titles of the nearest sources.
        conjunction: between the last two titles.
        kinds: of sources, by collection.
    """

    unknown: str
    nearest: str
    conjunction: str
    kinds: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class _AbstentionData:
    """The content of the file: patterns, and wordings by language."""

    unknown: regex.Pattern[str]
    condition: regex.Pattern[str]
    wordings: Mapping[str, _Wording]


@cache
def _data() -> _AbstentionData:
    data = tomllib.loads(_FILE.read_text("utf-8"))
    unknown = "|".join(f"(?:{pattern})" for pattern in data["unknown"]).replace("{sources}", data["sources"])
    return _AbstentionData(
        regex.compile(unknown, regex.IGNORECASE),
        regex.compile(data["condition"], regex.IGNORECASE),
        {
            language: _Wording(row["unknown"], row["nearest"], row["and"], row["kinds"])
            for language, row in data["wordings"].items()
        },
    )


def says_unknown(sentence: str) -> bool:
    """Returns whether a sentence of a generator says that the sources do not answer the question."""
    if len(sentence) > _MAX_UNKNOWN_CHARS or _data().condition.match(sentence):
        return False
    return _data().unknown.search(sentence) is not None


def abstention(sources: Sequence[Source], numbering: Numbering, language: str | None) -> str:
    """Returns the text of an answer that has none. It names the nearest sources by title and kind.

    Args:
        sources: the nearest first.
        numbering: numbers those that are named.
        language: of the answer, ISO 639-1; other languages than those that are known here get English.
    """
    wording = _data().wordings.get(language or _ENGLISH, _data().wordings[_ENGLISH])
    nearest = [source for source in sources if _title(source)][:MAX_NAMED]
    named = [_named(source, wording, numbering) for source in nearest]
    if not named:
        return wording.unknown
    *first, last = named
    listed = wording.conjunction.join([", ".join(first), last]) if first else last
    return f"{wording.unknown} {wording.nearest}{listed}."


def _named(source: Source, wording: _Wording, numbering: Numbering) -> str:
    kind = wording.kinds[source.hit.entry.collection]
    return f"“{_title(source)}” ({kind}) [{numbering.cite(source.number)}]"


def _title(source: Source) -> str:
    """Returns the title of a source, else the beginning of its words, without what looks like a marker or HTML."""
    return neutral_name(source.hit.entry.title or source.text, _MAX_TITLE_CHARS)
