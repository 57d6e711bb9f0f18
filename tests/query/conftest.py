"""A store whose channels fail or hang as a test sets them, and an encoder that knows a few words."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from penstock.records import (
    Access,
    AssetRef,
    Channel,
    Checkpoint,
    Collection,
    Entry,
    Field,
    Float32,
    ImageRegion,
    Position,
    ScoredEntry,
    bare_entry,
)
from penstock.store.base import EntryQuery

DIM = 8
TEXT_AND_IMAGE = frozenset(
    Channel(*names)
    for names in (
        (Collection.TEXT, Field.PASSAGE),
        (Collection.TEXT, Field.JOINT),
        (Collection.TEXT, Field.LEXICAL),
        (Collection.IMAGE, Field.JOINT),
    )
)


def word_vector(word: str) -> Float32:
    """float32[DIM], L2-normalised: the same for the same word."""
    vector = np.random.default_rng(list(word.encode())).normal(size=DIM).astype(np.float32)
    return vector / np.float32(np.linalg.norm(vector))


class FaultyStore:
    """Entries in a list. A channel can raise, or hang until it is released.

    Attributes:
        failing: the exception that a channel raises instead of answering.
        hanging: channels that answer only after `release` is set.
        entered: set as soon as a call hangs.
        calls: (channel, tenant, limit, timeout_s) of every search.
        failing_vectors: the exception that `vectors` raises.
        stored_checkpoints: of media that are still being indexed; an exception is raised.
    """

    def __init__(self, channels: frozenset[Channel] = TEXT_AND_IMAGE) -> None:
        self._channels = channels
        self.entries: list[Entry] = []
        self.failing: dict[Channel, Exception] = {}
        self.hanging: set[Channel] = set()
        self.release = threading.Event()
        self.entered = threading.Event()
        self.calls: list[tuple[Channel, str, int, float]] = []
        self.stored_checkpoints: dict[str, Checkpoint] | Exception = {}
        self.failing_vectors: Exception | None = None

    def checkpoints(self, asset_ids: Sequence[str]) -> dict[str, Checkpoint]:
        if isinstance(self.stored_checkpoints, Exception):
            raise self.stored_checkpoints
        return {key: self.stored_checkpoints[key] for key in asset_ids if key in self.stored_checkpoints}

    def vectors(
        self, channel: Channel, ids: Sequence[str], *, access: Access, timeout_s: float
    ) -> Mapping[str, Float32]:
        if self.failing_vectors is not None:
            raise self.failing_vectors
        of_tenant = [entry for entry in self.entries if entry.asset.tenant == access.tenant and entry.id in ids]
        return {entry.id: word_vector(entry.text) for entry in of_tenant if entry.collection is channel.collection}

    def assets_in(self, collection: Collection, access: Access) -> int:
        of_tenant = [entry for entry in self.entries if entry.asset.tenant == access.tenant]
        return sum(entry.collection is collection and entry.part == 0 for entry in of_tenant)

    def channels(self) -> frozenset[Channel]:
        return self._channels

    def add(
        self,
        collection: Collection,
        key: str,
        *,
        tenant: str = "default",
        asset: str | None = None,
        part: int = 0,
        times_ms: tuple[int, int] = (0, 0),
    ) -> Entry:
        """Adds an entry whose vectors and text are its key, one word. If an asset is named, it is a video."""
        topic = f"media.{collection}" if asset is None else "media.video"
        ref = AssetRef(tenant, topic, asset or key)
        entry = replace(
            bare_entry(ref, collection, part),
            title=key,
            text=key,
            mime="text/plain",
            start_ms=times_ms[0],
            end_ms=times_ms[1],
            origin=Position(topic, 0, 0 if asset else len(self.entries)),
        )
        self.entries.append(entry)
        return entry

    def search(self, query: EntryQuery) -> Sequence[ScoredEntry]:
        channel = query.channel
        self.calls.append((channel, query.access.tenant, query.limit, query.timeout_s))
        if channel in self.hanging:
            self.entered.set()
            self.release.wait(30)
        if channel in self.failing:
            raise self.failing[channel]
        scored = [
            ScoredEntry(entry, self._score(entry, query.content))
            for entry in self.entries
            if entry.collection is channel.collection and entry.asset.tenant == query.access.tenant
        ]
        matching = [result for result in scored if result.score > 0 or not isinstance(query.content, str)]
        return sorted(matching, key=lambda result: -result.score)[: query.limit]

    def _score(self, entry: Entry, query: Float32 | str) -> float:
        if isinstance(query, str):
            return float(entry.text in query.split())
        return float(word_vector(entry.text) @ query)


class WordEncoder:
    """A `QueryEncoder`: text by `word_vector`, an image by the word that its bytes spell."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str]] = []
        self.failing: dict[str, Exception] = {}

    async def encode_text(self, role: str, text: str) -> Float32:
        return self._vector(role, text)

    async def encode_image(self, data: bytes, region: ImageRegion | None) -> Float32:
        return self._vector("joint.image", data.decode())

    def _vector(self, role: str, word: str) -> Float32:
        self.calls.append((role, word))
        if role in self.failing:
            raise self.failing[role]
        return word_vector(word)


@pytest.fixture
def store() -> Iterator[FaultyStore]:
    faulty = FaultyStore()
    yield faulty
    faulty.release.set()


@pytest.fixture
def make_store() -> Iterator[Any]:
    """Returns a function that makes stores with these channels. All are released at the end."""
    stores: list[FaultyStore] = []

    def make(channels: frozenset[Channel]) -> FaultyStore:
        stores.append(FaultyStore(channels))
        return stores[-1]

    yield make
    for faulty in stores:
        faulty.release.set()


@pytest.fixture
def encoder() -> WordEncoder:
    return WordEncoder()
