"""A part that never answers costs what it would have added, and is named: alone, and all of them together."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from penstock.config import QuerySettings
from penstock.encoders.profiles import load_profile
from penstock.query.pipeline import QueryPipeline
from penstock.query.types import SearchRequest, SearchResult
from penstock.query.understand.rewrite import RewriteError, Rewriting
from penstock.query.understand.understanding import WordTools
from penstock.query.understand.understood import ChatMessage, UnderstandRequest
from penstock.records import Channel, Collection, Field, Float32
from tests.query.conftest import WordEncoder

SMALL = replace(load_profile("small"), passage=load_profile("reference").passage)
LATE = "did not answer within the deadline"
PARTS = ("channel", "encoder", "reranker", "rewriter")
LEXICAL = Channel(Collection.TEXT, Field.LEXICAL)
JOINT = (Channel(Collection.TEXT, Field.JOINT), Channel(Collection.IMAGE, Field.JOINT))


class DeadEncoder(WordEncoder):
    """Never encodes for the images' space, if it is dead."""

    def __init__(self, *, dead: bool) -> None:
        super().__init__()
        self._dead = dead

    async def encode_text(self, role: str, text: str) -> Float32:
        if self._dead and role == "joint.text":
            await asyncio.Event().wait()
        return await super().encode_text(role, text)


class DeadReader:
    """Never scores a passage."""

    reranks_by = "dead"

    def tokens_to_read(self, passages: Sequence[str]) -> Sequence[int]:
        return [1] * len(passages)

    async def score_passages(self, question: str, passages: Sequence[str]) -> Float32:
        await asyncio.Event().wait()
        raise AssertionError


class DeadRewriter:
    """Never rewrites a question, and gives up when its time is over."""

    async def rewrite(self, question: str, messages: Sequence[ChatMessage], *, timeout_s: float) -> Rewriting:
        try:
            async with asyncio.timeout(timeout_s):
                await asyncio.Event().wait()
        except TimeoutError as exc:
            raise RewriteError("the generator did not answer") from exc
        raise AssertionError

    async def close(self) -> None:
        return


def search(store: Any, dead: frozenset[str]) -> SearchResult:
    store.hanging = {LEXICAL} if "channel" in dead else set()

    async def run() -> SearchResult:
        pipeline = QueryPipeline(
            store,
            DeadEncoder(dead="encoder" in dead),
            SMALL,
            QuerySettings(rerank="auto", rewrite_ms=100, max_lag_ms=0),
            reader=DeadReader() if "reranker" in dead else None,
            words=WordTools(rewriter=DeadRewriter() if "rewriter" in dead else None),
        )
        try:
            understand = UnderstandRequest(rewrite=True)
            return await pipeline.search(SearchRequest(text="cat", deadline_ms=1_000, understand=understand))
        finally:
            store.release.set()
            pipeline.close()

    return asyncio.run(run())


@pytest.mark.parametrize(
    "dead",
    [frozenset(), *(frozenset({part}) for part in PARTS), frozenset(PARTS)],
    ids=lambda dead: "+".join(sorted(dead)),
)
def test_dead_parts_are_named_and_the_others_answer(make_store: Any, dead: frozenset[str]) -> None:
    store = make_store(frozenset({LEXICAL, *JOINT, Channel(Collection.TEXT, Field.PASSAGE)}))
    for key in ("cat", "dog"):
        store.add(Collection.TEXT, key)
    result = search(store, dead)
    assert result.hits[0].entry.title == "cat"
    expected = {LEXICAL: LATE} if "channel" in dead else {}
    if "encoder" in dead:
        expected |= dict.fromkeys(JOINT, LATE)
    assert result.missing == expected
    assert result.partial == bool(expected)
    because = " ".join(result.because)
    assert ("was not rewritten: the generator did not answer" in because) == ("rewriter" in dead)
    assert ("Of 2 hits with words 0 were reranked" in because) == ("reranker" in dead)
    if "reranker" in dead:
        assert result.rerank is not None
        assert (result.rerank.model, result.rerank.done, result.rerank.of) == ("dead", 0, 2)
