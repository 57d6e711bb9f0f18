"""Step 4, retrieve: searches the channels concurrently, each within what is left of the deadline.

The store is called in threads (`query.executor`). Each call has a timeout, so that its thread is free again if the
store hangs.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from penstock.errors import OverloadedError, PenstockError, QueryError, TransientError, UnavailableError
from penstock.observability import metrics, tracing
from penstock.query.embed import QueryVectors, question_vector
from penstock.query.executor import BoundedExecutor
from penstock.query.parts.inputs import EmbeddingInput
from penstock.query.trace import Trace
from penstock.query.types import ChannelQuery, Hit, Rankings
from penstock.query.weighted_words import search_weighted
from penstock.records import TIMED_COLLECTIONS, Access, Channel, Collection, Entry, Float32, ScoredEntry
from penstock.store.base import EntryQuery, EntrySearch

logger = logging.getLogger(__name__)

# Fifty entries that are all of one video make a moment or a few. Then channels are searched for this many times more
REFETCH_FACTOR = 4
# entries, up to this many of each channel unless the limit is larger: fusing 800 of three channels blocks the event
# loop for 10 ms.
MAX_CANDIDATES = 1_000


@dataclass(frozen=True, slots=True)
class SearchParams:
    """The parameters that all channels of one search share.

    Attributes:
        access: the entries that may be found.
        limit: maximum number of entries of each channel.
        deadline_s: the end of the search, on the clock of the executor.
        excluded: ids of entries that are no hits.
    """

    access: Access
    limit: int
    deadline_s: float
    excluded: frozenset[str] = frozenset()


class Retrieval:
    """The searches of one query, of which the second and later ones fetch more entries.

    Their depths do not depend on the limit of the query, only how many there are: the hits of a smaller limit are the
    first of a larger one.

    Args:
        store: searched from several threads.
        executor: runs these calls.
        queries: one for each channel.
        vectors: the embeddings of these queries, which may still be computed.
        params: of the first search.
    """

    def __init__(
        self,
        store: EntrySearch,
        executor: BoundedExecutor,
        queries: Sequence[ChannelQuery],
        vectors: QueryVectors,
        params: SearchParams,
    ) -> None:
        self._slowest_s = 0.0
        self._shortened = threading.Event()  # searches run in threads
        self._store = store
        self._executor = executor
        self._queries = queries
        self._vectors = vectors
        self._params = params
        self._spaces = {query.channel: query.space for query in queries}
        self._encoders = {query.channel: query.encoder for query in queries}
        self._depths = dict.fromkeys(Collection, params.limit)
        texts = [query.text for query in queries]
        text = texts[0] if texts and None not in texts else None
        self._rankings = Rankings({}, {}, self._depths, self._spaces, self._encoders, text)

    @property
    def rankings(self) -> Rankings:
        """The entries that all searches so far returned."""
        return self._rankings

    @property
    def slowest_s(self) -> float:
        """The seconds that the slowest channel took to answer, without the wait for its vector."""
        return self._slowest_s

    @property
    def shortened(self) -> bool:
        """Whether further words of the question were not searched, as they were late or failed."""
        return self._shortened.is_set()

    @property
    def missing(self) -> Mapping[Channel, str]:
        """The channels that failed or were late in one of the searches."""
        return self._rankings.missing

    def question_vector(self, text: str | None) -> Float32 | None:
        """Returns the vector of the question, float32[dim], where the sentence encoder has computed it by now."""
        return question_vector(self._vectors, text)

    async def search(self) -> Rankings:
        """Searches every channel. A channel whose vector is not computed yet waits for that vector alone.

        Raises:
            QueryError: the store rejects the query itself, such as a filter that it cannot evaluate.
            OverloadedError: too many searches are running.
            UnavailableError: no channel answered; the message has the reason of each.
        """
        by_channel, missing = await self._search(self._queries)
        self._rankings = replace(self._rankings, by_channel=by_channel, missing=missing)
        return self._rankings

    def has_more(self, limit: int) -> bool:
        """Returns whether a channel may hold more entries, and another search may fetch them for this limit."""
        depth = self._params.limit
        return bool(self._full_channels()) and (depth < limit or depth * REFETCH_FACTOR <= MAX_CANDIDATES)

    async def search_deeper(self) -> Rankings:
        """Searches for more entries. A channel that fails keeps its earlier entries and is named.

        Only collections of which a channel may hold more are searched. Raises QueryError as `search` does.
        """
        collections = {channel.collection for channel in self._full_channels()}
        self._params = replace(self._params, limit=self._params.limit * REFETCH_FACTOR)
        self._depths = {**self._depths, **dict.fromkeys(collections, self._params.limit)}
        answered = self._rankings.by_channel
        queries = [
            query for query in self._queries if query.channel in answered and query.channel.collection in collections
        ]
        try:
            by_channel, missing = await self._search(queries)
        except TransientError as exc:
            by_channel, missing = {}, {query.channel: str(exc) for query in queries}
        missing = {channel: f"the search for more entries failed: {reason}" for channel, reason in missing.items()}
        self._rankings = replace(
            self._rankings,
            by_channel={**self._rankings.by_channel, **by_channel},
            missing={**self._rankings.missing, **missing},
            depths=self._depths,
        )
        return self._rankings

    def _full_channels(self) -> list[Channel]:
        """Returns the channels that returned as many entries as they were searched for in the latest search.

        A channel that failed in that search kept fewer.
        """
        return [channel for channel, ranking in self._rankings.by_channel.items() if len(ranking) >= self._params.limit]

    async def _search(
        self, queries: Sequence[ChannelQuery]
    ) -> tuple[dict[Channel, Sequence[ScoredEntry]], dict[Channel, str]]:
        """Returns the entries of the channels that answered, and the reasons of the others."""
        self._executor.admit(len(queries))
        results = await asyncio.gather(*(self._search_channel(query) for query in queries))
        by_channel: dict[Channel, Sequence[ScoredEntry]] = {}
        missing: dict[Channel, str] = {}
        for query, result in zip(queries, results, strict=True):
            if isinstance(result, QueryError):
                raise result
            if isinstance(result, Exception):
                missing[query.channel] = describe_failure(result)
            else:
                by_channel[query.channel] = result
        if missing and not by_channel:
            if overload := next((result for result in results if isinstance(result, OverloadedError)), None):
                raise overload
            reasons = "; ".join(f"{channel}: {reason}" for channel, reason in missing.items())
            raise UnavailableError(f"no channel answered the search ({reasons}). `penstock status` shows what is down.")
        return by_channel, missing

    async def _search_channel(self, query: ChannelQuery) -> Sequence[ScoredEntry] | Exception:
        """Returns the entries of one channel, or its failure, which must not fail the other channels."""
        params = self._params
        try:
            target = query.search_for if isinstance(query.search_for, str) else await self._vector(query.search_for)
            limit = params.limit + len(params.excluded)
            began_s = self._executor.clock()
            with _measured(query.channel, self._executor.clock):
                ranking = await self._executor.call(
                    lambda timeout_s: search_weighted(
                        self._store,
                        EntryQuery(query.channel, target, params.access, query.where, limit, timeout_s),
                        query.extra,
                        on_left_out=self._shortened.set,
                    ),
                    deadline_s=params.deadline_s,
                )
            self._slowest_s = max(self._slowest_s, self._executor.clock() - began_s)
            if not params.excluded:
                return ranking
            return [scored for scored in ranking if scored.entry.id not in params.excluded][: params.limit]
        except (PenstockError, TimeoutError) as exc:
            return exc
        except Exception as exc:
            logger.exception("searching %s failed unexpectedly", query.channel)
            return exc

    async def _vector(self, content: EmbeddingInput) -> Float32:
        async with asyncio.timeout(self._params.deadline_s - self._executor.clock()):
            return await asyncio.shield(self._vectors[content])  # other channels may wait for the same vector


async def mark_indexing(
    hits: list[Hit], store: EntrySearch, executor: BoundedExecutor, trace: Trace, *, deadline_s: float
) -> list[Hit]:
    """Marks the hits whose media are still being indexed; none, and notes it, if the store is late."""
    asset_ids = {hit.entry.asset.id for hit in hits if hit.entry.collection in TIMED_COLLECTIONS or hit.entry.page}
    if not asset_ids:
        return hits
    try:
        checkpoints = await executor.call(lambda _: store.checkpoints(sorted(asset_ids)), deadline_s=deadline_s)
    except (PenstockError, TimeoutError) as exc:
        logger.warning("the store did not return which media are still being indexed: %s", exc)
        trace.add_shortened()
        return hits
    indexing = {
        (asset_id, checkpoint.version.partition, checkpoint.version.offset)
        for asset_id, checkpoint in checkpoints.items()
    }
    return [replace(hit, indexing=_event_of(hit.entry) in indexing) for hit in hits]


def describe_failure(failure: Exception) -> str:
    """Returns why a channel is missing, in words for the client."""
    if isinstance(failure, TimeoutError):
        return "did not answer within the deadline"
    if isinstance(failure, PenstockError):
        return str(failure)
    return "failed unexpectedly; the log of the query plane has the error"


@contextmanager
def _measured(channel: Channel, clock: Callable[[], float]) -> Iterator[None]:
    """Measures and traces the seconds that the channel took, and whether it answered."""
    started_s, result = clock(), "missing"
    try:
        with tracing.current().span(f"search {channel}"):
            yield
        result = "answered"
    finally:
        metrics.QUERY_CHANNEL.labels(channel, result).observe(clock() - started_s)


def _event_of(entry: Entry) -> tuple[str, int, int]:
    return entry.asset.id, entry.origin.partition, entry.origin.offset
