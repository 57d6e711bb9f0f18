"""Speech into a track of a container that PyAV writes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import av
import numpy as np

from penstock.records import Float32
from tools.reference_models.speech_synthesis import RATE_HZ

_FRAME = 1_024  # samples


def write_speech(container: Any, track: Any, samples: Iterable[Float32]) -> None:
    """All of the sound into one track of an open container, and the track's end.

    Args:
        container: opened by `av.open` for writing.
        track: of it, at `RATE_HZ`, mono.
        samples: float32[n] each, one after the other; they need not be held at once.
    """
    for frame in _frames(samples):
        container.mux(track.encode(frame))
    container.mux(track.encode(None))


def _frames(samples: Iterable[Float32]) -> Iterator[av.AudioFrame]:
    written, left = 0, np.zeros(0, np.float32)
    for part in samples:
        left = np.concatenate([left, part])
        whole = len(left) // _FRAME * _FRAME
        for start in range(0, whole, _FRAME):
            yield _frame(left[start : start + _FRAME], written + start)
        written, left = written + whole, left[whole:]
    if len(left):
        yield _frame(left, written)


def _frame(samples: Float32, at: int) -> av.AudioFrame:
    frame = av.AudioFrame.from_ndarray(samples[None], format="flt", layout="mono")
    frame.rate, frame.pts = RATE_HZ, at
    return frame
