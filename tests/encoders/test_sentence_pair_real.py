"""Short questions in other languages find English texts, where the packages of the profile shelf are installed."""

from __future__ import annotations

import numpy as np
import pytest

from penstock.encoders.base import Encoder
from penstock.encoders.load import load_encoder
from penstock.encoders.profiles import PASSAGE_TEXT, SentencePairSpec, load_profile
from penstock.records import Float32
from penstock.samples import sample_texts
from tests.encoders.conftest import texts_input
from tests.encoders.short_questions import read_short_questions


@pytest.fixture(scope="module")
def pair() -> Encoder:
    profile = load_profile("shelf")
    if not isinstance(profile.passage, SentencePairSpec):
        pytest.skip("a package of the pair is not installed")
    return load_encoder(PASSAGE_TEXT, profile, precision="fp32", device="cpu", threads=1)


@pytest.fixture(scope="module")
def passages(pair: Encoder) -> Float32:
    return pair.encode(texts_input(*(text.text for text in sample_texts()))).vectors


@pytest.mark.parametrize(("language", "min_first"), [("zh", 30), ("de", 23), ("fr", 27)])
def test_short_questions_find_their_text_first(pair: Encoder, passages: Float32, language: str, min_first: int) -> None:
    place_of = {text.key: place for place, text in enumerate(sample_texts())}
    rows = read_short_questions()
    questions = texts_input(*(questions[language] for _, questions in rows), encoder="passage.query")
    scores = pair.encode(questions).vectors @ passages.T
    own = scores[np.arange(len(rows)), [place_of[key] for key, _ in rows]]
    ranks = (scores > own[:, None]).sum(axis=1)
    assert (ranks == 0).sum() >= min_first


def test_single_words_are_weighted_by_their_language(pair: Encoder) -> None:
    english = shares(pair, "dog", "octopus", "garlic", "spinach leaves", "how do I cook quinoa")
    others = shares(pair, "Katze", "Rost entfernen", "Haben Delfine Namen?", "gato negro")
    assert (english < 0.3).all(), english
    assert (others > 0.4).all(), others


def shares(pair: Encoder, *questions: str) -> Float32:
    """Returns the second encoder's share of each question's score, by the lengths of the parts."""
    vectors = pair.encode(texts_input(*questions, encoder="passage.query")).vectors
    first, second = (np.linalg.norm(part, axis=1) for part in (vectors[:, :384], vectors[:, 384:]))
    result: Float32 = second / (first + second)
    return result
