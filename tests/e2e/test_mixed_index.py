"""No modality drowns another: 1,000 images and 200 texts in one real index, searched without naming a modality."""

from __future__ import annotations

import asyncio
import io
import itertools
import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from penstock.config import Settings, load_settings
from penstock.encoders.profiles import load_profile
from penstock.ingest.executor.workers import EncodeWorkerFactory, MediaWorkerFactory
from penstock.query.types import Hit, SearchRequest
from penstock.records import AssetRef, Event, Inline, Modality, Position
from penstock.samples.images import Concept, compose, load_concepts
from penstock.samples.texts import sample_texts
from penstock.serve.app import build_query_plane
from penstock.serve.plane import QueryPlane
from penstock.store.milvus.store import MilvusStore
from penstock.store.spec import index_spec
from penstock.store.writer import Writer, WriteRequest
from tests.store.servers import milvus_lite_server

pytestmark = [pytest.mark.services, pytest.mark.exhaustive, pytest.mark.timeout(400)]

PICTURES, TEXTS = 1_000, 200
BATCH = 100
FIRST_SEED = 9_001  # of backgrounds that neither training nor the card's figures have seen


def pictures() -> Iterator[tuple[str, bytes]]:
    concepts = load_concepts()
    for number in range(PICTURES):
        sink = io.BytesIO()
        compose(concepts[number % len(concepts)], FIRST_SEED + number // len(concepts), 128).save(sink, "PNG")
        yield f"{concepts[number % len(concepts)].id}/{number}", sink.getvalue()


def texts() -> Iterator[tuple[str, bytes]]:
    return ((text.key, text.text.encode()) for text in sample_texts()[:TEXTS])


def events(settings: Settings, modality: Modality, media: Iterator[tuple[str, bytes]]) -> Iterator[Event]:
    topic = settings.kafka.topic_of(modality)
    for offset, (key, data) in enumerate(media):
        position = Position(topic, 0, offset)
        yield Event(AssetRef("default", topic, key), position, position, offset, modality, Inline(data))


def fill(settings: Settings, store: MilvusStore) -> None:
    """Through the very workers that the ingest plane hosts."""
    profile = load_profile(settings.profile)
    encoders = {role: EncodeWorkerFactory(settings, role)(0) for role in profile.roles}
    fingerprints = {role: encoder.fingerprint() for role, encoder in encoders.items()}
    store.ensure(index_spec(profile, fingerprints, settings.store))
    media, writer = MediaWorkerFactory(settings)(0), Writer(store, wall_ms=lambda: 0)
    writer.start(())
    for modality, role, source in (
        (Modality.IMAGE, "joint.image", pictures()),
        (Modality.TEXT, "passage.text", texts()),
    ):
        waiting = events(settings, modality, source)
        while batch := list(itertools.islice(waiting, BATCH)):
            decoded, inputs = media.fetch_and_decode(batch, [role])
            writer.write(WriteRequest("test", ()), decoded, encoders[role].encode(inputs))


@pytest.fixture(scope="module")
def plane() -> Iterator[QueryPlane]:
    with tempfile.TemporaryDirectory() as folder, milvus_lite_server() as server:
        settings = load_settings(profile="reference", data_dir=Path(folder), store={"uri": server.uri})
        store = MilvusStore(settings.store)
        fill(settings, store)
        plane = build_query_plane(settings, store)
        try:
            yield plane
        finally:
            plane.close()


def share_found(plane: QueryPlane, queries: Sequence[tuple[str, Callable[[Hit], bool]]]) -> float:
    """Returns the share of queries with a right hit among the first ten."""

    async def ask() -> int:
        hits = 0
        for text, right in queries:
            result = await plane.searches.search(SearchRequest(text=text, limit=10, deadline_ms=10_000))
            assert not result.partial
            hits += any(right(hit) for hit in result.hits)
        return hits

    return asyncio.run(ask()) / len(queries)


def shows(concept: Concept) -> Callable[[Hit], bool]:
    return lambda hit: hit.entry.asset.key.startswith(f"{concept.id}/")


def is_text(key: str) -> Callable[[Hit], bool]:
    return lambda hit: hit.entry.asset.key == key


def test_nine_of_ten_picture_names_find_a_right_picture_among_the_first_ten(plane: QueryPlane) -> None:
    queries = [(concept.name, shows(concept)) for concept in load_concepts()[::4]]
    assert share_found(plane, queries) >= 0.9


def test_nine_of_ten_sentences_find_the_text_they_are_from_among_the_first_ten(plane: QueryPlane) -> None:
    sentences = [
        (sentence, is_text(text.key))
        for text in sample_texts()[:TEXTS]
        for sentence in re.split(r"(?<=[.!?])\s+", text.text)
    ]
    assert share_found(plane, sentences[::4]) >= 0.9
