"""Recordings and films, read a stretch at a time: what is said in it and what is to be seen in it.

However long the medium, a stretch takes bounded memory; and what follows it can be read by another process, which needs
nothing but the medium and the `Place` up to which it has been read.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from penstock.errors import BadInputError, Reason
from penstock.media.av.audio import RATE_HZ, AudioTrack, Block
from penstock.media.av.vad import SileroVAD, SpeechSegmenter, SpeechWindow, VadOptions
from penstock.media.av.video import Shot, ShotDetector, ShotOptions
from penstock.records import END_OF_TRACK, MediaPosition

logger = logging.getLogger(__name__)

_SAMPLES_PER_MS = RATE_HZ // 1000


@dataclass(slots=True)
class Chunk:
    """What was found between two places."""

    windows: list[SpeechWindow] = field(default_factory=list)
    shots: list[Shot] = field(default_factory=list)


class AVReader:
    """A medium that is open. Use it in a `with` statement, or close it.

    Args:
        media: a path, or the bytes themselves.
        vad: what counts as speech.
        shots: what a shot is; None: pictures are not wanted.
        position: where to begin.

    Attributes:
        title: as the file's own tags have it; empty if they have none.

    Raises:
        BadInputError: CORRUPT, if no container can be made out; UNSUPPORTED, if a codec has no decoder here, or if it
            has none of the tracks that are wanted.
    """

    def __init__(
        self, media: Path | bytes, vad: VadOptions, shots: ShotOptions | None, *, position: MediaPosition | None = None
    ) -> None:
        position = position or MediaPosition()
        self._silent = position.audio_ms == END_OF_TRACK  # there is no more sound
        self._heard = max(0, position.audio_ms) * _SAMPLES_PER_MS  # the sample after the latest block
        self._sound = AudioTrack(io.BytesIO(media) if isinstance(media, bytes) else media, start=self._heard)
        self._film = (
            None
            if shots is None or position.video_ms == END_OF_TRACK
            else ShotDetector(media, shots, start_ms=position.video_ms)
        )
        self.title = self._sound.title
        if (
            position == MediaPosition()
            and self._sound.codec is None
            and (self._film is None or self._film.codec is None)
        ):
            self.close()
            wanted = "no sound track" if shots is None else "neither a sound track nor pictures"
            raise BadInputError(Reason.UNSUPPORTED, f"there is {wanted} in it")
        self._finder = SpeechSegmenter(SileroVAD(), vad, start=self._heard)
        self._blocks: Iterator[Block] = self._sound.blocks()
        self._tracks = (self._sound.codec is not None) + (self._film is not None and self._film.codec is not None)
        self._failed: list[BadInputError] = []  # why tracks are over
        self._read_ms = position.scanned_ms

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        for track in (self._sound, self._film):
            if track is not None:
                track.__exit__(None, None, None)

    @property
    def position(self) -> MediaPosition:
        """How far it has been read, for another reel to go on from there."""
        heard_ms = END_OF_TRACK if self._silent else self._finder.resume_sample // _SAMPLES_PER_MS
        seen_ms = END_OF_TRACK if self._film is None or self._film.ended else self._film.resume_ms
        return MediaPosition(heard_ms, seen_ms, self._read_ms)

    @property
    def ended(self) -> bool:
        return self._silent and (self._film is None or self._film.ended)

    def read(self, max_ms: int | None = None) -> Chunk:
        """What is known for sure once so much more of it has been read, or all that is left.

        A track that cannot be read counts as over, if there is another one that can.

        Raises:
            BadInputError: CORRUPT or UNSUPPORTED, if there is none.
        """
        found = Chunk()
        until_ms = None if max_ms is None else self._reached_ms + max_ms
        while not self._silent and (until_ms is None or self._heard < until_ms * _SAMPLES_PER_MS):
            block = self._next_block()
            if block is None:
                found.windows.extend(self._finder.end())
                self._silent = True
            else:
                found.windows.extend(self._finder.add(block))
                self._heard = block.end
        found.shots.extend(self._shots(until_ms))
        if self._failed and len(self._failed) == self._tracks:
            raise self._failed[0]
        self._read_ms = max(self._read_ms, until_ms or 0)
        return found

    def _next_block(self) -> Block | None:
        try:
            return next(self._blocks, None)
        except BadInputError as exc:
            self._fails(exc)
            return None

    def _shots(self, until_ms: int | None) -> Iterator[Shot]:
        if self._film is None:
            return
        try:
            yield from self._film.shots(until_ms)
        except BadInputError as exc:
            self._fails(exc)

    def _fails(self, exc: BadInputError) -> None:
        self._failed.append(exc)
        logger.warning("one of %d tracks cannot be read: %s", self._tracks, exc)

    @property
    def _reached_ms(self) -> int:
        """Up to where it has been looked at. Where timestamps jump ahead, tracks are beyond what was asked for."""
        reached = [] if self._silent else [self._heard // _SAMPLES_PER_MS]
        if self._film is not None and not self._film.ended:
            reached.append(self._film.sampled_ms)
        return max(self._read_ms, min(reached, default=0))
