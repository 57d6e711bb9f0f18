"""A segment decoder with media of known contents, for the tests of this folder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from penstock.config import LongMediaSettings, SpeechSettings, VideoSettings
from penstock.encoders.base import ImageSpec
from penstock.encoders.profiles import SPEECH
from penstock.media.av.audio import RATE_HZ
from penstock.media.av.sound import SoundOptions
from penstock.media.segments.decoder import SegmentDecoder
from penstock.records import (
    Checkpoint,
    Decoded,
    EncoderInput,
    Event,
    FetchedMedia,
    Float32,
    Modality,
    Rejected,
    TimedText,
    Transcript,
)
from tests.media.media_files import scene_image, write_audio

SPEC = ImageSpec(32, "shortest", "bicubic", 0, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
FetchedOf = Callable[..., FetchedMedia]


class DecoderHarness:
    """A segment decoder with the media that it may fetch, restarted at will."""

    def __init__(self, folder: Path, clock: Callable[[], float] = lambda: 0.0, **limits: float) -> None:
        self.folder = folder
        self.clock = clock
        self.fetches = 0
        self.thumbnails: list[bytes] = []
        self.media: dict[str, FetchedMedia] = {}
        self.limits = limits
        self.sound: SoundOptions | None = None
        self.decoder = self.restart()

    def restart(self, settings_hash: str = "first") -> SegmentDecoder:
        self.decoder = SegmentDecoder(
            speech=SpeechSettings(min_silence_ms=700, min_passage_s=0, max_passage_s=4),
            video=VideoSettings(thumbnail_px=80),
            long_media=LongMediaSettings(**self.limits),  # type: ignore[arg-type]
            image_spec=SPEC,
            put_thumbnail=self._put,
            settings_hash=settings_hash,
            sound=self.sound,
            folder=self.folder / "open",
            clock=self.clock,
        )
        return self.decoder

    def _put(self, data: bytes) -> str:
        self.thumbnails.append(data)
        return f"asset:{len(self.thumbnails)}"

    def add(self, fetched: FetchedMedia) -> Event:
        self.media[fetched.event.asset.id] = fetched
        return fetched.event

    def fetch(self, event: Event) -> FetchedMedia | Rejected:
        self.fetches += 1
        return self.media[event.asset.id]

    def decode(
        self, *events: Event, checkpoints: Sequence[Checkpoint] = (), failed: str = ""
    ) -> tuple[Decoded, EncoderInput]:
        """Decodes a segment. The transcript of each speech window is its length in seconds."""
        segments, inputs = self.decoder.decode(events, checkpoints, self.fetch)
        transcripts = [transcript_of(samples, failed) for samples in inputs[SPEECH].waveforms]
        return self.decoder.compose(segments, transcripts)

    def decode_all(self, event: Event) -> tuple[list[Decoded], list[Checkpoint]]:
        """Decodes all segments, and returns them with their checkpoints."""
        segments, checkpoints = [], list[Checkpoint]()
        while True:
            decoded, _ = self.decode(event, checkpoints=checkpoints[-1:])
            segments.append(decoded)
            checkpoints += decoded.checkpoints
            if not decoded.checkpoints or decoded.checkpoints[0].finished:
                return segments, checkpoints


def transcript_of(samples: Float32, failed: str = "") -> Transcript:
    """Returns a transcript of one segment, whose text is its length in seconds."""
    seconds = len(samples) / RATE_HZ
    return Transcript("en", 1.0, () if failed else (TimedText(0.0, seconds, f"{seconds:.0f}"),), failed)


def talk(spoken: Float32, seconds: int, every_s: int = 6) -> Float32:
    """Returns audio in which the spoken sentence repeats at an interval."""
    samples = np.zeros(seconds * RATE_HZ, np.float32)
    for start in range(RATE_HZ, len(samples) - len(spoken), every_s * RATE_HZ):
        samples[start : start + len(spoken)] = spoken
    return samples


def clip(tmp_path: Path, fetched_of: FetchedOf, samples: Float32, suffix: str = "mp3", **more: str) -> FetchedMedia:
    return fetched_of(write_audio(tmp_path / f"clip.{suffix}", samples).read_bytes(), modality=Modality.AUDIO, **more)


SCENES = [(4.0, scene_image(1)), (9.0, scene_image(2)), (8.0, scene_image(3)), (7.0, scene_image(4))]
