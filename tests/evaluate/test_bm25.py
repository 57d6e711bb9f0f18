"""BM25 of the offline search equals that of the store in memory."""

from __future__ import annotations

import re
from collections import Counter

import numpy as np
import pytest

from penstock.evaluate.bm25 import BM25
from penstock.store import memory

TEXTS = ["a red apple", "red red wine", "", "a green apple and a green pear", "an entirely different sentence"]


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


@pytest.mark.parametrize("query", ["red apple", "green", "nothing of it", "", "Apple, PEAR!"])
def test_scores_equal_those_of_the_store(query: str) -> None:
    expected = memory._bm25([Counter(_words(text)) for text in TEXTS], Counter(_words(query)))
    np.testing.assert_allclose(BM25(TEXTS, _words, _words).scores(query), expected, atol=1e-12)


def test_an_empty_index_scores_nothing() -> None:
    assert BM25([]).scores("red").tolist() == []
    assert BM25(["", ""]).scores("red").tolist() == [0.0, 0.0]
