"""Decodes the frames of a video track: all of them, or only the I-frames (key frames of the codec).

Times are on the player's clock (see `media.av.container`). Frames are rotated and mirrored as a player does.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from PIL import Image

from penstock.cpus import usable_cpus
from penstock.errors import BadInputError, Reason
from penstock.media.av.container import (
    MAX_FRAME_PIXELS,
    MediaFile,
    check_decoder,
    codec_name,
    decode_packets,
    has_decoder,
)
from penstock.media.av.orientation import upright
from penstock.records import Float32

_SIGNATURE_SIZE = (32, 18)  # pixels by which two frames are compared
_MAX_IMAGE_SIDE = 640  # pixels of a keyframe: more than any encoder takes, and enough for a thumbnail


@dataclass(frozen=True, slots=True)
class SampledFrame:
    """A decoded frame, with a small copy to compare it by.

    Attributes:
        time_s: on the player's clock.
        signature: float32[18, 32, 3], 0…1.
        frame: the frame itself.
        pixel_ratio: width of a pixel over its height.
    """

    time_s: float
    signature: Float32
    frame: VideoFrame
    pixel_ratio: float

    def difference(self, other: SampledFrame) -> float:
        """Returns the mean difference of pixels between two frames, as a share of full brightness."""
        return float(np.abs(self.signature - other.signature).mean())

    @property
    def sharpness(self) -> float:
        """The mean difference of neighbouring pixels: low in the middle of a fade or a blurred pan."""
        return float(np.abs(np.diff(self.signature, axis=0)).mean() + np.abs(np.diff(self.signature, axis=1)).mean())

    def image(self) -> Image.Image:
        """Returns the frame as a player shows it: RGB, square pixels, upright, its longer side at most 640 px."""
        width, height = self.frame.width * self.pixel_ratio, float(self.frame.height)
        scale = min(1.0, _MAX_IMAGE_SIDE / max(width, height))
        size = max(1, round(width * scale)), max(1, round(height * scale))
        resized = self.frame.reformat(width=size[0], height=size[1], format="rgb24")
        image: Image.Image = resized.to_image()  # type: ignore[no-untyped-call]  # PyAV's stubs give it no types
        return upright(image, self.frame)


class VideoTrack:
    """The video track of a file, read once from start to end. Close it.

    It never seeks. Without an index FFmpeg seeks by estimates and lands behind the I-frame, and in files that were
    joined one timestamp stands for two places. Unneeded packets are skipped instead, which costs little beside
    decoding the others.

    Args:
        media: a path, or the bytes themselves.
        iframes_only: decodes only I-frames.
        start_s: all packets before the first I-frame from this time on are skipped.

    Attributes:
        codec: name of the track's codec, `unknown` if it has no decoder here; None if there is no video track but a
            cover.
        duration_s: the length that the header states, seconds, which may be wrong; None if it states none.
        title: the title in the file's own tags; "" if there is none.
        end_s: the end of the latest frame so far.

    Raises:
        BadInputError: CORRUPT, if no container is recognised; TOO_LARGE, if its frames have more than
            `MAX_FRAME_PIXELS`.
    """

    def __init__(self, media: Path | bytes, *, iframes_only: bool = False, start_s: float = -math.inf) -> None:
        self._file = MediaFile(media)
        self._stream = self._file.video_stream()
        self.codec = None if self._stream is None else codec_name(self._stream)
        if self._stream is not None and has_decoder(self._stream):
            self._stream.thread_type = "AUTO"
            self._stream.codec_context.thread_count = min(usable_cpus() + 1, 16) if usable_cpus() > 1 else 1
            self._stream.codec_context.skip_frame = "NONKEY" if iframes_only else "DEFAULT"
            _limit_pixels(self._stream.codec_context)
        self.duration_s, self.title = self._file.duration_s, self._file.title
        self.end_s = 0.0
        self._skip_until_s = start_s  # packets before the first I-frame from there on are skipped
        self._iframes_s = deque(
            [-math.inf]
        )  # those whose packets were read, except the ones that are too old to matter
        self._frames = iter(()) if self._stream is None else self._decode(self._stream)

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def iframe_before(self, time_s: float) -> float:
        """Returns the time of the last I-frame read up to this time. The times of later calls only grow."""
        while len(self._iframes_s) > 1 and self._iframes_s[1] <= time_s:
            self._iframes_s.popleft()
        return self._iframes_s[0]

    def skip_to(self, iframe_s: float) -> None:
        """Skips everything before this I-frame, unless it has been read already."""
        if self._stream is not None and iframe_s > self._iframes_s[-1]:
            self._skip_until_s = iframe_s
            self._iframes_s = deque([-math.inf])
            self._stream.codec_context.flush_buffers()

    def frames(self, *, after_s: float = -math.inf) -> Iterator[SampledFrame]:
        """Yields the frames that no earlier call has yielded, without those up to a time.

        Raises:
            BadInputError: UNSUPPORTED, if the codec has no decoder here.
        """
        for time_s, pixel_ratio, frame in self._frames:
            if time_s > after_s:
                yield SampledFrame(time_s, _signature(frame), frame, pixel_ratio)

    def _decode(self, stream: VideoStream) -> Iterator[tuple[float, float, VideoFrame]]:
        """Yields frames in the order in which they are shown, with their times and pixel ratios.

        Frames without a time are left out, and so are those with a time before the latest one: times of reordered
        frames in AVI belong to other frames.
        """
        check_decoder(stream)
        latest_s = -math.inf
        for frame in decode_packets(self._packets(stream)):
            if frame.pts is None or frame.time_base is None:
                continue
            if (time_s := self._file.clock_s(frame.pts, frame.time_base)) <= latest_s:
                continue
            latest_s = time_s
            self.end_s = max(self.end_s, time_s + float((frame.duration or 0) * frame.time_base))
            yield time_s, float(stream.sample_aspect_ratio or 1), frame

    def _packets(self, stream: VideoStream) -> Iterator[Packet[VideoStream]]:
        """Yields the packets that are not skipped, and notes the times of all I-frames."""
        for packet in self._file.packets(stream):
            time = packet.dts if packet.pts is None else packet.pts
            if time is not None:
                time_s = self._file.clock_s(time, packet.time_base)
                if packet.is_keyframe:
                    self._iframes_s.append(time_s)
                if time_s < self._skip_until_s or not (packet.is_keyframe or self._skip_until_s == -math.inf):
                    continue
                self._skip_until_s = -math.inf
            yield packet


def _limit_pixels(context: VideoCodecContext) -> None:
    """Rejects frames that are too large by their header. Later frames that are larger do not decode."""
    width, height = context.width, context.height
    if width * height > MAX_FRAME_PIXELS:
        detail = f"frames of {width:,} × {height:,} pixels; the limit is {MAX_FRAME_PIXELS:,} pixels in all"
        raise BadInputError(Reason.TOO_LARGE, detail)
    context.options = {"max_pixels": str(MAX_FRAME_PIXELS)}


def _signature(frame: VideoFrame) -> Float32:
    """Returns float32[18, 32, 3], 0…1."""
    width, height = _SIGNATURE_SIZE
    small = frame.reformat(width=width, height=height, format="rgb24", interpolation="AREA").to_ndarray()
    signature: Float32 = np.asarray(small, np.float32) / np.float32(255)
    return signature
