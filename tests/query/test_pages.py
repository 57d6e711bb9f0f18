"""Pages neither repeat nor skip a hit, whichever replica answers, and cursors are checked as input of a stranger."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from penstock.config import Normalisation, QuerySettings
from penstock.errors import QueryError
from penstock.query.cursor import Cursor, decode_cursor, encode_cursor
from penstock.query.fusion.choose import FusionChooser
from penstock.query.fusion.pins import FusionPins
from penstock.query.fusion.statistics import ChannelStatistics, ScoreSums, Spread
from penstock.query.pipeline import QueryPipeline
from penstock.query.types import GroupBy, Hit, SearchRequest, SearchResult
from penstock.records import Access, Channel, Collection, Field
from penstock.store.filters import Comparison
from tests.query.conftest import FaultyStore, WordEncoder
from tests.query.test_stages import CALIBRATED, CHANNELS, FUSIONS, SMALL, DigitReader, add_shots

TEXT_ONLY = frozenset({Channel(Collection.TEXT, Field.PASSAGE)})


def made_store(seed: int) -> FaultyStore:
    """Returns a store with several entries of each word, whose scores are equal, and videos with clusters of shots."""
    rng = np.random.default_rng(seed)
    store = FaultyStore(CHANNELS)
    for number in range(20):
        store.add(Collection.TEXT, f"word{number % 12}", asset=f"text-{number % 9}", part=number)
        store.add(Collection.IMAGE, f"word{number % 5}", asset=f"image-{number}")
    add_shots(store, rng, shots=50, words=12)
    return store


def search(
    store: FaultyStore,
    request: SearchRequest,
    *,
    calibrated: bool = False,
    rerank_top: int = 0,
    max_paged_hits: int = 1_000,
    blocks: Any = None,
) -> SearchResult:
    """Searches in a replica of its own. `blocks` are the statistics of the questions that it answered before."""

    async def run() -> SearchResult:
        chooser = FusionChooser(ChannelStatistics(blocks), CALIBRATED if calibrated else None)
        chosen = QuerySettings(
            candidates=8,
            max_moment_gap_ms=5_000,
            max_moment_ms=20_000,
            rerank="auto",
            rerank_top=rerank_top or 1,
            rerank_ms=30_000,
            max_paged_hits=max_paged_hits,
        )
        reader = DigitReader() if rerank_top else None
        pipeline = QueryPipeline(store, WordEncoder(), SMALL, chosen, fusions=chooser, reader=reader)  # type: ignore[arg-type]
        try:
            return await pipeline.search(replace(request, deadline_ms=60_000))
        finally:
            pipeline.close()

    return asyncio.run(run())


def busy_statistics(seed: int) -> dict[str, list[ScoreSums]]:
    """Returns the statistics of a replica that answered other questions."""
    rng = np.random.default_rng(seed)
    names = [str(channel) for channel in CHANNELS] + [
        f"{channel} by {encoder}" for channel in CHANNELS for encoder in ("passage.text", "joint.text")
    ]
    return {name: [ScoreSums(9, 80, 80 * mean, 80 * (mean**2 + 0.1))] for name in names for mean in [rng.random()]}


@settings(max_examples=50, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    limits=st.lists(st.integers(1, 25), min_size=2, max_size=4),
    options=st.fixed_dictionaries({"calibrated": st.booleans(), "rerank_top": st.sampled_from([0, 12])}),
    request=st.builds(
        SearchRequest,
        text=st.just("word7"),
        fuse=st.sampled_from(FUSIONS),
        group_by=st.sampled_from(GroupBy),
        diversify=st.sampled_from([None, 0.0, 0.4, 0.9]),
    ),
)
def test_all_pages_together_are_one_large_page_although_each_is_of_another_replica(
    seed: int, limits: list[int], options: dict[str, Any], request: SearchRequest
) -> None:
    log_odds = request.fuse is not None and request.fuse.normalise == Normalisation.LOG_ODDS
    assume(options["calibrated"] or not log_odds)
    store = made_store(seed)
    page = search(store, replace(request, limit=limits[0]), **options)
    hits = list(page.hits)
    for number, limit in enumerate(limits[1:]):
        if page.next_cursor is None:
            break
        further = replace(request, limit=limit, cursor=page.next_cursor)
        page = search(store, further, blocks=busy_statistics(seed + number), **options)
        assert not page.changed
        assert len(page.hits) <= limit
        hits += page.hits
    large = search(store, replace(request, limit=100), **options)
    assert hits == list(large.hits)[: len(hits)]
    if page.next_cursor is None:
        assert len(hits) == len(large.hits)
        assert large.next_cursor is None


def words(hits: Sequence[Hit]) -> list[str]:
    return [hit.entry.asset.key for hit in hits]


@pytest.fixture
def texts() -> FaultyStore:
    store = FaultyStore(TEXT_ONLY)
    for number in range(30):
        store.add(Collection.TEXT, f"word{number}")
    return store


def test_a_new_hit_above_the_pages_before_comes_next_and_none_is_repeated(texts: FaultyStore) -> None:
    first = search(texts, SearchRequest(text="heron", limit=5))
    texts.add(Collection.TEXT, "heron")
    second = search(texts, SearchRequest(text="heron", limit=5, cursor=first.next_cursor))
    assert second.changed
    assert words(second.hits)[0] == "heron"
    assert not set(words(first.hits)) & set(words(second.hits))
    third = search(texts, SearchRequest(text="heron", limit=5, cursor=second.next_cursor))
    assert not third.changed
    assert not set(words(third.hits)) & set(words([*first.hits, *second.hits]))


def test_a_new_hit_below_the_pages_before_changes_nothing(texts: FaultyStore) -> None:
    texts.add(Collection.TEXT, "heron")
    first = search(texts, SearchRequest(text="heron", limit=1))
    texts.add(Collection.TEXT, "another")
    assert not search(texts, SearchRequest(text="heron", limit=5, cursor=first.next_cursor)).changed


def test_a_hit_that_is_gone_is_a_change_and_skips_none(texts: FaultyStore) -> None:
    everything = words(search(texts, SearchRequest(text="heron", limit=30)).hits)
    first = search(texts, SearchRequest(text="heron", limit=5))
    del texts.entries[[entry.text for entry in texts.entries].index(everything[2])]
    second = search(texts, SearchRequest(text="heron", limit=5, cursor=first.next_cursor))
    assert second.changed
    assert words(second.hits) == everything[5:10]


def test_pages_go_on_over_hits_that_min_relevance_cuts() -> None:
    store = made_store(3)
    request = SearchRequest(text="word7", limit=6, min_relevance=0.6)
    large = search(store, replace(request, limit=100), calibrated=True)
    hits: list[Hit] = []
    cursor = None
    for _ in range(40):
        page = search(store, replace(request, cursor=cursor), calibrated=True)
        hits += page.hits
        cursor = page.next_cursor
        if cursor is None:
            break
    assert cursor is None
    assert hits == list(large.hits)
    assert 0 < len(hits) < 40


def test_pages_end_after_the_most_hits_and_say_so(texts: FaultyStore) -> None:
    first = search(texts, SearchRequest(text="heron", limit=5), max_paged_hits=8)
    second = search(texts, SearchRequest(text="heron", limit=5, cursor=first.next_cursor), max_paged_hits=8)
    assert (len(first.hits), len(second.hits)) == (5, 3)
    assert second.next_cursor is None
    assert "Pages end after 8 hits (query.max_paged_hits)" in second.notices[-1]


def test_the_last_page_has_no_cursor_and_no_notice(texts: FaultyStore) -> None:
    last = search(texts, SearchRequest(text="heron", limit=30))
    assert last.next_cursor is None
    assert last.notices == ()


@pytest.mark.parametrize(
    "other",
    [
        {"text": "herons"},
        {"access": Access.to_all_of("another")},
        {"group_by": "entry"},
        {"modalities": ["text"]},
        {"where": Comparison("title", "eq", "word1")},
        {"min_relevance": 0.5},
        {"diversify": 0.5},
    ],
    ids=lambda other: next(iter(other)),
)
def test_a_cursor_of_another_request_is_refused(texts: FaultyStore, other: dict[str, Any]) -> None:
    request = SearchRequest(text="heron", limit=5)
    cursor = search(texts, request, calibrated=True).next_cursor
    with pytest.raises(QueryError, match="cursor belongs to another request") as refused:
        search(texts, replace(request, cursor=cursor, **other), calibrated=True)
    assert (refused.value.status, refused.value.field) == (400, "/cursor")


def test_a_cursor_of_other_models_is_gone(texts: FaultyStore) -> None:
    request = SearchRequest(text="heron", limit=5)
    cursor = search(texts, request, calibrated=True).next_cursor
    with pytest.raises(QueryError, match="other models, another calibration or other adapters") as refused:
        search(texts, replace(request, cursor=cursor), calibrated=False)
    assert refused.value.status == 410


CURSOR = Cursor(
    b"request-", b"plane---", (b"hit-01", b"hit-02"), FusionPins({"text.lexical": Spread(0.25, 1e-3)}, "text"), 7
)


def test_a_cursor_is_read_as_it_was_written() -> None:
    read = decode_cursor(encode_cursor(CURSOR), max_hits=10)
    assert (read.request, read.plane, read.shown) == (CURSOR.request, CURSOR.plane, CURSOR.shown)
    assert read.index_version == 7
    assert (read.pins.spreads, read.pins.first, read.pins.noted) == (CURSOR.pins.spreads, "text", True)


@settings(max_examples=200)
@given(place=st.integers(0, 200), letter=st.sampled_from("ABCxyz019-_=.é "))
def test_a_changed_letter_is_refused(place: int, letter: str) -> None:
    text = encode_cursor(CURSOR)
    place %= len(text)
    changed = text[:place] + letter + text[place + 1 :]
    assume(changed != text)
    with pytest.raises(QueryError, match="damaged") as refused:
        decode_cursor(changed, max_hits=10)
    assert (refused.value.status, refused.value.field) == (400, "/cursor")


def sealed(content: bytes) -> str:
    """Returns the content with a right checksum, as a forger would."""
    checksum = hashlib.blake2b(content, digest_size=8, person=b"pst-cursor").digest()
    return base64.urlsafe_b64encode(checksum + content).rstrip(b"=").decode()


HEAD = b"\x02" + b"r" * 8 + b"p" * 8 + b"\x00\x00\x00\x01"


@pytest.mark.parametrize(
    "content",
    [
        b"\x02",
        HEAD + b"\xff\xff",
        HEAD + b"\x00\x00",
        HEAD + b"\x00\x00[]",
        HEAD + b'\x00\x00{"spreads":{},"first":3}',
        HEAD + b'\x00\x00{"spreads":{"a":[1]},"first":null}',
        HEAD + b'\x00\x00{"spreads":{"a":[1,-1]},"first":null}',
        HEAD + b'\x00\x00{"spreads":{"a":[NaN,1]},"first":null}',
        HEAD + b'\x00\x00{"spreads":{"a":[1e999,1]},"first":null}',
        HEAD + b'\x00\x00{"spreads":{"a":[1%s,1]},"first":null}' % (b"0" * 400),
        HEAD + b"\x00\x00" + b"[" * 4_000,
        HEAD + b"\x00\x00" + b" " * 100_000,
    ],
)
def test_a_forged_cursor_is_refused(content: bytes) -> None:
    with pytest.raises(QueryError, match="damaged"):
        decode_cursor(sealed(content), max_hits=10)


def test_a_cursor_of_another_version_is_gone() -> None:
    with pytest.raises(QueryError, match="another version of Penstock") as refused:
        decode_cursor(sealed(b"\x01whatever"), max_hits=10)
    assert refused.value.status == 410


@pytest.mark.parametrize("text", ["", "A", "heron", "====", "Ω" * 20])
def test_what_is_no_cursor_is_refused(text: str) -> None:
    with pytest.raises(QueryError, match="damaged"):
        decode_cursor(text, max_hits=10)


def test_a_page_follows_where_the_first_search_returned_all_there_is() -> None:
    store = FaultyStore(TEXT_ONLY)
    for number in range(6):
        store.add(Collection.TEXT, f"word{number}")
    first = search(store, SearchRequest(text="word0", limit=4))
    second = search(store, SearchRequest(text="word0", limit=4, cursor=first.next_cursor))
    assert first.next_cursor is not None
    assert (len(first.hits), len(second.hits), second.next_cursor) == (4, 2, None)
