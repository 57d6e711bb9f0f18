"""Detects the shots of a video, each represented by one keyframe.

I-frames are decoded first, which costs a fraction of decoding all frames, and encoders put one at most cuts. The frames
between two I-frames are decoded only where these differ or lie too far apart, so that a cut is found to the frame.
Neighbours that look the same are one shot; a slow change starts a new shot once the image no longer looks like the
shot's first one. Memory holds one image a shot, and one shot at a time. Times are on the player's clock (see
`media.av.container`).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from penstock.errors import BadInputError, Reason
from penstock.media.av.container import MAX_FRAME_PIXELS
from penstock.media.av.frames import SampledFrame, VideoTrack

_HALF_MS_S = 0.0005  # the most by which rounding to milliseconds moves a time
_SAME_IMAGE = 0.05  # of full brightness: noise and small movements
_SHARPER = 1.1  # or noise would choose the keyframe


@dataclass(frozen=True, slots=True)
class ShotOptions:
    """Limits that decide where shots begin and end.

    Attributes:
        scene_threshold: mean difference of pixels that starts a new shot, as a share of full brightness.
        max_sample_gap_ms: the longest time between two frames that are compared.
        min_shot_ms: a shorter shot belongs to the one before, such as flashes and videos of ten thousand cuts.
        max_shot_ms: a longer shot is cut, so that reading a video which never changes can stop and resume.
    """

    scene_threshold: float = 0.08
    max_sample_gap_ms: int = 5_000
    min_shot_ms: int = 500
    max_shot_ms: int = 120_000


@dataclass(frozen=True, slots=True)
class Shot:
    """A range of a video that looks the same.

    Attributes:
        start_ms, end_ms: on the player's clock; a shot ends where the next one starts.
        keyframe: RGB, upright, its longer side at most 640 px; the sharpest of the frames that were compared.
    """

    start_ms: int
    end_ms: int
    keyframe: Image.Image


class ShotDetector:
    """Reads the video track of a file and finds its shots. Close it.

    Args:
        media: a path, or the bytes themselves.
        options: see `ShotOptions`.
        start_ms: where to start: 0, or a `resume_ms` of an earlier detector.

    Attributes:
        codec: name of the track's codec; None if there is no video track but a cover.
        duration_s: the length that the header states, seconds, which may be wrong; None if it states none.
        title: the title in the file's own tags; "" if there is none.
        scanned_ms: time of the latest frame that was compared.
        ended: whether all shots have been returned.

    Raises:
        BadInputError: as `VideoTrack` does.
    """

    def __init__(self, media: Path | bytes, options: ShotOptions, *, start_ms: int = 0) -> None:
        self._media = media
        self._options = options
        self._start_ms = start_ms
        self._start_s = start_ms / 1000 - _HALF_MS_S if start_ms else -math.inf
        self._iframes = VideoTrack(media, iframes_only=True, start_s=self._start_s)
        self._all: VideoTrack | None = None  # the same track, opened once frames between I-frames are needed
        self._samples = self._sample()
        self._shot: _OpenShot | None = None
        self.scanned_ms = start_ms
        self.codec, self.duration_s, self.title = self._iframes.codec, self._iframes.duration_s, self._iframes.title
        self.ended = self.codec is None

    def close(self) -> None:
        """Closes the file."""
        self._iframes.close()
        if self._all is not None:
            self._all.close()

    def shots(self, until_ms: int | None = None) -> Iterator[Shot]:
        """Yields the shots that are known to be over once the video is read up to a time, or all. Later calls continue.

        Shots come in order. The first starts at the first frame, and the last ends with the last one.

        Raises:
            BadInputError: CORRUPT, if there is a track and none of it decodes.
        """
        while not self.ended and (until_ms is None or self.scanned_ms < until_ms):
            sample = next(self._samples, None)
            if sample is None:
                yield from self._last_shot()
                return
            self.scanned_ms = round(sample.time_s * 1000)
            if self._shot is None:
                self._shot = _OpenShot(sample)
            elif self._shot.continues(sample, self._options):
                self._shot.add(sample)
            else:
                complete, self._shot = self._shot, _OpenShot(sample)
                yield complete.end(sample.time_s)

    @property
    def resume_ms(self) -> int:
        """The time at which another detector can start: all shots before it have been returned."""
        return self.scanned_ms if self._shot is None else self._shot.start_ms

    def _last_shot(self) -> Iterator[Shot]:
        self.ended = True
        if self._shot is not None:
            yield self._shot.end(max(self._end_s, self._shot.first.time_s))
        elif not self._start_ms:
            limit = f"{MAX_FRAME_PIXELS:,} pixels a frame"
            message = f"its video track ({self.codec}) does not decode, or has more than {limit}"
            raise BadInputError(Reason.CORRUPT, message)

    @property
    def _end_s(self) -> float:
        return max(self._iframes.end_s, 0.0 if self._all is None else self._all.end_s)

    # --- which frames are compared -----------------------------------------------------------------------------------

    def _sample(self) -> Iterator[SampledFrame]:
        """Yields I-frames, frames between two of them that differ or are far apart, and all after the last one.

        Before them comes the frame at which the video starts. That need not be an I-frame, neither where reading
        resumes nor where an edit list starts the video.
        """
        if self.codec is None:
            return
        iframes = self._iframes.frames()
        ahead = list(itertools.islice(iframes, 1))  # reading it notes the I-frames that were skipped on the way
        before = next(self._frames_after(self._start_s), None)
        if before is not None:
            yield before
        for iframe in itertools.chain(ahead, iframes):
            if before is not None and iframe.time_s <= before.time_s:
                continue
            if before is not None and self._needs_frames_between(before, iframe):
                between = self._frames_after(before.time_s)
                yield from itertools.takewhile(lambda frame: frame.time_s < iframe.time_s, between)  # noqa: B023
            yield iframe
            before = iframe
        yield from self._frames_after(self._start_s if before is None else before.time_s)

    def _needs_frames_between(self, before: SampledFrame, after: SampledFrame) -> bool:
        gap_s = after.time_s - before.time_s
        differ = after.difference(before) >= self._options.scene_threshold
        return differ or gap_s > self._options.max_sample_gap_ms / 1000

    def _frames_after(self, time_s: float) -> Iterator[SampledFrame]:
        """Yields every frame after a time. Times of later calls only grow."""
        if self._all is None:
            self._all = VideoTrack(self._media)
        self._all.skip_to(self._iframes.iframe_before(time_s))
        return self._all.frames(after_s=time_s)


class _OpenShot:
    """A shot that has not ended yet, and its best keyframe so far."""

    def __init__(self, first: SampledFrame) -> None:
        self.first = self._best = first

    @property
    def start_ms(self) -> int:
        return round(self.first.time_s * 1000)

    def continues(self, sample: SampledFrame, options: ShotOptions) -> bool:
        """Returns whether the shot continues with this frame."""
        length_ms = (sample.time_s - self.first.time_s) * 1000
        if length_ms < options.min_shot_ms:
            return True
        return length_ms < options.max_shot_ms and sample.difference(self.first) < options.scene_threshold

    def add(self, sample: SampledFrame) -> None:
        sharper = sample.sharpness > _SHARPER * self._best.sharpness
        if sharper and sample.difference(self.first) < _SAME_IMAGE:
            self._best = sample

    def end(self, time_s: float) -> Shot:
        return Shot(self.start_ms, round(time_s * 1000), self._best.image())
