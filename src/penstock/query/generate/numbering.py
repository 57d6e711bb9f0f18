"""Step 6, number: citations are numbered 1, 2 … in the order in which the shown sentences first use their sources."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from penstock.query.generate.types import CheckedSentence, Source


class Numbering:
    """Numbers the sources of one answer.

    Args:
        sources: with the numbers of the prompt.
    """

    def __init__(self, sources: Sequence[Source]) -> None:
        self._sources = {source.number: source for source in sources}
        self._shown: dict[int, int] = {}

    @property
    def cited(self) -> tuple[Source, ...]:
        """The sources that were cited so far, with the numbers of the shown answer."""
        return tuple(replace(self._sources[number], number=shown) for number, shown in self._shown.items())

    @property
    def others(self) -> tuple[Source, ...]:
        """The other sources, numbered on."""
        left = [source for number, source in self._sources.items() if number not in self._shown]
        return tuple(replace(source, number=number) for number, source in enumerate(left, start=len(self._shown) + 1))

    def number(self, sentence: CheckedSentence) -> tuple[CheckedSentence, Mapping[int, Source]]:
        """Returns a sentence with the numbers of the shown answer, and the sources that it is the first to cite."""
        before = len(self._shown)
        for number in sentence.citations:
            self.cite(number)
        quotes = tuple(
            replace(quote, source=self._shown[quote.source]) for quote in sentence.quotes if quote.source in self._shown
        )
        citations = tuple(self._shown[number] for number in sentence.citations)
        first_cited = {source.number: source for source in self.cited[before:]}
        return replace(sentence, citations=citations, quotes=quotes), first_cited

    def cite(self, number: int) -> int:
        """Returns the number that a source of the prompt has in the shown answer."""
        return self._shown.setdefault(number, len(self._shown) + 1)


def with_markers(text: str, citations: Sequence[int]) -> str:
    """Returns a sentence with the markers of its citations: `Herons eat fish. [1][2]`."""
    markers = "".join(f"[{number}]" for number in citations)
    return f"{text} {markers}" if markers else text


def marker_places(text: str, sentences: Iterable[tuple[str, Sequence[int]]]) -> Iterator[tuple[int, int, int]]:
    """Yields the range and the number of each marker that `with_markers` added to a text.

    Other text in brackets may look like one.

    Args:
        text: of an answer.
        sentences: each with its citations, in the order of the text.
    """
    at = 0
    for sentence, citations in sentences:
        begin = text.find(with_markers(sentence, citations), at)
        if begin < 0:
            continue
        at = begin + len(sentence) + 1 if citations else begin + len(sentence)
        for number in citations:
            end = at + len(f"[{number}]")
            yield at, end, number
            at = end
