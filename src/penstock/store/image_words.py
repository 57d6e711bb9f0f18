"""Puts the words that models gave for images into the texts of their entries."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from penstock.records import Decoded, Encoded, ImageTexts, PendingEntry


def with_words(decoded: Decoded, results: Sequence[Encoded | ImageTexts]) -> tuple[Decoded, list[Encoded]]:
    """Returns the batch with the words of its images as their texts, and the embeddings among the results.

    An image that a model failed on has the words of the other models, or none.
    """
    embeddings = [result for result in results if isinstance(result, Encoded)]
    words = _by_row(result for result in results if isinstance(result, ImageTexts))
    if not words:
        return decoded, embeddings
    pending = (replace(entry, text=_joined(entry, words)) if entry.words else entry for entry in decoded.pending)
    return replace(decoded, pending=tuple(pending)), embeddings


def _joined(entry: PendingEntry, words: Mapping[tuple[str, int], str]) -> str:
    given = (entry.text, *(words.get(row) for row in entry.words))
    return "\n".join(text for text in given if text)


def _by_row(results: Iterable[ImageTexts]) -> dict[tuple[str, int], str]:
    return {
        (result.encoder, row): image.text for result in results for row, image in enumerate(result.texts, result.start)
    }
