"""Tests of applying transforms to vectors, and of their files."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from penstock.encoders.base import Fingerprint
from penstock.encoders.transform import (
    Layer,
    LayeredTransform,
    about_of,
    described,
    from_bytes,
    linear_transform,
    load_transform,
    save_transform,
    to_bytes,
    with_transform,
)
from penstock.errors import ConfigError
from penstock.records import Float32


def unit_vectors(count: int, dim: int, seed: int = 0) -> Float32:
    vectors = np.random.default_rng(seed).normal(size=(count, dim)).astype(np.float32)
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), dtype=np.float32)


def layer(inputs: int, outputs: int, seed: int = 1, scale: float = 0.5) -> Layer:
    rng = np.random.default_rng(seed)
    return Layer(
        (scale * rng.normal(size=(inputs, outputs))).astype(np.float32),
        (0.1 * rng.normal(size=outputs)).astype(np.float32),
    )


def test_the_identity_changes_no_bit() -> None:
    vectors = unit_vectors(50, 12)
    assert (linear_transform(np.eye(12, dtype=np.float32)).apply(vectors) == vectors).all()


def test_a_matrix_maps_and_normalises() -> None:
    vectors, matrix = unit_vectors(20, 6), layer(6, 6).weight
    expected = vectors @ matrix
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(linear_transform(matrix).apply(vectors), expected, atol=1e-5)


def test_two_layers_with_an_activation_map_to_fewer_dimensions() -> None:
    first, second = layer(8, 5), layer(5, 3, seed=2)
    transform = LayeredTransform((first, second), activation="relu")
    vectors = unit_vectors(10, 8)
    mapped = np.maximum(vectors @ first.weight + first.bias, 0) @ second.weight + second.bias
    result = transform.apply(vectors)
    assert (transform.input_dim, transform.output_dim) == (8, 3)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, mapped / np.linalg.norm(mapped, axis=1, keepdims=True), atol=1e-5)


def test_a_vector_without_direction_stays_as_it_is() -> None:
    vectors = unit_vectors(3, 4)
    collapsed = linear_transform(np.zeros((4, 4), dtype=np.float32))
    assert (collapsed.apply(vectors) == vectors).all()
    shorter = LayeredTransform((Layer(np.zeros((4, 2), np.float32), np.zeros(2, np.float32)),))
    assert (shorter.apply(vectors) == 0).all()


def test_vectors_of_another_length_are_refused() -> None:
    with pytest.raises(ValueError, match="takes vectors of 4 dimensions"):
        linear_transform(np.eye(4, dtype=np.float32)).apply(unit_vectors(2, 5))


def test_layers_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="do not fit"):
        LayeredTransform((layer(4, 3), layer(2, 4)))
    with pytest.raises(ValueError, match="equal lengths"):
        LayeredTransform((layer(4, 3),), residual=True)


def test_a_file_gives_the_same_transform(tmp_path: Path) -> None:
    transform = described(LayeredTransform((layer(8, 5), layer(5, 8)), "relu", residual=True), {"lang": "ja"})
    save_transform(transform, tmp_path / "a" / "made.safetensors")
    read = load_transform(tmp_path / "a" / "made.safetensors")
    vectors = unit_vectors(9, 8)
    assert (read.apply(vectors) == transform.apply(vectors)).all()
    assert read.fingerprint == transform.fingerprint
    assert about_of(read) == {"lang": "ja"}
    assert [file.name for file in (tmp_path / "a").iterdir()] == ["made.safetensors"]


def test_the_fingerprint_follows_numbers_and_form_only() -> None:
    transform = LayeredTransform((layer(4, 4), layer(4, 4, seed=2)))
    same = described(LayeredTransform((layer(4, 4), layer(4, 4, seed=2))), {"name": "another"})
    assert transform.fingerprint == same.fingerprint
    others = [
        replace(transform, activation="relu"),
        replace(transform, residual=True),
        LayeredTransform((layer(4, 4, seed=3), layer(4, 4, seed=2))),
    ]
    assert len({transform.fingerprint, *(other.fingerprint for other in others)}) == 4


def test_the_fingerprint_of_vectors_names_encoder_and_transform() -> None:
    transform = linear_transform(layer(4, 4).weight)
    named = with_transform(Fingerprint("minilm", "aa", "bb"), transform)
    assert named == Fingerprint(f"minilm+{transform.fingerprint}", "aa", "bb")


def test_a_damaged_file_is_refused_with_its_name(tmp_path: Path) -> None:
    data = to_bytes(linear_transform(layer(4, 4).weight))
    for broken in (b"", data[:20], data[:-4], b"\xff" * 64):
        with pytest.raises(ConfigError, match=r"the transform made is damaged"):
            from_bytes(broken, "made")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_transform(tmp_path / "missing.safetensors")


def test_numbers_that_are_not_finite_are_refused() -> None:
    weight = layer(4, 4).weight.copy()
    weight[0, 0] = np.nan
    with pytest.raises(ConfigError, match="not finite"):
        from_bytes(to_bytes(LayeredTransform((Layer(weight, np.zeros(4, np.float32)),))), "made")


def test_a_file_of_a_newer_penstock_is_refused() -> None:
    data = to_bytes(linear_transform(layer(4, 4).weight))
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    header["__metadata__"]["penstock.transform"] = "2"
    changed = json.dumps(header).encode()
    with pytest.raises(ConfigError, match="has schema 2"):
        from_bytes(len(changed).to_bytes(8, "little") + changed + data[8 + length :], "made")
