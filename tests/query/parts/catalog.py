"""A small index in memory, and an encoder for which a word, and the image that shows it, are near to each other."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from penstock.config import QuerySettings, StoreSettings
from penstock.encoders.base import Fingerprint
from penstock.encoders.profiles import Profile, load_profile, role_of
from penstock.query.pipeline import QueryPipeline
from penstock.query.types import SearchRequest, SearchResult
from penstock.records import AssetRef, Collection, Entry, Field, Float32, ImageRegion, Position, bare_entry
from penstock.store.memory import MemoryStore
from penstock.store.spec import index_spec

REFERENCE = load_profile("reference")  # one space for everything
# Texts and images share a space of their own; the sentence encoder has another one.
SMALL = replace(load_profile("small"), passage=REFERENCE.passage)
_NOISE = 0.3


def unit(vector: Float32) -> Float32:
    """Returns the vector, L2-normalised."""
    return np.asarray(vector / np.linalg.norm(vector), dtype=np.float32)


def meaning(text: str, dim: int, encoder: str = "") -> Float32:
    """float32[dim], L2-normalised: the sum of a random vector for each word, and a little that differs by encoder."""
    words = [np.random.default_rng(list(word.encode())).normal(size=dim) for word in text.split()]
    noise = np.random.default_rng(list(f"{encoder} {text}".encode())).normal(size=dim)
    return unit(np.sum(words, axis=0) + (_NOISE * noise if encoder else 0))


class MeaningEncoder:
    """A `QueryEncoder` of meanings. An image is the bytes of its words; a region of it is its first word."""

    def __init__(self, profile: Profile) -> None:
        self._profile = profile

    async def encode_text(self, encoder: str, text: str) -> Float32:
        return self.vector(role_of(encoder), text)

    async def encode_image(self, data: bytes, region: ImageRegion | None) -> Float32:
        words = data.decode()
        return self.vector("joint.image", words if region is None else words.split()[0])

    def vector(self, role: str, text: str) -> Float32:
        """Returns the vector of a text, or of an image that shows it."""
        return meaning(text, self._profile.space(role).dim, role)


class Catalog:
    """An index in memory.

    Args:
        profile: whose channels it has.
    """

    def __init__(self, profile: Profile = REFERENCE) -> None:
        self.profile = profile
        self.encoder = MeaningEncoder(profile)
        self.store = MemoryStore()
        fingerprints = {role: Fingerprint(role, "w", "p") for role in profile.roles}
        self.store.ensure(index_spec(profile, fingerprints, StoreSettings()))

    def add(
        self,
        collection: Collection,
        words: str,
        *,
        key: str = "",
        tenant: str = "default",
        uri: str = "",
        thumbnail: str = "",
    ) -> Entry:
        """Adds an entry whose vectors and text are these words."""
        topic = f"media.{collection}"
        shown = "" if collection in (Collection.IMAGE, Collection.FRAME) else words
        roles = self.profile.vectors[collection]
        entry = replace(
            bare_entry(AssetRef(tenant, topic, key or words), collection),
            title=words,
            text=shown,
            uri=uri,
            thumbnail=thumbnail,
            origin=Position(topic, 0, 0),
            vectors={field: self.encoder.vector(role, words) for field, role in roles.items()},
        )
        self.store.upsert(collection, [entry])
        return entry

    def bare(self, collection: Collection, key: str) -> Entry:
        """Adds an entry without vectors."""
        entry = replace(bare_entry(AssetRef("default", "media", key), collection), origin=Position("media", 0, 0))
        self.store.upsert(collection, [entry])
        return entry

    def search(self, *requests: SearchRequest, images: Any = None, **settings: Any) -> list[SearchResult]:
        """Answers requests one after the other, each by a pipeline of its own: none has seen another question."""

        async def answer(request: SearchRequest) -> SearchResult:
            pipeline = QueryPipeline(self.store, self.encoder, self.profile, QuerySettings(**settings), images=images)
            try:
                return await pipeline.search(request)
            finally:
                pipeline.close()

        return [asyncio.run(answer(request)) for request in requests]


def ids(result: SearchResult) -> Sequence[str]:
    """Returns the ids of the hits."""
    return [hit.entry.id for hit in result.hits]


def joint(entry: Entry) -> Float32:
    """Returns the vector of an image."""
    return entry.vectors[Field.JOINT]
