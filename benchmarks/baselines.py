"""The loops that Penstock is compared with, written as people write them, with the same decoder, encoder and threads.

(a) bare     batches of 32, decoded on a second thread and encoded; no broker, no store
(b) naive    poll one, decode, encode, upsert, commit
(c) batched  the same in batches of 32, one step after the other

(b) and (c) read a topic of their own in a group of their own, and write collections of their own in the same store.
They keep no media, know no order of events and no dead letters: less than Penstock does for the same image.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np

from penstock.broker.base import Consumer, Partition
from penstock.config import ImageSettings, Settings
from penstock.encoders.base import Encoder, ImageSpec
from penstock.encoders.load import load_encoder
from penstock.encoders.profiles import JOINT_IMAGE, load_profile
from penstock.errors import UnavailableError
from penstock.media.image import decode_image
from penstock.records import (
    AssetRef,
    Collection,
    EncoderInput,
    Entry,
    Event,
    FetchedMedia,
    Field,
    Float32,
    Inline,
    Modality,
    Position,
    Record,
    bare_entry,
)
from penstock.store.base import EntryWriter

BATCH = 32
_POLL_S = 1.0
_COMMIT_TIMEOUT_S = 10.0
_PATIENCE_S = 60.0  # for the first record: joining a group takes a second or two


class BaselineModel:
    """Decodes and encodes images in this process.

    Args:
        encoder: of the role `joint.image`.
        spec: what it takes.
        limits: of images.
    """

    def __init__(self, encoder: Encoder, spec: ImageSpec, limits: ImageSettings) -> None:
        self._encoder = encoder
        self._spec = spec
        self._limits = limits

    def decode(self, pictures: Sequence[bytes]) -> EncoderInput:
        fetched = [_fetched(data) for data in pictures]
        pixels = np.stack([decode_image(media, spec=self._spec, settings=self._limits) for media in fetched])
        return EncoderInput(JOINT_IMAGE, tuple(media.sha256 for media in fetched), pixels=pixels)

    def encode(self, batch: EncoderInput) -> Float32:
        """float32[n, dim]."""
        return self._encoder.encode(batch).vectors


def load_model(settings: Settings, *, threads: int | None) -> BaselineModel:
    """The model of the settings' profile, without a cache: the loops take the same images in turn, and Penstock none
    that it has seen.
    """
    profile = load_profile(settings.profile)
    encoder = load_encoder(
        JOINT_IMAGE,
        profile,
        precision=settings.precision,
        device=settings.device,
        cache_size=0,
        threads=threads,
    )
    return BaselineModel(encoder, profile.image, settings.image)


def model_only(model: BaselineModel, pictures: Sequence[bytes]) -> float:
    """(a). Seconds from the first decode to the last vector."""
    batches = [pictures[start : start + BATCH] for start in range(0, len(pictures), BATCH)]
    with ThreadPoolExecutor(1, thread_name_prefix="decode") as decoding:
        began_s = time.perf_counter()
        following = decoding.submit(model.decode, batches[0])
        for number in range(len(batches)):
            batch = following.result()
            if number + 1 < len(batches):
                following = decoding.submit(model.decode, batches[number + 1])
            model.encode(batch)
        return time.perf_counter() - began_s


def naive_loop(model: BaselineModel, consumer: Consumer, store: EntryWriter, *, events: int, batch: int) -> float:
    """(b) with a batch of 1, (c) with one of 32. The records are in the topic already.

    Returns:
        seconds from the first poll that is sent to the last commit that is acknowledged.
    """
    began_s = time.perf_counter()
    done = 0
    while done < events:
        records = _poll(consumer, min(batch, events - done), began_s)
        vectors = model.encode(model.decode([record.value or b"" for record in records]))
        store.upsert(
            Collection.IMAGE, [_entry(record, vector) for record, vector in zip(records, vectors, strict=True)]
        )
        consumer.commit(_after(records), _COMMIT_TIMEOUT_S)
        done += len(records)
    return time.perf_counter() - began_s


def _poll(consumer: Consumer, max_records: int, began_s: float) -> Sequence[Record]:
    """As many records as are wanted, from as many polls as that takes."""
    records: list[Record] = []
    while len(records) < max_records:
        records += consumer.poll(_POLL_S, max_records - len(records)).records
        if not records and time.perf_counter() - began_s > _PATIENCE_S:
            raise UnavailableError(
                f"the loop that is measured was delivered nothing within {_PATIENCE_S:.0f} s: its group did not come "
                "to rest, or the broker is held up. Measure again with nothing else on this machine; if it stays so, "
                "`kafka.log` says why"
            )
    return records


def _after(records: Sequence[Record]) -> dict[Partition, int]:
    """The offsets to commit; records of a partition are in order."""
    positions = [record.position for record in records]
    return {Partition(at.topic, at.partition): at.offset + 1 for at in positions}


def _fetched(data: bytes) -> FetchedMedia:
    nowhere = Position("bench", 0, 0)
    event = Event(AssetRef("default", "bench", ""), nowhere, nowhere, 0, Modality.IMAGE, Inline(b""))
    return FetchedMedia(event, data, "image/jpeg", hashlib.sha256(data).hexdigest(), "")


def _entry(record: Record, vector: Float32) -> Entry:
    asset = AssetRef("default", record.position.topic, (record.key or b"").decode())
    return replace(
        bare_entry(asset, Collection.IMAGE),
        mime="image/jpeg",
        event_time_ms=record.timestamp_ms,
        indexed_at_ms=time.time_ns() // 1_000_000,
        origin=record.position,
        vectors={Field.JOINT: vector},
    )
