"""What the pools host: workers, each made in its own process by a small picklable maker.

A worker's methods take and return the frozen types of `records`, so that the same worker runs in a thread of a
`LocalPool` and in a Ray actor.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from penstock.config import Settings
from penstock.encoders.base import Encoder, Fingerprint
from penstock.encoders.profiles import load_profile
from penstock.exposition import connect
from penstock.processes import give_back_buffers
from penstock.records import (
    AssetRef,
    Encoded,
    EncoderInput,
    Event,
    Fetched,
    Inline,
    Modality,
    Position,
    Rejected,
)
from penstock.store.base import IndexSpec, Store
from penstock.store.writer import Writer


@dataclass(frozen=True, slots=True)
class Fetching:
    """A batch between fetch and decode."""

    fetched: tuple[Fetched, ...]
    rejected: tuple[Rejected, ...]
    tombstones: tuple[Event, ...]


class MediaWorker:
    """Steps 2 and 3: from events to drafts and encoder inputs. Needs a CPU and no model.

    Args:
        fetcher: `media.fetch.Fetcher`.
        decoder: `media.decode.Decoder`.
    """

    def __init__(self, fetcher: Any, decoder: Any) -> None:
        self._fetcher = fetcher
        self._decoder = decoder

    def fetch(self, events: Sequence[Event]) -> Fetching:
        """Step 2: every event with its bytes; what cannot be had or is not allowed is rejected."""
        tombstones = tuple(event for event in events if event.is_tombstone)
        fetched, rejected = self._fetcher.fetch_all([event for event in events if not event.is_tombstone])
        return Fetching(tuple(fetched), tuple(rejected), tombstones)

    def decode(self, fetching: Fetching, roles: Sequence[str]) -> tuple[Any, ...]:
        """Step 3.

        Returns:
            `Decoded`, then one `EncoderInput` for each of `roles`, empty where the batch has nothing for it.
        """
        decoded, inputs = self._decoder.decode(fetching.fetched, fetching.rejected, fetching.tombstones)
        return (decoded, *(inputs.get(role, EncoderInput(role, ())) for role in roles))

    def fetch_and_decode(self, events: Sequence[Event], roles: Sequence[str]) -> tuple[Any, ...]:
        """Steps 2 and 3 in one call, for inline media: their bytes are here already."""
        return self.decode(self.fetch(events), roles)


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


@dataclass(frozen=True)
class MakeMediaWorker:
    """Makes the worker of a decode or fetch pool from the settings."""

    settings: Settings

    def __call__(self, number: int) -> MediaWorker:
        from penstock.encoders.tokenizer import load_tokenizer
        from penstock.media.decode import Decoder
        from penstock.media.fetch import Fetcher
        from penstock.store.assets import AssetStore

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
        return MediaWorker(fetcher, decoder)


def begin_with_media(settings: Settings, process: str) -> None:
    """First thing in the process of a media worker. Here, and not with the plane, whose imports are 50 MB."""
    connect(settings, process)
    give_back_buffers()


@dataclass(frozen=True)
class MakeEncodeWorker:
    """Makes the worker that hosts the encoder of one role."""

    settings: Settings
    role: str

    def __call__(self, number: int) -> EncodeWorker:
        from penstock.encoders.load import load_encoder

        settings = self.settings
        encoder = load_encoder(
            self.role,
            load_profile(settings.profile),
            precision=settings.precision,
            device=settings.device,
            cache_size=settings.ingest.encoder_cache,
            threads=settings.ingest.encoder_threads or os.cpu_count(),
        )
        return EncodeWorker(encoder)


@dataclass(frozen=True)
class MakeWriter:
    """Makes the writer of one shard; it waits for `begin` before it accepts anything."""

    settings: Settings
    spec: IndexSpec
    shards: int

    def __call__(self, number: int) -> Writer:
        store = open_store(self.settings)
        store.ensure(self.spec)
        return Writer(store, wall_ms=lambda: time.time_ns() // 1_000_000, shard=number, shards=self.shards)


def open_store(settings: Settings) -> Store:
    """The store that the settings name."""
    from penstock.store.milvus import MilvusStore

    return MilvusStore(settings.store)


def known_good(settings: Settings) -> Mapping[Modality, Event]:
    """For each consumed modality a tiny event that every healthy worker takes. They are never written."""
    from penstock.media.samples import SAMPLES

    return {modality: _sample_event(settings, modality, SAMPLES[modality]) for modality in settings.ingest.modalities}


def _sample_event(settings: Settings, modality: Modality, data: bytes) -> Event:
    topic = settings.kafka.topic_of(modality)
    nowhere = Position(topic, -1, -1)
    asset = AssetRef(settings.tenant, topic, "penstock-known-good")
    return Event(asset, nowhere, nowhere, 0, modality, Inline(data))
