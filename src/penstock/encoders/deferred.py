"""Models that the first item that needs them loads: encoders, models of speech and of the words of images.

Each has its fingerprint from the start, which needs the files and no library: a missing file is found before any event.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

import numpy as np

from penstock.encoders.base import Encoder, Fingerprint, ImageToText, Space, Transcriber
from penstock.records import Encoded, EncoderInput, Float32, ImageText, Transcript, UInt8

T = TypeVar("T")

logger = logging.getLogger(__name__)


class Deferred(Generic[T]):
    """A model that the first call of `get` loads. A load that failed is repeated by the next call. Thread-safe.

    Args:
        role: of the model, for the log.
        load: loads it; what it raises passes through `get`.
    """

    def __init__(self, role: str, load: Callable[[], T]) -> None:
        self._role = role
        self._load = load
        self._lock = threading.Lock()
        self._loaded: T | None = None

    @property
    def is_loaded(self) -> bool:
        """Whether the model is in memory."""
        return self._loaded is not None

    def get(self) -> T:
        """Returns the model, loaded."""
        with self._lock:
            if self._loaded is None:
                began_s = time.monotonic()
                self._loaded = self._load()
                logger.info(
                    "%s was loaded for the first item that needs it: %.1f s", self._role, time.monotonic() - began_s
                )
            return self._loaded


class DeferredEncoder:
    """An `Encoder`.

    Args:
        role: in the profile.
        space: of its vectors.
        fingerprint: as the loaded encoder has it.
        load: loads the encoder.
    """

    def __init__(self, role: str, space: Space, fingerprint: Fingerprint, load: Callable[[], Encoder]) -> None:
        self.name = role
        self.space = space
        self.fingerprint = fingerprint
        self.model = Deferred(role, load)

    def encode(self, batch: EncoderInput) -> Encoded:
        """See `Encoder.encode`. Raises besides whatever the load raises."""
        if not len(batch):
            return Encoded(batch.encoder, np.zeros((0, self.space.dim), np.float32))
        return self.model.get().encode(batch)


class DeferredTranscriber:
    """A `Transcriber`. Args as `DeferredEncoder`."""

    def __init__(self, role: str, fingerprint: Fingerprint, load: Callable[[], Transcriber]) -> None:
        self.fingerprint = fingerprint
        self.model = Deferred(role, load)

    @property
    def max_windows(self) -> int:
        """See `Transcriber.max_windows`. Loads the model, as the number depends on its device."""
        return self.model.get().max_windows

    @property
    def chunk_s(self) -> float:
        """See `Transcriber.chunk_s`. Loads the model."""
        return self.model.get().chunk_s

    def transcribe(self, windows: Sequence[Float32]) -> tuple[Transcript, ...]:
        """See `Transcriber.transcribe`."""
        return self.model.get().transcribe(windows)


class DeferredImageToText:
    """An `ImageToText`. Args as `DeferredEncoder`."""

    def __init__(self, role: str, fingerprint: Fingerprint, load: Callable[[], ImageToText]) -> None:
        self.fingerprint = fingerprint
        self.model = Deferred(role, load)

    @property
    def max_images(self) -> int:
        """See `ImageToText.max_images`. Loads the model."""
        return self.model.get().max_images

    def texts(self, images: Sequence[UInt8]) -> tuple[ImageText, ...]:
        """See `ImageToText.texts`."""
        return self.model.get().texts(images)
