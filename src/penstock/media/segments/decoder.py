"""Steps 3 and 4 of sound and film: media → a slice's shots and windows of speech → what was said → entries to be.

    slice     media are read on from where they are; pictures of shots and windows of speech go to their encoders
    compose   transcripts become passages; their texts go to the sentence encoder

Short media are one slice, and nothing is remembered of them. Of longer ones the slice says how far they are
(`Progress`), and any worker goes on from there; the one that made the slice still has them open.
"""

from __future__ import annotations

import hashlib
import io
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import psutil
from PIL import Image

from penstock.config import LongMediaSettings, SpeechSettings, VideoSettings
from penstock.encoders.base import ImageSpec
from penstock.errors import Reason, TransientError, UnavailableError
from penstock.media.av.audio import RATE_HZ
from penstock.media.av.reader import AVReader, Chunk
from penstock.media.av.transcript import PassageOptions, SpeechPassage, join_segments
from penstock.media.av.vad import SpeechWindow, VadOptions
from penstock.media.av.video import ShotOptions
from penstock.media.decode import JOINT_IMAGE, PASSAGE_TEXT, EncoderInputs, EncoderItem, to_rejection
from penstock.media.image import fit_image
from penstock.records import (
    Checkpoint,
    ClaimCheck,
    Collection,
    Decoded,
    EncoderInput,
    Event,
    FastPickle,
    FetchedMedia,
    Field,
    MediaPosition,
    Modality,
    PendingEntry,
    Rejected,
    Transcript,
)

logger = logging.getLogger(__name__)

SPEECH = "speech"
_IN_MEMORY_BYTES = 1024 * 1024  # larger media lie in a file while they are open
_STEP_MS = 10_000  # of media, between two looks at the clock
_JPEG_QUALITY = 80


@dataclass(frozen=True, slots=True)
class SegmentSpeech(FastPickle):
    """The speech of one event's slice.

    Attributes:
        event: one of the indexable ones.
        mime, uri: of its media.
        windows: of each the row in the transcriber's input, and where it begins, milliseconds.
        counts_before: entries of earlier slices, by collection.
        frames: entries of this slice's shots.
        finished: its media have been read to their end.
    """

    event: Event
    mime: str
    uri: str
    windows: tuple[tuple[int, int], ...]
    counts_before: Mapping[Collection, int]
    frames: int
    finished: bool


@dataclass(frozen=True, slots=True)
class DecodedSegments(FastPickle):
    """A slice of each event of a batch, before it is known what is said in them. `decoded` has drafts of shots only."""

    decoded: Decoded
    speech: tuple[SegmentSpeech, ...]


@dataclass(slots=True)
class _Open:
    """Media between two slices."""

    reel: AVReader
    file: Path | None
    mime: str
    uri: str
    sha256: str

    def plain(self, event: Event) -> Event:
        """The event as it is indexed: without its bytes, and with a title if its file has one."""
        return replace(event, payload=ClaimCheck(self.uri), title=event.title or self.reel.title)

    def close(self) -> None:
        self.reel.close()
        if self.file is not None:
            self.file.unlink(missing_ok=True)


class _Made:
    """What the slices of a batch come to."""

    def __init__(self) -> None:
        self.inputs, self.sounds = EncoderInputs(), _Sounds()
        self.tombstones: list[Event] = []
        self.rejected: list[Rejected] = []
        self.progress: list[Checkpoint] = []
        self._indexable: list[Event] = []
        self._drafts: list[PendingEntry] = []
        self._listened: list[SegmentSpeech] = []

    def add(
        self, event: Event, media: _Open, before: Checkpoint | None, drafts: Sequence[PendingEntry], stretch: Chunk
    ) -> None:
        plain = media.plain(event)
        self._indexable.append(plain)
        self._drafts += drafts
        self._listened.append(
            SegmentSpeech(
                plain,
                media.mime,
                media.uri,
                self.sounds.add(stretch.windows),
                before.counts if before else {},
                len(stretch.shots),
                media.reel.ended,
            )
        )

    def sliced(self) -> DecodedSegments:
        decoded = Decoded(
            tuple(self._indexable),
            tuple(self.tombstones),
            tuple(self._drafts),
            tuple(self.rejected),
            tuple(self.progress),
        )
        return DecodedSegments(decoded, tuple(self._listened))


class SegmentDecoder:
    """Reads media slice by slice. A decode worker owns one; not thread-safe.

    Args:
        speech, video, long_media: how.
        image_spec: what the encoder of pictures wants.
        put_thumbnail: keeps a thumbnail and returns its address. Raises `TransientError`.
        settings_hash: hash of everything that decides on the entries.
        folder: for media that are open; removed with the process, or by the next one if it was killed.
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
        folder: Path | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._slices = long_media
        self._clock = clock
        self._image_spec = image_spec
        self._put = put_thumbnail
        self._settings = settings_hash
        self._thumbnail_px = video.thumbnail_px
        self._voice = VadOptions(threshold=speech.threshold, min_silence_ms=speech.min_silence_ms)
        self._shots = ShotOptions(
            scene_threshold=video.scene_threshold,
            max_sample_gap_ms=video.max_sample_gap_ms,
            min_shot_ms=video.min_shot_ms,
        )
        self._passages = PassageOptions(round(speech.min_passage_s * 1000), round(speech.max_passage_s * 1000))
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            _remove_leftovers(folder)
        self._folder = tempfile.TemporaryDirectory(prefix=f"{os.getpid()}-", dir=folder, ignore_cleanup_errors=True)
        self._open: dict[str, _Open] = {}  # by asset and version, the one used last at the end

    def close(self) -> None:
        for one in self._open.values():
            one.close()
        self._open.clear()
        self._folder.cleanup()

    # --- slice ------------------------------------------------------------------------------------------------------

    def decode(
        self,
        events: Sequence[Event],
        checkpoints: Sequence[Checkpoint],
        fetch: Callable[[Event], FetchedMedia | Rejected],
        *,
        keep_open: bool = True,
    ) -> tuple[DecodedSegments, dict[str, EncoderInput]]:
        """The next slice of each event; those that cannot be read are rejected, and take no other along.

        Args:
            events: of sound or film; tombstones are handed on.
            checkpoints: how far those are that were begun; what was made under other settings is made anew.
            fetch: brings the media of one event, or refuses it.
            keep_open: leave media open that are not finished.

        Returns:
            the slices, and what `joint.image` and `speech` have to encode.

        Raises:
            TransientError: something that is needed is away; the batch is worth trying again.
        """
        begun = {one.asset.id: one for one in checkpoints if one.settings_hash == self._settings}
        made, until_s = _Made(), self._clock() + self._slices.max_worker_s
        try:
            for event in events:
                if event.is_tombstone:
                    made.tombstones.append(event)
                    continue
                refusal = self._slice_one(event, begun.get(event.asset.id), fetch, made, until_s)
                if refusal is not None:
                    made.rejected.append(refusal)
        finally:
            self._close_all_but(self._slices.max_open if keep_open else 0)
        return made.sliced(), made.inputs.by_encoder() | {SPEECH: made.sounds.input()}

    def _slice_one(
        self,
        event: Event,
        before: Checkpoint | None,
        fetch: Callable[[Event], FetchedMedia | Rejected],
        made: _Made,
        until_s: float,
    ) -> Rejected | None:
        """Reads one medium on, and leaves it open if there is more of it."""
        media = self._open.pop(_name(event), None)
        try:
            if media is not None and media.reel.position != (before.position if before else MediaPosition()):
                media.close()
                media = None
            if media is None:
                fetched = fetch(event)
                if isinstance(fetched, Rejected):
                    return fetched
                if before is not None and before.media_sha256 != fetched.sha256:
                    logger.warning("the media of %s are others than before: it is begun anew", event.asset)
                    before = None
                media = self._opened(fetched, before.position if before else MediaPosition())
            begins = media.reel.position if before else MediaPosition()
            most_s = self._slices.segment_s if before else self._slices.first_segment_s
            stretch = self._read(media.reel, most_s, until_s)
            made.add(event, media, before, self._drafts(event, media, before, stretch, made.inputs), stretch)
            if before or not media.reel.ended:
                made.progress.append(self._progress(event, media, before, begins, len(stretch.shots)))
        except BaseException as exc:
            if media is not None:
                media.close()
            if isinstance(exc, TransientError) or not isinstance(exc, Exception):
                raise
            return to_rejection(event.position, media.mime if media else str(event.modality), exc)
        if media.reel.ended:
            media.close()
        else:
            self._open[_name(event)] = media
        return None

    def _read(self, reel: AVReader, most_s: float, until_s: float) -> Chunk:
        """So many seconds of it; fewer, but some, if the clock says that it is late: the rest is the next slice's."""
        found = Chunk()
        until_ms = reel.position.scanned_ms + round(1000 * most_s)
        while not reel.ended and (left_ms := until_ms - reel.position.scanned_ms) > 0:
            part = reel.read(min(left_ms, _STEP_MS))
            found.windows += part.windows
            found.shots += part.shots
            if self._clock() > until_s:
                break
        return found

    def _progress(
        self, event: Event, media: _Open, before: Checkpoint | None, begins: MediaPosition, frames: int
    ) -> Checkpoint:
        """As far as it is without what is said, which `compose` adds."""
        counts = dict(before.counts) if before else {}
        counts[Collection.FRAME] = counts.get(Collection.FRAME, 0) + frames
        return Checkpoint(
            asset=event.asset,
            version=event.version,
            position=media.reel.position,
            counts=counts,
            settings_hash=self._settings,
            uri=media.uri,
            media_sha256=media.sha256,
            start=begins,
            finished=media.reel.ended,
        )

    def _opened(self, fetched: FetchedMedia, place: MediaPosition) -> _Open:
        shots = self._shots if fetched.event.modality is Modality.VIDEO else None
        named = (fetched.mime, fetched.uri, fetched.sha256)
        if len(fetched.data) <= _IN_MEMORY_BYTES:
            return _Open(AVReader(fetched.data, self._voice, shots, position=place), None, *named)
        file = Path(self._folder.name) / f"{_name(fetched.event)}.media"
        try:
            _write(file, fetched.data)
            return _Open(AVReader(file, self._voice, shots, position=place), file, *named)
        except BaseException:
            file.unlink(missing_ok=True)
            raise

    def _close_all_but(self, most: int) -> None:
        """Of the media that are open, those that have waited longest."""
        while len(self._open) > most:
            self._open.pop(next(iter(self._open))).close()

    def _drafts(
        self, event: Event, media: _Open, before: Checkpoint | None, stretch: Chunk, inputs: EncoderInputs
    ) -> list[PendingEntry]:
        """The entries of a slice's shots."""
        first = before.counts.get(Collection.FRAME, 0) if before else 0
        drafts = []
        for part, shot in enumerate(stretch.shots, first):
            pixels = fit_image(shot.keyframe, self._image_spec)
            row = inputs.row(JOINT_IMAGE, EncoderItem(hashlib.sha256(pixels.tobytes()).hexdigest(), pixels))
            drafts.append(
                PendingEntry(
                    media.plain(event),
                    Collection.FRAME,
                    part,
                    media.mime,
                    media.uri,
                    start_ms=shot.start_ms,
                    end_ms=shot.end_ms,
                    thumbnail=self._put(_thumbnail(shot.keyframe, self._thumbnail_px)),
                    vectors=((Field.JOINT, JOINT_IMAGE, row),),
                )
            )
        return drafts

    # --- compose ----------------------------------------------------------------------------------------------------

    def compose(self, sliced: DecodedSegments, transcripts: Sequence[Transcript]) -> tuple[Decoded, EncoderInput]:
        """The batch with what is said in it, and the texts for the sentence encoder.

        An asset in which nothing is said and nothing to be seen has one entry, so that its title finds it. One of which
        the transcriber fails on a window is rejected as a whole.

        Args:
            sliced: the slices.
            transcripts: of the windows, by row.
        """
        decoded, inputs = sliced.decoded, EncoderInputs()
        drafts = list(decoded.pending)
        rejected = list(decoded.rejected)
        spoken: dict[str, int] = {}  # entries of speech, by asset
        failed: set[str] = set()
        for one in sliced.speech:
            reasons = [transcripts[row].failed for row, _ in one.windows if transcripts[row].failed]
            if reasons:
                failed.add(one.event.asset.id)
                detail = f"{one.event.asset}: {SPEECH}: {reasons[0]}"
                rejected.append(Rejected(one.event.position, "encode", Reason.ENCODER_FAILED, detail))
                continue
            made = self._speech(one, transcripts, inputs)
            spoken[one.event.asset.id] = len(made)
            drafts += made
        return (
            Decoded(
                tuple(event for event in decoded.indexable if event.asset.id not in failed),
                decoded.tombstones,
                tuple(draft for draft in drafts if draft.event.asset.id not in failed),
                tuple(rejected),
                tuple(_with_speech(one, spoken) for one in decoded.checkpoints if one.asset.id not in failed),
            ),
            inputs.by_encoder().get(PASSAGE_TEXT, EncoderInput(PASSAGE_TEXT, ())),
        )

    def _speech(
        self, one: SegmentSpeech, transcripts: Sequence[Transcript], inputs: EncoderInputs
    ) -> list[PendingEntry]:
        heard = [
            SpeechPassage(
                start_ms + round(segment.start_s * 1000),
                start_ms + round(segment.end_s * 1000),
                segment.text,
                transcripts[row].language,
            )
            for row, start_ms in one.windows
            for segment in transcripts[row].segments
        ]
        first = one.counts_before.get(Collection.SPEECH, 0)
        said = list(join_segments(heard, self._passages))
        nothing = not said and not first and not one.frames and not one.counts_before.get(Collection.FRAME, 0)
        if one.finished and nothing:
            said = [SpeechPassage(0, 0, "", "")]
        return [_said(one, part, passage, inputs) for part, passage in enumerate(said, first)]


def _write(file: Path, data: bytes) -> None:
    try:
        file.write_bytes(data)
    except OSError as exc:
        raise UnavailableError(f"{len(data):,} bytes of a recording cannot be written to {file}: {exc}") from exc


def _said(one: SegmentSpeech, part: int, passage: SpeechPassage, inputs: EncoderInputs) -> PendingEntry:
    read = passage.text or one.event.title or one.event.asset.key
    row = inputs.row(PASSAGE_TEXT, EncoderItem(hashlib.sha256(read.encode()).hexdigest(), read))
    return PendingEntry(
        one.event,
        Collection.SPEECH,
        part,
        one.mime,
        one.uri,
        text=passage.text,
        start_ms=passage.start_ms,
        end_ms=passage.end_ms,
        vectors=((Field.PASSAGE, PASSAGE_TEXT, row),),
    )


class _Sounds:
    """The transcriber's input of a batch."""

    def __init__(self) -> None:
        self._windows: list[SpeechWindow] = []

    def add(self, windows: Sequence[SpeechWindow]) -> tuple[tuple[int, int], ...]:
        """The row of each window, and where it begins, milliseconds."""
        first = len(self._windows)
        self._windows += windows
        return tuple((row, window.start * 1000 // RATE_HZ) for row, window in enumerate(windows, first))

    def input(self) -> EncoderInput:
        keys = tuple(hashlib.sha256(window.samples.tobytes()).hexdigest() for window in self._windows)
        return EncoderInput(SPEECH, keys, waveforms=tuple(window.samples for window in self._windows))


def _with_speech(progress: Checkpoint, spoken: Mapping[str, int]) -> Checkpoint:
    counts = dict(progress.counts)
    counts[Collection.SPEECH] = counts.get(Collection.SPEECH, 0) + spoken[progress.asset.id]
    return replace(progress, counts={collection: count for collection, count in counts.items() if count})


def _thumbnail(picture: Image.Image, longest_px: int) -> bytes:
    small = picture.copy()
    small.thumbnail((longest_px, longest_px))
    out = io.BytesIO()
    small.save(out, "JPEG", quality=_JPEG_QUALITY)
    return out.getvalue()


def _name(event: Event) -> str:
    """Of an event's media among those that are open, and of their file."""
    return f"{event.asset.id}-{event.version.partition}-{event.version.offset}"


def _remove_leftovers(folder: Path) -> None:
    """What processes of this machine left that were killed."""
    for left in folder.iterdir():
        owner = left.name.partition("-")[0]
        if owner.isdigit() and not psutil.pid_exists(int(owner)):
            shutil.rmtree(left, ignore_errors=True)
