"""Detects speech in a stream of audio, and cuts it into windows for the speech model.

The detector is Silero VAD, version 6, as faster-whisper ships it (github.com/snakers4/silero-vad): one probability for
each 32 ms. Its state is carried from block to block here, so that audio of any length takes the same memory.
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
_CONTEXT_SAMPLES = 64  # samples of the frame before that the model looks back at
_STATE_SHAPE = (1, 1, 128)
MAX_WINDOW_SAMPLES = 30 * RATE_HZ  # the longest input of Whisper
_ABOVE_ALL = 2.0  # above every probability


@dataclass(frozen=True, slots=True)
class VadOptions:
    """Limits that decide which audio counts as speech. Probabilities 0…1, times in milliseconds.

    Attributes:
        threshold: speech starts at a frame of at least this probability.
        end_threshold: speech continues while frames have at least this probability.
        min_silence_ms: a shorter pause stays inside a window.
        min_speech_ms: shorter speech is a click or a cough, and is dropped.
        pad_ms: added before and after, since the model is late at both ends.
    """

    threshold: float = 0.5
    end_threshold: float = 0.35
    min_silence_ms: int = 2_000
    min_speech_ms: int = 100
    pad_ms: int = 200


@dataclass(frozen=True, slots=True)
class SpeechWindow:
    """Speech for one run of the speech model.

    Attributes:
        start: number of its first sample on the player's clock, at `RATE_HZ`.
        samples: float32[n], at most `MAX_WINDOW_SAMPLES`.
    """

    start: int
    samples: Float32


class SileroVAD:
    """Silero's model with its state, for one stream of audio at a time. `reset` starts another stream."""

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
        """Forgets the audio so far."""
        self._hidden = np.zeros(_STATE_SHAPE, np.float32)
        self._cell = np.zeros(_STATE_SHAPE, np.float32)
        self._context = np.zeros(_CONTEXT_SAMPLES, np.float32)

    def probabilities(self, samples: Float32) -> Float32:
        """Returns the probability of speech in each frame.

        Args:
            samples: float32[n * `FRAME_SAMPLES`], which follow those of the call before.

        Returns:
            float32[n].
        """
        frames = samples.reshape(-1, FRAME_SAMPLES)
        tails = np.concatenate((self._context[None], frames[:, -_CONTEXT_SAMPLES:]))
        inputs = np.concatenate((tails[:-1], frames), axis=1)
        output, self._hidden, self._cell = self._session.run(
            None, {"input": inputs, "h": self._hidden, "c": self._cell}
        )
        self._context = tails[-1]
        probabilities: Float32 = output.reshape(-1)
        return probabilities


class SpeechSegmenter:
    """Cuts audio into windows of speech.

    A pause shorter than `min_silence_ms` stays inside a window. Speech without a longer pause is cut where its
    probability was lowest in the second half of the longest window.

    Args:
        detector: its state is reset.
        options: see `VadOptions`.
        start: number of the first sample that will be added.
    """

    def __init__(self, detector: SileroVAD, options: VadOptions, *, start: int = 0) -> None:
        self._detector = detector
        self._threshold, self._end_threshold = options.threshold, options.end_threshold
        self._min_silence, self._min_speech, self._pad = (
            ms * RATE_HZ // 1000 for ms in (options.min_silence_ms, options.min_speech_ms, options.pad_ms)
        )
        self._samples: Float32 = np.zeros(0, np.float32)  # a window's worth at most, and a block's
        self._first = start  # number of the first sample in `_samples`
        self._classified = start  # all before it have a probability
        self._free = start  # all before it belong to windows that were returned
        self._speech: int | None = None  # start of the current speech, without padding
        self._silence: int | None = None  # start of the current pause
        self._weakest = (_ABOVE_ALL, 0)  # the least probability in the window's second half, and its frame
        detector.reset()

    @property
    def resume_sample(self) -> int:
        """The number of the sample at which reading can resume: no later window begins before it.

        Speech that starts after it is padded with audio before that is in no window yet.
        """
        return self._window_start(self._classified if self._speech is None else self._speech)

    def add(self, block: Block) -> Iterator[SpeechWindow]:
        """Yields the windows that are complete with this block. Blocks come in order."""
        if block.start != self._end:
            yield from self.end()
            self._restart(block.start)
        self._samples = np.concatenate((self._samples, block.samples))
        whole = (self._end - self._classified) // FRAME_SAMPLES * FRAME_SAMPLES
        if whole:
            unclassified = self._copy(self._classified, self._classified + whole)
            for probability in self._detector.probabilities(unclassified):
                yield from self._classify(float(probability))
        self._drop_unneeded()

    def end(self) -> Iterator[SpeechWindow]:
        """Yields the last window, if there is speech up to the end."""
        if self._speech is not None:
            yield from self._cut(self._speech, self._end if self._silence is None else self._silence, self._pad)
        self._speech = None

    # --- audio without gaps ------------------------------------------------------------------------------------------

    def _restart(self, start: int) -> None:
        self._detector.reset()
        self._samples = np.zeros(0, np.float32)
        self._first = self._classified = self._free = start

    @property
    def _end(self) -> int:
        return self._first + len(self._samples)

    def _classify(self, probability: float) -> Iterator[SpeechWindow]:
        """Takes the next frame as speech or silence, and yields the window that this completes."""
        frame, self._classified = self._classified, self._classified + FRAME_SAMPLES
        if self._speech is None:
            if probability >= self._threshold:
                self._speech, self._silence, self._weakest = frame, None, (_ABOVE_ALL, frame)
            return
        start = self._window_start(self._speech)
        if probability >= self._threshold:
            self._silence = None
        elif probability < self._end_threshold and self._silence is None:
            self._silence = frame
        if frame - start >= MAX_WINDOW_SAMPLES / 2 and probability <= self._weakest[0]:
            self._weakest = (probability, frame)
        if self._silence is not None and self._classified - self._silence >= self._min_silence:
            yield from self._cut(self._speech, self._silence, self._pad)
            self._speech = None
        elif self._classified + FRAME_SAMPLES - start > MAX_WINDOW_SAMPLES:
            cut = self._weakest[1]
            yield from self._cut(self._speech, cut, 0)
            self._speech, self._weakest = cut, (_ABOVE_ALL, cut)

    def _window_start(self, speech: int) -> int:
        """Returns the start of the window for speech that starts there."""
        return max(self._free, speech - self._pad)

    def _cut(self, speech: int, end: int, pad: int) -> Iterator[SpeechWindow]:
        """Yields the window from the start of the speech to its end; a short one only if it continues the last one."""
        if end - speech >= self._min_speech or self._free == speech < end:
            start = self._window_start(speech)
            self._free = min(end + pad, self._end, start + MAX_WINDOW_SAMPLES)
            yield SpeechWindow(start, self._copy(start, self._free))

    def _copy(self, start: int, end: int) -> Float32:
        return self._samples[start - self._first : end - self._first].copy()

    def _drop_unneeded(self) -> None:
        """Drops the samples that no later window can contain."""
        needed = self._classified - self._pad if self._speech is None else self._window_start(self._speech)
        if (surplus := max(self._first, needed) - self._first) > 0:
            self._samples = self._samples[surplus:].copy()
            self._first += surplus


def _model_path() -> Path:
    """Returns the model's file in faster-whisper without importing it, since its package loads CTranslate2."""
    package = importlib.util.find_spec("faster_whisper")
    assert package is not None
    assert package.origin is not None
    path = Path(package.origin).parent / "assets" / "silero_vad_v6.onnx"
    if not path.is_file():
        raise ConfigError(f"faster-whisper does not contain {path.name}; install faster-whisper 1.2")
    return path
