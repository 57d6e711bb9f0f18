"""The hits of a small limit are the first of a larger one, with the same scores and the same relevance."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from penstock.config import Normalisation, QuerySettings
from penstock.encoders.profiles import load_profile
from penstock.query.fusion.calibration import QuestionFeatures, RelevanceMap
from penstock.query.fusion.choose import FusionChooser
from penstock.query.fusion.statistics import ChannelStatistics
from penstock.query.pipeline import QueryPipeline
from penstock.query.types import FuseRequest, GroupBy, Hit, SearchRequest
from penstock.records import Channel, Collection, Field, Float32
from tests.query.conftest import FaultyStore, WordEncoder
from tests.query.fusion.test_weighted import CALIBRATION

SMALL = replace(load_profile("small"), passage=load_profile("reference").passage)
CHANNELS = frozenset(
    Channel(*names)
    for names in (
        (Collection.TEXT, Field.PASSAGE),
        (Collection.TEXT, Field.LEXICAL),
        (Collection.IMAGE, Field.JOINT),
        (Collection.FRAME, Field.JOINT),
        (Collection.SPEECH, Field.PASSAGE),
        (Collection.SPEECH, Field.LEXICAL),
    )
)
RELEVANCE = RelevanceMap(0.7, 1.0, QuestionFeatures(0.1, 0.2, 0.1, 0.3, -0.2, 0.5))
FRAME = Channel(Collection.FRAME, Field.JOINT)
CALIBRATED = replace(
    CALIBRATION,
    channels={**CALIBRATION.channels, FRAME: CALIBRATION.channels[Channel(Collection.IMAGE, Field.JOINT)]},
    collections={name: replace(known, relevance=RELEVANCE) for name, known in CALIBRATION.collections.items()},
)
FUSIONS = [None, FuseRequest("rrf"), *(FuseRequest("weighted", name) for name in Normalisation)]


class DigitReader:
    """Scores passages by the sum of their digits."""

    reranks_by = "digits"

    def tokens_to_read(self, passages: Sequence[str]) -> Sequence[int]:
        return [0] * len(passages)

    async def score_passages(self, question: str, passages: Sequence[str]) -> Float32:
        return np.array([sum(map(int, filter(str.isdigit, passage))) for passage in passages], np.float32)


def made_store(seed: int) -> FaultyStore:
    """Returns a store whose words resemble the question to different degrees; videos have clusters of shots."""
    rng = np.random.default_rng(seed)
    store = FaultyStore(CHANNELS)
    for number in range(25):
        store.add(Collection.TEXT, f"word{number}")
        store.add(Collection.IMAGE, f"word{number}")
    add_shots(store, rng, shots=60, words=40)
    return store


def add_shots(store: FaultyStore, rng: np.random.Generator, *, shots: int, words: int) -> None:
    """Adds shots and passages of speech to three videos, in clusters of time."""
    for shot, (asset, start) in enumerate(rng.integers((3, 60), size=(shots, 2)).tolist()):
        times_ms = (2_000 * start, 2_000 * start + 1_999)
        collection = Collection.SPEECH if rng.random() < 0.5 else Collection.FRAME
        store.add(collection, f"word{rng.integers(words)}", asset=f"video-{asset}", part=shot, times_ms=times_ms)


def hits_of(
    store: Any,
    limit: int,
    fuse: FuseRequest | None,
    *,
    calibrated: bool,
    rerank_top: int,
    group_by: GroupBy = GroupBy.MOMENT,
) -> Sequence[Hit]:
    async def run() -> Sequence[Hit]:
        chooser = FusionChooser(ChannelStatistics(), CALIBRATED if calibrated else None)
        chosen = QuerySettings(
            candidates=8,
            max_moment_gap_ms=5_000,
            max_moment_ms=20_000,
            rerank="auto",
            rerank_top=rerank_top or 1,
            rerank_ms=30_000,
            relevance_floor=0.4,
        )
        reader = DigitReader() if rerank_top else None
        pipeline = QueryPipeline(store, WordEncoder(), SMALL, chosen, fusions=chooser, reader=reader)
        try:
            request = SearchRequest(text="word7", limit=limit, fuse=fuse, deadline_ms=60_000, group_by=group_by)
            return (await pipeline.search(request)).hits
        finally:
            pipeline.close()

    return asyncio.run(run())


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    limits=st.tuples(st.integers(1, 80), st.integers(1, 80)),
    options=st.fixed_dictionaries(
        {
            "fuse": st.sampled_from(FUSIONS),
            "calibrated": st.booleans(),
            "rerank_top": st.sampled_from([0, 4, 12]),
            "group_by": st.sampled_from(GroupBy),
        }
    ),
)
def test_the_hits_of_a_smaller_limit_are_the_first_of_a_larger_one(
    seed: int, limits: tuple[int, int], options: dict[str, Any]
) -> None:
    """Eight candidates: most of these limits need deeper searches."""
    calibrated, fuse = options["calibrated"], options["fuse"]
    assume(calibrated or fuse is None or fuse.normalise != Normalisation.LOG_ODDS)
    store = made_store(seed)
    small, large = (hits_of(store, limit, **options) for limit in sorted(limits))
    assert list(small) == list(large)[: len(small)]
    assert len(small) == min(limits) or len(small) == len(large)
    assert all(better.score >= worse.score for better, worse in itertools.pairwise(large))
    assert all((hit.relevance is not None) == calibrated for hit in large)
    ids = [member.entry.id for hit in large for member in (hit.moment.members if hit.moment else ())]
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("limit", [1, 8, 30])
def test_every_channel_is_first_searched_for_the_same_number_of_entries(limit: int) -> None:
    store = made_store(0)
    hits_of(store, limit, None, calibrated=False, rerank_top=0)
    first = {channel: depth for channel, _, depth, _ in reversed(store.calls)}
    assert set(first.values()) == {8}


def test_a_large_limit_is_met_by_deeper_searches_of_every_kind() -> None:
    store = made_store(0)
    hits = hits_of(store, 70, None, calibrated=False, rerank_top=0)
    assert sum(hit.entry.collection is Collection.TEXT for hit in hits) > 20
    assert sum(hit.entry.collection is Collection.IMAGE for hit in hits) > 20
    assert {depth for channel, _, depth, _ in store.calls if channel.collection is Collection.IMAGE} == {8, 32}
