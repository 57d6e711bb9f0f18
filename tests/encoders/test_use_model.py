from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from penstock.encoders.use_model import UseModel
from penstock.errors import ConfigError
from penstock.records import Float32
from tests.encoders.use_files import random_arrays

BATCH = ([1, 4, 6, 2], [1, 2], [1, 5, 9, 16, 0, 3, 2])


@pytest.fixture
def arrays() -> Mapping[str, Float32]:
    return random_arrays()


@pytest.fixture
def model(arrays: Mapping[str, Float32], tmp_path: Path) -> UseModel:
    np.savez(tmp_path / "weights.npz", **arrays)
    return UseModel(tmp_path / "weights.npz")


def normalised(x: Float32, gain: Float32, shift: Float32) -> Float32:
    result: Float32 = (x - x.mean()) / np.sqrt(x.var() + 1e-6) * gain + shift
    return result


def expected_tokens(arrays: Mapping[str, Float32], ids: Sequence[int]) -> Float32:
    """Computes token by token what the model computes for batches: float[tokens, features]."""
    words = [arrays[f"q{i % 17 + 1}"][i // 17] * arrays["scale"][i % 17] + arrays["lo"][i % 17] for i in ids]
    parts = [np.stack(words)]
    for width, left in ((2, 0), (3, 1), (5, 2)):
        gain, shift = arrays[f"ln_g{width}"], arrays[f"ln_b{width}"]
        x = [normalised(word @ arrays[f"proj{width}"] + arrays[f"proj_b{width}"], gain, shift) for word in words]
        for step in (1, 2):
            zero = np.zeros_like(x[0])
            around = [zero] * left + x + [zero] * (width - 1 - left)
            convolved = [
                np.concatenate(around[i : i + width]) @ arrays[f"w{step}_{width}"] + arrays[f"b{step}_{width}"]
                for i in range(len(x))
            ]
            x = [old + np.maximum(new, 0) for old, new in zip(x, convolved, strict=True)]
        parts.append(np.stack(x))
    return np.stack([normalised(row, arrays["ln_g"], arrays["ln_b"]) for row in np.concatenate(parts, axis=1)])


def expected_vector(arrays: Mapping[str, Float32], ids: Sequence[int]) -> Float32:
    tokens = expected_tokens(arrays, ids) @ arrays["cnn_W"] + arrays["cnn_b"]
    pooled = tokens.sum(axis=0) / np.sqrt(len(ids))
    first = np.maximum(pooled @ arrays["d0"], 0)
    second = np.maximum(pooled @ arrays["p1"] + first @ arrays["d1"], 0)
    third = np.maximum(second @ arrays["d2"], 0)
    vector: Float32 = np.tanh(second @ arrays["p3"] + third @ arrays["d3"])
    return vector


def test_a_batch_gives_what_each_text_gives_by_hand(model: UseModel, arrays: Mapping[str, Float32]) -> None:
    expected = np.stack([expected_vector(arrays, ids) for ids in BATCH])
    with torch.inference_mode():
        np.testing.assert_allclose(model(BATCH).numpy(), expected, rtol=1e-3, atol=1e-4)


def test_token_vectors_are_those_before_pooling(model: UseModel, arrays: Mapping[str, Float32]) -> None:
    with torch.inference_mode():
        tokens = model.tokens(BATCH)
    for ids, vectors in zip(BATCH, tokens, strict=True):
        expected = expected_tokens(arrays, ids) @ arrays["cnn_W"] + arrays["cnn_b"]
        np.testing.assert_allclose(vectors.numpy(), expected, rtol=1e-3, atol=1e-4)


def test_a_text_is_the_same_alone_and_beside_longer_ones(model: UseModel) -> None:
    with torch.inference_mode():
        together = model(BATCH)
        alone = torch.cat([model([ids]) for ids in BATCH])
    torch.testing.assert_close(together, alone)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut short", b"no archive"])
def test_a_damaged_file_is_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "weights.npz").write_bytes(content)
    with pytest.raises(ConfigError, match=r"weights.npz cannot be read as weights of the encoder .* install it again"):
        UseModel(tmp_path / "weights.npz")


def test_a_missing_array_is_named(tmp_path: Path, arrays: Mapping[str, Float32]) -> None:
    np.savez(tmp_path / "weights.npz", **{name: array for name, array in arrays.items() if name != "cnn_W"})
    with pytest.raises(ConfigError, match="cnn_W"):
        UseModel(tmp_path / "weights.npz")


def test_objects_in_the_file_are_not_unpickled(tmp_path: Path, arrays: Mapping[str, Float32]) -> None:
    np.savez(tmp_path / "weights.npz", **{**arrays, "cnn_b": np.array([{"an": "object"}], dtype=object)})
    with pytest.raises(ConfigError, match="allow_pickle"):
        UseModel(tmp_path / "weights.npz")
