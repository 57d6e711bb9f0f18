"""Opens audio and video files with FFmpeg, and reads packets and frames with times on the player's clock.

The player's clock begins with the earliest track of the container, so that audio and video agree. FFmpeg applies edit
lists and the delay of encoders. Where timestamps jump back, as in files that were joined, times continue from the
latest one. Packets that do not decode are skipped, and so is what follows the point at which a file was cut off.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import TypeVar, cast, overload

import av
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.codec import CodecContext
from av.container import InputContainer
from av.packet import Packet
from av.stream import Disposition, Stream
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from penstock.errors import BadInputError, Reason

logger = logging.getLogger(__name__)

MAX_FRAME_PIXELS = 36_000_000  # 8K has 33 million; a decoder holds up to 17 frames of 1.5 bytes a pixel
_MAX_STEP_BACK_S = 1.0  # packets that were written out of order are less apart, and no player waits for more
_MICROSECONDS = 1_000_000  # the unit of a container's own times

# FFmpeg's readers of the formats that `media.sniff` detects by their bytes. No others run: FFmpeg would also take such
# bytes for a playlist or a session description, and open the files and addresses that are named there.
_FORMATS = (
    "aac", "aiff", "amr", "asf", "au", "avi", "caf", "flac", "flv", "matroska", "mov", "mp3", "mpeg", "mpegts",
    "mpegvideo", "ogg", "wav", "wv",
)  # fmt: skip
_SAFE_OPTIONS = {
    "format_whitelist": ",".join(_FORMATS),
    "protocol_whitelist": "file",
    "max_pixels": str(MAX_FRAME_PIXELS),  # frames are decoded while a container is opened already
}

_CODEC_ADVICE = {"audio": "AAC", "video": "H.264"}

StreamT = TypeVar("StreamT", AudioStream, VideoStream)


class MediaFile:
    """An audio or video file, opened to be read once. Everything that FFmpeg reads is opened here. Close it.

    Args:
        media: a path, or the bytes themselves.

    Attributes:
        start_s: the timestamp at which the player's clock begins, seconds.
        duration_s: the length that the header states, seconds, which may be wrong; None if it states none.
        title: the title in the file's own tags, which FFmpeg reads under one name for all formats; "" if there is none.

    Raises:
        BadInputError: CORRUPT, if no container is recognised, or one of a format that holds no media itself, such as a
            playlist.
    """

    def __init__(self, media: Path | bytes) -> None:
        source = io.BytesIO(media) if isinstance(media, bytes) else str(media)
        try:
            self._container: InputContainer = av.open(source, "r", options=_SAFE_OPTIONS, metadata_errors="replace")
        except (av.FFmpegError, ValueError) as exc:
            raise BadInputError(Reason.CORRUPT, f"the audio or video file cannot be opened: {exc}") from exc
        duration = self._container.duration
        self.start_s = Fraction(self._container.start_time or 0, _MICROSECONDS)
        self.duration_s = None if duration is None or duration < 0 else duration / _MICROSECONDS
        self.title = str(self._container.metadata.get("title", "")).strip()

    def close(self) -> None:
        """Closes the container."""
        self._container.close()

    def audio_stream(self) -> AudioStream | None:
        """Returns the audio track that a player plays; None if there is none.

        That is the one flagged as default, else the first, of those that have a decoder here; only if none has, it is
        one without.
        """
        return _preferred(self._container.streams.audio)

    def video_stream(self) -> VideoStream | None:
        """Returns the video track that a player shows, chosen as `audio_stream`; a cover attached to audio is none."""
        cover = Disposition.attached_pic
        return _preferred([stream for stream in self._container.streams.video if not stream.disposition & cover])

    def packets(self, stream: StreamT) -> Iterator[Packet[StreamT]]:
        """Yields the packets of one track in file order, up to where the file was cut off, with continuous times.

        The packets of the other track are read too, so that both tracks get the same times. The last packet is empty
        and makes the decoder return the frames that it holds back.
        """
        tracks = [track for track in (self.audio_stream(), self.video_stream()) if track is not None]
        packets, timestamps = self._container.demux(tracks), _ContinuousTimestamps()
        while True:
            try:
                packet = next(packets, None)
            except (av.FFmpegError, IndexError) as exc:  # PyAV raises the latter at the end if tracks appeared later
                logger.warning("the %s track ends early and is read up to there: %s", stream.type, exc)
                packet = av.Packet()
                packet.stream = stream
                yield cast("Packet[StreamT]", packet)
                return
            if packet is None:
                return
            timestamps.adjust(packet)
            if packet.stream.index == stream.index:
                yield cast("Packet[StreamT]", packet)

    def clock_s(self, time: int, unit_s: Fraction) -> float:
        """Returns a timestamp of the file as seconds on the player's clock."""
        return float(time * unit_s - self.start_s)


@overload
def decode_packets(packets: Iterator[Packet[AudioStream]]) -> Iterator[AudioFrame]: ...
@overload
def decode_packets(packets: Iterator[Packet[VideoStream]]) -> Iterator[VideoFrame]: ...
def decode_packets(
    packets: Iterator[Packet[AudioStream]] | Iterator[Packet[VideoStream]],
) -> Iterator[AudioFrame] | Iterator[VideoFrame]:
    """Yields the frames of one track in order. Packets that do not decode are skipped and counted in the log."""
    broken, kind = 0, ""
    for packet in packets:
        try:
            yield from packet.decode()
        except av.FFmpegError:
            broken, kind = broken + 1, packet.stream.type
    if broken:
        logger.warning("%d packets of the %s track did not decode and were skipped", broken, kind)


def codec_name(stream: AudioStream | VideoStream) -> str:
    """Returns the name of the track's codec; `unknown` if there is no decoder for it here."""
    context = _decoder(stream)
    return "unknown" if context is None else context.name


def has_decoder(stream: AudioStream | VideoStream) -> bool:
    """Returns whether there is a decoder for the track here."""
    return _decoder(stream) is not None


def check_decoder(stream: AudioStream | VideoStream) -> None:
    """Raises BadInputError, UNSUPPORTED, if there is no decoder for the track here."""
    if not has_decoder(stream):
        detail = f"unsupported {stream.type} codec; re-encode, for example as {_CODEC_ADVICE[stream.type]}"
        raise BadInputError(Reason.UNSUPPORTED, detail)


def _decoder(stream: AudioStream | VideoStream) -> CodecContext | None:
    return cast("CodecContext | None", stream.codec_context)  # PyAV's stubs leave the None out


def _preferred(streams: Sequence[StreamT]) -> StreamT | None:
    """Returns the first track with a decoder that is flagged as default, else the first with one, else the first."""
    decodable = [stream for stream in streams if has_decoder(stream)]
    flagged = (stream for stream in decodable if stream.disposition & Disposition.default)
    return next(flagged, None) or next(iter(decodable), None) or next(iter(streams), None)


class _ContinuousTimestamps:
    """Makes timestamps that jump back continue from the latest one, as players do.

    Files that were joined restart their timestamps at each joint. The packets between two jumps are a part of the file.
    The tracks reach a part one after the other, a packet or more apart; the first to reach it sets the shift for all.
    """

    def __init__(self) -> None:
        self._shifts_s = [0.0]  # by part: added to its timestamps
        self._part: dict[int, int] = {}  # by track: the part that it has reached
        self._latest_s: dict[int, float] = {}  # by track: the latest decoding time in the file
        self._end_s = 0.0  # of all tracks, shifted

    def adjust(self, packet: Packet[Stream]) -> None:
        """Shifts the times of a packet. Decoding times show a jump; presentation times of reordered frames go back."""
        track, unit_s = packet.stream_index, float(packet.time_base)
        part = self._part.setdefault(track, 0)
        if packet.dts is not None:
            decoding_s = packet.dts * unit_s
            shown_s = decoding_s if packet.pts is None else packet.pts * unit_s
            latest_s = self._latest_s.get(track, decoding_s)
            if latest_s - decoding_s > _MAX_STEP_BACK_S:
                part = self._part[track] = self._next_part(part, shown_s, latest_s + self._shifts_s[part])
            self._latest_s[track] = decoding_s
            self._end_s = max(self._end_s, shown_s + self._shifts_s[part] + (packet.duration or 0) * unit_s)
        if part:
            shift = round(self._shifts_s[part] / unit_s)
            packet.pts, packet.dts = (None if time is None else time + shift for time in (packet.pts, packet.dts))

    def _next_part(self, part: int, shown_s: float, before_s: float) -> int:
        """Returns the next part in which the time comes after the one before; a new part, if there is none."""
        for known in range(part + 1, len(self._shifts_s)):
            if before_s - shown_s - self._shifts_s[known] <= _MAX_STEP_BACK_S:
                return known
        self._shifts_s.append(self._end_s - shown_s)
        return len(self._shifts_s) - 1
