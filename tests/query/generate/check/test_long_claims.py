"""Tests sentences that are checked in parts."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.query.generate.check import SentenceChecker
from penstock.query.generate.check.long_claims import MAX_CLAIM_CHARS, claim_parts
from penstock.query.generate.types import CheckedSentence, Support
from tests.query.generate.check.samples import text_sources

_LONG = ", ".join(f"the heron of pond number {number} eats fish beside tall trees" for number in range(20, 36))


def _check(text: str, *sources: str) -> CheckedSentence:
    async def check() -> CheckedSentence:
        checker = SentenceChecker()
        return await checker.check(text, (1,), await checker.read(text_sources(list(sources))))

    return asyncio.run(check())


@given(st.text(st.sampled_from("ab .,é"), max_size=2_000))
def test_the_parts_have_all_words_and_are_short(text: str) -> None:
    parts = claim_parts(text)
    assert "".join("".join(parts).split()) == "".join(text.split())
    assert all(len(part) <= MAX_CLAIM_CHARS for part in parts)
    assert parts


def test_a_long_sentence_is_supported_by_a_source_that_has_it() -> None:
    assert len(_LONG) > 2 * MAX_CLAIM_CHARS
    checked = _check(f"{_LONG}.", f"{_LONG}. Herons nest.")
    assert (checked.support, checked.citations, checked.text) == (Support.SUPPORTED, (1,), f"{_LONG}.")


@pytest.mark.parametrize(
    "tail",
    [
        "and Napoleon conquered Moscow with 4000 elephants",
        ", ".join(["owls juggle burning torches below purple volcanoes"] * 10),
    ],
)
def test_nothing_hides_behind_a_long_beginning(tail: str) -> None:
    checked = _check(f"{_LONG}, {'and so on, ' * 20}{tail}.", f"{_LONG}. Herons nest.")
    assert checked.support in (Support.UNSUPPORTED, Support.CONTRADICTED)
