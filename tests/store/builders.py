"""Entries, asset rows and specs for tests of stores."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from penstock.encoders.base import Fingerprint, Space
from penstock.records import (
    TEXT_COLLECTIONS,
    AssetRef,
    AssetRow,
    Collection,
    Entry,
    Field,
    Float32,
    Outcome,
    Position,
    Version,
    bare_entry,
)
from penstock.store.base import IndexSpec, VectorSpec

DIM = 8


def vector(*numbers: float) -> Float32:
    """float32[DIM], these numbers and zeros, L2-normalised."""
    padded = np.zeros(DIM, dtype=np.float32)
    padded[: len(numbers)] = numbers
    return padded / np.float32(np.linalg.norm(padded))


def spec(
    *,
    model: str = "clip-a",
    weights: str = "aaaa",
    dim: int = DIM,
    version: int = 1,
    shards: int = 2,
    lexical: frozenset[Collection] = TEXT_COLLECTIONS,
) -> IndexSpec:
    """Collections `text` and `image` whose `joint` space is of this model; `passage` is always MiniLM's."""
    joint = VectorSpec(Space(model, dim), Fingerprint(model, weights, "pppp"))
    passage = VectorSpec(Space("minilm", DIM), Fingerprint("minilm", "mmmm", "qqqq"))
    slug = model.replace("-", "_")
    return IndexSpec(
        vectors={Collection.TEXT: {Field.PASSAGE: passage, Field.JOINT: joint}, Collection.IMAGE: {Field.JOINT: joint}},
        model_slug={Collection.TEXT: slug, Collection.IMAGE: slug},
        version=version,
        num_shards=shards,
        lexical=lexical,
    )


def asset(tenant: str = "default", key: str = "k", topic: str = "media.image") -> AssetRef:
    return AssetRef(tenant, topic, key)


def entry(
    of: AssetRef,
    part: int = 0,
    *,
    collection: Collection = Collection.IMAGE,
    joint: Float32 | None = None,
    passage: Float32 | None = None,
    text: str = "",
    title: str = "",
    mime: str = "image/png",
    attributes: str = "{}",
    start_ms: int = 0,
    event_time_ms: int = 1_700_000_000_000,
    offset: int = 7,
) -> Entry:
    """An entry with a `joint` vector, and in `text` a `passage` one."""
    vectors = {Field.JOINT: vector(1) if joint is None else joint}
    if collection is Collection.TEXT:
        vectors[Field.PASSAGE] = vector(1) if passage is None else passage
    return replace(
        bare_entry(of, collection, part),
        title=title,
        text=text,
        uri="asset:00ff",
        mime=mime,
        attributes_json=attributes,
        start_ms=start_ms,
        end_ms=start_ms + 10,
        start_char=3,
        end_char=9,
        event_time_ms=event_time_ms,
        indexed_at_ms=1_700_000_000_500,
        origin=Position(of.topic, 1, offset),
        vectors=vectors,
    )


def asset_row(of: AssetRef, *, offset: int = 7, outcome: Outcome = Outcome.INDEXED, entries: int = 1) -> AssetRow:
    return AssetRow(
        asset=of,
        version=Version(1_700_000_000_000, 1, offset),
        outcome=outcome,
        counts={Collection.IMAGE: entries} if entries else {},
        uri="asset:00ff",
        indexed_at_ms=1_700_000_000_500,
    )
