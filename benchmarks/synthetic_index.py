"""Generates the index and the queries of `bench query`: random words, random vectors."""

from __future__ import annotations

import itertools
import threading
from dataclasses import replace

import numpy as np

from penstock.encoders.profiles import Profile
from penstock.records import (
    DEFAULT_ACL,
    TEXT_COLLECTIONS,
    AssetRef,
    Collection,
    Entry,
    Float32,
    Modality,
    Position,
    bare_entry,
)
from penstock.samples.images import load_concepts
from penstock.store.base import EntryWriter

_SEED = 20_24
_WRITE = 500
_WORDS_OF_PASSAGE, _WORDS_OF_QUESTION = 60, 5


def fill(store: EntryWriter, profile: Profile, entries: int, tenant: str) -> None:
    """Writes entries with random unit vectors; every second one is an image, the others are passages of words."""
    make = _Entries(tenant, profile)
    for start in range(0, entries, _WRITE):
        numbers = range(start, min(entries, start + _WRITE))
        store.upsert(Collection.TEXT, [make.one(Collection.TEXT, number) for number in numbers if number % 2 == 0])
        store.upsert(Collection.IMAGE, [make.one(Collection.IMAGE, number) for number in numbers if number % 2])


class _Entries:
    """Entries as ingest makes them, but for what their vectors and words mean."""

    def __init__(self, tenant: str, profile: Profile) -> None:
        self._tenant = tenant
        self._profile = profile
        self._random = np.random.default_rng(_SEED)
        self._words = sample_words()

    def one(self, collection: Collection, number: int) -> Entry:
        modality = Modality.TEXT if collection is Collection.TEXT else Modality.IMAGE
        asset = AssetRef(self._tenant, f"media.{modality}", f"{number:09d}")
        has_text = collection in TEXT_COLLECTIONS
        spaces = {field: self._profile.space(role) for field, role in self._profile.vectors[collection].items()}
        return replace(
            bare_entry(asset, collection),
            title=f"entry {number}",
            text=" ".join(self._random.choice(self._words, _WORDS_OF_PASSAGE)) if has_text else "",
            mime="text/plain" if has_text else "image/jpeg",
            event_time_ms=number,
            indexed_at_ms=number,
            origin=Position(asset.topic, 0, number),
            acl=DEFAULT_ACL,
            vectors={field: unit_vector(self._random, space.dim) for field, space in spaces.items()},
        )


class QuerySampler:
    """Generates queries that no cache has seen. Safe to use from several threads."""

    def __init__(self) -> None:
        self._random = np.random.default_rng(_SEED + 1)
        self._words = sample_words()
        self._numbers = itertools.count()
        self._lock = threading.Lock()

    def query(self) -> str:
        with self._lock:
            chosen = self._random.choice(self._words, _WORDS_OF_QUESTION)
            return f"{' '.join(chosen)} {next(self._numbers)}"


def sample_words() -> list[str]:
    """Returns the words of passages and questions: those that describe the shipped images."""
    return sorted({word for concept in load_concepts() for word in concept.description.replace(",", " ").split()})


def unit_vector(random: np.random.Generator, dim: int) -> Float32:
    """float32[dim], L2-normalised."""
    vector = random.standard_normal(dim).astype(np.float32)
    unit: Float32 = vector / np.linalg.norm(vector)
    return unit
