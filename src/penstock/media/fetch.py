"""Step 2: fetches the bytes of media, and detects their type.

Inline media are written to the asset store, so that results can show them. Media behind a claim check keep their own
address.

A claim check that fails for a transient reason (no connection, a timeout, 408, 425, 429, 5xx) is retried with jitter
until its deadline, and is then `unreachable`. One that answers 401, 403, 404, 410 or any other 4xx is `unreachable`
immediately.

The size of media is known only once they are requested. So all media of a batch are first requested as small ones.
Larger media are dropped, and requested again once memory for as many of the largest size is reserved.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial

import tenacity

from penstock.assets import AssetStore, MissingAssetError, asset_uri, sha256_of
from penstock.concurrency import MemoryBudget
from penstock.config import FetchSettings
from penstock.errors import BadInputError, Reason, TransientError
from penstock.media.claim_check import ClaimCheckReader, RetryableFetchError
from penstock.media.networks import NEVER, Network
from penstock.media.own_services import OwnServices
from penstock.media.resolvers import Resolver, system_resolver
from penstock.media.sniff import sniff
from penstock.media.types.base import Sniffed
from penstock.media.types.unsupported import unsupported_detail
from penstock.records import ClaimCheck, Event, FetchedMedia, Inline, Modality, Rejected

logger = logging.getLogger(__name__)

_MAX_CONCURRENT = 16  # claim checks wait for other hosts' servers nearly all of their time
_FIRST_WAIT_S = 0.2
_MAX_WAIT_S = 5.0
_SMALL_BYTES = 16 * 1024**2  # most media: a worker with 8 batches of 8 such claim checks holds 1 GiB at most
_LARGE_BUDGET_BYTES = 1024**3  # for all larger media, or for those of one batch alone, if they are more


class Fetcher:
    """Fetches the media of events. Thread-safe. Close it, or use it in a `with` statement.

    Args:
        settings: limits of claim checks.
        assets: stores inline media.
        topic_of: the topic of each modality, for messages that name the right one; empty: they are not to be named.
        resolver: host names → addresses.
        own: Penstock's own services, to which no claim check may lead; None: there are none.
        never: networks that are refused whatever a rule allows.
        clock: monotonic seconds.
        sleep: waits between attempts, seconds.
        small_bytes: media behind claim checks that are larger wait until memory is reserved for them, bytes.
        large_budget_bytes: the memory for them in all batches together, bytes.
    """

    def __init__(
        self,
        settings: FetchSettings,
        assets: AssetStore,
        *,
        topic_of: Mapping[Modality, str],
        resolver: Resolver = system_resolver,
        own: OwnServices | None = None,
        never: Sequence[Network] = NEVER,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        small_bytes: int = _SMALL_BYTES,
        large_budget_bytes: int = _LARGE_BUDGET_BYTES,
    ) -> None:
        self._settings = settings
        self._assets = assets
        self._topic_of = topic_of
        self._clock = clock
        self._sleep = sleep
        reader = partial(ClaimCheckReader, resolver=resolver, clock=clock, own=own, never=never)
        self._reader = reader(settings)
        self._small_bytes = min(small_bytes, settings.max_bytes)
        only_small = settings.model_copy(update={"max_bytes": self._small_bytes})
        self._small_reader = reader(only_small)
        self._large_budget = MemoryBudget(large_budget_bytes)
        self._threads = ThreadPoolExecutor(_MAX_CONCURRENT, thread_name_prefix="fetch")

    def __enter__(self) -> Fetcher:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Waits for active claim checks, at most until their deadlines, and closes connections."""
        self._threads.shutdown(cancel_futures=True)
        self._reader.close()
        self._small_reader.close()

    def fetch_batch(self, events: Sequence[Event]) -> tuple[list[FetchedMedia], list[Rejected]]:
        """Fetches a batch concurrently, each event with a deadline of its own.

        1. Fetch all media that are small. Larger media are dropped as soon as their size shows.
        2. Fetch the larger media once memory for all of this batch is reserved: batches that each held a part and
           waited for more would wait for one another. Their deadlines begin only then.

        Returns:
            fetched media and rejections, both in the order of `events`.

        Raises:
            TransientError: the asset store is unavailable; the batch can be retried.
        """
        map_events = self._threads.map if self._waits_for_others(events) else map
        small = list(map_events(self._fetch_if_small, events))  # 1
        larger = [event for event, outcome in zip(events, small, strict=True) if outcome is None]
        with self._large_budget.reserve(len(larger) * self._settings.max_bytes):  # 2
            large = iter(list(self._threads.map(self.fetch_one, larger)))
        fetched: list[FetchedMedia] = []
        rejected: list[Rejected] = []
        for outcome in (outcome or next(large) for outcome in small):
            if isinstance(outcome, FetchedMedia):
                fetched.append(outcome)
            else:
                rejected.append(outcome)
        return fetched, rejected

    def _waits_for_others(self, events: Sequence[Event]) -> bool:
        """Returns whether threads help. Inline media in a local folder take CPU time only.

        With threads they take more of it: 183 µs instead of 136 for 1 kB.
        """
        return not self._assets.is_local or any(isinstance(event.payload, ClaimCheck) for event in events)

    def fetch_one(self, event: Event) -> FetchedMedia | Rejected:
        """Fetches one event of any size, for a caller that holds the media of no other event in that time.

        Raises:
            TransientError: as `fetch_batch` does.
        """
        return self._fetch_or_reject(event, self._reader)

    def fetch(self, event: Event) -> FetchedMedia:
        """Fetches one event.

        1. Read its bytes.
        2. Detect their type.
        3. Write inline media to the asset store. A claim check keeps its address, without query and fragment.

        Raises:
            BadInputError: FORBIDDEN, TOO_LARGE, UNREACHABLE, MALFORMED, CORRUPT (no bytes), UNSUPPORTED, WRONG_TOPIC.
            TransientError: the asset store is unavailable.
            ValueError: the event is a tombstone.
        """
        return self._fetch(event, self._reader)

    def _fetch(self, event: Event, reader: ClaimCheckReader) -> FetchedMedia:
        if event.payload is None:
            raise ValueError(f"{event.position} is a tombstone: it has no media to fetch")
        if event.refills and isinstance(event.payload, ClaimCheck) and (sha256 := sha256_of(event.payload.uri)):
            data = self._stored_bytes(sha256, reader)  # 1; and 3 is done
            return FetchedMedia(event, data, self._mime(event, data), sha256, event.payload.uri)  # 2
        data = self._bytes(event.payload, event.asset.tenant, reader)  # 1
        mime = self._mime(event, data)  # 2
        if isinstance(event.payload, ClaimCheck):
            sha256, uri = hashlib.sha256(data).hexdigest(), reader.stored_uri(event.payload.uri, event.asset.tenant)
        else:
            sha256 = self._assets.put(data)  # 3
            uri = asset_uri(sha256)
        return FetchedMedia(replace(event, payload=ClaimCheck(uri)), data, mime, sha256, uri)

    def _fetch_if_small(self, event: Event) -> FetchedMedia | Rejected | None:
        """Returns None for a claim check to media that need reserved memory."""
        outcome = self._fetch_or_reject(event, self._small_reader)
        too_large = isinstance(outcome, Rejected) and outcome.reason is Reason.TOO_LARGE
        may_be_larger = isinstance(event.payload, ClaimCheck) and self._small_bytes < self._settings.max_bytes
        return None if too_large and may_be_larger else outcome

    def _fetch_or_reject(self, event: Event, reader: ClaimCheckReader) -> FetchedMedia | Rejected:
        """Fetches or rejects one event. An unexpected error rejects this event alone, and is logged with traceback."""
        try:
            return self._fetch(event, reader)
        except BadInputError as exc:
            return Rejected(event.position, "fetch", exc.reason, str(exc))
        except TransientError:
            raise
        except Exception as exc:
            logger.exception("unexpected error while fetching %s; the event is rejected", event.position)
            detail = f"unexpected error while fetching it: {type(exc).__name__}: {exc}"
            return Rejected(event.position, "fetch", Reason.MALFORMED, detail)

    def _bytes(self, payload: Inline | ClaimCheck, tenant: str, reader: ClaimCheckReader) -> bytes:
        if isinstance(payload, ClaimCheck):
            return self._read_with_retries(payload.uri, tenant, reader)
        if len(payload.data) > self._settings.max_bytes:
            detail = f"{len(payload.data):,} bytes inline; fetch.max_bytes is {self._settings.max_bytes:,}"
            raise BadInputError(Reason.TOO_LARGE, detail)
        return payload.data

    def _stored_bytes(self, sha256: str, reader: ClaimCheckReader) -> bytes:
        """Returns media of the asset store, which only a replay of a re-index may name."""
        limit = self._small_bytes if reader is self._small_reader else self._settings.max_bytes
        try:
            if (size := self._assets.size(sha256)) > limit:
                detail = f"{asset_uri(sha256)} has {size:,} bytes; fetch.max_bytes is {self._settings.max_bytes:,}"
                raise BadInputError(Reason.TOO_LARGE, detail)
            return self._assets.read(sha256)
        except MissingAssetError as exc:
            raise BadInputError(Reason.UNREACHABLE, f"{exc}. Produce the asset again.") from exc

    def _read_with_retries(self, uri: str, tenant: str, reader: ClaimCheckReader) -> bytes:
        """Tries until it succeeds, fails permanently, or would pass the deadline before the next attempt."""
        deadline_s = self._clock() + self._settings.deadline_s
        backoff = tenacity.wait_exponential(_FIRST_WAIT_S, _MAX_WAIT_S) + tenacity.wait_random(0, _FIRST_WAIT_S)

        def wait_s(state: tenacity.RetryCallState) -> float:
            return max(backoff(state), _retry_after_s(state))

        attempts = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(RetryableFetchError),
            wait=wait_s,
            stop=lambda state: self._clock() + state.upcoming_sleep >= deadline_s,
            sleep=self._sleep,
            reraise=True,
        )
        try:
            return attempts(reader.read, uri, tenant=tenant, deadline_s=deadline_s)
        except RetryableFetchError as exc:
            count = attempts.statistics["attempt_number"]
            detail = f"{exc} ({count} attempts within fetch.deadline_s, {self._settings.deadline_s:g} s)"
            raise BadInputError(Reason.UNREACHABLE, detail) from exc

    def _mime(self, event: Event, data: bytes) -> str:
        """Returns the type of the bytes, if it belongs to the event's topic."""
        if not data:
            detail = "the media are empty; to delete an asset, send a null value, not an empty one"
            raise BadInputError(Reason.CORRUPT, detail)
        sniffed = sniff(data, declared=event.content_type)
        if sniffed.modality is None:
            declared = f"; declared as {event.content_type}" if event.content_type else ""
            detail = f"by its bytes {unsupported_detail(sniffed.mime)}{declared}"
            raise BadInputError(Reason.UNSUPPORTED, detail)
        if sniffed.modality is not event.modality:
            raise BadInputError(Reason.WRONG_TOPIC, self._wrong_topic(event, sniffed))
        return sniffed.mime

    def _wrong_topic(self, event: Event, sniffed: Sniffed) -> str:
        right = self._topic_of.get(sniffed.modality) if sniffed.modality else None
        elsewhere = f"no topic carries {sniffed.modality}" if self._topic_of else "send it to a topic of its own"
        advice = f"send it to {right}" if right else elsewhere
        return f"{sniffed.mime} by its bytes, on {event.position.topic}, a topic of {event.modality}: {advice}"


def _retry_after_s(state: tenacity.RetryCallState) -> float:
    """Returns the wait that the server requested with `Retry-After`; 0 if none."""
    failure = state.outcome.exception() if state.outcome else None
    return failure.retry_after_s if isinstance(failure, RetryableFetchError) else 0.0
