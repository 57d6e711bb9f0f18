"""Sound: what any container holds, as 16 kHz mono in small blocks, on the player's clock and in bounded memory.

The player's clock begins with the earliest track of the container, so that film and sound agree; edit lists and the
delay of encoders are FFmpeg's to apply. Where the timestamps leave a gap there is a gap here too, and no silence is
made up for it: a header that lies about hours costs nothing. Where they jump back, as in files that were joined, times
go on. Packets that do not decode are left out, and so is what comes after a file was cut off; only a file of which
nothing decodes is corrupt.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

import av
import numpy as np
from av.stream import Disposition

from penstock.errors import BadInputError, Reason
from penstock.records import Float32

logger = logging.getLogger(__name__)

RATE_HZ = 16_000
_BLOCK_SAMPLES = RATE_HZ // 2
_PIECES_PER_S = 4  # what is waiting and one piece more are less than a second
# Speech has none below, and nothing records above. A frame grows by 16,000 over the rate, and a hundred octets that say
# 8 Hz would become a gigabyte; towards the highest rate that can be written, the resampler's own tables do.
_RATES_HZ = range(1_000, 1_000_001)
MAX_FRAME_PIXELS = (
    36_000_000  # of a frame: 8K has 33 million, and a decoder holds up to 17 frames of 1.5 octets a pixel
)
_GAP_S = 0.1  # timestamps of lossy codecs wander by less than a frame (64 ms at most); a lost packet leaves more
_JUMP_BACK_S = 1.0  # packets that were written out of order are less apart, and no player waits for more
_RUN_UP_S = 2  # decoders need some packets before what they decode is right; Opus asks for 80 ms
_MICROSECONDS = 1_000_000  # the unit of a container's own times

# FFmpeg's readers of what `media.sniff` tells by its bytes. No others run: it would also take such bytes for a playlist
# or a session description, and open the files and addresses that are named there.
_FORMATS = (
    "aac", "aiff", "amr", "asf", "au", "avi", "caf", "flac", "flv", "matroska", "mov", "mp3", "mpeg", "mpegts",
    "mpegvideo", "ogg", "wav", "wv",
)  # fmt: skip
_SAFELY = {
    "format_whitelist": ",".join(_FORMATS),
    "protocol_whitelist": "file",
    "max_pixels": str(MAX_FRAME_PIXELS),  # frames are decoded while a container is opened already
}


@dataclass(frozen=True, slots=True)
class Block:
    """Samples that follow each other.

    Attributes:
        start: number of the first one, counted at `RATE_HZ` from the start of the player's clock.
        samples: float32[n], mono, within -1…1.
    """

    start: int
    samples: Float32

    @property
    def end(self) -> int:
        return self.start + len(self.samples)


class AudioTrack:
    """The sound track of a file, read once. Use it in a `with` statement.

    Args:
        media: a path, or bytes to seek in.
        start: number of the first sample that is wanted. What lies before it is not decoded, but passed over packet by
            packet: seeking goes by estimates in formats without an index, and times have to be right.

    Attributes:
        codec: of the track; None if there is none.
        duration_s: as the header has it, which may lie; None if it says nothing.
        title: as the file's own tags have it; empty if they have none.

    Raises:
        BadInputError: CORRUPT, if no container can be made out; UNSUPPORTED, if its codec has no decoder here.
    """

    def __init__(self, media: Path | BinaryIO, *, start: int = 0) -> None:
        self._begin = start
        self._container = open_container(media)
        self.title = read_title(self._container)
        self._stream = find_audio_stream(self._container)
        self.codec = None if self._stream is None else codec_name(self._stream)
        self._begins_s, self.duration_s = read_clock(self._container)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._container.close()

    def blocks(self) -> Iterator[Block]:
        """All that is wanted, half a second at a time, in order; shorter blocks before a gap and at the end.

        A block is shorter than a second, whatever the file says.

        Raises:
            BadInputError: CORRUPT, if there is a track and nothing of it decodes; UNSUPPORTED, if its channels have no
                layout that can be mixed.
        """
        if self._stream is None:
            return
        joiner, found = _Resampler(), False
        for start_s, frame in self._frames(self._stream):
            found = True
            yield from self._wanted(joiner.add(start_s, frame))
        yield from self._wanted(joiner.end())
        if not found and not self._begin:
            message = f"its sound track ({self.codec}) does not decode, or not to a rate of 1 kHz to 1 MHz"
            raise BadInputError(Reason.CORRUPT, message)

    def _wanted(self, blocks: Iterator[Block]) -> Iterator[Block]:
        for block in blocks:
            if block.start >= self._begin:
                yield block
            elif block.end > self._begin:
                yield Block(self._begin, block.samples[self._begin - block.start :])

    def _frames(self, stream: Any) -> Iterator[tuple[float | None, Any]]:
        """Decoded frames, each with its time on the player's clock; None where the file has none for it."""
        for frame in decode_packets(self._packets(stream), stream):
            if frame.rate not in _RATES_HZ:
                continue
            known = frame.pts is not None and frame.time_base is not None
            yield float(frame.pts * frame.time_base - self._begins_s) if known else None, frame

    def _packets(self, stream: Any) -> Iterator[Any]:
        """Those from shortly before the first sample that is wanted."""
        begins = self._begins_s + Fraction(self._begin, RATE_HZ) - _RUN_UP_S
        for packet in read_packets(self._container, stream):
            if not self._begin or packet.pts is None or packet.pts * packet.time_base >= begins:
                yield packet


class _Resampler:
    """Frames of any rate and layout in, blocks out. Where they do not follow each other a new stretch begins."""

    def __init__(self) -> None:
        self._resampler: av.AudioResampler | None = None
        self._form: tuple[str, str, int] | None = None
        self._waiting: list[Float32] = []
        self._waiting_samples = 0
        self._next = 0  # number of the sample after those waiting
        self._due_s = 0.0  # when the frame after the latest one should begin

    def add(self, start_s: float | None, frame: Any) -> Iterator[Block]:
        form = (frame.format.name, frame.layout.name, frame.rate)
        jumped = start_s is not None and start_s - self._due_s > _GAP_S
        if jumped or form != self._form:
            yield from self.end()
            if start_s is not None and (jumped or self._form is None):
                self._next = max(self._next, round(start_s * RATE_HZ))  # what lies before the start is left as it is
                self._due_s = max(self._due_s, start_s)
            # To floats FFmpeg would add the channels of a stereo track up, beyond 1; to integers it keeps them below.
            self._resampler, self._form = av.AudioResampler(format="s16", layout="mono", rate=RATE_HZ), form
        self._due_s += frame.samples / frame.rate
        for piece in _pieces(frame):
            yield from self._resampled(piece)

    def end(self) -> Iterator[Block]:
        """What is left of this stretch."""
        if self._resampler is not None:
            yield from self._resampled(None)
            self._resampler = None
        yield from self._blocks(1)

    def _resampled(self, frame: Any) -> Iterator[Block]:
        assert self._resampler is not None
        assert self._form is not None
        try:
            resampled = self._resampler.resample(frame)
        except (av.FFmpegError, ValueError) as exc:
            detail = f"sound of {self._form[1]} cannot be mixed down to one ({exc}); take mono or stereo"
            raise BadInputError(Reason.UNSUPPORTED, detail) from exc
        for made in resampled:
            samples: Float32 = made.to_ndarray()[0].astype(np.float32) / 32_768
            self._waiting.append(samples)
            self._waiting_samples += len(samples)
        yield from self._blocks(_BLOCK_SAMPLES)

    def _blocks(self, least: int) -> Iterator[Block]:
        if self._waiting_samples < least:
            return
        samples = np.concatenate(self._waiting)
        self._waiting, self._waiting_samples = [], 0
        yield Block(self._next, samples)
        self._next += len(samples)


def _pieces(frame: Any) -> Iterator[Any]:
    """The frame, without its time, in frames of at most a quarter of a second: a crafted one holds minutes."""
    frame.pts = None  # the resampler must not make up for gaps on its own
    most = frame.rate // _PIECES_PER_S
    if frame.samples <= most:
        yield frame
        return
    queue = av.AudioFifo()
    queue.write(frame)
    while (piece := queue.read(most, partial=True)) is not None:
        piece.pts = None
        yield piece


# --- containers ------------------------------------------------------------------------------------------------------


def open_container(media: Path | BinaryIO) -> Any:
    """A container of PyAV, opened to read. Everything that is read with FFmpeg is opened here.

    Raises:
        BadInputError: CORRUPT, also if it is of a format that the bytes alone do not hold, such as a playlist.
    """
    try:
        return av.open(str(media) if isinstance(media, Path) else media, options=_SAFELY, metadata_errors="replace")
    except (av.FFmpegError, ValueError) as exc:
        raise BadInputError(Reason.CORRUPT, f"sound or film that does not open: {exc}") from exc


def read_clock(container: Any) -> tuple[Fraction, float | None]:
    """Where the player's clock begins among the timestamps, and the length by the header, which may lie; seconds."""
    length = container.duration
    begins_s = Fraction(container.start_time or 0, _MICROSECONDS)
    return begins_s, None if length is None or length < 0 else length / _MICROSECONDS


def read_title(container: Any) -> str:
    """What the file's own tags say; FFmpeg reads them all under one name."""
    return str(container.metadata.get("title", "")).strip()


def find_audio_stream(container: Any) -> Any:
    """The sound track that is heard; None if there is none."""
    return next(iter(container.streams.audio), None)


def find_video_stream(container: Any) -> Any:
    """The picture track that is seen; None if there is none but a cover, which is attached to sound."""
    covers = Disposition.attached_pic
    return next((stream for stream in container.streams.video if not stream.disposition & covers), None)


def read_packets(container: Any, stream: Any) -> Iterator[Any]:
    """Packets of one track in the order of the file, up to where it was cut off, with times that go on.

    The other track's packets are looked at too, so that whoever reads either finds the same times.
    """
    packets = container.demux(
        [track for track in (find_audio_stream(container), find_video_stream(container)) if track is not None]
    )
    going_on = _TimestampRepair()
    while True:
        try:
            packet = next(packets, None)
        except (av.FFmpegError, IndexError) as exc:  # the latter by PyAV at the end, if tracks appeared on the way
            logger.warning("a %s track ends early: %s", stream.type, exc)
            packet = av.Packet()  # an empty one: the decoder gives out what it holds back
            packet.stream = stream
            yield packet
            return
        if packet is None:
            return
        going_on.adjust(packet)
        if packet.stream.index == stream.index:
            yield packet


def decode_packets(packets: Iterator[Any], stream: Any) -> Iterator[Any]:
    """Frames of one track, in order; packets that do not decode are left out and counted in the log."""
    broken = 0
    for packet in packets:
        try:
            yield from packet.decode()
        except av.FFmpegError:
            broken += 1
    if broken:
        logger.warning("%d packets of a %s track did not decode and are left out", broken, stream.type)


class _TimestampRepair:
    """Lets times go on where they jump back, as players do: where recordings were joined, each begins anew.

    Between two jumps lies a part of the file. Tracks come to it one after the other, a packet or more apart; the one
    that is first decides by how much all are put off.
    """

    def __init__(self) -> None:
        self._later_s = [0.0]  # by how much, in each part
        self._part: dict[int, int] = {}  # in which each track is
        self._latest_s: dict[int, float] = {}  # of each track, as the file has it
        self._ends_s = 0.0  # of all tracks, as it is given out

    def adjust(self, packet: Any) -> None:
        """Puts its times off. Decoding order tells a jump, as presentation times go back with reordered frames."""
        track, unit_s = packet.stream_index, float(packet.time_base)
        part = self._part.setdefault(track, 0)
        if packet.dts is not None:
            at_s = packet.dts * unit_s
            shown_s = at_s if packet.pts is None else packet.pts * unit_s
            if self._latest_s.get(track, at_s) - at_s > _JUMP_BACK_S:
                part = self._part[track] = self._part_after(part, shown_s, self._latest_s[track] + self._later_s[part])
            self._latest_s[track] = at_s
            self._ends_s = max(self._ends_s, shown_s + self._later_s[part] + (packet.duration or 0) * unit_s)
        if part:
            later = round(self._later_s[part] / unit_s)
            packet.pts, packet.dts = (None if time is None else time + later for time in (packet.pts, packet.dts))

    def _part_after(self, part: int, shown_s: float, before_s: float) -> int:
        """The next part in which that time comes after the one before; a new one, if there is none."""
        for known in range(part + 1, len(self._later_s)):
            if before_s - shown_s - self._later_s[known] <= _JUMP_BACK_S:
                return known
        self._later_s.append(self._ends_s - shown_s)
        return len(self._later_s) - 1


def codec_name(stream: Any) -> str:
    """Raises BadInputError, UNSUPPORTED, if there is no decoder for the track here."""
    if stream.codec_context is None:
        raise BadInputError(Reason.UNSUPPORTED, f"no decoder here for its {stream.type} track; take H.264 and AAC, say")
    return str(stream.codec_context.name)
