"""Decodes the audio of any container to 16 kHz mono in small blocks, in bounded memory.

Times are on the player's clock (see `media.av.container`). A gap between timestamps stays a gap and is not filled with
silence, so a header that claims hours costs nothing. A file is corrupt only if none of its audio decodes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.packet import Packet

from penstock.errors import BadInputError, Reason
from penstock.media.av.container import MediaFile, check_decoder, codec_name, decode_packets
from penstock.media.av.mono import MonoMix
from penstock.records import Float32

RATE_HZ = 16_000
_BLOCK_SAMPLES = RATE_HZ // 2
_PIECES_PER_S = 4  # a pending block and one piece more are less than a second
# Speech has no rates below, and no recorder writes rates above. A frame grows by 16,000 over its rate, so a hundred
# bytes that claim 8 Hz would become a gigabyte; towards the highest rate that a file can state, the resampler's own
# tables do.
_RATES_HZ = range(1_000, 1_000_001)
_GAP_S = 0.1  # timestamps of lossy codecs wander by less than a frame (64 ms at most); a lost packet leaves more
_PREROLL_S = 2  # decoders need some packets before their output is right; Opus specifies 80 ms


@dataclass(frozen=True, slots=True)
class Block:
    """Consecutive audio samples.

    Attributes:
        start: number of the first sample, counted at `RATE_HZ` from the start of the player's clock.
        samples: float32[n], mono, within -1…1.
    """

    start: int
    samples: Float32

    @property
    def end(self) -> int:
        """The number of the sample after the last one."""
        return self.start + len(self.samples)


class AudioTrack:
    """The audio track of a file, read once. Close it.

    Args:
        media: a path, or the bytes themselves.
        start: number of the first sample to return. Packets before it are skipped one by one, without decoding: FFmpeg
            seeks by estimates in formats without an index, and times have to be right.

    Attributes:
        codec: name of the track's codec, `unknown` if it has no decoder here; None if there is no audio track.
        duration_s: the length that the header states, seconds, which may be wrong; None if it states none.
        title: the title in the file's own tags; "" if there is none.

    Raises:
        BadInputError: CORRUPT, if no container is recognised.
    """

    def __init__(self, media: Path | bytes, *, start: int = 0) -> None:
        self._start = start
        self._file = MediaFile(media)
        self._stream = self._file.audio_stream()
        self.codec = None if self._stream is None else codec_name(self._stream)
        self.duration_s, self.title = self._file.duration_s, self._file.title

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def blocks(self) -> Iterator[Block]:
        """Yields the audio in order, half a second at a time. Blocks before a gap and at the end are shorter.

        A block is shorter than a second, whatever the file contains.

        Raises:
            BadInputError: CORRUPT, if there is a track and none of it decodes; UNSUPPORTED, if its codec has no decoder
                here, or its channels have no layout that can be mixed to mono.
        """
        if self._stream is None:
            return
        check_decoder(self._stream)
        resampler, decodes = _Resampler(), False
        for start_s, frame in self._frames(self._stream):
            decodes = True
            yield from self._after_start(resampler.add(start_s, frame))
        yield from self._after_start(resampler.end())
        if not decodes and not self._start:
            message = f"its audio track ({self.codec}) does not decode, or not to a rate of 1 kHz to 1 MHz"
            raise BadInputError(Reason.CORRUPT, message)

    def _after_start(self, blocks: Iterator[Block]) -> Iterator[Block]:
        for block in blocks:
            if block.start >= self._start:
                yield block
            elif block.end > self._start:
                yield Block(self._start, block.samples[self._start - block.start :])

    def _frames(self, stream: AudioStream) -> Iterator[tuple[float | None, AudioFrame]]:
        """Yields decoded frames, each with its time on the player's clock; None if the file has no time for it."""
        for frame in decode_packets(self._packets(stream)):
            if frame.rate not in _RATES_HZ:
                continue
            if frame.pts is None or frame.time_base is None:
                yield None, frame
            else:
                yield self._file.clock_s(frame.pts, frame.time_base), frame

    def _packets(self, stream: AudioStream) -> Iterator[Packet[AudioStream]]:
        """Yields the packets from shortly before the first sample to return."""
        preroll_s = self._file.start_s + Fraction(self._start, RATE_HZ) - _PREROLL_S
        for packet in self._file.packets(stream):
            if not self._start or packet.pts is None or packet.pts * packet.time_base >= preroll_s:
                yield packet


class _Resampler:
    """Turns frames of any rate and layout into blocks. A gap or a change of format restarts FFmpeg's resampler."""

    def __init__(self) -> None:
        self._resampler: av.AudioResampler | None = None
        self._format: tuple[str, str, int] | None = None
        self._mix = MonoMix()
        self._pending: list[Float32] = []
        self._pending_samples = 0
        self._next = 0  # number of the first pending sample
        self._expected_s = 0.0  # start of the next frame, if it follows the latest one without a gap

    def add(self, start_s: float | None, frame: AudioFrame) -> Iterator[Block]:
        """Yields the blocks that are complete with this frame."""
        format_ = (frame.format.name, frame.layout.name, frame.rate)
        jumped = start_s is not None and start_s - self._expected_s > _GAP_S
        if jumped or format_ != self._format:
            yield from self.end()
            if start_s is not None and (jumped or self._format is None):
                self._next = max(self._next, round(start_s * RATE_HZ))  # what starts before zero begins at zero
                self._expected_s = max(self._expected_s, start_s)
            # To floats FFmpeg would add the channels of a surround track up, beyond 1; to integers it keeps them below.
            layout = "stereo" if frame.layout.nb_channels == 2 else "mono"
            self._resampler, self._format = av.AudioResampler(format="s16", layout=layout, rate=RATE_HZ), format_
        self._expected_s += frame.samples / frame.rate
        for piece in _pieces(frame):
            yield from self._resample(piece)

    def end(self) -> Iterator[Block]:
        """Yields the rest of the audio since the latest gap."""
        if self._resampler is not None:
            yield from self._resample(None)
            self._resampler = None
        yield from self._take(1)

    def _resample(self, frame: AudioFrame | None) -> Iterator[Block]:
        assert self._resampler is not None
        assert self._format is not None
        try:
            resampled = self._resampler.resample(frame)
        except (av.FFmpegError, ValueError) as exc:
            detail = f"audio of {self._format[1]} cannot be mixed down to mono ({exc}); send mono or stereo"
            raise BadInputError(Reason.UNSUPPORTED, detail) from exc
        for piece in resampled:
            packed = piece.to_ndarray().reshape(-1, piece.layout.nb_channels)
            samples = self._mix.mono(packed.astype(np.float32) / np.float32(32_768))
            self._pending.append(samples)
            self._pending_samples += len(samples)
        yield from self._take(_BLOCK_SAMPLES)

    def _take(self, min_samples: int) -> Iterator[Block]:
        """Yields all pending samples as one block, if there are enough of them."""
        if self._pending_samples < min_samples:
            return
        samples = np.concatenate(self._pending)
        self._pending, self._pending_samples = [], 0
        yield Block(self._next, samples)
        self._next += len(samples)


def _pieces(frame: AudioFrame) -> Iterator[AudioFrame]:
    """Splits a frame into untimed ones of at most a quarter of a second: a crafted frame holds minutes."""
    frame.pts = None  # the resampler must not fill gaps by itself
    max_samples = frame.rate // _PIECES_PER_S
    if frame.samples <= max_samples:
        yield frame
        return
    queue = av.AudioFifo()
    queue.write(frame)
    while (piece := queue.read(max_samples, partial=True)) is not None:
        piece.pts = None
        yield piece
