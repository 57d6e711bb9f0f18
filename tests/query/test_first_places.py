"""The first places of an index of texts and images, through the pipeline and a store in memory.

Every image resembles every question a little, as in real joint spaces, and images have one channel where texts have
three. Neither may decide which kind is first.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from penstock.config import QuerySettings, StoreSettings
from penstock.encoders.base import Fingerprint
from penstock.query.fusion.calibration import (
    Calibration,
    ChannelCalibration,
    CollectionCalibration,
    LogisticMap,
    Provenance,
    QuestionFeatures,
    RelevanceMap,
)
from penstock.query.fusion.choose import FusionChooser
from penstock.query.fusion.statistics import ChannelStatistics
from penstock.query.pipeline import QueryPipeline
from penstock.query.types import Hit, SearchRequest
from penstock.records import Access, Channel, Collection, Field, Float32, ImageRegion
from penstock.store.filters import Comparison
from penstock.store.memory import MemoryStore
from penstock.store.spec import index_spec
from tests.serve.sample_index import PROFILE, entry

THINGS = 200
DIM = 32
RANDOM = np.random.default_rng(7)
MEANINGS = RANDOM.normal(size=(THINGS, DIM))
NOISE = RANDOM.normal(size=(THINGS, DIM))
GAP = 6 * RANDOM.normal(size=DIM) / np.sqrt(DIM)
"""Shared by all images and by all questions to the joint encoder."""


def unit(vector: np.ndarray) -> Float32:
    return (vector / np.linalg.norm(vector)).astype(np.float32)


class ThingEncoder:
    """A `QueryEncoder` of questions that are the number of a thing."""

    async def encode_text(self, encoder: str, text: str) -> Float32:
        meaning = MEANINGS[int(text)]
        return unit(meaning + GAP if encoder.startswith("joint") else meaning)

    async def encode_image(self, data: bytes, region: ImageRegion | None) -> Float32:
        raise NotImplementedError


@pytest.fixture
def store() -> MemoryStore:
    """Returns an index with a text about each even thing and an image of each odd one."""
    memory = MemoryStore()
    fingerprint = Fingerprint("things", "0" * 16, "0" * 16)
    memory.ensure(
        index_spec(PROFILE, dict.fromkeys(("joint.image", "joint.text", "passage.text"), fingerprint), StoreSettings())
    )
    for thing in range(0, THINGS, 2):
        vector = unit(MEANINGS[thing] + 0.7 * NOISE[thing])
        vectors = {Field.PASSAGE: vector, Field.JOINT: vector}
        memory.upsert(Collection.TEXT, [entry(Collection.TEXT, str(thing), text="a thing", vectors=vectors)])
    for thing in range(1, THINGS, 2):
        vectors = {Field.JOINT: unit(MEANINGS[thing] + 0.7 * NOISE[thing] + GAP)}
        memory.upsert(Collection.IMAGE, [entry(Collection.IMAGE, str(thing), vectors=vectors)])
    return memory


def first_hits(store: MemoryStore, **settings: object) -> list[tuple[Collection, bool]]:
    """Returns kind and thing of the first hit for a question about each thing, in the order of a shuffle."""

    async def run() -> list[tuple[Collection, bool]]:
        pipeline = QueryPipeline(store, ThingEncoder(), PROFILE, QuerySettings(**settings))  # type: ignore[arg-type]
        firsts = []
        for thing in np.random.default_rng(1).permutation(THINGS):
            (hit,) = (await pipeline.search(SearchRequest(text=str(thing), limit=1, deadline_ms=60_000))).hits
            firsts.append((hit.entry.collection, int(hit.entry.title) == thing))
        pipeline.close()
        return firsts

    return asyncio.run(run())


def test_of_200_questions_texts_and_images_are_first_as_often_as_they_are_right(store: MemoryStore) -> None:
    firsts = first_hits(store)
    kinds = Counter(kind for kind, _ in firsts)
    assert len(firsts) == 200
    assert set(kinds) == {Collection.TEXT, Collection.IMAGE}
    assert all(80 <= count <= 120 for count in kinds.values()), kinds
    assert sum(right for _, right in firsts) >= 180
    assert sum(right for _, right in firsts[:10]) >= 8, "the first questions of a fresh index have no statistics yet"


def test_by_ranks_one_kind_is_always_first(store: MemoryStore) -> None:
    """The reason for which ranks are not the default."""
    assert len({kind for kind, _ in first_hits(store, fusion="rrf")}) == 1


# The best text of every question is somewhat more relevant than the best image: the encoder of images is poor.
_POOR_IMAGES = Calibration(
    {
        Channel(collection, field): ChannelCalibration(LogisticMap(3.0, intercept), -6.0, 0.3, 0.1, "", "")
        for collection, field, intercept in (
            (Collection.TEXT, Field.PASSAGE, -4.0),
            (Collection.TEXT, Field.JOINT, -4.0),
            (Collection.TEXT, Field.LEXICAL, -4.0),
            (Collection.IMAGE, Field.JOINT, -6.0),
        )
    },
    {
        collection: CollectionCalibration(-6.0, relevance=RelevanceMap(0.3, intercept, QuestionFeatures()))
        for collection, intercept in ((Collection.TEXT, -2.0), (Collection.IMAGE, -1.2))
    },
    Provenance({}, 100, 0, "reference"),
)


def calibrated_hits(store: MemoryStore, request: SearchRequest, **settings: object) -> list[Hit]:
    """Returns the first hits for questions about some things, after one that has the shares counted."""
    request = replace(request, limit=3, deadline_ms=60_000)

    async def run() -> list[Hit]:
        pipeline = QueryPipeline(
            store,
            ThingEncoder(),
            PROFILE,
            QuerySettings(**settings),
            fusions=FusionChooser(ChannelStatistics(), _POOR_IMAGES),
        )
        await pipeline.search(replace(request, text="0", where=None))
        await asyncio.gather(*(asyncio.all_tasks() - {asyncio.current_task()}))
        hits = []
        for thing in np.random.default_rng(1).permutation(THINGS)[:60]:
            answer = await pipeline.search(replace(request, text=str(thing)))
            hits.append(answer.hits[0])
        pipeline.close()
        return hits

    return asyncio.run(run())


def test_a_poorly_found_kind_is_first_about_as_often_as_it_is_in_the_index(store: MemoryStore) -> None:
    hits = calibrated_hits(store, SearchRequest())
    images = [hit for hit in hits if hit.entry.collection is Collection.IMAGE]
    assert 16 <= len(images) <= 36
    assert sum(hit.promoted for hit in images) > 12, "few of them are the most relevant hit"
    assert not any(hit.promoted for hit in hits if hit.entry.collection is Collection.TEXT)


@pytest.mark.parametrize(
    ("request_", "settings"),
    [
        (SearchRequest(), {"first_places": "relevance"}),
        (SearchRequest(where=Comparison("part", "lt", 1)), {}),
        (SearchRequest(access=Access.to_all_of("default"), modalities=("text",)), {}),
    ],
)
def test_relevance_alone_decides_by_setting_with_a_filter_and_among_one_kind(
    store: MemoryStore, request_: SearchRequest, settings: dict[str, object]
) -> None:
    hits = calibrated_hits(store, request_, **settings)
    assert {hit.entry.collection for hit in hits} == {Collection.TEXT}
