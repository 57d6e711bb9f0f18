from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from penstock.encoders.batch_runner import BatchRunner
from penstock.encoders.cache import VectorCache
from penstock.encoders.sub_batching import FailureCause, SubBatcher
from penstock.errors import WorkerBrokenError
from penstock.records import EncoderInput, Float32
from tests.encoders.conftest import texts_input


class Lengths:
    """A model whose vector is (length of the text, 1). `bad` makes it fail, `nan` return NaN."""

    def __init__(self) -> None:
        self.encoded: list[str] = []
        self.broken = False

    def forward(self, batch: EncoderInput, rows: Sequence[int]) -> Float32:
        texts = [batch.texts[row] for row in rows]
        if "bad" in texts or self.broken:
            raise ValueError("bad")
        self.encoded += texts
        return np.array([[np.nan if text == "nan" else len(text), 1] for text in texts], dtype=np.float32)

    def probe(self) -> None:
        if self.broken:
            raise ValueError("broken")

    def runner(self, cache: int = 100) -> BatchRunner:
        batcher = SubBatcher(4, classify=lambda _: FailureCause.ITEM, release_memory=lambda: None)
        return BatchRunner(2, cache=VectorCache(cache), batcher=batcher, forward=self.forward, probe=self.probe)


def expected(*texts: str) -> Float32:
    raw = np.array([[len(text), 1] for text in texts], dtype=np.float32)
    return np.asarray(raw / np.linalg.norm(raw, axis=1, keepdims=True), dtype=np.float32)


def test_rows_keep_their_places_and_have_length_one() -> None:
    texts = ("a", "four", "seven77", "no", "x" * 50, "yes")
    encoded = Lengths().runner().encode(texts_input(*texts), order=lambda row: -len(texts[row]))
    np.testing.assert_allclose(encoded.vectors, expected(*texts), rtol=1e-6)
    assert encoded.vectors.dtype == np.float32
    assert encoded.failed == ()


def test_rows_are_encoded_in_the_requested_order() -> None:
    model, texts = Lengths(), ("a", "four", "seven77", "no")
    model.runner().encode(texts_input(*texts), order=lambda row: -len(texts[row]))
    assert model.encoded == ["seven77", "four", "no", "a"]


def test_a_duplicate_in_a_batch_is_encoded_once() -> None:
    model = Lengths()
    encoded = model.runner(cache=0).encode(texts_input("a", "four", "a", "a"))
    assert sorted(model.encoded) == ["a", "four"]
    np.testing.assert_allclose(encoded.vectors, expected("a", "four", "a", "a"), rtol=1e-6)


def test_a_known_item_is_not_encoded_again() -> None:
    model = Lengths()
    runner = model.runner()
    runner.encode(texts_input("a", "four"))
    encoded = runner.encode(texts_input("four", "new"))
    assert model.encoded == ["a", "four", "new"]
    np.testing.assert_allclose(encoded.vectors, expected("four", "new"), rtol=1e-6)
    assert (runner.cache.hits, runner.cache.misses) == (1, 3)


def test_a_failed_item_is_a_row_of_zeros_wherever_it_stands_and_is_not_kept() -> None:
    model = Lengths()
    runner = model.runner()
    for _ in range(2):
        encoded = runner.encode(texts_input("a", "bad", "four", "bad"))
        assert [row for row, _ in encoded.failed] == [1, 3]
        assert not encoded.vectors[[1, 3]].any()
        np.testing.assert_allclose(encoded.vectors[[0, 2]], expected("a", "four"), rtol=1e-6)


def test_a_vector_that_is_not_finite_fails_alone() -> None:
    encoded = Lengths().runner().encode(texts_input("a", "nan", "four"))
    assert [row for row, _ in encoded.failed] == [1]
    assert "not finite" in encoded.failed[0][1]
    assert np.isfinite(encoded.vectors).all()


def test_a_broken_model_fails_no_item() -> None:
    model = Lengths()
    model.broken = True
    with pytest.raises(WorkerBrokenError):
        model.runner().encode(texts_input("a", "b"))


def test_an_empty_batch_is_an_empty_answer() -> None:
    encoded = Lengths().runner().encode(texts_input())
    assert encoded.vectors.shape == (0, 2)
