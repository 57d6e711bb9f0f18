"""Cuts audio into windows of one length for an audio encoder, whatever it contains."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from penstock.media.av.audio import RATE_HZ, Block
from penstock.records import Float32

_MIN_WINDOW_SAMPLES = RATE_HZ // 2  # a shorter rest is left out, unless it is all there is
_SILENCE = 0.001  # 60 dB below full scale: an encoder would give silence a vector like any other


@dataclass(frozen=True, slots=True)
class SoundOptions:
    """Length of the windows, and the distance of their starts, milliseconds."""

    window_ms: int
    hop_ms: int


@dataclass(frozen=True, slots=True)
class SoundWindow:
    """Audio for the audio encoder.

    Attributes:
        start: number of its first sample on the player's clock, at `RATE_HZ`.
        samples: float32[n], at most as long as a window.
    """

    start: int
    samples: Float32

    @property
    def end(self) -> int:
        """The number of the sample after the last one."""
        return self.start + len(self.samples)


class SoundCutter:
    """Collects audio, and cuts it at the ends of segments.

    Windows never reach over the end of a segment: the next one may be read by another process. Memory is bounded by the
    length of a segment, 64 KB a second.

    Args:
        options: of the windows.
    """

    def __init__(self, options: SoundOptions) -> None:
        self._window = options.window_ms * RATE_HZ // 1000
        self._hop = options.hop_ms * RATE_HZ // 1000
        self._blocks: list[Block] = []

    def add(self, block: Block) -> None:
        """Adds the next audio."""
        self._blocks.append(block)

    def cut(self, end: int) -> Iterator[SoundWindow]:
        """Yields the windows of all audio before the sample of this number, except for silence, and keeps the rest."""
        done, kept = [], []
        for block in self._blocks:
            if block.start < end:
                done.append(Block(block.start, block.samples[: end - block.start]))
            if block.end > end:
                first = max(0, end - block.start)
                kept.append(Block(block.start + first, block.samples[first:]))
        self._blocks = kept
        for start, samples in _runs(done):
            yield from self._windows(start, samples)

    def _windows(self, start: int, samples: Float32) -> Iterator[SoundWindow]:
        for first in range(0, len(samples), self._hop):
            window = samples[first : first + self._window]
            is_rest = first > 0 and len(window) < max(_MIN_WINDOW_SAMPLES, self._window - self._hop)
            if not is_rest and float(np.abs(window).max()) > _SILENCE:
                yield SoundWindow(start + first, window)


def _runs(blocks: list[Block]) -> Iterator[tuple[int, Float32]]:
    """Yields the start and the samples of each run of audio without a gap."""
    run: list[Block] = []
    for block in blocks:
        if run and block.start != run[-1].end:
            yield run[0].start, np.concatenate([part.samples for part in run])
            run = []
        run.append(block)
    if run:
        yield run[0].start, np.concatenate([part.samples for part in run])
