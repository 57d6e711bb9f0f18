"""Film: what is to be seen in it, as shots: one picture each, and from when to when it holds.

Key frames are decoded first, which costs a fraction of all frames, and encoders put one at most cuts. Only where two
that follow each other differ, or lie too far apart, are the frames between them decoded as well, so that a cut is found
to the frame. Neighbours that look the same are one shot, however long; a picture that changes slowly is a new shot once
it no longer looks like the first one. Memory holds one picture a shot, and one shot at a time.

Times are the player's, as in `media.sound`; frames are turned as the player turns them.
"""

from __future__ import annotations

import io
import itertools
import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from PIL import Image

from penstock.errors import BadInputError, Reason
from penstock.media.av.audio import (
    MAX_FRAME_PIXELS,
    codec_name,
    decode_packets,
    find_video_stream,
    open_container,
    read_clock,
    read_packets,
    read_title,
)
from penstock.records import Float32

_SIGNATURE = (32, 18)  # pixels that two frames are compared by
_HALF_MS_S = 0.0005  # by which rounding to milliseconds moves a time at most
_SAME = 0.05  # of full brightness: noise and small movements
_LONGEST_SIDE = 640  # pixels of a shot's picture: more than any encoder takes, and a thumbnail's worth


@dataclass(frozen=True, slots=True)
class ShotOptions:
    """What a shot is.

    Attributes:
        scene_threshold: how much of full brightness pixels differ by, in the mean, for a new shot.
        max_sample_gap_ms: no longer than this goes by without looking.
        min_shot_ms: a shot that is over sooner belongs to the one before: flashes, and films of ten thousand cuts.
        max_shot_ms: a longer one is cut there, so that a film which never changes can be left and taken up again.
    """

    scene_threshold: float = 0.08
    max_sample_gap_ms: int = 5_000
    min_shot_ms: int = 500
    max_shot_ms: int = 120_000


@dataclass(frozen=True, slots=True)
class Shot:
    """A stretch of film that looks the same.

    Attributes:
        start_ms, end_ms: on the player's clock; a shot ends where the next begins.
        keyframe: RGB, upright, its longer side at most 640 px; the sharpest that was looked at.
    """

    start_ms: int
    end_ms: int
    keyframe: Image.Image


@dataclass(slots=True)
class _SampledFrame:
    """A frame that was looked at."""

    at_s: float
    signature: Float32  # float32[18, 32, 3], 0…1
    frame: Any
    pixel_ratio: float  # width of a pixel over its height

    def differs(self, other: _SampledFrame) -> float:
        return float(np.abs(self.signature - other.signature).mean())

    @property
    def sharpness(self) -> float:
        """How much neighbouring pixels differ: little in the midst of a fade or a blurred pan."""
        return float(np.abs(np.diff(self.signature, axis=0)).mean() + np.abs(np.diff(self.signature, axis=1)).mean())


class ShotDetector:
    """The picture track of a file. Use it in a `with` statement.

    Args:
        media: a path, or the bytes themselves.
        options: see `ShotOptions`.
        start_ms: where to begin: the start of a shot, as `resume_ms` told it.

    Attributes:
        codec: of the track; None if there is none but a cover.
        duration_s: as the header has it, which may lie; None if it says nothing.
        title: as the file's own tags have it; empty if they have none.
        sampled_ms: up to where it has been looked at.
        ended: whether all shots are out.

    Raises:
        BadInputError: CORRUPT or UNSUPPORTED, as `AudioTrack`; TOO_LARGE beyond `MAX_FRAME_PIXELS` a frame.
    """

    def __init__(self, media: Path | bytes, options: ShotOptions, *, start_ms: int = 0) -> None:
        self._media = media
        self._rules = options
        self._begin_ms = start_ms
        self._begins_s = start_ms / 1000 - _HALF_MS_S if start_ms else -math.inf  # frames are wanted from there on
        self._keys = _VideoTrack(media, keys_only=True, begin_s=self._begins_s)
        self._between: _VideoTrack | None = None  # the same again, opened once frames between key frames are wanted
        self._looking = self._looks()
        self._shot: _OpenShot | None = None
        self.sampled_ms = start_ms
        self.codec, self.duration_s, self.title = self._keys.codec, self._keys.duration_s, self._keys.title
        self.ended = self.codec is None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._keys.close()
        if self._between is not None:
            self._between.close()

    def shots(self, until_ms: int | None = None) -> Iterator[Shot]:
        """Those that are over once the film has been looked at up to that time, or all; the next call goes on.

        In order; the first begins with the first frame, the last ends with the last one.

        Raises:
            BadInputError: CORRUPT, if there is a track and nothing of it decodes.
        """
        while not self.ended and (until_ms is None or self.sampled_ms < until_ms):
            look = next(self._looking, None)
            if look is None:
                yield from self._last()
                return
            self.sampled_ms = round(look.at_s * 1000)
            if self._shot is None:
                self._shot = _OpenShot(look)
            elif self._shot.holds(look, self._rules):
                self._shot.add(look)
            else:
                over, self._shot = self._shot, _OpenShot(look)
                yield over.ended(look.at_s)

    @property
    def resume_ms(self) -> int:
        """Before it nothing is to come any more: a film may be begun there anew."""
        return self.sampled_ms if self._shot is None else self._shot.start_ms

    def _last(self) -> Iterator[Shot]:
        self.ended = True
        if self._shot is not None:
            yield self._shot.ended(max(self._ends_s, self._shot.first.at_s))
        elif not self._begin_ms:
            limit = f"{MAX_FRAME_PIXELS:,} pixels a frame"
            message = f"its picture track ({self.codec}) does not decode, or has more than {limit}"
            raise BadInputError(Reason.CORRUPT, message)

    @property
    def _ends_s(self) -> float:
        return max(self._keys.ends_s, 0.0 if self._between is None else self._between.ends_s)

    # --- where to look ----------------------------------------------------------------------------------------------

    def _looks(self) -> Iterator[_SampledFrame]:
        """Key frames, and the frames between two of them that differ or are far apart; all after the last one.

        Before them the frame with which the film begins: neither where it was left nor where an edit list lets it begin
        there has to be a key frame.
        """
        if self.codec is None:
            return
        keys = self._keys.looks()
        ahead = list(itertools.islice(keys, 1))  # on the way there, the key frames before the beginning were passed
        before = next(self._after(self._begins_s), None)
        if before is not None:
            yield before
        for key in itertools.chain(ahead, keys):
            if before is not None and key.at_s <= before.at_s:
                continue
            if before is not None and self._is_more_between(before, key):
                yield from itertools.takewhile(lambda look: look.at_s < key.at_s, self._after(before.at_s))  # noqa: B023
            yield key
            before = key
        yield from self._after(self._begins_s if before is None else before.at_s)

    def _is_more_between(self, before: _SampledFrame, after: _SampledFrame) -> bool:
        return (
            after.differs(before) >= self._rules.scene_threshold
            or after.at_s - before.at_s > self._rules.max_sample_gap_ms / 1000
        )

    def _after(self, at_s: float) -> Iterator[_SampledFrame]:
        """Every frame after that time, which only ever grows."""
        if self._between is None:
            self._between = _VideoTrack(self._media)
        self._between.pass_to(self._keys.key_frame_s(at_s))
        return self._between.looks(after_s=at_s)


class _VideoTrack:
    """The picture track, read from its start to its end.

    There is no seeking: without an index FFmpeg seeks by estimates, and lands behind the key frame that is wanted, and
    where files were joined a time stands for two places. Packets that nobody wants are passed over instead, which takes
    little beside decoding the others.

    Args:
        media: a path, or the bytes themselves.
        keys_only: whether only key frames are decoded.
        begin_s: all packets before the first key frame from there on are passed over.
    """

    def __init__(self, media: Path | bytes, *, keys_only: bool = False, begin_s: float = -math.inf) -> None:
        self._container = open_container(io.BytesIO(media) if isinstance(media, bytes) else media)
        self._stream = find_video_stream(self._container)
        self.codec = None if self._stream is None else codec_name(self._stream)
        if self._stream is not None:
            self._stream.thread_type = "AUTO"
            self._stream.codec_context.skip_frame = "NONKEY" if keys_only else "DEFAULT"
            _limit(self._stream.codec_context)
        self._begins_s, self.duration_s = read_clock(self._container)
        self.title = read_title(self._container)
        self.ends_s = 0.0  # of all frames so far
        self._wanted_s = begin_s  # packets before the first key frame from there on are passed over
        self._key_frames_s = deque([-math.inf])  # those whose packets were read, but for the ones nobody will ask for
        self._frames = self._decoded()

    def close(self) -> None:
        self._container.close()

    def key_frame_s(self, at_s: float) -> float:
        """The last key frame up to that time, of those whose packets were read. Asked for times that grow."""
        while len(self._key_frames_s) > 1 and self._key_frames_s[1] <= at_s:
            self._key_frames_s.popleft()
        return self._key_frames_s[0]

    def pass_to(self, key_frame_s: float) -> None:
        """Passes over all that is before this key frame, unless that has been read already."""
        if key_frame_s > self._key_frames_s[-1]:
            self._wanted_s = key_frame_s
            self._key_frames_s = deque([-math.inf])
            self._stream.codec_context.flush_buffers()

    def looks(self, *, after_s: float = -math.inf) -> Iterator[_SampledFrame]:
        """The frames that have not been given out, but for those up to that time."""
        for at_s, frame in self._frames:
            if at_s > after_s:
                yield _SampledFrame(at_s, _signature(frame), frame, float(self._stream.sample_aspect_ratio or 1))

    def _decoded(self) -> Iterator[tuple[float, Any]]:
        """Frames with their times on the player's clock, as they are shown; those without a time are left out.

        So are those that are shown after one that is later, as reordered frames are in AVI: their times are not theirs.
        """
        latest_s = -math.inf
        for frame in decode_packets(self._packets(), self._stream):
            if frame.pts is None or (at_s := self._clock_s(frame.pts, frame.time_base)) <= latest_s:
                continue
            latest_s = at_s
            self.ends_s = max(self.ends_s, at_s + float((frame.duration or 0) * frame.time_base))
            yield at_s, frame

    def _packets(self) -> Iterator[Any]:
        """Those that are wanted; key frames among them and before them are noted."""
        for packet in read_packets(self._container, self._stream):
            at = packet.dts if packet.pts is None else packet.pts
            if at is not None:
                at_s = self._clock_s(at, packet.time_base)
                if packet.is_keyframe:
                    self._key_frames_s.append(at_s)
                if at_s < self._wanted_s or not (packet.is_keyframe or self._wanted_s == -math.inf):
                    continue
                self._wanted_s = -math.inf
            yield packet

    def _clock_s(self, time: int, unit_s: Fraction) -> float:
        return float(time * unit_s - self._begins_s)


class _OpenShot:
    """A shot that has not ended yet, and its best picture so far."""

    def __init__(self, first: _SampledFrame) -> None:
        self.first = self._best = first

    @property
    def start_ms(self) -> int:
        return round(self.first.at_s * 1000)

    def holds(self, look: _SampledFrame, rules: ShotOptions) -> bool:
        """Whether it goes on with this frame."""
        lasts_ms = (look.at_s - self.first.at_s) * 1000
        return lasts_ms < rules.min_shot_ms or (
            lasts_ms < rules.max_shot_ms and look.differs(self.first) < rules.scene_threshold
        )

    def add(self, look: _SampledFrame) -> None:
        # A tenth more, or noise would choose.
        if look.sharpness > 1.1 * self._best.sharpness and look.differs(self.first) < _SAME:
            self._best = look

    def ended(self, at_s: float) -> Shot:
        return Shot(self.start_ms, round(at_s * 1000), _picture(self._best))


def _limit(codec_context: Any) -> None:
    """Refuses frames that are too large by their header; later ones that are larger do not decode."""
    width, height = codec_context.width, codec_context.height
    if width * height > MAX_FRAME_PIXELS:
        detail = f"frames of {width:,} × {height:,} pixels; {MAX_FRAME_PIXELS:,} in all are the most"
        raise BadInputError(Reason.TOO_LARGE, detail)
    codec_context.options = {"max_pixels": str(MAX_FRAME_PIXELS)}


def _signature(frame: Any) -> Float32:
    """float32[18, 32, 3], 0…1."""
    width, height = _SIGNATURE
    small = frame.reformat(width=width, height=height, format="rgb24", interpolation="AREA").to_ndarray()
    found: Float32 = small.astype(np.float32) / 255
    return found


def _picture(look: _SampledFrame) -> Image.Image:
    """As the player shows it: pixels square, turned upright."""
    frame = look.frame
    width, height = frame.width * look.pixel_ratio, float(frame.height)
    scale = min(1.0, _LONGEST_SIDE / max(width, height))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    picture: Image.Image = frame.reformat(width=size[0], height=size[1], format="rgb24").to_image()
    return picture.rotate(frame.rotation, expand=True) if frame.rotation else picture
