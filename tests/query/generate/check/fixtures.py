"""Makes claims that are right and wrong in known ways from the texts that ship with Penstock.

The texts are divided by a hash of their key: parameters and rules were chosen on the tuning half, and what is reported
and tested is the other one.
"""

from __future__ import annotations

import json
import random
import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from penstock.analysis import terms
from penstock.media.text.passages import sentence_spans
from penstock.query.generate.check.lexicon import lexicon
from penstock.samples.texts import sample_texts

SEED = 31
PER_KIND = 160


class Half(StrEnum):
    """Names the halves of the texts."""

    TUNING = "tuning"
    REPORTED = "reported"


class ClaimKind(StrEnum):
    """Names how a claim was made from a sentence."""

    VERBATIM = "verbatim"
    SHORTENED = "shortened"  # a clause was left out
    WRONG_SOURCE = "wrong source"  # it cites the text that shares most words with it, and its own one is absent
    NEGATED = "negated"
    NUMBER_CHANGED = "number changed"
    WORD_SWAPPED = "word swapped"  # a content word is one of another text
    EXCHANGED = "exchanged"  # two of its own content words took each other's place
    PARAPHRASE = "paraphrase"  # written by hand: other words, the same meaning
    WRONG_TRAP = "wrong trap"  # written by hand: the right words, and wrong
    RIGHT_TRAP = "right trap"  # written by hand: it looks wrong, and is right


@dataclass(frozen=True, slots=True)
class Claim:
    """A claim with the texts that it may rest on.

    Attributes:
        kind: how it was made.
        text: the claim.
        cited: the number of the source that it cites, from 1.
        sources: title and text of each.
        key: of the text that it was made from.
    """

    kind: ClaimKind
    text: str
    cited: int
    sources: tuple[tuple[str, str], ...]
    key: str


def claims(kind: ClaimKind, half: Half, limit: int = PER_KIND) -> list[Claim]:
    """Returns claims of a kind from one half of the texts, at most `limit`, always the same."""
    if kind in _WRITTEN:
        return [claim for claim in _written(kind) if _half(claim.key) is half]
    drawn = random.Random(f"{SEED} {kind}")
    candidates = [
        Claim(kind, text, 1, _sources(key, kind), key)
        for key, own in _TEXTS.items()
        if _half(key) is half
        for sentence in _sentences(own)
        for text in _MADE[kind](sentence, key, drawn)
    ]
    drawn.shuffle(candidates)
    return candidates[:limit]


def _written(kind: ClaimKind) -> Iterator[Claim]:
    file = Path(__file__).with_name("paraphrases.jsonl" if kind is ClaimKind.PARAPHRASE else "traps.jsonl")
    for line in file.read_text("utf-8").splitlines():
        record = json.loads(line)
        if kind is ClaimKind.PARAPHRASE or record["right"] is (kind is ClaimKind.RIGHT_TRAP):
            key = record["key"]
            yield Claim(kind, record["claim"], 1, _sources(key, kind), key)


_WRITTEN = frozenset({ClaimKind.PARAPHRASE, ClaimKind.WRONG_TRAP, ClaimKind.RIGHT_TRAP})


def _half(key: str) -> Half:
    return Half.TUNING if zlib.crc32(key.encode()) % 2 else Half.REPORTED


_TEXTS = {text.key: text.text for text in sample_texts()}
_TITLES = {text.key: text.title for text in sample_texts()}
_TERMS = {key: frozenset(terms(text)) - lexicon("en").stop for key, text in _TEXTS.items()}
_OTHER_SOURCES = 3


def _sentences(text: str) -> list[str]:
    return [text[start:end] for start, end in sentence_spans(text)]


def _sources(key: str, kind: ClaimKind) -> tuple[tuple[str, str], ...]:
    """Returns the own text and those most like it; of claims with a wrong source those alone."""
    others = sorted((other for other in _TEXTS if other != key), key=lambda other: -len(_TERMS[key] & _TERMS[other]))
    numbered = others[:_OTHER_SOURCES] if kind is ClaimKind.WRONG_SOURCE else [key, *others[:_OTHER_SOURCES]]
    return tuple((_TITLES[number], _TEXTS[number]) for number in numbered)


# --- claims from a sentence ------------------------------------------------------------------------------------------

_MIN_CLAIM_WORDS = 4
_CUTS = re.compile(r"(?:,|;|:)? (?:and|but|because|so that|which|while|when|until|unless|before|after) |, |; |: ")
_AUXILIARY = re.compile(r"\b(is|are|was|were|can|could|will|would|should|must|may|might)\b(?! not| never)")
_NEGATIVE = re.compile(r"\b(not|never) ")
_NO = re.compile(r"\b([Nn])o (?=\w+)")
_NUMBER_WORDS = (
    "two three four five six seven eight nine ten eleven twelve fifteen twenty thirty forty fifty sixty seventy "
    "eighty ninety hundred thousand million dozen"
)
_NUMBERS = tuple(_NUMBER_WORDS.split())
_NUMBER = re.compile(rf"\b({'|'.join(_NUMBERS)}|\d[\d,.]*\d|\d)\b")
_WORD = re.compile(r"\b[a-z]{4,}\b")


def _verbatim(sentence: str, key: str, drawn: random.Random) -> Iterator[str]:
    yield sentence


def _shortened(sentence: str, key: str, drawn: random.Random) -> Iterator[str]:
    cuts = [match.start() for match in _CUTS.finditer(sentence) if not _NUMBER.match(sentence, match.end())]
    kept = [sentence[:cut] for cut in cuts if len(sentence[:cut].split()) >= _MIN_CLAIM_WORDS]
    if kept:
        yield f"{drawn.choice(kept)}."


def _negated(sentence: str, key: str, drawn: random.Random) -> Iterator[str]:
    if (match := _AUXILIARY.search(sentence)) is not None:
        negation = "cannot" if match[0] == "can" else f"{match[0]} {drawn.choice(('not', 'not', 'never'))}"
        yield sentence[: match.start()] + negation + sentence[match.end() :]
    elif (match := _NEGATIVE.search(sentence)) is not None:
        yield sentence[: match.start()] + sentence[match.end() :]
    elif (match := _NO.search(sentence)) is not None:
        yield sentence[: match.start()] + ("Some " if match[1] == "N" else "some ") + sentence[match.end() :]


def _number_changed(sentence: str, key: str, drawn: random.Random) -> Iterator[str]:
    for match in _NUMBER.finditer(sentence):
        word = match[0]
        if word[0].isdigit():
            value = int(re.sub(r"\D", "", word))
            others = [str(value + more) for more in drawn.sample((1, 3, 10, 100), 2)]
        else:
            among = _NUMBERS[:20] if word in _NUMBERS[:20] else _NUMBERS[20:]
            others = drawn.sample([number for number in among if number != word], 2)
        for other in others:
            yield sentence[: match.start()] + other + sentence[match.end() :]


def _word_swapped(sentence: str, key: str, drawn: random.Random) -> Iterator[str]:
    words = _content(sentence)
    if words:
        match = drawn.choice(words)
        foreign = [word for word in _FOREIGN if not _TERMS[key] & set(terms(word))]
        yield sentence[: match.start()] + drawn.choice(foreign) + sentence[match.end() :]


def _exchanged(sentence: str, key: str, drawn: random.Random) -> Iterator[str]:
    words = _content(sentence)
    if len(words) >= 3:
        first, second = sorted(drawn.sample(range(len(words)), 2))
        left, right = words[first], words[second]
        yield (
            sentence[: left.start()]
            + right[0]
            + sentence[left.end() : right.start()]
            + left[0]
            + sentence[right.end() :]
        )


def _content(sentence: str) -> list[re.Match[str]]:
    lists = lexicon("en")
    return [
        match
        for match in _WORD.finditer(sentence)
        if match[0] not in lists.stop | lists.light and match[0] not in _NUMBERS
    ]


_FOREIGN = sorted({match[0] for text in _TEXTS.values() for match in _content(text)})

_MADE: dict[ClaimKind, Callable[[str, str, random.Random], Iterator[str]]] = {
    ClaimKind.VERBATIM: _verbatim,
    ClaimKind.SHORTENED: _shortened,
    ClaimKind.WRONG_SOURCE: _verbatim,
    ClaimKind.NEGATED: _negated,
    ClaimKind.NUMBER_CHANGED: _number_changed,
    ClaimKind.WORD_SWAPPED: _word_swapped,
    ClaimKind.EXCHANGED: _exchanged,
}


def counted(half: Half) -> Sequence[tuple[ClaimKind, int]]:
    """Returns how many claims of each kind a half of the texts gives."""
    return [(kind, len(claims(kind, half, limit=10_000))) for kind in ClaimKind]
