"""Measures one writer and the store alone: the ceiling of the transport's throughput."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np

from penstock.encoders.profiles import JOINT_IMAGE
from penstock.records import (
    AssetRef,
    ClaimCheck,
    Collection,
    Decoded,
    Encoded,
    Event,
    Field,
    Float32,
    Modality,
    PendingEntry,
    Position,
)
from penstock.store.base import EntryWriter
from penstock.store.writer import Writer, WriteRequest

BATCH = 512  # the largest of ingest's own (ingest.max_batch_events)
_URI = f"asset:{'0' * 64}"


class StoreCeiling:
    """A writer in this process, on collections of its own.

    Args:
        store: whose collections exist and are written to.
        dim: of the image vectors.
    """

    def __init__(self, store: EntryWriter, dim: int) -> None:
        self._writer = Writer(store, wall_ms=lambda: time.time_ns() // 1_000_000)
        self._writer.start(())
        vectors = np.random.default_rng(0).standard_normal((BATCH, dim)).astype(np.float32)
        self._vectors: Float32 = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        self._next = 0

    def per_s(self, events: int) -> float:
        """Returns events per second: rows looked up, entries upserted, asset rows upserted, all of new assets."""
        batches = list(self._batches(events))
        began_s = time.perf_counter()
        for decoded in batches:
            encoded = Encoded(JOINT_IMAGE, self._vectors[: len(decoded.indexable)])
            self._writer.write(WriteRequest("bench", ()), decoded, encoded)
        return events / (time.perf_counter() - began_s)

    def _batches(self, events: int) -> Iterator[Decoded]:
        for start in range(self._next, self._next + events, BATCH):
            chosen = tuple(_event(number) for number in range(start, min(start + BATCH, self._next + events)))
            yield Decoded(chosen, (), tuple(_draft(event, row) for row, event in enumerate(chosen)), ())
        self._next += events


def _event(number: int) -> Event:
    position = Position("bench.store", 0, number)
    asset = AssetRef("bench", position.topic, f"{number:09d}")
    return Event(asset, position, position, number, Modality.IMAGE, ClaimCheck(_URI))


def _draft(event: Event, row: int) -> PendingEntry:
    return PendingEntry(event, Collection.IMAGE, 0, "image/jpeg", _URI, vectors=((Field.JOINT, JOINT_IMAGE, row),))
