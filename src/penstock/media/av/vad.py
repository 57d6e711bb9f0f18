"""Where somebody speaks: windows of speech for the transcriber, found while the sound streams by.

The detector is Silero's, as faster-whisper ships it (github.com/snakers4/silero-vad, version 6): a probability for each
32 ms. It is run here with its state carried from block to block, so that sound of any length takes the same memory.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from penstock.errors import ConfigError
from penstock.media.av.audio import RATE_HZ, Block
from penstock.records import Float32

FRAME_SAMPLES = 512  # samples of one probability, 32 ms
_CONTEXT = 64  # samples of the frame before that the model looks back at
_STATE = (1, 1, 128)
MAX_WINDOW_SAMPLES = 30 * RATE_HZ  # samples: what Whisper hears at once
_NONE = 2.0  # above every probability


@dataclass(frozen=True, slots=True)
class VadOptions:
    """What counts as speech. Probabilities 0…1, times in milliseconds.

    Attributes:
        threshold: speech begins with a frame of at least this probability,
        end_threshold: and goes on while frames are not below this one,
        min_silence_ms: for less than so long; shorter pauses stay inside a window.
        min_speech_ms: shorter speech is a click or a cough.
        pad_ms: added before and after, as the model is late at both ends.
    """

    threshold: float = 0.5
    end_threshold: float = 0.35
    min_silence_ms: int = 2_000
    min_speech_ms: int = 100
    pad_ms: int = 200


@dataclass(frozen=True, slots=True)
class SpeechWindow:
    """Speech for one run of the transcriber.

    Attributes:
        start: number of its first sample on the player's clock, at `RATE_HZ`.
        samples: float32[n], at most `MAX_WINDOW_SAMPLES`.
    """

    start: int
    samples: Float32


class SileroVAD:
    """Silero's model with its state. Belongs to one stretch of sound at a time; `reset` begins another."""

    def __init__(self) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.inter_op_num_threads = options.intra_op_num_threads = 1
        options.enable_cpu_mem_arena = False
        options.log_severity_level = 4
        self._session: Any = onnxruntime.InferenceSession(
            str(_model_path()), providers=["CPUExecutionProvider"], sess_options=options
        )
        self.reset()

    def reset(self) -> None:
        self._hidden = np.zeros(_STATE, np.float32)
        self._cell = np.zeros(_STATE, np.float32)
        self._before = np.zeros(_CONTEXT, np.float32)

    def probabilities(self, samples: Float32) -> Float32:
        """float32[n] of speech in each frame of float32[n * `FRAME_SAMPLES`], which follow those of the call before."""
        frames = samples.reshape(-1, FRAME_SAMPLES)
        tails = np.concatenate((self._before[None], frames[:, -_CONTEXT:]))
        inputs = np.concatenate((tails[:-1], frames), axis=1)
        found, self._hidden, self._cell = self._session.run(None, {"input": inputs, "h": self._hidden, "c": self._cell})
        self._before = tails[-1]
        probabilities: Float32 = found.reshape(-1)
        return probabilities


class SpeechSegmenter:
    """Cuts sound into windows of speech.

    A pause shorter than `min_silence_ms` stays inside a window. Speech without a longer one is cut where its
    probability was lowest in the second half of the longest window.

    Args:
        detector: its state is reset.
        options: see `VadOptions`.
        start: number of the first sample that is to come.
    """

    def __init__(self, detector: SileroVAD, options: VadOptions, *, start: int = 0) -> None:
        self._detector = detector
        self._begins_at, self._ends_at = options.threshold, options.end_threshold
        self._silence, self._least, self._pad = (
            ms * RATE_HZ // 1000 for ms in (options.min_silence_ms, options.min_speech_ms, options.pad_ms)
        )
        self._samples: Float32 = np.zeros(0, np.float32)  # those that are kept
        self._first = start  # number of the first one kept
        self._heard = start  # all before it have a probability
        self._free = start  # all before it belong to windows that are out
        self._speech: int | None = None  # where the speech under way began, its padding left out
        self._quiet: int | None = None  # where the pause under way began
        self._best = (_NONE, 0)  # the least probability in the window's second half, and its frame
        detector.reset()

    @property
    def resume_sample(self) -> int:
        """Number of the sample before which nothing is to come any more: reading may begin there anew.

        Speech that is yet to be heard is padded with what was heard last, as far as that is in no window.
        """
        return self._begin(self._heard if self._speech is None else self._speech)

    @property
    def held_samples(self) -> int:
        """Samples that are kept at present: a window's worth at most, and a block's."""
        return len(self._samples)

    def add(self, block: Block) -> Iterator[SpeechWindow]:
        """The windows that are complete once this block is known. Blocks come in order."""
        if block.start != self._end:
            yield from self.end()
            self._begin_stretch(block.start)
        self._samples = np.concatenate((self._samples, block.samples))
        whole = (self._end - self._heard) // FRAME_SAMPLES * FRAME_SAMPLES
        if whole:
            fresh = self._between(self._heard, self._heard + whole)
            for probability in self._detector.probabilities(fresh):
                yield from self._hear(float(probability))
        self._forget()

    def end(self) -> Iterator[SpeechWindow]:
        """The last window, if somebody speaks to the end."""
        if self._speech is not None:
            yield from self._cut(self._speech, self._end if self._quiet is None else self._quiet, self._pad)
        self._speech = None

    # --- a stretch of sound without gaps ----------------------------------------------------------------------------

    def _begin_stretch(self, start: int) -> None:
        self._detector.reset()
        self._samples = np.zeros(0, np.float32)
        self._first = self._heard = self._free = start

    @property
    def _end(self) -> int:
        return self._first + len(self._samples)

    def _hear(self, probability: float) -> Iterator[SpeechWindow]:
        frame, self._heard = self._heard, self._heard + FRAME_SAMPLES
        if self._speech is None:
            if probability >= self._begins_at:
                self._speech, self._quiet, self._best = frame, None, (_NONE, frame)
            return
        begin = self._begin(self._speech)
        if probability >= self._begins_at:
            self._quiet = None
        elif probability < self._ends_at and self._quiet is None:
            self._quiet = frame
        if frame - begin >= MAX_WINDOW_SAMPLES / 2 and probability <= self._best[0]:
            self._best = (probability, frame)
        if self._quiet is not None and self._heard - self._quiet >= self._silence:
            yield from self._cut(self._speech, self._quiet, self._pad)
            self._speech = None
        elif self._heard + FRAME_SAMPLES - begin > MAX_WINDOW_SAMPLES:
            cut = self._best[1]
            yield from self._cut(self._speech, cut, 0)
            self._speech, self._best = cut, (_NONE, cut)

    def _begin(self, speech: int) -> int:
        """Where the window of speech that began there begins."""
        return max(self._free, speech - self._pad)

    def _cut(self, speech: int, end: int, pad: int) -> Iterator[SpeechWindow]:
        """The window from where the speech began to where it ends; however short, if it goes on from the one before."""
        if end - speech >= self._least or self._free == speech < end:
            begin = self._begin(speech)
            self._free = min(end + pad, self._end, begin + MAX_WINDOW_SAMPLES)
            yield SpeechWindow(begin, self._between(begin, self._free))

    def _between(self, start: int, end: int) -> Float32:
        return self._samples[start - self._first : end - self._first].copy()

    def _forget(self) -> None:
        """Lets go of samples that no window can want any more."""
        wanted = self._heard - self._pad if self._speech is None else self._begin(self._speech)
        if (gone := max(self._first, wanted) - self._first) > 0:
            self._samples = self._samples[gone:].copy()
            self._first += gone


def _model_path() -> Path:
    """The file inside faster-whisper, found without importing that: its package brings CTranslate2 along."""
    package = importlib.util.find_spec("faster_whisper")
    assert package is not None
    assert package.origin is not None
    path = Path(package.origin).parent / "assets" / "silero_vad_v6.onnx"
    if not path.is_file():
        raise ConfigError(f"faster-whisper has no {path.name}; install faster-whisper 1.2")
    return path
