"""The workers of the pools, and picklable factories that make each of them in its own process.

A worker's methods take and return the frozen types of `records`, so that the same worker runs in a thread of a
`LocalPool` and in a Ray actor. `proxies` calls them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from penstock.assembly import open_assets, open_store
from penstock.config import Settings
from penstock.encoders.base import Encoder, Fingerprint, ImageToText, Transcriber
from penstock.encoders.profiles import IMAGE_TEXT_ROLES, SPEECH, load_profile
from penstock.ingest.executor.hosted_models import host_encoder, host_image_to_text, host_transcriber
from penstock.ingest.executor.known_encoders import known_encoders
from penstock.ingest.executor.media_decoders import image_text_sides, make_document_decoder, make_segment_decoder
from penstock.ingest.lane.batcher import scale_batch_size
from penstock.observability import metrics
from penstock.observability.process import prepare_process
from penstock.records import (
    TIMED_MODALITIES,
    AssetRef,
    Checkpoint,
    Decoded,
    Encoded,
    EncoderInput,
    Event,
    FetchedMedia,
    ImageText,
    ImageTexts,
    Inline,
    Modality,
    Position,
    Rejected,
    Transcript,
    digest_of,
)
from penstock.runtime_tuning import lower_priority, relax_gc, tune_malloc
from penstock.store.base import IndexSpec
from penstock.store.lease import LeaseGuard
from penstock.store.writer import Writer

if TYPE_CHECKING:  # each process imports what its own worker needs
    from penstock.media.decode import Decoder
    from penstock.media.fetch import Fetcher
    from penstock.media.segments.compose import DecodedSegments
    from penstock.media.segments.decoder import SegmentDecoder
    from penstock.media.segments.documents import DocumentDecoder

# Seconds of one call for the words of images: calls of other batches run in between, and none of them looks hung.
IMAGE_TEXT_CHUNK_S = 1.0

DecodedBatch: TypeAlias = tuple[Decoded, *tuple[EncoderInput, ...]]
"""A decoded batch, then one input for each of the requested encoders, in their order."""


@dataclass(frozen=True, slots=True)
class FetchedBatch:
    """A batch between fetch and decode."""

    fetched: tuple[FetchedMedia, ...]
    rejected: tuple[Rejected, ...]
    tombstones: tuple[Event, ...]


class MediaWorker:
    """Runs steps 2 and 3: makes pending entries and encoder inputs of events. Needs a CPU and no model.

    Args:
        fetcher: reads the media of claim checks.
        decoder: decodes text and images.
        segment_decoder: decodes audio and video; None where neither is consumed.
        document_decoder: decodes documents; None where they are not consumed.
    """

    def __init__(
        self,
        fetcher: Fetcher,
        decoder: Decoder,
        segment_decoder: SegmentDecoder | None = None,
        document_decoder: DocumentDecoder | None = None,
    ) -> None:
        self._fetcher = fetcher
        self._decoder = decoder
        self._segment_decoder = segment_decoder
        self._document_decoder = document_decoder

    def fetch(self, events: Sequence[Event]) -> FetchedBatch:
        """Reads the bytes of every event (step 2); rejects those that are unavailable or not allowed."""
        tombstones = tuple(event for event in events if event.is_tombstone)
        fetched, rejected = self._fetcher.fetch_batch([event for event in events if not event.is_tombstone])
        return FetchedBatch(tuple(fetched), tuple(rejected), tombstones)

    def decode(self, batch: FetchedBatch, roles: Sequence[str]) -> DecodedBatch:
        """Decodes a batch (step 3).

        Returns:
            `Decoded`, then one `EncoderInput` for each of `roles`, empty where the batch has nothing for it.
        """
        decoded, inputs = self._decoder.decode(batch.fetched, batch.rejected, batch.tombstones)
        return (decoded, *(inputs.get(role, EncoderInput(role, ())) for role in roles))

    def fetch_and_decode(self, events: Sequence[Event], roles: Sequence[str]) -> DecodedBatch:
        """Runs steps 2 and 3 in one call, for inline media: their bytes are here already."""
        return self.decode(self.fetch(events), roles)

    def decode_segments(
        self, events: Sequence[Event], checkpoints: Sequence[Checkpoint], roles: Sequence[str], keep_open: bool
    ) -> tuple[DecodedSegments, *tuple[EncoderInput, ...]]:
        """Reads and decodes the next segment of each event of timed media (steps 2 and 3).

        Fetches media one after the other, so that it holds one at most in memory, and not those that are still open.

        Args:
            events: of one modality.
            checkpoints: of those events that were begun before.
            roles: the encoders of segments.
            keep_open: leave media open that are not finished: this worker receives their next segments.

        Returns:
            the segments, then one `EncoderInput` for each of `roles`, empty where the segments have nothing for it.
        """
        assert self._segment_decoder is not None
        fetch = self._fetcher.fetch_one
        segments, inputs = self._segment_decoder.decode(events, checkpoints, fetch, keep_open=keep_open)
        return (segments, *(inputs.get(role, EncoderInput(role, ())) for role in roles))

    def decode_documents(
        self, events: Sequence[Event], checkpoints: Sequence[Checkpoint], roles: Sequence[str], keep_open: bool
    ) -> DecodedBatch:
        """Reads and decodes the next pages of each document (steps 2 and 3). Arguments as of `decode_segments`.

        Returns:
            `Decoded`, then one `EncoderInput` for each of `roles`, empty where the pages have nothing for it.
        """
        assert self._document_decoder is not None
        fetch = self._fetcher.fetch_one
        decoded, inputs = self._document_decoder.decode(events, checkpoints, fetch, keep_open=keep_open)
        return (decoded, *(inputs.get(role, EncoderInput(role, ())) for role in roles))

    def compose(self, segments: DecodedSegments, *transcripts: Sequence[Transcript]) -> tuple[Decoded, EncoderInput]:
        """Completes segments with their transcripts; returns them and the sentence encoder's input.

        Args:
            segments: from `decode_segments`.
            *transcripts: of the segments' windows, in order, as many at a time as the transcriber returned.
        """
        assert self._segment_decoder is not None
        return self._segment_decoder.compose(segments, tuple(chain.from_iterable(transcripts)))


class EncodeWorker:
    """Runs step 4 with one encoder, loaded once."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder

    def encode(self, batch: EncoderInput) -> Encoded:
        """Returns the embeddings of a batch, which may be empty: all of it may have been rejected.

        See `Encoder.encode`.
        """
        if not len(batch):
            return Encoded(batch.encoder, np.zeros((0, self._encoder.space.dim), np.float32))
        return self._encoder.encode(batch)

    def fingerprint(self) -> Fingerprint:
        """Returns the fingerprint of the encoder's model."""
        return self._encoder.fingerprint


class TranscribeWorker:
    """Runs step 4 for speech with one transcriber, loaded once.

    Args:
        transcriber: the speech model.
        chunk_s: seconds that a call for long media should take at most; it takes at least one window in any case. None:
            the transcriber's own value.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        transcriber: Transcriber,
        chunk_s: float | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._transcriber = transcriber
        self._chunk_s = chunk_s
        self._clock = clock
        self._long_media_windows = 1  # in one call

    def transcribe(
        self, batch: EncoderInput, start: int, is_long_media: bool
    ) -> tuple[tuple[Transcript, ...], int | None]:
        """Transcribes the next windows of a batch, which may be empty. See `Transcriber.transcribe`.

        Args:
            batch: windows.
            start: the first window of this call.
            is_long_media: the windows are of long media: no more at a time than clips can wait for.

        Returns:
            a transcript for each window, as many as the model takes in one batch, and the next start; None at the end.
        """
        if start >= len(batch):
            return (), None
        max_windows, chunk_s = self._transcriber.max_windows, self._chunk_s or self._transcriber.chunk_s
        planned = min(self._long_media_windows, max_windows) if is_long_media else max_windows
        end = min(start + planned, len(batch))
        began_s = self._clock()
        transcripts = self._transcriber.transcribe(batch.waveforms[start:end])
        duration_s = self._clock() - began_s
        # A remainder of fewer windows is a measure only if it was slow.
        if is_long_media and (end - start == planned or duration_s > chunk_s):
            self._long_media_windows = max(1, scale_batch_size(end - start, duration_s, chunk_s))
        return transcripts, (end if end < len(batch) else None)

    def fingerprint(self) -> Fingerprint:
        """Returns the fingerprint of the speech model."""
        return self._transcriber.fingerprint


class ImageTextWorker:
    """Runs step 4 for the words of images with one model, loaded once.

    Args:
        model: reads or describes images.
        clock: monotonic seconds.
    """

    def __init__(self, model: ImageToText, clock: Callable[[], float] = time.monotonic) -> None:
        self._model = model
        self._clock = clock

    def texts(self, batch: EncoderInput, start: int, max_images: int | None) -> tuple[ImageTexts, int | None]:
        """Returns the words of the next images of a batch, which may be empty. See `ImageToText.texts`.

        Args:
            batch: whole images.
            start: the first image of this call.
            max_images: in this call; None: as many as fit into `IMAGE_TEXT_CHUNK_S`.

        Returns:
            the words of at least one image, if any is left, and the next start; None at the end.
        """
        deadline_s = self._clock() + IMAGE_TEXT_CHUNK_S
        limit = len(batch) if max_images is None else min(len(batch), start + max_images)
        texts: list[ImageText] = []
        row = start
        while row < limit and (row == start or self._clock() < deadline_s):
            part = batch.images[row : min(limit, row + self._model.max_images)]
            texts += self._model.texts(part)
            row += len(part)
        for text in texts:
            result = "failed" if text.failed else "words" if text.text else "none"
            metrics.IMAGE_TEXTS.labels(batch.encoder, result).inc()
        return ImageTexts(batch.encoder, start, tuple(texts)), (row if row < len(batch) else None)

    def fingerprint(self) -> Fingerprint:
        """Returns the fingerprint of the model."""
        return self._model.fingerprint


@dataclass(frozen=True)
class MediaWorkerFactory:
    """Makes the worker of a fetch or decode pool from the settings.

    Attributes:
        settings: without secrets, where media of strangers are decoded.
        hosts: of Penstock's own services, to which no claim check may lead; None: those that the settings name.
    """

    settings: Settings
    hosts: Sequence[str] | None = None

    def __call__(self, number: int) -> MediaWorker:
        from penstock.encoders.tokenizer import load_tokenizer
        from penstock.media.decode import Decoder
        from penstock.media.fetch import Fetcher
        from penstock.media.own_services import OwnServices, own_hosts

        settings, profile = self.settings, load_profile(self.settings.profile)
        topic_of = {modality: topic for topic, modality in settings.kafka.topics().items()}
        if settings.kafka.has_owners:  # topics of other tenants are not to be named
            topic_of = {}
        own = OwnServices(own_hosts(settings) if self.hosts is None else self.hosts)
        fetcher = Fetcher(settings.fetch, open_assets(settings), topic_of=topic_of, own=own)
        tokenizer = load_tokenizer(profile)
        decoder = Decoder(
            text=settings.text,
            image=settings.image,
            image_spec=profile.image,
            tokenizer=tokenizer,
            joint_text_encoder=profile.joint_text_encoder,
            image_texts=image_text_sides(settings, profile),
            known_encoders=known_encoders(profile),
        )
        has_timed_media = TIMED_MODALITIES.intersection(settings.ingest.modalities)
        has_documents = Modality.DOCUMENT in settings.ingest.modalities
        return MediaWorker(
            fetcher,
            decoder,
            make_segment_decoder(settings, profile) if has_timed_media else None,
            make_document_decoder(settings, profile, tokenizer) if has_documents else None,
        )


def init_media_process(settings: Settings, process: str) -> None:
    """Prepares the process of a media worker. Defined here, as importing it from the plane would take 50 MB there."""
    prepare_process(settings, process)
    tune_malloc()


def init_long_media_process(settings: Settings, process: str) -> None:
    """Prepares the process of a worker of long media, and lowers its priority below that of other media."""
    init_media_process(settings, process)
    lower_priority()


@dataclass(frozen=True)
class EncodeWorkerFactory:
    """Makes the worker that hosts the encoder of one role."""

    settings: Settings
    role: str

    def __call__(self, number: int) -> EncodeWorker | TranscribeWorker | ImageTextWorker:
        settings = self.settings
        if self.role in IMAGE_TEXT_ROLES:
            return ImageTextWorker(host_image_to_text(self.role, settings))
        if self.role == SPEECH:
            return TranscribeWorker(host_transcriber(settings), settings.long_media.transcription_chunk_s)
        return EncodeWorker(host_encoder(self.role, settings))


@dataclass(frozen=True)
class WriterFactory:
    """Makes the writer of one shard; it accepts nothing before `start`."""

    settings: Settings
    spec: IndexSpec
    shards: int

    def __call__(self, number: int) -> Writer:
        lease = LeaseGuard(self.settings.ingest.lease_timeout_s)
        store = open_store(self.settings.store, lease.check)
        store.ensure(self.spec)
        relax_gc()
        return Writer(
            store,
            wall_ms=lambda: time.time_ns() // 1_000_000,
            shard=number,
            shards=self.shards,
            lease=lease,
            settings_hash=_entries_hash(self.settings),
        )


def _entries_hash(settings: Settings) -> str:
    """Returns a hash of the settings that determine entries."""
    sections = settings.model_dump_json(include={"profile", "text", "image", "speech", "video", "ocr", "documents"})
    return digest_of(sections)


def known_good_events(settings: Settings) -> Mapping[Modality, Event]:
    """Returns, for each consumed modality, a tiny event that every healthy worker accepts. It is never written."""
    from penstock.media.known_good import sample

    return {modality: _sample_event(settings, modality, sample(modality)) for modality in settings.ingest.modalities}


def _sample_event(settings: Settings, modality: Modality, data: bytes) -> Event:
    topic = next(iter(settings.kafka.topics_of([modality])), modality.value)
    nowhere = Position(topic, -1, -1)
    asset = AssetRef(settings.tenant, topic, "penstock-known-good")
    return Event(asset, nowhere, nowhere, 0, modality, Inline(data))
