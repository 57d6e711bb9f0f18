"""Media for the browser's microphone."""

from __future__ import annotations

import wave
from pathlib import Path

import av
import numpy as np


def write_wav(source: Path, path: Path, *, rate_hz: int) -> Path:
    """Writes the audio of a file as mono WAV, with half a second of silence around it, and returns the path."""
    resampler = av.AudioResampler(format="s16", layout="mono", rate=rate_hz)
    with av.open(str(source)) as container:
        frames = [part for frame in container.decode(audio=0) for part in resampler.resample(frame)]
    silence = np.zeros(rate_hz // 2, np.int16)
    samples = np.concatenate([silence, *(frame.to_ndarray().reshape(-1) for frame in frames), silence])
    with wave.open(str(path), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(rate_hz)
        out.writeframes(samples.tobytes())
    return path
