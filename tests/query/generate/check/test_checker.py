"""The check of one sentence, with its repair."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import numpy as np
import pytest

from penstock.query.generate.check import SentenceChecker
from penstock.query.generate.types import CheckedSentence, Support
from penstock.records import Float32
from tests.query.generate.check.samples import text_sources

_TEXTS = ("Honey holds little water. It may turn cloudy with time.", "Wolves howl at dusk. They hunt in packs.")


def _check(text: str, written: Sequence[int], texts: Sequence[str] = _TEXTS) -> CheckedSentence:
    async def check() -> CheckedSentence:
        checker = SentenceChecker()
        return await checker.check(text, written, await checker.read(text_sources(texts)))

    return asyncio.run(check())


def test_a_sentence_of_a_source_is_supported_and_quoted_with_its_place() -> None:
    checked = _check("They hunt in packs.", [2])
    assert (checked.support, checked.citations, checked.repaired) == (Support.SUPPORTED, (2,), False)
    (quote,) = checked.quotes
    assert quote.text == _TEXTS[1][quote.start_char : quote.end_char] == "They hunt in packs."


@pytest.mark.parametrize("written", [[1], [], [7]])
def test_a_marker_moves_to_the_source_that_says_it(written: list[int]) -> None:
    checked = _check("They hunt in packs.", written)
    assert (checked.support, checked.citations, checked.repaired) == (Support.SUPPORTED, (2,), True)


def test_vectors_that_are_late_are_awaited_for_one_sentence_only() -> None:
    awaited: list[str] = []

    async def encode(texts: Sequence[str]) -> Float32:
        if texts[0] not in _TEXTS[0]:
            awaited.append(texts[0])
            await asyncio.Event().wait()
        return np.zeros((len(texts), 4), np.float32)

    async def check() -> list[CheckedSentence]:
        checker = SentenceChecker(encode, encoder_timeout_s=0.2)
        sources = await checker.read(text_sources(_TEXTS[:1]))
        return [await checker.check(text, (), sources) for text in ("Owls sing.", "Cats swim.", "Dogs fly.")]

    assert {checked.support for checked in asyncio.run(check())} == {Support.UNSUPPORTED}
    assert awaited == ["Owls sing."]
