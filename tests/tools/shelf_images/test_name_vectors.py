from __future__ import annotations

import numpy as np

from penstock.encoders.load import load_encoder
from penstock.encoders.profiles import PASSAGE_TEXT, load_profile
from tools.shelf_images.name_vectors import centred, make_vectors


def test_centred_vectors_have_nothing_in_common() -> None:
    vectors = (np.random.default_rng(1).normal(size=(50, 8)) + 5.0).astype(np.float32)
    mean = vectors.mean(axis=0)
    moved = centred(vectors)
    np.testing.assert_allclose(moved.mean(axis=0), 0.0, atol=1e-5)
    np.testing.assert_allclose(moved @ (mean / np.linalg.norm(mean)), 0.0, atol=1e-5)


def test_every_class_and_concept_has_a_vector_and_the_encoder_is_named() -> None:
    encoder = load_encoder(PASSAGE_TEXT, load_profile("null:16"))
    names = make_vectors(encoder)
    assert names.classes.matrix.shape == (1000, 16)
    assert names.concepts.matrix.shape == (775, 16)
    assert (names.made_for, names.model) == (encoder.fingerprint.weights, encoder.fingerprint.model)
