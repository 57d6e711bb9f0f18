from __future__ import annotations

import numpy as np
import pytest

from penstock.encoders.load import load_encoder, load_encoders, profile_fingerprints
from penstock.encoders.profiles import load_profile
from penstock.errors import ConfigError
from tests.encoders.conftest import pixels_input, random_pixels, texts_input


def test_the_same_item_has_the_same_vector_and_another_one_another() -> None:
    first = load_encoder("passage.text", load_profile("null")).encode(texts_input("a", "b"))
    second = load_encoder("passage.text", load_profile("null")).encode(texts_input("b", "a"))
    np.testing.assert_array_equal(first.vectors, second.vectors[::-1])
    assert abs(float(first.vectors[0] @ first.vectors[1])) < 0.6
    np.testing.assert_allclose(np.linalg.norm(first.vectors, axis=1), 1, rtol=1e-6)


def test_the_vectors_never_change_between_releases() -> None:
    vector = load_encoder("passage.text", load_profile("null:4")).encode(texts_input("a")).vectors[0]
    np.testing.assert_allclose(vector, [-0.268795, -0.518486, 0.248730, -0.772693], atol=1e-6)


def test_images_and_texts_have_the_requested_dimension() -> None:
    profile = load_profile("null:512")
    encoders = load_encoders(profile)
    size = profile.image.size_px
    assert encoders["joint.image"].encode(pixels_input(random_pixels(3, size))).vectors.shape == (3, 512)
    assert encoders["joint.text"].encode(texts_input("a", encoder="joint.text")).vectors.shape == (1, 512)
    assert {role: encoder.fingerprint for role, encoder in encoders.items()} == profile_fingerprints(profile)


def test_images_of_another_size_are_refused() -> None:
    with pytest.raises(ConfigError, match="same profile"):
        load_encoder("joint.image", load_profile("null")).encode(pixels_input(random_pixels(3, 64)))


def test_images_for_an_encoder_of_texts_are_refused() -> None:
    with pytest.raises(ConfigError, match="same profile"):
        load_encoder("joint.text", load_profile("null")).encode(pixels_input(random_pixels(3, 8)))
