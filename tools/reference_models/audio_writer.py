"""Writes speech into an audio track of a container that PyAV writes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import av
import numpy as np

from penstock.records import Float32
from tools.reference_models.speech_synthesis import RATE_HZ

_FRAME_SAMPLES = 1_024


def write_speech(container: Any, track: Any, samples: Iterable[Float32]) -> None:
    """Writes all of the audio into one track of an open container, and ends the track.

    Args:
        container: opened by `av.open` for writing.
        track: of the container, at `RATE_HZ`, mono.
        samples: float32[n] each, in order; they need not be in memory at the same time.
    """
    for frame in _frames(samples):
        container.mux(track.encode(frame))
    container.mux(track.encode(None))


def _frames(samples: Iterable[Float32]) -> Iterator[av.AudioFrame]:
    written, rest = 0, np.zeros(0, np.float32)
    for part in samples:
        rest = np.concatenate([rest, part])
        whole = len(rest) // _FRAME_SAMPLES * _FRAME_SAMPLES
        for start in range(0, whole, _FRAME_SAMPLES):
            yield _frame(rest[start : start + _FRAME_SAMPLES], written + start)
        written, rest = written + whole, rest[whole:]
    if len(rest):
        yield _frame(rest, written)


def _frame(samples: Float32, start: int) -> av.AudioFrame:
    frame = av.AudioFrame.from_ndarray(samples[None], format="flt", layout="mono")
    frame.rate, frame.pts = RATE_HZ, start
    return frame
