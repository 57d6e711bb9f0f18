from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
import pytest

from penstock.encoders.base import Encoder, Fingerprint, Transcriber
from penstock.encoders.deferred import Deferred, DeferredEncoder, DeferredTranscriber
from penstock.encoders.load import load_encoder, load_transcriber, speech_fingerprint
from penstock.encoders.profiles import PASSAGE_TEXT, SPEECH, load_profile
from penstock.errors import UnavailableError
from penstock.records import EncoderInput
from tests.encoders.conftest import texts_input

T = TypeVar("T")

PROFILE = load_profile("null:8")


class Loads:
    """Counts loads; the first `failures` of them fail."""

    def __init__(self, failures: int = 0) -> None:
        self.count = 0
        self._failures = failures

    def counting(self, load: Callable[[], T]) -> Callable[[], T]:
        def counted() -> T:
            self.count += 1
            if self.count <= self._failures:
                raise UnavailableError("no memory")
            return load()

        return counted


def encoder(loads: Loads) -> tuple[Encoder, DeferredEncoder]:
    real = load_encoder(PASSAGE_TEXT, PROFILE)
    return real, DeferredEncoder(PASSAGE_TEXT, real.space, real.fingerprint, loads.counting(lambda: real))


def test_an_encoder_is_loaded_by_its_first_item_and_encodes_as_the_real_one() -> None:
    loads = Loads()
    real, deferred = encoder(loads)
    assert (deferred.name, deferred.space, deferred.fingerprint) == (PASSAGE_TEXT, real.space, real.fingerprint)
    assert deferred.encode(EncoderInput(PASSAGE_TEXT, ())).vectors.shape == (0, 8)
    assert loads.count == 0
    batch = texts_input("a", "b")
    np.testing.assert_array_equal(deferred.encode(batch).vectors, real.encode(batch).vectors)
    deferred.encode(batch)
    assert loads.count == 1


def test_a_load_that_failed_is_repeated_by_the_next_item() -> None:
    loads = Loads(failures=1)
    _, deferred = encoder(loads)
    with pytest.raises(UnavailableError, match="no memory"):
        deferred.encode(texts_input("a"))
    assert deferred.encode(texts_input("a")).vectors.shape == (1, 8)
    assert loads.count == 2


def test_the_fingerprint_of_a_speech_model_needs_no_load() -> None:
    loads, real = Loads(), load_transcriber(PROFILE)
    load: Callable[[], Transcriber] = loads.counting(lambda: real)
    deferred = DeferredTranscriber(SPEECH, speech_fingerprint(PROFILE), load)
    assert deferred.fingerprint == real.fingerprint
    assert isinstance(deferred.fingerprint, Fingerprint)
    assert loads.count == 0
    silence = [np.zeros(16_000, np.float32)]
    assert deferred.transcribe(silence) == real.transcribe(silence)
    assert (deferred.max_windows, deferred.chunk_s) == (real.max_windows, real.chunk_s)
    assert loads.count == 1


def test_two_threads_load_a_model_once() -> None:
    loads = Loads()
    deferred = Deferred("a model", loads.counting(object))
    with ThreadPoolExecutor(4) as pool:
        loaded = list(pool.map(lambda _: deferred.get(), range(16)))
    assert len(set(map(id, loaded))) == 1
    assert loads.count == 1
