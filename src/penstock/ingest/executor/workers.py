"""What the pools host: workers, each made in its own process by a small picklable maker.

A worker's methods take and return the frozen types of `records`, so that the same worker runs in a thread of a
`LocalPool` and in a Ray actor.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np

from penstock.config import Settings
from penstock.encoders.base import Encoder, Fingerprint
from penstock.encoders.profiles import SPEECH, load_profile
from penstock.ingest.lane.batcher import scale_batch_size
from penstock.observability.exposition import connect
from penstock.records import (
    TIMED_MODALITIES,
    AssetRef,
    Checkpoint,
    Encoded,
    EncoderInput,
    Event,
    FetchedMedia,
    Inline,
    Modality,
    Position,
    Rejected,
    Transcript,
)
from penstock.runtime_tuning import lower_priority, relax_gc, tune_malloc
from penstock.store.base import IndexSpec, Store
from penstock.store.writer import Writer


@dataclass(frozen=True, slots=True)
class FetchedBatch:
    """A batch between fetch and decode."""

    fetched: tuple[FetchedMedia, ...]
    rejected: tuple[Rejected, ...]
    tombstones: tuple[Event, ...]


class MediaWorker:
    """Steps 2 and 3: from events to drafts and encoder inputs. Needs a CPU and no model.

    Args:
        fetcher: `media.fetch.Fetcher`.
        decoder: `media.decode.Decoder`.
        slicer: `media.segments.decoder.SegmentDecoder`, where sound or film are taken in.
    """

    def __init__(self, fetcher: Any, decoder: Any, slicer: Any = None) -> None:
        self._fetcher = fetcher
        self._decoder = decoder
        self._slicer = slicer

    def fetch(self, events: Sequence[Event]) -> FetchedBatch:
        """Step 2: every event with its bytes; what cannot be had or is not allowed is rejected."""
        tombstones = tuple(event for event in events if event.is_tombstone)
        fetched, rejected = self._fetcher.fetch_batch([event for event in events if not event.is_tombstone])
        return FetchedBatch(tuple(fetched), tuple(rejected), tombstones)

    def decode(self, fetching: FetchedBatch, roles: Sequence[str]) -> tuple[Any, ...]:
        """Step 3.

        Returns:
            `Decoded`, then one `EncoderInput` for each of `roles`, empty where the batch has nothing for it.
        """
        decoded, inputs = self._decoder.decode(fetching.fetched, fetching.rejected, fetching.tombstones)
        return (decoded, *(inputs.get(role, EncoderInput(role, ())) for role in roles))

    def fetch_and_decode(self, events: Sequence[Event], roles: Sequence[str]) -> tuple[Any, ...]:
        """Steps 2 and 3 in one call, for inline media: their bytes are here already."""
        return self.decode(self.fetch(events), roles)

    def decode_segments(
        self, events: Sequence[Event], known: Sequence[Checkpoint], roles: Sequence[str], keep: bool
    ) -> tuple[Any, ...]:
        """Steps 2 and 3 of sound and film: the next slice of each event. Media are fetched one after the other, so that
        no more than one at a time is held in memory; those that are open still are not fetched again.

        Args:
            events: of one modality.
            known: how far those of them are that were begun.
            roles: the encoders of slices.
            keep: leave media open that are not finished: this worker is asked for their next slices.

        Returns:
            `DecodedSegments`, then one `EncoderInput` for each of `roles`, empty where the slice has nothing for it.
        """
        sliced, inputs = self._slicer.decode(events, known, self._fetcher.fetch_one, keep_open=keep)
        return (sliced, *(inputs.get(role, EncoderInput(role, ())) for role in roles))

    def compose(self, sliced: Any, *heard: Sequence[Transcript]) -> tuple[Any, EncoderInput]:
        """The slices with what is said in them, as the transcriber gave it, some windows after the others: `Decoded`,
        and the sentence encoder's input.
        """
        decoded, passages = self._slicer.compose(sliced, tuple(chain.from_iterable(heard)))
        return decoded, passages


class EncodeWorker:
    """Step 4: one encoder, loaded once."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder

    def encode(self, batch: EncoderInput) -> Encoded:
        """Vectors for the batch, which may be empty: all of it may have been rejected. See `Encoder.encode`."""
        if not len(batch):
            return Encoded(batch.encoder, np.zeros((0, self._encoder.space.dim), np.float32))
        return self._encoder.encode(batch)

    def fingerprint(self) -> Fingerprint:
        return self._encoder.fingerprint


class TranscribeWorker:
    """Step 4 for speech: one transcriber, loaded once.

    Args:
        transcriber: `encoders.whisper.WhisperTranscriber`.
        hear_s: how long a call for long media should take at most, seconds; one window it takes in any case. None: as
            the transcriber has it.
        clock: monotonic seconds.
    """

    def __init__(self, transcriber: Any, chunk_s: float | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._transcriber = transcriber
        self._chunk_s: float = chunk_s or transcriber.chunk_s
        self._clock = clock
        self._long_media_windows = 1  # windows of long media

    def transcribe(self, batch: EncoderInput, start: int, apart: bool) -> tuple[tuple[Transcript, ...], int | None]:
        """What is said in some windows of the batch, which may be empty. See `WhisperTranscriber.transcribe`.

        Args:
            batch: windows.
            start: the first of them to be heard now.
            apart: they are of long media: no more at a time than clips can wait for.

        Returns:
            a transcript for each window, of as many as the model takes at once, and where to go on; None at the end.
        """
        largest: int = self._transcriber.max_windows
        planned = min(self._long_media_windows, largest) if apart else largest
        end = min(start + planned, len(batch))
        if start == end:
            return (), None
        began_s = self._clock()
        found: tuple[Transcript, ...] = self._transcriber.transcribe(batch.waveforms[start:end])
        took_s = self._clock() - began_s
        if apart and (end - start == planned or took_s > self._chunk_s):  # what is left over tells only if it was slow
            self._long_media_windows = max(1, scale_batch_size(end - start, took_s, self._chunk_s))
        return found, (end if end < len(batch) else None)

    def fingerprint(self) -> Fingerprint:
        found: Fingerprint = self._transcriber.fingerprint
        return found


@dataclass(frozen=True)
class MediaWorkerFactory:
    """Makes the worker of a decode or fetch pool from the settings."""

    settings: Settings

    def __call__(self, number: int) -> MediaWorker:
        from penstock.assets import AssetStore
        from penstock.encoders.tokenizer import load_tokenizer
        from penstock.media.decode import Decoder
        from penstock.media.fetch import Fetcher

        settings, profile = self.settings, load_profile(self.settings.profile)
        topic_of = {modality: topic for topic, modality in settings.kafka.topics().items()}
        fetcher = Fetcher(settings.fetch, AssetStore(settings.asset_store_url), topic_of=topic_of)
        decoder = Decoder(
            text=settings.text,
            image=settings.image,
            image_spec=profile.image,
            tokenizer=load_tokenizer(profile),
            joint_text_encoder=profile.joint_text_encoder,
        )
        return MediaWorker(
            fetcher, decoder, self._slicer() if TIMED_MODALITIES.intersection(settings.ingest.modalities) else None
        )

    def _slicer(self) -> Any:
        from penstock.assets import AssetStore, asset_uri
        from penstock.encoders.load import speech_fingerprint
        from penstock.media.segments.decoder import SegmentDecoder

        settings, profile = self.settings, load_profile(self.settings.profile)
        assets = AssetStore(settings.asset_store_url)
        decides = (settings.speech, settings.video, profile.image, speech_fingerprint(profile))
        return SegmentDecoder(
            speech=settings.speech,
            video=settings.video,
            long_media=settings.long_media,
            image_spec=profile.image,
            put_thumbnail=lambda data: asset_uri(assets.put(data)),
            settings_hash=hashlib.sha256(repr(decides).encode()).hexdigest()[:16],
            folder=settings.data_dir / "open",
        )


def init_media_process(settings: Settings, process: str) -> None:
    """First thing in the process of a media worker. Here, and not with the plane, whose imports are 50 MB."""
    connect(settings, process)
    tune_malloc()


def init_long_media_process(settings: Settings, process: str) -> None:
    """The same in that of a worker of long media: those that are not long go first."""
    init_media_process(settings, process)
    lower_priority()


@dataclass(frozen=True)
class EncodeWorkerFactory:
    """Makes the worker that hosts the encoder of one role."""

    settings: Settings
    role: str

    def __call__(self, number: int) -> EncodeWorker | TranscribeWorker:
        from penstock.encoders.load import load_encoder, load_transcriber

        settings = self.settings
        if self.role == SPEECH:
            return TranscribeWorker(
                load_transcriber(
                    load_profile(settings.profile),
                    precision=settings.precision,
                    device=settings.device,
                    threads=settings.ingest.encoder_threads or os.cpu_count(),
                    language=settings.speech.language,
                ),
                settings.long_media.transcription_chunk_s,
            )
        encoder = load_encoder(
            self.role,
            load_profile(settings.profile),
            precision=settings.precision,
            device=settings.device,
            cache_size=settings.ingest.encoder_cache_size,
            threads=settings.ingest.encoder_threads or os.cpu_count(),
        )
        return EncodeWorker(encoder)


@dataclass(frozen=True)
class WriterFactory:
    """Makes the writer of one shard; it waits for `start` before it accepts anything."""

    settings: Settings
    spec: IndexSpec
    shards: int

    def __call__(self, number: int) -> Writer:
        store = open_store(self.settings)
        store.ensure(self.spec)
        relax_gc()
        return Writer(store, wall_ms=lambda: time.time_ns() // 1_000_000, shard=number, shards=self.shards)


def open_store(settings: Settings) -> Store:
    """The store that the settings name."""
    from penstock.store.milvus.store import MilvusStore

    return MilvusStore(settings.store)


def known_good_events(settings: Settings) -> Mapping[Modality, Event]:
    """For each consumed modality a tiny event that every healthy worker takes. They are never written."""
    from penstock.media.known_good import sample

    return {modality: _sample_event(settings, modality, sample(modality)) for modality in settings.ingest.modalities}


def _sample_event(settings: Settings, modality: Modality, data: bytes) -> Event:
    topic = settings.kafka.topic_of(modality)
    nowhere = Position(topic, -1, -1)
    asset = AssetRef(settings.tenant, topic, "penstock-known-good")
    return Event(asset, nowhere, nowhere, 0, modality, Inline(data))
