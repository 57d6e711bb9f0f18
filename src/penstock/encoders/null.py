"""Encoders that hash: the double of the real ones, for tests and for benchmarks of the transport. No torch."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from penstock.encoders.base import Fingerprint, Space
from penstock.encoders.batch_runner import BatchRunner, checked_pixels, checked_texts
from penstock.encoders.cache import VectorCache
from penstock.encoders.profiles import JOINT_IMAGE, NullSpec
from penstock.encoders.sub_batching import FailureCause, SubBatcher
from penstock.records import Encoded, EncoderInput, Float32, TimedText, Transcript

_LARGEST = 1024
_WORDS = 6
_RATE_HZ = 16_000


class NullTranscriber:
    """Hears in each window a few words made of its hash, from its start to its end."""

    max_windows = 8
    chunk_s = 0.1

    def __init__(self, fingerprint: Fingerprint) -> None:
        self.fingerprint = fingerprint

    def transcribe(self, windows: Sequence[Float32]) -> tuple[Transcript, ...]:
        """See `WhisperTranscriber.transcribe`."""
        return tuple(self._heard(window) for window in windows)

    def _heard(self, window: Float32) -> Transcript:
        digest = hashlib.sha256(window.tobytes()).hexdigest()
        text = " ".join(digest[at : at + 4] for at in range(0, _WORDS * 4, 4))
        return Transcript("en", 1.0, (TimedText(0.0, len(window) / _RATE_HZ, text),))


class NullEncoder:
    """A unit vector from the hash of an item: the same item, the same vector; others are about at right angles.

    Args:
        role: `passage.text`, `joint.text` or `joint.image`.
        model: its space and picture size.
        fingerprint: what collections record of it.
        cache_size: vectors kept.
    """

    def __init__(self, role: str, model: NullSpec, fingerprint: Fingerprint, *, cache_size: int) -> None:
        self.name = role
        self.space: Space = model.space
        self.fingerprint = fingerprint
        self._size_px = model.image.size_px
        self._runner = BatchRunner(
            model.space.dim,
            cache=VectorCache(cache_size),
            batcher=SubBatcher(_LARGEST, classify=lambda _: FailureCause.ITEM, release_memory=lambda: None),
            forward=self._forward,
            probe=lambda: self._vector(b""),
        )

    @property
    def cache(self) -> VectorCache:
        return self._runner.cache

    def encode(self, batch: EncoderInput) -> Encoded:
        """See `Encoder.encode`.

        Raises:
            ConfigError: pixels of another size than the profile's, or texts for pixels.
        """
        if self.name == JOINT_IMAGE:
            checked_pixels(batch, self._size_px)
        else:
            checked_texts(batch)
        return self._runner.encode(batch)

    def _forward(self, batch: EncoderInput, rows: Sequence[int]) -> Float32:
        if self.name == JOINT_IMAGE:
            pixels = checked_pixels(batch, self._size_px)
            items = [pixels[row].tobytes() for row in rows]
        else:
            items = [batch.texts[row].encode() for row in rows]
        return np.stack([self._vector(item) for item in items])

    def _vector(self, item: bytes) -> Float32:
        """float32[dim] from SHAKE-256, uniform in -1…1: the same on every machine and every release of NumPy."""
        state = hashlib.shake_256(self.space.id.encode() + b"\0" + item)
        words = np.frombuffer(state.digest(4 * self.space.dim), dtype="<u4")
        return (words.astype(np.float64) / 2**31 - 1).astype(np.float32)
