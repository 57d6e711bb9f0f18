from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from penstock.encoders.base import Fingerprint, Space
from penstock.encoders.batched_encoder import EncoderOptions
from penstock.encoders.profiles import SentencePairSpec, SentenceSpec, load_profile
from penstock.encoders.sentence import SentenceEncoder
from penstock.encoders.sentence_pair import SentencePairEncoder, is_mostly_latin, query_digest
from penstock.encoders.use_encoder import UseEncoder
from penstock.encoders.weights import FolderWeights
from penstock.errors import ConfigError
from penstock.records import Float32
from tests.encoders.conftest import texts_input
from tests.encoders.use_files import OUTPUT, write_use

OPTIONS = EncoderOptions(device="cpu", precision="fp32", cache_size=0, max_items=4)
IDENTITY = Fingerprint("m", "w", "p")
FIRST_DIM = 384


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> SentencePairSpec:
    first = load_profile("reference").passage
    assert isinstance(first, SentenceSpec)
    source = FolderWeights(write_use(tmp_path_factory.mktemp("use")), "weights.npz")
    languages = ("de", "en", "ja")
    second = SentenceSpec("tiny/use", source, Space("tiny", OUTPUT), max_tokens=16, kind="use", languages=languages)
    return SentencePairSpec(first, second, Space("pair", FIRST_DIM + OUTPUT))


@pytest.fixture(scope="module")
def first(spec: SentencePairSpec) -> SentenceEncoder:
    return SentenceEncoder(spec.first, IDENTITY, OPTIONS)


@pytest.fixture(scope="module")
def second(spec: SentencePairSpec) -> UseEncoder:
    return UseEncoder(spec.second, IDENTITY, OPTIONS)


@pytest.fixture(scope="module")
def pair(spec: SentencePairSpec, first: SentenceEncoder, second: UseEncoder) -> SentencePairEncoder:
    return SentencePairEncoder(spec, first, second, IDENTITY, OPTIONS)


def shares(pair: SentencePairEncoder, *questions: str) -> Float32:
    """Returns the second encoder's share of each question's score, by the lengths of the parts."""
    vectors = pair.encode(texts_input(*questions, encoder="passage.query")).vectors
    first = np.linalg.norm(vectors[:, :FIRST_DIM], axis=1)
    second = np.linalg.norm(vectors[:, FIRST_DIM:], axis=1)
    result: Float32 = second / (first + second)
    return result


def test_a_passage_has_both_vectors_with_equal_weights(
    pair: SentencePairEncoder, first: SentenceEncoder, second: UseEncoder
) -> None:
    batch = texts_input("a red bicycle", "green tea", "")
    expected = np.concatenate([first.encode(batch).vectors, second.encode(batch).vectors], axis=1) / np.sqrt(2)
    np.testing.assert_allclose(pair.encode(batch).vectors, expected, atol=1e-5)


def test_the_score_of_a_question_is_the_weighted_mean_of_both_cosines(
    pair: SentencePairEncoder, first: SentenceEncoder, second: UseEncoder
) -> None:
    passages, question = texts_input("green tea", "a red bicycle"), texts_input("red tea", encoder="passage.query")
    cosines = [(encoder.encode(passages).vectors @ encoder.encode(question).vectors[0]) for encoder in (first, second)]
    share = shares(pair, "red tea")[0]
    mean = (1 - share) * cosines[0] + share * cosines[1]
    scores = pair.encode(passages).vectors @ pair.encode(question).vectors[0]
    np.testing.assert_allclose(scores / scores[0], mean / mean[0], rtol=1e-3)


def test_a_question_leans_on_the_encoder_that_knows_its_language(pair: SentencePairEncoder) -> None:
    english, german, russian, chinese, number = shares(
        pair,
        "why does pancake batter have to rest?",
        "warum muss der Teig für Pfannkuchen eine halbe Stunde ruhen?",
        "почему тесто для блинов должно постоять?",
        "煎饼面糊为什么要放置半小时？",
        "2024",
    )
    assert english == pytest.approx(0.25, abs=0.02)
    assert german == pytest.approx(0.7, abs=0.02)
    assert russian == chinese == pytest.approx(0.85, abs=0.02)
    assert number == pytest.approx(0.25, abs=0.02)


def test_the_weighting_of_questions_is_identified_apart_from_the_index(spec: SentencePairSpec) -> None:
    other = replace(spec, second=replace(spec.second, languages=("en", "fr")))
    assert query_digest(spec) not in ("", query_digest(other))
    assert query_digest(spec.first) == ""


def test_one_rare_word_does_not_make_an_english_question_foreign(pair: SentencePairEncoder) -> None:
    assert shares(pair, "how do I cook quinoa")[0] < 0.35


def test_the_tokens_are_the_firsts_and_a_question_in_another_language_has_none(
    pair: SentencePairEncoder, first: SentenceEncoder
) -> None:
    batch = texts_input("a red bicycle", "自転車")
    for ours, theirs in zip(pair.encode_tokens(batch), first.encode_tokens(batch), strict=True):
        assert ours is not None
        assert theirs is not None
        np.testing.assert_allclose(ours, theirs, atol=1e-5)
    known, unknown = pair.encode_tokens(texts_input("a red bicycle", "自転車はどこですか", encoder="passage.query"))
    assert known is not None
    assert unknown is None


def test_a_pair_whose_parts_have_another_length_is_refused(
    spec: SentencePairSpec, first: SentenceEncoder, second: UseEncoder
) -> None:
    with pytest.raises(ConfigError, match=f"set dim = {FIRST_DIM + OUTPUT}"):
        SentencePairEncoder(replace(spec, space=Space("pair", 5)), first, second, IDENTITY, OPTIONS)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", True),
        ("2024 + 7", True),
        ("Straße", True),
        ("tiếng Việt", True),
        ("GPU 的 CUDA 内核", False),
        ("кот", False),
        ("แมว", False),
    ],
)
def test_a_text_is_latin_by_its_letters(text: str, expected: bool) -> None:
    assert is_mostly_latin(text) is expected


def test_a_pair_is_described_by_both_parts(spec: SentencePairSpec, tmp_path: Path) -> None:
    assert spec.name == "sentence-transformers/all-MiniLM-L6-v2 + tiny/use"
    assert spec.max_tokens == 256
    assert spec.languages == ("de", "en", "ja")
    assert replace(spec, first=replace(spec.first, languages=None)).languages is None
