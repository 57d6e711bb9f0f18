"""A profile with a transform is another model: other spaces, slugs and fingerprints, and vectors that are mapped."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from penstock.config import Settings
from penstock.encoders.load import fingerprint, load_encoder
from penstock.encoders.profiles import (
    JOINT_IMAGE,
    JOINT_TEXT,
    PASSAGE_TEXT,
    TransformChoice,
    join_transform,
    load_profile,
    split_transform,
)
from penstock.encoders.profiles.record import with_recorded_profile, with_selected_profile
from penstock.encoders.transform import described, linear_transform, save_transform
from penstock.errors import ConfigError
from penstock.records import Collection, EncoderInput

PLAIN = "null:6"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A transform to the last two of six dimensions."""
    file = tmp_path / "turned.safetensors"
    save_transform(linear_transform(np.eye(6, dtype=np.float32)[:, 4:]), file)
    return file


def encoded(profile: str, role: str, *texts: str) -> np.ndarray:
    encoder = load_encoder(role, load_profile(profile))
    return encoder.encode(EncoderInput(role, texts, texts=texts)).vectors


def test_vectors_of_the_space_are_mapped_and_those_of_others_are_not(file: Path) -> None:
    name = f"{PLAIN}+passage={file}"
    before, after = (encoded(profile, PASSAGE_TEXT, "a", "b") for profile in (PLAIN, name))
    expected = before[:, 4:] / np.linalg.norm(before[:, 4:], axis=1, keepdims=True)
    np.testing.assert_allclose(after, expected, atol=1e-6)
    np.testing.assert_array_equal(encoded(name, JOINT_TEXT, "a"), encoded(PLAIN, JOINT_TEXT, "a"))
    profile = load_profile(name)
    assert (profile.space(PASSAGE_TEXT).dim, profile.space(JOINT_TEXT).dim) == (2, 6)


def test_an_empty_batch_has_the_length_of_the_space(file: Path) -> None:
    assert encoded(f"{PLAIN}+passage={file}", PASSAGE_TEXT).shape == (0, 2)


def test_all_encoders_of_the_images_space_are_mapped_together(file: Path) -> None:
    profile = load_profile(f"{PLAIN}+joint={file}")
    assert profile.space(JOINT_IMAGE) == profile.space(JOINT_TEXT)
    assert profile.space(JOINT_IMAGE).dim == 2
    assert profile.space(PASSAGE_TEXT) == load_profile(PLAIN).space(PASSAGE_TEXT)


def test_encoder_and_transform_together_are_a_model_of_their_own(file: Path, tmp_path: Path) -> None:
    plain, mapped = load_profile(PLAIN), load_profile(f"{PLAIN}+passage={file}")
    assert fingerprint(PASSAGE_TEXT, mapped) != fingerprint(PASSAGE_TEXT, plain)
    assert fingerprint(JOINT_TEXT, mapped) == fingerprint(JOINT_TEXT, plain)
    assert load_encoder(PASSAGE_TEXT, mapped).fingerprint == fingerprint(PASSAGE_TEXT, mapped)
    assert mapped.slug(Collection.TEXT).startswith(f"{plain.slug(Collection.TEXT)}_t")
    other = tmp_path / "other.safetensors"
    save_transform(linear_transform(np.eye(6, dtype=np.float32)[:, :2]), other)
    assert load_profile(f"{PLAIN}+passage={other}").slug(Collection.TEXT) != mapped.slug(Collection.TEXT)


def test_a_transform_of_other_vectors_is_refused(file: Path) -> None:
    with pytest.raises(ConfigError, match="takes vectors of 6 dimensions"):
        load_profile(f"null:8+passage={file}")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_profile(f"{PLAIN}+passage={file}.gone")


def test_the_name_of_a_profile_keeps_its_transform(file: Path, tmp_path: Path) -> None:
    name = f"reference+joint={file}"
    assert split_transform(name) == ("reference", TransformChoice("joint", file))
    assert join_transform(*split_transform(name)) == name
    assert split_transform("shelf:speech=tiny-en") == ("shelf:speech=tiny-en", None)
    settings = Settings(profile=f"{PLAIN}+passage={file}", data_dir=tmp_path / "data")
    assert with_selected_profile(settings).profile == settings.profile
    assert with_recorded_profile(settings).profile == settings.profile


@pytest.mark.parametrize("side", ["query", "document"])
def test_a_transform_of_one_side_is_refused(side: str, tmp_path: Path) -> None:
    adapter = tmp_path / "adapter.safetensors"
    save_transform(described(linear_transform(np.eye(6, dtype=np.float32)), {"side": side}), adapter)
    with pytest.raises(ConfigError, match="fitted to map one side, and an index maps questions and documents alike"):
        load_profile(f"{PLAIN}+passage={adapter}")
