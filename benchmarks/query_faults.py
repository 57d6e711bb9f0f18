"""`penstock bench faults`: whether searches keep their deadlines with dead parts, and reranking its budget.

The query plane runs in this process, with the encoders of the profile, over synthetic entries in memory. Dead parts
accept work and never answer: a channel of the store, the encoder of questions, the reranking model, and a generator
behind a real socket.
"""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, cast

from benchmarks.host_info import machine_facts
from benchmarks.statistics import quantile
from benchmarks.synthetic_index import QuerySampler, fill
from penstock.analysis.language_detector import load_detector
from penstock.config import GenerateSettings, ImageSettings, QuerySettings, StoreSettings
from penstock.encoders.base import Encoder, TokenEncoder
from penstock.encoders.load import load_encoders
from penstock.encoders.maxsim import MaxSimScorer, TokenVectorCache
from penstock.encoders.profiles import PASSAGE_TEXT, Profile, load_profile
from penstock.errors import PenstockError
from penstock.query.embed import BatchingQueryEncoder
from penstock.query.options import RerankRequest
from penstock.query.pipeline import QueryPipeline
from penstock.query.types import SearchRequest, SearchResult
from penstock.query.understand.image import query_image_decoder
from penstock.query.understand.rewrite import GeneratorRewriter
from penstock.query.understand.understanding import WordTools
from penstock.query.understand.understood import UnderstandRequest
from penstock.records import Channel, Collection, Field, Float32, ImageRegion, ScoredEntry
from penstock.serve.app import warm_up
from penstock.store.base import EntryQuery
from penstock.store.memory import MemoryStore
from penstock.store.spec import index_spec

PARTS = ("channel", "encoder", "reranker", "rewriter")
ALLOWED_MS = 20.0
ALLOWED_FACTOR = 1.2
_TENANT = "default"
_DEAD_CHANNEL = Channel(Collection.TEXT, Field.PASSAGE)


@dataclass(frozen=True, slots=True)
class FaultsPlan:
    """The load of one run.

    Attributes:
        profile: its encoders.
        entries: in the index, half of them texts.
        searches: of each measurement.
        deadline_ms: with dead parts.
        budget_ms: of reranking.
        clients: concurrent searches, by measurement of reranking.
    """

    profile: str = "reference"
    entries: int = 400
    searches: int = 200
    deadline_ms: int = 50
    budget_ms: int = 50
    clients: Sequence[int] = (1, 8)


def bench_faults(plan: FaultsPlan, say: Callable[[str], None]) -> dict[str, Any]:
    """Searches with each dead part and with all of them, then with reranking at each number of clients."""
    profile = load_profile(plan.profile)
    say(f"loading the encoders of {plan.profile} and writing {plan.entries} entries")
    load_detector()
    encoders = load_encoders(profile, cache_size=0)
    warm_up(encoders, profile)
    store = _FaultyStore()
    store.ensure(
        index_spec(profile, {role: of_role.fingerprint for role, of_role in encoders.items()}, StoreSettings())
    )
    fill(store, profile, plan.entries, _TENANT)
    plane = _Plane(profile, encoders, store)
    dead_parts = [frozenset[str](), *(frozenset({part}) for part in PARTS), frozenset(PARTS)]
    return {
        "machine": machine_facts(),
        "plan": asdict(plan),
        "faults": [_faults_row(plane, plan, dead) for dead in dead_parts],
        "rerank": [_rerank_row(plane, plan, clients) for clients in plan.clients],
    }


# --- dead parts ------------------------------------------------------------------------------------------------------


def _faults_row(plane: _Plane, plan: FaultsPlan, dead: frozenset[str]) -> dict[str, Any]:
    """Returns the times of searches one after the other, and how many answers name every dead part."""
    questions = QuerySampler()
    request = SearchRequest(
        text="",
        deadline_ms=plan.deadline_ms,
        rerank=RerankRequest("auto", budget_ms=plan.budget_ms),
        understand=UnderstandRequest(rewrite=True),
    )
    took_ms: list[float] = []
    named = partial = unanswered = 0

    async def run(pipeline: QueryPipeline) -> None:
        nonlocal named, partial, unanswered
        await _search(pipeline, request, questions)  # lists the channels of the store
        for _ in range(plan.searches):
            ms, result = await _search(pipeline, request, questions)
            took_ms.append(ms)
            if result is None:
                unanswered += 1
                continue
            partial += result.partial
            named += dead <= _named(result)

    with plane.pipeline(dead) as pipeline:
        asyncio.run(run(pipeline))
    within = [ms <= plan.deadline_ms + ALLOWED_MS for ms in took_ms]
    return {
        "dead": "+".join(part for part in PARTS if part in dead) or "none",
        "p50_ms": quantile(took_ms, 0.5),
        "p99_ms": quantile(took_ms, 0.99),
        "max_ms": max(took_ms),
        "within_share": sum(within) / len(within),
        "named_share": named / len(took_ms),
        "partial_share": partial / len(took_ms),
        "unanswered": unanswered,
    }


def _named(result: SearchResult) -> set[str]:
    """Returns the dead parts that an answer names."""
    because = " ".join(result.because)
    names = {"channel"} if _DEAD_CHANNEL in result.missing else set()
    if Channel(Collection.IMAGE, Field.JOINT) in result.missing:
        names.add("encoder")
    if "were reranked within" in because:
        names.add("reranker")
    if "was not rewritten" in because:
        names.add("rewriter")
    return names


# --- the budget of reranking -----------------------------------------------------------------------------------------


def _rerank_row(plane: _Plane, plan: FaultsPlan, clients: int) -> dict[str, Any]:
    """Returns how well concurrent searches keep the budget, without a cache of token vectors."""
    questions = QuerySampler()
    request = SearchRequest(text="", deadline_ms=30_000, rerank=RerankRequest("auto", plan.budget_ms, top=50))
    results: list[SearchResult] = []

    async def client(pipeline: QueryPipeline, searches: int) -> None:
        for _ in range(searches):
            _, result = await _search(pipeline, request, questions)
            if result is not None:
                results.append(result)

    async def run(pipeline: QueryPipeline) -> None:
        await _search(pipeline, request, questions)
        await asyncio.gather(*(client(pipeline, plan.searches // clients) for _ in range(clients)))

    with plane.pipeline(frozenset()) as pipeline:
        asyncio.run(run(pipeline))
    reports = [result.rerank for result in results if result.rerank is not None]
    wall_ms = [report.ms for report in reports]
    return {
        "clients": clients,
        "searches": len(wall_ms),
        "budget_ms": plan.budget_ms,
        "p50_ms": quantile(wall_ms, 0.5),
        "p99_ms": quantile(wall_ms, 0.99),
        "max_ms": max(wall_ms),
        "within_share": sum(ms <= plan.budget_ms * ALLOWED_FACTOR for ms in wall_ms) / len(wall_ms),
        "read_share": sum(report.done for report in reports) / max(1, sum(report.of for report in reports)),
    }


async def _search(
    pipeline: QueryPipeline, request: SearchRequest, questions: QuerySampler
) -> tuple[float, SearchResult | None]:
    """Returns the milliseconds of one search and its answer; None if it had none."""
    request_of_turn = SearchRequest(
        text=questions.query(), deadline_ms=request.deadline_ms, rerank=request.rerank, understand=request.understand
    )
    began_s = time.perf_counter()
    try:
        result: SearchResult | None = await pipeline.search(request_of_turn)
    except PenstockError:
        result = None
    return (time.perf_counter() - began_s) * 1000, result


# --- the plane -------------------------------------------------------------------------------------------------------


class _FaultyStore(MemoryStore):
    """A store in memory, of which a channel answers only at the timeout of its call while it is dead."""

    dead: Channel | None = None

    def search(self, query: EntryQuery) -> Sequence[ScoredEntry]:
        if query.channel == self.dead:
            threading.Event().wait(query.timeout_s)
            raise TimeoutError
        return super().search(query)


class _DeadEncoder:
    """Encodes no question."""

    async def encode_text(self, encoder: str, text: str) -> Float32:
        await asyncio.Event().wait()
        raise AssertionError

    async def encode_image(self, data: bytes, region: ImageRegion | None = None) -> Float32:
        return await self.encode_text("", "")


class _DeadReader:
    """Scores no passage."""

    reranks_by = "dead"

    def tokens_to_read(self, passages: Sequence[str]) -> Sequence[int]:
        return [0] * len(passages)

    async def score_passages(self, question: str, passages: Sequence[str]) -> Float32:
        await asyncio.Event().wait()
        raise AssertionError


@dataclass(frozen=True, slots=True)
class _Plane:
    """Holds the parts that all pipelines share."""

    profile: Profile
    encoders: Mapping[str, Encoder]
    store: _FaultyStore

    @contextmanager
    def pipeline(self, dead: frozenset[str]) -> Iterator[QueryPipeline]:
        """Opens a pipeline with dead parts, whose reranking caches no token vectors."""
        scorer = MaxSimScorer(cast("TokenEncoder", self.encoders[PASSAGE_TEXT]), TokenVectorCache(0))
        encoder = BatchingQueryEncoder(
            self.encoders,
            decode_image=query_image_decoder(self.profile.image, ImageSettings()),
            cache_size=0,
            scorer=scorer,
        )
        self.store.dead = _DEAD_CHANNEL if "channel" in dead else None
        with _silent_server() as url:
            words = WordTools(rewriter=GeneratorRewriter(GenerateSettings(url=url)) if "rewriter" in dead else None)
            pipeline = QueryPipeline(
                self.store,
                _DeadEncoder() if "encoder" in dead else encoder,
                self.profile,
                QuerySettings(max_lag_ms=0, rewrite_ms=400),
                reader=_DeadReader() if "reranker" in dead else encoder,
                words=words,
            )
            try:
                yield pipeline
            finally:
                pipeline.close()
                encoder.close()


@contextmanager
def _silent_server() -> Iterator[str]:
    """Listens on a port, whose connections the kernel accepts and no process answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=1_024) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/v1"
