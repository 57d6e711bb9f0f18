"""Reads audio and video in time-bounded chunks, and can resume at a saved position in another process.

However long the media, a chunk takes bounded memory. Another process needs only the media and the `MediaPosition` up to
which they have been read.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path

from penstock.errors import BadInputError, Reason
from penstock.media.av.audio import RATE_HZ, AudioTrack, Block
from penstock.media.av.sound import SoundCutter, SoundOptions, SoundWindow
from penstock.media.av.vad import SileroVAD, SpeechSegmenter, SpeechWindow, VadOptions
from penstock.media.av.video import Shot, ShotDetector, ShotOptions
from penstock.records import END_OF_TRACK, MediaPosition

logger = logging.getLogger(__name__)

_SAMPLES_PER_MS = RATE_HZ // 1000


@dataclass(slots=True)
class Chunk:
    """The speech, the shots and the windows of sound between two positions."""

    windows: list[SpeechWindow] = field(default_factory=list)
    shots: list[Shot] = field(default_factory=list)
    sounds: list[SoundWindow] = field(default_factory=list)


class AVReader:
    """Reads the speech and the shots of one audio or video file. Close it.

    Args:
        media: a path, or the bytes themselves.
        vad: which audio counts as speech.
        shots: where shots begin and end; None: the video track is not read.
        position: where to start.
        sound: how audio is cut for an audio encoder; None: it is not.

    Attributes:
        title: the title in the file's own tags; "" if there is none.

    Raises:
        BadInputError: CORRUPT, if no container is recognised; UNSUPPORTED, if a codec has no decoder here, or if the
            file has none of the tracks to read; TOO_LARGE, if its frames have too many pixels.
    """

    def __init__(
        self,
        media: Path | bytes,
        vad: VadOptions,
        shots: ShotOptions | None,
        *,
        position: MediaPosition | None = None,
        sound: SoundOptions | None = None,
    ) -> None:
        position = position or MediaPosition()
        self._audio_ended = position.audio_ms == END_OF_TRACK
        self._next_sample = max(0, position.audio_ms) * _SAMPLES_PER_MS  # the sample after the latest block
        with ExitStack() as tracks:
            self._audio = tracks.enter_context(closing(AudioTrack(media, start=self._next_sample)))
            self._video: ShotDetector | None = None
            if shots is not None and position.video_ms != END_OF_TRACK:
                self._video = ShotDetector(media, shots, start_ms=position.video_ms)
                tracks.enter_context(closing(self._video))
            self.title = self._audio.title
            codecs = (self._audio.codec, None if self._video is None else self._video.codec)
            if position == MediaPosition() and codecs == (None, None):
                kinds = "audio track" if shots is None else "audio or video track"
                raise BadInputError(Reason.UNSUPPORTED, f"the file has no {kinds}")
            self._speech = SpeechSegmenter(SileroVAD(), vad, start=self._next_sample)
            self._tracks = tracks.pop_all()
        self._sound = None if sound is None else SoundCutter(sound)
        self._blocks: Iterator[Block] = self._audio.blocks()
        self._track_count = sum(codec is not None for codec in codecs)
        self._failures: list[BadInputError] = []  # one for each track that ended because of it
        self._scanned_ms = position.scanned_ms

    def close(self) -> None:
        """Closes the file."""
        self._tracks.close()

    @property
    def position(self) -> MediaPosition:
        """The position at which another reader can resume."""
        audio_ms = END_OF_TRACK if self._audio_ended else self._speech.resume_sample // _SAMPLES_PER_MS
        video_ms = END_OF_TRACK if self._video is None or self._video.ended else self._video.resume_ms
        return MediaPosition(audio_ms, video_ms, self._scanned_ms)

    @property
    def ended(self) -> bool:
        """Whether all tracks have been read to their ends."""
        return self._audio_ended and (self._video is None or self._video.ended)

    def read(self, max_ms: int | None = None) -> Chunk:
        """Reads up to `max_ms` more, or all that is left, and returns the speech and shots complete by then.

        A track that cannot be read counts as ended, if another track can be.

        Raises:
            BadInputError: CORRUPT or UNSUPPORTED, if no track can be read.
        """
        chunk = Chunk()
        until_ms = None if max_ms is None else self._reached_ms + max_ms
        while not self._audio_ended and (until_ms is None or self._next_sample < until_ms * _SAMPLES_PER_MS):
            block = self._next_block()
            if block is None:
                chunk.windows.extend(self._speech.end())
                self._audio_ended = True
            else:
                chunk.windows.extend(self._speech.add(block))
                if self._sound is not None:
                    self._sound.add(block)
                self._next_sample = block.end
        chunk.shots.extend(self._read_shots(until_ms))
        if self._failures and len(self._failures) == self._track_count:
            raise self._failures[0]
        self._scanned_ms = max(self._scanned_ms, until_ms or 0)
        return chunk

    def cut_sound(self) -> list[SoundWindow]:
        """Returns the windows of all audio from the last call up to `position`. Call it at the end of a segment."""
        if self._sound is None:
            return []
        audio_ms = self.position.audio_ms
        end = self._next_sample if audio_ms == END_OF_TRACK else audio_ms * _SAMPLES_PER_MS
        return list(self._sound.cut(end))

    def _next_block(self) -> Block | None:
        try:
            return next(self._blocks, None)
        except BadInputError as exc:
            self._add_failure(exc)
            return None

    def _read_shots(self, until_ms: int | None) -> Iterator[Shot]:
        if self._video is None:
            return
        try:
            yield from self._video.shots(until_ms)
        except BadInputError as exc:
            self._add_failure(exc)

    def _add_failure(self, exc: BadInputError) -> None:
        self._failures.append(exc)
        logger.warning("one of %d tracks cannot be read and is left out: %s", self._track_count, exc)

    @property
    def _reached_ms(self) -> int:
        """The time up to which media are read. Where timestamps jump ahead, tracks are beyond the last request."""
        reached = [] if self._audio_ended else [self._next_sample // _SAMPLES_PER_MS]
        if self._video is not None and not self._video.ended:
            reached.append(self._video.scanned_ms)
        return max(self._scanned_ms, min(reached, default=0))
