"""Encoders that hash: the doubles of the real ones, for tests and for benchmarks of the transport. No torch."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from penstock.encoders.base import Fingerprint
from penstock.encoders.batch_runner import checked_pixels, checked_texts
from penstock.encoders.batched_encoder import BatchedEncoder
from penstock.encoders.profiles import JOINT_IMAGE, NullSpec
from penstock.encoders.sub_batching import FailureCause, SubBatcher
from penstock.records import EncoderInput, Float32, TimedText, Transcript

_MAX_ITEMS = 1024
_WORDS = 6
_RATE_HZ = 16_000


class NullTranscriber:
    """Transcribes each window as a few words from its hash, which last from its start to its end."""

    max_windows = 8
    chunk_s = 0.1

    def __init__(self, fingerprint: Fingerprint) -> None:
        self.fingerprint = fingerprint

    def transcribe(self, windows: Sequence[Float32]) -> tuple[Transcript, ...]:
        """Returns a transcript of each window: see `Transcriber.transcribe`."""
        return tuple(self._transcript(window) for window in windows)

    def _transcript(self, window: Float32) -> Transcript:
        digest = hashlib.sha256(window.tobytes()).hexdigest()
        text = " ".join(digest[start : start + 4] for start in range(0, _WORDS * 4, 4))
        return Transcript("en", 1.0, (TimedText(0.0, len(window) / _RATE_HZ, text),))


class NullEncoder(BatchedEncoder):
    """Returns a unit vector from the hash of an item: equal for equal items, about orthogonal for others.

    Args:
        role: `passage.text`, `joint.text` or `joint.image`.
        spec: its space and image size.
        fingerprint: recorded by collections.
        cache_size: vectors kept.
    """

    def __init__(self, role: str, spec: NullSpec, fingerprint: Fingerprint, *, cache_size: int) -> None:
        batcher = SubBatcher(_MAX_ITEMS, classify=lambda _: FailureCause.ITEM, release_memory=lambda: None)
        super().__init__(role, spec.name, spec.space, fingerprint, cache_size=cache_size, batcher=batcher)
        self._size_px = spec.image.size_px

    def _check_input(self, batch: EncoderInput) -> None:
        if self.name == JOINT_IMAGE:
            checked_pixels(batch, self._size_px)
        else:
            checked_texts(batch)

    def _forward(self, batch: EncoderInput, rows: Sequence[int]) -> Float32:
        if self.name == JOINT_IMAGE:
            pixels = checked_pixels(batch, self._size_px)
            items = [pixels[row].tobytes() for row in rows]
        else:
            items = [batch.texts[row].encode() for row in rows]
        return np.stack([self._vector(item) for item in items])

    def _encode_known_good(self) -> Float32:
        return self._vector(b"")[None]

    def _vector(self, item: bytes) -> Float32:
        """Returns float32[dim] from SHAKE-256, uniform in -1…1, equal on every machine and release of NumPy."""
        state = hashlib.shake_256(self.space.id.encode() + b"\0" + item)
        words = np.frombuffer(state.digest(4 * self.space.dim), dtype="<u4")
        return (words.astype(np.float64) / 2**31 - 1).astype(np.float32)
