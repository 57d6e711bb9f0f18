"""Step 4, search: every channel at once, each with what is left of the deadline.

The store answers in threads (`query.threads`). A call is told how long it may take, so that a store that hangs gives
its threads back.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from penstock.errors import OverloadedError, PenstockError, QueryError, UnavailableError
from penstock.observability import metrics
from penstock.query.executor import BoundedExecutor
from penstock.query.route import ChannelQuery
from penstock.records import Channel, Float32, ScoredEntry
from penstock.store.base import Store
from penstock.store.filters import Filter

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Rankings:
    """What the channels found, and why the others did not."""

    entries: Mapping[Channel, Sequence[ScoredEntry]]
    missing: Mapping[Channel, str]


@dataclass(frozen=True, slots=True)
class SearchParams:
    """What holds for every channel of one search.

    Attributes:
        tenant: only its entries are found.
        where: a further condition.
        limit: entries asked of each channel.
        deadline_s: when the search must be over, on the clock of the threads.
    """

    tenant: str
    where: Filter | None
    limit: int
    deadline_s: float


async def search_channels(
    store: Store,
    threads: BoundedExecutor,
    queries: Mapping[ChannelQuery, str | asyncio.Future[Float32]],
    terms: SearchParams,
) -> Rankings:
    """Puts each query to its channel, all at once. A channel whose vector is not there yet waits for that alone.

    Raises:
        QueryError: the store refuses the question itself, such as a filter that it cannot answer.
        OverloadedError: too many searches are under way.
        UnavailableError: not one channel answered; says why each did not.
    """
    threads.admit(len(queries))
    outcomes = await asyncio.gather(
        *(_search_one(store, threads, probe, query, terms) for probe, query in queries.items())
    )
    found: dict[Channel, Sequence[ScoredEntry]] = {}
    missing: dict[Channel, str] = {}
    for probe, outcome in zip(queries, outcomes, strict=True):
        if isinstance(outcome, QueryError):
            raise outcome
        if isinstance(outcome, Exception):
            missing[probe.channel] = _reason(outcome)
        else:
            found[probe.channel] = outcome
    if missing and not found:
        if overload := next((outcome for outcome in outcomes if isinstance(outcome, OverloadedError)), None):
            raise overload
        said = "; ".join(f"{channel}: {reason}" for channel, reason in missing.items())
        raise UnavailableError(f"no channel answered the search ({said}). `penstock status` shows what is down.")
    return Rankings(found, missing)


async def _search_one(
    store: Store,
    threads: BoundedExecutor,
    probe: ChannelQuery,
    query: str | asyncio.Future[Float32],
    terms: SearchParams,
) -> Sequence[ScoredEntry] | Exception:
    """What one channel found, or what kept it from that: one channel's failure must not take the others down."""
    try:
        async with asyncio.timeout(terms.deadline_s - threads.clock()):
            # Shielded: the vector may be one that other channels wait for too.
            content = query if isinstance(query, str) else await asyncio.shield(query)
        with _measured(probe.channel, threads.clock):
            return await threads.call(
                lambda timeout_s: store.search(
                    probe.channel,
                    content,
                    tenant=terms.tenant,
                    where=terms.where,
                    limit=terms.limit,
                    timeout_s=timeout_s,
                ),
                deadline_s=terms.deadline_s,
            )
    except (PenstockError, TimeoutError) as exc:
        return exc
    except Exception as exc:
        _log.exception("searching %s failed in a way that nobody foresaw", probe.channel)
        return exc


@contextmanager
def _measured(channel: Channel, clock: Callable[[], float]) -> Iterator[None]:
    """Notes how long the channel took, and whether it answered."""
    started_s, result = clock(), "missing"
    try:
        yield
        result = "answered"
    finally:
        metrics.QUERY_CHANNEL.labels(channel, result).observe(clock() - started_s)


def _reason(outcome: Exception) -> str:
    """Why a channel is missing, in words for the user."""
    if isinstance(outcome, TimeoutError):
        return "did not answer within the deadline"
    if isinstance(outcome, PenstockError):
        return str(outcome)
    return "failed unexpectedly; the log of the query plane tells how"
