"""Counts how many wrong claims the check finds, and how many right ones it takes for wrong, by rules alone.

`python -m benchmarks.check` has the same with the sentence encoder. The claims are of the half of the texts that no
rule or constant was chosen on.
"""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from penstock.query.generate.check import SentenceChecker
from penstock.query.generate.types import Support
from tests.query.generate.check.fixtures import ClaimKind, Half, claims
from tests.query.generate.check.samples import text_sources

_CLAIMS = 60  # of each kind; all of them are in the benchmark
_FLAGGED = (Support.UNSUPPORTED, Support.CONTRADICTED)


def _supports(kind: ClaimKind) -> Counter[Support]:
    async def check() -> Counter[Support]:
        checker = SentenceChecker()
        supports: Counter[Support] = Counter()
        for claim in claims(kind, Half.REPORTED, _CLAIMS):
            read = await checker.read(text_sources(claim.sources))
            supports[(await checker.check(claim.text, [claim.cited], read)).support] += 1
        return supports

    return asyncio.run(check())


def _share(supports: Counter[Support], *among: Support) -> float:
    return sum(supports[support] for support in among) / supports.total()


@pytest.mark.parametrize(
    ("kind", "least"),
    [(ClaimKind.WRONG_SOURCE, 0.95), (ClaimKind.NEGATED, 0.95), (ClaimKind.NUMBER_CHANGED, 0.98)],
)
def test_wrong_claims_are_left_out(kind: ClaimKind, least: float) -> None:
    assert _share(_supports(kind), *_FLAGGED) >= least


@pytest.mark.parametrize(("kind", "least"), [(ClaimKind.WORD_SWAPPED, 0.85), (ClaimKind.EXCHANGED, 0.8)])
def test_swapped_words_keep_a_claim_from_being_supported(kind: ClaimKind, least: float) -> None:
    assert _share(_supports(kind), Support.PARTLY, *_FLAGGED) >= least


@pytest.mark.parametrize(("kind", "most"), [(ClaimKind.VERBATIM, 0.01), (ClaimKind.SHORTENED, 0.05)])
def test_right_claims_are_supported(kind: ClaimKind, most: float) -> None:
    assert 1 - _share(_supports(kind), Support.SUPPORTED, Support.NO_CLAIM) <= most
