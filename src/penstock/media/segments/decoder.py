"""Steps 2 to 4 of timed media: decodes a segment of each event, and composes its entries.

    decode    reads media from their checkpoints on, and passes keyframes and speech windows to their encoders
    compose   joins transcripts to passages, and passes their texts to the sentence encoder

Short media are one segment and have no checkpoint. Longer media get a `Checkpoint` with each segment, from which any
worker can decode the next one. The worker that decoded a segment still has its media open.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeAlias

from penstock.config import LongMediaSettings, SpeechSettings, VideoSettings
from penstock.encoders.base import ImageSpec
from penstock.encoders.profiles import JOINT_IMAGE, SOUND_AUDIO, SPEECH
from penstock.errors import TransientError
from penstock.media.av.audio import RATE_HZ
from penstock.media.av.reader import AVReader, Chunk
from penstock.media.av.sound import SoundOptions, SoundWindow
from penstock.media.av.transcript import PassageOptions
from penstock.media.av.vad import SpeechWindow, VadOptions
from penstock.media.av.video import Shot, ShotOptions
from penstock.media.decode import EncoderInputs, EncoderItem, to_rejection
from penstock.media.image import fit_image
from penstock.media.segments.compose import DecodedSegments, SegmentSpeech, compose
from penstock.media.segments.open_readers import OpenMedia, OpenReaders
from penstock.media.thumbnail import jpeg_thumbnail
from penstock.records import (
    Checkpoint,
    Collection,
    Decoded,
    EncoderInput,
    Event,
    FetchedMedia,
    Field,
    MediaPosition,
    PendingEntry,
    Rejected,
    Transcript,
)

logger = logging.getLogger(__name__)

_READ_MS = 10_000  # of media, between two looks at the clock

Fetch: TypeAlias = Callable[[Event], FetchedMedia | Rejected]
"""Fetches the media of one event, or rejects it."""


class SegmentDecoder:
    """Decodes timed media segment by segment. A decode worker owns one. Not thread-safe.

    Args:
        speech, video, long_media: limits of passages, shots and segments.
        image_spec: the input size and preprocessing of the image encoder.
        put_thumbnail: stores a JPEG and returns its address. Raises `TransientError`.
        settings_hash: hash of everything that decides on the entries.
        sound: how audio is cut for the audio encoder; None: the profile has none.
        folder: for media that are open; see `OpenReaders`.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        *,
        speech: SpeechSettings,
        video: VideoSettings,
        long_media: LongMediaSettings,
        image_spec: ImageSpec,
        put_thumbnail: Callable[[bytes], str],
        settings_hash: str,
        sound: SoundOptions | None = None,
        folder: Path | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limits = long_media
        self._clock = clock
        self._image_spec = image_spec
        self._put_thumbnail = put_thumbnail
        self._settings_hash = settings_hash
        self._thumbnail_px = video.thumbnail_px
        self._passages = PassageOptions(round(speech.min_passage_s * 1000), round(speech.max_passage_s * 1000))
        self._readers = OpenReaders(
            VadOptions(threshold=speech.threshold, min_silence_ms=speech.min_silence_ms),
            ShotOptions(
                scene_threshold=video.scene_threshold,
                max_sample_gap_ms=video.max_sample_gap_ms,
                min_shot_ms=video.min_shot_ms,
            ),
            folder,
            sound,
        )

    def close(self) -> None:
        """Closes all media and removes their temporary files."""
        self._readers.close()

    def decode(
        self,
        events: Sequence[Event],
        checkpoints: Sequence[Checkpoint],
        fetch: Fetch,
        *,
        keep_open: bool = True,
    ) -> tuple[DecodedSegments, dict[str, EncoderInput]]:
        """Decodes the next segment of each event. An event that cannot be decoded is rejected alone.

        Args:
            events: of audio or video; tombstones are passed through.
            checkpoints: those of events that have segments already. One of other settings is ignored, and its event
                starts again.
            fetch: see `Fetch`.
            keep_open: leave media open that are not finished.

        Returns:
            the segments, and the inputs of `joint.image`, `speech` and `sound.audio`.

        Raises:
            TransientError: a dependency is unavailable; the batch can be retried.
        """
        valid = {checkpoint.asset.id: checkpoint for checkpoint in checkpoints if self._is_current(checkpoint)}
        batch, deadline_s = _SegmentBatch(), self._clock() + self._limits.max_worker_s
        try:
            for event in events:
                if event.is_tombstone:
                    batch.tombstones.append(event)
                    continue
                rejection = self._decode_or_reject(event, valid.get(event.asset.id), fetch, batch, deadline_s)
                if rejection is not None:
                    batch.rejected.append(rejection)
        finally:
            self._readers.close_all_but(self._limits.max_open if keep_open else 0)
        return batch.segments(), batch.inputs.by_encoder() | batch.waveforms()

    def compose(self, segments: DecodedSegments, transcripts: Sequence[Transcript]) -> tuple[Decoded, EncoderInput]:
        """Adds the passages of speech to a batch; see `segments.compose`."""
        return compose(segments, transcripts, self._passages)

    def _is_current(self, checkpoint: Checkpoint) -> bool:
        return checkpoint.settings_hash == self._settings_hash

    def _decode_or_reject(
        self, event: Event, checkpoint: Checkpoint | None, fetch: Fetch, batch: _SegmentBatch, deadline_s: float
    ) -> Rejected | None:
        """Adds the next segment of one event to the batch, or returns its rejection.

        1. Take the media that the previous segment left open at the checkpoint; else fetch and open them.
        2. Read one segment, or less if the deadline passes.
        3. Keep the media open if there is more; close them if they ended or anything failed.
        """
        mime = str(event.modality)
        try:
            media = self._readers.take(event, _position(checkpoint))  # 1
            if media is None:
                fetched = fetch(event)
                if isinstance(fetched, Rejected):
                    return fetched
                if checkpoint is not None and checkpoint.media_sha256 != fetched.sha256:
                    logger.warning("the media of %s have changed since its checkpoint; it starts again", event.asset)
                    checkpoint = None
                media = self._readers.open(fetched, _position(checkpoint))
            mime = media.mime
            with self._readers.borrow(media) as reader:  # 3
                start = reader.position if checkpoint else MediaPosition()
                chunk = self._read(reader, checkpoint is None, deadline_s)  # 2
                indexed = media.indexed_event(event)
                entries = self._frame_entries(indexed, media, checkpoint, chunk.shots, batch.inputs)
                entries += _sound_entries(indexed, media, checkpoint, chunk.sounds, batch.sound_input)
            batch.add(indexed, media, checkpoint, entries, chunk)
            if checkpoint is not None or not media.reader.ended:
                batch.checkpoints.append(self._checkpoint(event, media, checkpoint, start, chunk))
        except TransientError:
            raise
        except Exception as exc:
            return to_rejection(event.position, mime, exc)
        return None

    def _read(self, reader: AVReader, is_first: bool, deadline_s: float) -> Chunk:
        """Reads one segment. At the deadline it ends early, but not empty; the next segment continues there."""
        segment_chunk = Chunk()
        max_s = self._limits.first_segment_s if is_first else self._limits.segment_s
        end_ms = reader.position.scanned_ms + round(1000 * max_s)
        while not reader.ended and (left_ms := end_ms - reader.position.scanned_ms) > 0:
            chunk = reader.read(min(left_ms, _READ_MS))
            segment_chunk.windows += chunk.windows
            segment_chunk.shots += chunk.shots
            if self._clock() > deadline_s:
                break
        segment_chunk.sounds += reader.cut_sound()
        return segment_chunk

    def _checkpoint(
        self, event: Event, media: OpenMedia, before: Checkpoint | None, start: MediaPosition, chunk: Chunk
    ) -> Checkpoint:
        """Returns the checkpoint after this segment, which `store/writer.py` saves. `compose` adds its speech."""
        counts = dict(before.counts) if before else {}
        for collection, added in ((Collection.FRAME, chunk.shots), (Collection.SOUND, chunk.sounds)):
            counts[collection] = counts.get(collection, 0) + len(added)
        return Checkpoint(
            asset=event.asset,
            version=event.version,
            position=media.reader.position,
            counts=counts,
            settings_hash=self._settings_hash,
            uri=media.uri,
            media_sha256=media.sha256,
            start=start,
            finished=media.reader.ended,
        )

    def _frame_entries(
        self,
        event: Event,
        media: OpenMedia,
        before: Checkpoint | None,
        shots: Sequence[Shot],
        inputs: EncoderInputs,
    ) -> list[PendingEntry]:
        """Returns the entries of a segment's shots."""
        first_part = before.counts.get(Collection.FRAME, 0) if before else 0
        entries = []
        for part, shot in enumerate(shots, first_part):
            pixels = fit_image(shot.keyframe, self._image_spec)
            row = inputs.row(JOINT_IMAGE, EncoderItem(hashlib.sha256(pixels.tobytes()).hexdigest(), pixels))
            entries.append(
                PendingEntry(
                    event,
                    Collection.FRAME,
                    part,
                    media.mime,
                    media.uri,
                    start_ms=shot.start_ms,
                    end_ms=shot.end_ms,
                    thumbnail=self._put_thumbnail(jpeg_thumbnail(shot.keyframe, self._thumbnail_px)),
                    vectors=((Field.JOINT, JOINT_IMAGE, row),),
                )
            )
        return entries


def _sound_entries(
    event: Event, media: OpenMedia, before: Checkpoint | None, windows: Sequence[SoundWindow], inputs: _WaveformInput
) -> list[PendingEntry]:
    """Returns the entries of a segment's windows of sound."""
    first_part = before.counts.get(Collection.SOUND, 0) if before else 0
    return [
        PendingEntry(
            event,
            Collection.SOUND,
            part,
            media.mime,
            media.uri,
            start_ms=window.start * 1000 // RATE_HZ,
            end_ms=window.end * 1000 // RATE_HZ,
            vectors=((Field.JOINT, SOUND_AUDIO, row),),
        )
        for part, (window, row) in enumerate(zip(windows, inputs.add(windows), strict=True), first_part)
    ]


class _SegmentBatch:
    """Collects the segments of a batch."""

    def __init__(self) -> None:
        self.inputs = EncoderInputs()
        self.speech_input, self.sound_input = _WaveformInput(SPEECH), _WaveformInput(SOUND_AUDIO)
        self.tombstones: list[Event] = []
        self.rejected: list[Rejected] = []
        self.checkpoints: list[Checkpoint] = []
        self._indexable: list[Event] = []
        self._pending: list[PendingEntry] = []
        self._speech: list[SegmentSpeech] = []

    def add(
        self,
        event: Event,
        media: OpenMedia,
        before: Checkpoint | None,
        entries: Sequence[PendingEntry],
        chunk: Chunk,
    ) -> None:
        rows = self.speech_input.add(chunk.windows)
        windows = tuple((row, window.start * 1000 // RATE_HZ) for row, window in zip(rows, chunk.windows, strict=True))
        counts_before = before.counts if before else {}
        self._indexable.append(event)
        self._pending += entries
        self._speech.append(
            SegmentSpeech(event, media.mime, media.uri, windows, counts_before, len(chunk.shots), media.reader.ended)
        )

    def waveforms(self) -> dict[str, EncoderInput]:
        return {SPEECH: self.speech_input.build(), SOUND_AUDIO: self.sound_input.build()}

    def segments(self) -> DecodedSegments:
        decoded = Decoded(
            tuple(self._indexable),
            tuple(self.tombstones),
            tuple(self._pending),
            tuple(self.rejected),
            tuple(self.checkpoints),
        )
        return DecodedSegments(decoded, tuple(self._speech))


class _WaveformInput:
    """Collects the input of a model of audio in a batch."""

    def __init__(self, role: str) -> None:
        self._role = role
        self._windows: list[SpeechWindow | SoundWindow] = []

    def add(self, windows: Sequence[SpeechWindow | SoundWindow]) -> range:
        """Adds windows, and returns their rows."""
        first = len(self._windows)
        self._windows += windows
        return range(first, len(self._windows))

    def build(self) -> EncoderInput:
        keys = tuple(hashlib.sha256(window.samples.tobytes()).hexdigest() for window in self._windows)
        return EncoderInput(self._role, keys, waveforms=tuple(window.samples for window in self._windows))


def _position(checkpoint: Checkpoint | None) -> MediaPosition:
    return checkpoint.position if checkpoint else MediaPosition()
