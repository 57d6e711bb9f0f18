"""Reads the sources of an answer: their sentences, with places, times and vectors."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from penstock.media.text.passages import sentence_spans
from penstock.query.generate.check.statement import Statement, joined, read_statement
from penstock.query.generate.model_instructions import instructs_model
from penstock.query.generate.types import Quote, Source
from penstock.query.understand.language import detect_language
from penstock.records import Float32

_DETECTED_CHARS = 200  # of each source, from which the language is detected

logger = logging.getLogger(__name__)

Encode: TypeAlias = Callable[[Sequence[str]], Awaitable[Float32]]
"""Returns the vectors of texts by the sentence encoder, float32[texts, dim], L2-normalised."""

MAX_SOURCE_SENTENCES = 400  # of one answer; eight passages of 256 tokens have about 100
_VECTOR_BATCH = 16  # sentences in one call of the encoder, so that searches come between


@dataclass(frozen=True, slots=True)
class SourceSentence:
    """A sentence of a source.

    Attributes:
        source: the number of the source.
        row: its place in `ReadSources.sentences`.
        text: verbatim.
        start_char, end_char: within `Source.text`.
        start_ms, end_ms: milliseconds of media time; None: the source has no times.
        statement: what it says, as rules compare it.
    """

    source: int
    row: int
    text: str
    start_char: int
    end_char: int
    start_ms: int | None
    end_ms: int | None
    statement: Statement


@dataclass(frozen=True, slots=True)
class SourceParts:
    """The sentences of sources, at most `MAX_SOURCE_SENTENCES`, and the language of most of them."""

    sentences: tuple[SourceSentence, ...]
    language: str | None


def split_sources(sources: Sequence[Source]) -> SourceParts:
    """Returns the sentences of sources; takes half a millisecond for each."""
    detected = detect_language(" ".join(source.text[:_DETECTED_CHARS] for source in sources))
    language = None if detected is None else detected.code
    return SourceParts(tuple(_sentences(sources, language)), language)


class ReadSources:
    """The sources of one answer, as the check reads them.

    Args:
        sources: with distinct numbers.
        encode: the sentence encoder, which is called in the background; None: there is none.
        parts: their sentences; None: they are split here.

    Attributes:
        sources: by number.
        sentences: of all sources, those of one in order.
        of_source: the same by the number of the source.
        language: of most of the text, ISO 639-1; None: not certain.
        late: whether vectors were not ready in time for a sentence, so that the next ones do not wait for any.
    """

    def __init__(self, sources: Sequence[Source], encode: Encode | None, parts: SourceParts | None = None) -> None:
        parts = parts or split_sources(sources)
        self.sources: Mapping[int, Source] = {source.number: source for source in sources}
        self.language = parts.language
        self.late = False
        self.sentences = parts.sentences
        by_number: dict[int, list[SourceSentence]] = {number: [] for number in self.sources}
        for sentence in self.sentences:
            by_number[sentence.source].append(sentence)
        self.of_source: Mapping[int, Sequence[SourceSentence]] = by_number
        self._joined: dict[tuple[int, ...], Statement] = {}
        self._contexts: dict[int, Statement] = {}
        self._titles: dict[int, Statement] = {}
        self._vectors = (
            None if encode is None or not self.sentences else asyncio.create_task(_encoded(encode, self.sentences))
        )

    async def vectors(self, timeout_s: float) -> Float32 | None:
        """Returns the vectors of the sentences, float32[sentences, dim]; None: absent, failed or not ready by then."""
        if self._vectors is None:
            return None
        await asyncio.wait((self._vectors,), timeout=timeout_s)
        return self._vectors.result() if self._vectors.done() and not self._vectors.cancelled() else None

    def close(self) -> None:
        """Stops encoding. The sentences remain usable."""
        if self._vectors is not None:
            self._vectors.cancel()

    def joined(self, passage: Sequence[SourceSentence]) -> Statement:
        """Returns what some sentences say together."""
        if len(passage) == 1:
            return passage[0].statement
        rows = tuple(sentence.row for sentence in passage)
        if rows not in self._joined:
            self._joined[rows] = joined([sentence.statement for sentence in passage])
        return self._joined[rows]

    def title(self, number: int) -> Statement:
        """Returns what the title of a source says."""
        if number not in self._titles:
            self._titles[number] = read_statement(self.sources[number].hit.entry.title, self.language)
        return self._titles[number]

    def context(self, number: int) -> Statement:
        """Returns what the title and all sentences of a source say."""
        if number not in self._contexts:
            self._contexts[number] = joined(
                [self.title(number), *(sentence.statement for sentence in self.of_source[number])]
            )
        return self._contexts[number]

    def quote(self, passage: Sequence[SourceSentence]) -> Quote:
        """Returns the quotation of neighbouring sentences of one source, the first one first."""
        first, last = passage[0], passage[-1]
        text = self.sources[first.source].text[first.start_char : last.end_char]
        return Quote(first.source, text, first.start_char, last.end_char, first.start_ms, last.end_ms)


async def _encoded(encode: Encode, sentences: Sequence[SourceSentence]) -> Float32 | None:
    """Returns the vectors of sentences; None if the encoder fails, for the rules alone can check too."""
    try:
        batches = [
            await encode([sentence.text for sentence in sentences[at : at + _VECTOR_BATCH]])
            for at in range(0, len(sentences), _VECTOR_BATCH)
        ]
    except asyncio.CancelledError:
        raise
    except Exception:
        logger.warning("the sentences of sources have no vectors: the encoder failed", exc_info=True)
        return None
    return np.concatenate(batches)


def _sentences(sources: Sequence[Source], language: str | None) -> Iterator[SourceSentence]:
    row = 0
    for source in sources:
        for start, end in sentence_spans(source.text):
            if row == MAX_SOURCE_SENTENCES:
                return
            text = source.text[start:end]
            if instructs_model(text):  # it would support whatever it demands
                continue
            start_ms, end_ms = source.span_ms(start, end) or (None, None)
            yield SourceSentence(source.number, row, text, start, end, start_ms, end_ms, read_statement(text, language))
            row += 1
