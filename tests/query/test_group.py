"""Tests of what becomes one hit: a moment, an asset or an entry."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.config import QuerySettings
from penstock.errors import QueryError
from penstock.query.group import MAX_OTHERS, entry_ids, group_hits
from penstock.query.pipeline import QueryPipeline
from penstock.query.types import GroupBy, Hit, SearchRequest
from penstock.records import AssetRef, Channel, Collection, Field, Position, bare_entry
from tests.query.conftest import FaultyStore, WordEncoder
from tests.query.test_stages import SMALL

CHANNELS = frozenset(
    Channel(*names)
    for names in (
        (Collection.TEXT, Field.PASSAGE),
        (Collection.FRAME, Field.JOINT),
        (Collection.SPEECH, Field.PASSAGE),
        (Collection.SPEECH, Field.LEXICAL),
    )
)


def search(store: FaultyStore, group_by: str | None, *, limit: int = 50) -> Sequence[Hit]:
    request = SearchRequest(text="heron", group_by=group_by, limit=limit)

    async def run() -> Sequence[Hit]:
        pipeline = QueryPipeline(store, WordEncoder(), SMALL, QuerySettings(max_moment_gap_ms=1_000))  # type: ignore[arg-type]
        try:
            return (await pipeline.search(request)).hits
        finally:
            pipeline.close()

    return asyncio.run(run())


@pytest.fixture
def videos() -> FaultyStore:
    """Two videos with two moments each, the first of three entries; and a text in two passages."""
    store = FaultyStore(CHANNELS)
    for asset in ("first", "second"):
        for part, (collection, word, start_ms) in enumerate(
            [
                (Collection.SPEECH, "heron", 0),
                (Collection.FRAME, "water", 500),
                (Collection.SPEECH, "water", 1_000),
                (Collection.SPEECH, "heron", 60_000),
            ]
        ):
            store.add(collection, word, asset=asset, part=part, times_ms=(start_ms, start_ms + 900))
    for part in range(2):
        store.add(Collection.TEXT, "heron", asset="text", part=part)
    return store


def test_by_moment_entries_close_in_time_are_one_hit_and_passages_are_not(videos: FaultyStore) -> None:
    for group_by in (None, "moment"):
        hits = search(videos, group_by)
        assert sorted(len(hit.moment.members) for hit in hits if hit.moment) == [1, 1, 3, 3]
        assert sum(hit.moment is None for hit in hits) == 2
        assert all(hit.others == () for hit in hits)


def test_by_entry_every_entry_is_a_hit(videos: FaultyStore) -> None:
    hits = search(videos, "entry")
    assert {hit.entry.id for hit in hits} == {entry.id for entry in videos.entries}
    assert len(hits) == len(videos.entries)
    assert all(hit.moment is None or len(hit.moment.members) == 1 for hit in hits)


def test_by_asset_the_best_hit_leads_and_the_others_follow(videos: FaultyStore) -> None:
    hits = search(videos, "asset")
    assert {hit.entry.asset.key for hit in hits} == {"first", "second", "text"}
    assert len(hits) == 3
    assert all(len(hit.others) == 1 and hit.others[0].score <= hit.score for hit in hits)
    assert {hit.entry.asset for hit in hits} == {other.entry.asset for hit in hits for other in hit.others}


def test_the_limit_counts_assets_and_is_met_by_deeper_searches() -> None:
    store = FaultyStore(CHANNELS)
    for part in range(70):
        store.add(Collection.TEXT, "heron", asset="long", part=part)
    for number in range(5):
        store.add(Collection.TEXT, f"water{number}")
    hits = search(store, GroupBy.ASSET, limit=4)
    assert len(hits) == 4
    assert len(hits[0].others) == MAX_OTHERS
    assert {depth for _, _, depth, _ in store.calls} == {50, 200}


def test_an_unknown_group_is_refused(videos: FaultyStore) -> None:
    with pytest.raises(QueryError, match="group_by is 'video'; it can be moment, asset, entry") as refused:
        search(videos, "video")
    assert refused.value.field == "/group_by"


# --- pages of documents ----------------------------------------------------------------------------------------------


def page_hit(collection: Collection, page: int, part: int, *, figure: int = 0, asset: str = "handbook") -> Hit:
    """Returns a hit in a document."""
    entry = bare_entry(AssetRef("default", "media.document", asset), collection, part=part)
    return Hit(replace(entry, page=page, figure=figure), 1.0, ())


PASSAGE, LATER, IMAGE = (
    page_hit(Collection.TEXT, 2, 4),
    page_hit(Collection.TEXT, 2, 5),
    page_hit(Collection.PAGE, 2, 3),
)
FIGURE, ELSEWHERE = page_hit(Collection.PAGE, 2, 9, figure=1), page_hit(Collection.PAGE, 3, 4)


def others_of(hits: Sequence[Hit]) -> list[tuple[str, list[str]]]:
    return [(hit.entry.id, [other.entry.id for other in hit.others]) for hit in hits]


def ids(*hits: Hit) -> list[str]:
    return [hit.entry.id for hit in hits]


def test_the_image_of_a_page_is_no_hit_beside_a_better_passage_of_it() -> None:
    grouped = group_hits([PASSAGE, FIGURE, LATER, IMAGE, ELSEWHERE], GroupBy.MOMENT)
    assert others_of(grouped) == [
        (PASSAGE.entry.id, ids(IMAGE)),
        (FIGURE.entry.id, []),
        (LATER.entry.id, []),
        (ELSEWHERE.entry.id, []),
    ]


def test_a_page_that_is_better_than_its_passages_stands_beside_them() -> None:
    assert others_of(group_hits([IMAGE, PASSAGE], GroupBy.MOMENT)) == [(IMAGE.entry.id, []), (PASSAGE.entry.id, [])]


def test_pages_of_two_versions_of_a_document_are_apart() -> None:
    older = replace(IMAGE, entry=replace(IMAGE.entry, origin=Position("media.document", 0, 3)))
    assert others_of(group_hits([PASSAGE, older], GroupBy.MOMENT)) == [(PASSAGE.entry.id, []), (older.entry.id, [])]


def test_an_image_of_a_page_whose_passage_is_known_is_left_out_of_deeper_hits() -> None:
    assert group_hits([IMAGE, ELSEWHERE, LATER], GroupBy.MOMENT, known=[PASSAGE]) == [ELSEWHERE, LATER]


def test_every_entry_of_a_document_is_a_hit_where_entries_are() -> None:
    hits = [PASSAGE, IMAGE, LATER]
    assert group_hits(hits, GroupBy.ENTRY) == hits
    assert others_of(group_hits(hits, GroupBy.ASSET)) == [(PASSAGE.entry.id, ids(IMAGE, LATER))]


@given(
    st.lists(
        st.tuples(st.booleans(), st.integers(1, 3), st.integers(0, 1), st.sampled_from("ab")),
        max_size=MAX_OTHERS,
        unique=True,
    )
)
def test_no_entry_is_lost_or_doubled_and_the_order_stays(
    drawn: list[tuple[bool, int, int, str]],
) -> None:
    hits = [
        page_hit(
            Collection.TEXT if is_text else Collection.PAGE,
            page,
            place,
            figure=0 if is_text else figure,
            asset=asset,
        )
        for place, (is_text, page, figure, asset) in enumerate(drawn)
    ]
    for group_by in GroupBy:
        grouped = group_hits(hits, group_by)
        assert sorted(id_ for hit in grouped for id_ in entry_ids(hit)) == sorted(ids(*hits))
        places = [ids(*hits).index(hit.entry.id) for hit in grouped]
        assert places == sorted(places)
        shorter = group_hits(hits[: len(hits) // 2], group_by)
        assert ids(*grouped)[: len(shorter)] == ids(*shorter)
