"""Runs a model on batches: known vectors from the cache, the rest in sub-batches, every vector checked."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from penstock.encoders.cache import VectorCache
from penstock.encoders.sub_batching import SubBatcher
from penstock.errors import ConfigError
from penstock.records import Encoded, EncoderInput, Float32, UInt8


class BatchRunner:
    """Runs batches through a model. Not thread-safe.

    Args:
        dim: length of the vectors.
        cache: used by this encoder alone.
        batcher: chooses the size of the model's own batches.
        forward: computes float[len(rows), dim] for some rows of a batch, not normalised; raises if it cannot.
        probe: encodes a known-good item, raises if that fails.
    """

    def __init__(
        self,
        dim: int,
        *,
        cache: VectorCache[str],
        batcher: SubBatcher,
        forward: Callable[[EncoderInput, Sequence[int]], Float32],
        probe: Callable[[], object],
    ) -> None:
        self.cache = cache
        self._dim = dim
        self._batcher = batcher
        self._forward = forward
        self._probe = probe

    def encode(
        self,
        batch: EncoderInput,
        *,
        keys: Sequence[str] | None = None,
        order: Callable[[int], float] | None = None,
    ) -> Encoded:
        """Encodes a batch: see `Encoder.encode`.

        Args:
            batch: the items.
            keys: cache keys, where the content keys do not identify a vector.
            order: rows are encoded by rising order, so that neighbours are alike in length.
        """
        keys = batch.keys if keys is None else keys
        vectors = self.cache.lookup(keys)
        first_rows = {key: row for row, key in reversed(list(enumerate(keys))) if key not in vectors}
        rows = sorted(first_rows.values(), key=order)
        results = self._batcher.run(rows, lambda part: self._checked(batch, part), self._probe)
        for part, encoded in results.encoded:
            for row, vector in zip(part, encoded, strict=True):
                vectors[keys[row]] = vector
                self.cache.store(keys[row], vector)
        return self._assembled(batch.encoder, keys, vectors, {keys[row]: reason for row, reason in results.failed})

    def _checked(self, batch: EncoderInput, rows: Sequence[int]) -> Float32:
        """Returns float32[len(rows), dim], L2-normalised. Raises ValueError if a vector has no direction."""
        vectors = np.asarray(self._forward(batch, rows), dtype=np.float32)
        if vectors.shape != (len(rows), self._dim):
            raise ValueError(f"the model returned {vectors.shape} for {len(rows)} items of {self._dim} dimensions")
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        if not np.all(np.isfinite(norms) & (norms > 0)):
            raise ValueError("the model returned a vector that is not finite or has no length")
        unit: Float32 = vectors / norms
        return unit

    def _assembled(
        self, encoder: str, keys: Sequence[str], vectors: dict[str, Float32], failed: dict[str, str]
    ) -> Encoded:
        result = np.zeros((len(keys), self._dim), dtype=np.float32)
        for row, key in enumerate(keys):
            if key in vectors:
                result[row] = vectors[key]
        return Encoded(encoder, result, tuple((row, failed[key]) for row, key in enumerate(keys) if key in failed))


def checked_pixels(batch: EncoderInput, size_px: int) -> UInt8:
    """Returns the batch's pixels, uint8[n, size_px, size_px, 3].

    Raises:
        ConfigError: it holds none, or others.
    """
    pixels = batch.pixels
    shape = (len(batch), size_px, size_px, 3)
    if pixels is None or pixels.shape != shape or pixels.dtype != np.uint8:
        given = "none" if pixels is None else f"{pixels.dtype}{list(pixels.shape)}"
        raise ConfigError(
            f"the encoder {batch.encoder} takes pixels uint8{list(shape)} and got {given}: decode workers and encoders "
            "must run the same profile"
        )
    return pixels


def checked_texts(batch: EncoderInput) -> tuple[str, ...]:
    """Returns the batch's texts, one a key.

    Raises:
        ConfigError: it holds others, or none.
    """
    if len(batch.texts) != len(batch):
        raise ConfigError(
            f"the encoder {batch.encoder} takes {len(batch)} texts and got {len(batch.texts)}: decode workers and "
            "encoders must run the same profile"
        )
    return batch.texts
