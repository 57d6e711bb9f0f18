"""Step 2: claim checks → bytes, and the type that the bytes really are.

Inline media go to the asset store, so that a result can be shown; media behind a claim check keep their own address.

A claim check that fails for a reason that may pass (no connection, a timeout, 408, 425, 429, 5xx) is tried again with
jitter until its deadline, then `unreachable`. One that answers 401, 403, 404, 410 or any other 4xx is `unreachable` at
once: what the owner of the media says is not argued with.

How large media are is known only when they are asked for. So those of a batch are first asked for as small ones. What
is larger is dropped, and asked for again once there is room for as many of the largest kind.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import tenacity

from penstock.assets import AssetStore, asset_uri
from penstock.concurrency import MemoryBudget
from penstock.config import FetchSettings
from penstock.errors import BadInputError, Reason, TransientError
from penstock.media.claim_check import ClaimCheckReader, RetryableFetchError
from penstock.media.sniff import Sniffed, sniff
from penstock.media.ssrf_guard import Resolver, system_resolver
from penstock.records import ClaimCheck, Event, FetchedMedia, Inline, Modality, Rejected

logger = logging.getLogger(__name__)

_PARALLEL = 16  # claim checks wait for others' servers nearly all of their time
_FIRST_WAIT_S = 0.2
_LONGEST_WAIT_S = 5.0
_SMALL_BYTES = 16 * 1024**2  # most media: of these a worker with 8 batches of 8 claim checks holds 1 GiB at most
_ROOM_BYTES = 1024**3  # for all that are larger, or for those of one batch alone, if that is more


class Fetcher:
    """Fetches the media of events. Thread-safe. Close it, or use it in a `with` statement.

    Args:
        settings: what claim checks may point to, and limits.
        assets: takes inline media.
        topic_of: the topic of each modality, for messages that name the right one.
        resolver: host names → addresses.
        clock: monotonic seconds.
        sleep: waits between tries, seconds.
        small_bytes: media behind claim checks that are larger wait for room, bytes.
        large_budget_bytes: and have so much of it, all batches together, bytes.
    """

    def __init__(
        self,
        settings: FetchSettings,
        assets: AssetStore,
        *,
        topic_of: Mapping[Modality, str],
        resolver: Resolver = system_resolver,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        small_bytes: int = _SMALL_BYTES,
        large_budget_bytes: int = _ROOM_BYTES,
    ) -> None:
        self._settings = settings
        self._assets = assets
        self._topic_of = topic_of
        self._clock = clock
        self._sleep = sleep
        self._claims = ClaimCheckReader(settings, resolver=resolver, clock=clock)
        self._small_bytes = min(small_bytes, settings.max_bytes)
        only_small = settings.model_copy(update={"max_bytes": self._small_bytes})
        self._small_claims = ClaimCheckReader(only_small, resolver=resolver, clock=clock)
        self._room = MemoryBudget(large_budget_bytes)
        self._threads = ThreadPoolExecutor(_PARALLEL, thread_name_prefix="fetch")

    def __enter__(self) -> Fetcher:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Waits for claim checks under way, at most until their deadlines, and closes connections."""
        self._threads.shutdown(cancel_futures=True)
        self._claims.close()
        self._small_claims.close()

    def fetch_batch(self, events: Sequence[Event]) -> tuple[list[FetchedMedia], list[Rejected]]:
        """Fetches a batch at once, each event with a deadline of its own. Both lists are in the order of `events`.

        1 all that are small; a larger one is dropped as soon as it shows
        2 the larger ones, when there is room for all of this batch: who had some and waited for more would wait for
          others who do the same; their deadlines begin only then

        Raises:
            TransientError: the asset store does not answer; the batch is worth trying again.
        """
        at_once = self._threads.map if self._waits(events) else map
        outcomes = list(at_once(self._settled_if_small, events))
        larger = [event for event, outcome in zip(events, outcomes, strict=True) if outcome is None]
        with self._room.reserve(len(larger) * self._settings.max_bytes):
            found = iter(list(self._threads.map(self.fetch_one, larger)))
        fetched: list[FetchedMedia] = []
        rejected: list[Rejected] = []
        for outcome in (outcome or next(found) for outcome in outcomes):
            if isinstance(outcome, FetchedMedia):
                fetched.append(outcome)
            else:
                rejected.append(outcome)
        return fetched, rejected

    def _waits(self, events: Sequence[Event]) -> bool:
        """Whether there are others to wait for. Inline media into a local folder only take CPU time, and more of it
        with threads: 183 µs instead of 136 for 1 kB.
        """
        return not self._assets.local or any(isinstance(event.payload, ClaimCheck) for event in events)

    def fetch_one(self, event: Event) -> FetchedMedia | Rejected:
        """Fetches one event however large it is, for who holds no others meanwhile.

        Raises:
            TransientError: as `fetch_batch` does.
        """
        return self._fetch_or_reject(event, self._claims)

    def fetch(self, event: Event) -> FetchedMedia:
        """Fetches one event: 1 its bytes, 2 their type, 3 inline ones into the asset store; it keeps a claim check.

        Raises:
            BadInputError: FORBIDDEN, TOO_LARGE, UNREACHABLE, MALFORMED, CORRUPT (no bytes), UNSUPPORTED, WRONG_TOPIC.
            TransientError: the asset store does not answer.
            ValueError: the event is a tombstone.
        """
        return self._fetch(event, self._claims)

    def _fetch(self, event: Event, claims: ClaimCheckReader) -> FetchedMedia:
        if event.payload is None:
            raise ValueError(f"{event.position} is a tombstone: there is nothing to fetch")
        data = self._bytes(event.payload, claims)
        mime = self._mime(event, data)
        if isinstance(event.payload, ClaimCheck):
            sha256, uri = hashlib.sha256(data).hexdigest(), event.payload.uri
        else:
            sha256 = self._assets.put(data)
            uri = asset_uri(sha256)
        return FetchedMedia(replace(event, payload=ClaimCheck(uri)), data, mime, sha256, uri)

    def _settled_if_small(self, event: Event) -> FetchedMedia | Rejected | None:
        """None for a claim check to more than may be held without room for it."""
        outcome = self._fetch_or_reject(event, self._small_claims)
        too_large = isinstance(outcome, Rejected) and outcome.reason is Reason.TOO_LARGE
        may_be_larger = isinstance(event.payload, ClaimCheck) and self._small_bytes < self._settings.max_bytes
        return None if too_large and may_be_larger else outcome

    def _fetch_or_reject(self, event: Event, claims: ClaimCheckReader) -> FetchedMedia | Rejected:
        """Fetched or rejected; a surprise is this event's alone, and stands in the log with its traceback."""
        try:
            return self._fetch(event, claims)
        except BadInputError as exc:
            return Rejected(event.position, "fetch", exc.reason, str(exc))
        except TransientError:
            raise
        except Exception as exc:
            logger.exception("fetching %s failed in a way that is not foreseen", event.position)
            return Rejected(
                event.position, "fetch", Reason.MALFORMED, f"fetching it failed: {type(exc).__name__}: {exc}"
            )

    def _bytes(self, payload: Inline | ClaimCheck, claims: ClaimCheckReader) -> bytes:
        if isinstance(payload, ClaimCheck):
            return self._claimed(payload.uri, claims)
        if len(payload.data) > self._settings.max_bytes:
            detail = f"{len(payload.data):,} bytes inline; fetch.max_bytes is {self._settings.max_bytes:,}"
            raise BadInputError(Reason.TOO_LARGE, detail)
        return payload.data

    def _claimed(self, uri: str, claims: ClaimCheckReader) -> bytes:
        """Tries until it works, cannot work, or the deadline would be over before the next try."""
        deadline_s = self._clock() + self._settings.deadline_s
        backoff = tenacity.wait_exponential(_FIRST_WAIT_S, _LONGEST_WAIT_S) + tenacity.wait_random(0, _FIRST_WAIT_S)

        def wait_s(state: tenacity.RetryCallState) -> float:
            return max(backoff(state), _asked_to_wait_s(state))

        tries = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(RetryableFetchError),
            wait=wait_s,
            stop=lambda state: self._clock() + state.upcoming_sleep >= deadline_s,
            sleep=self._sleep,
            reraise=True,
        )
        try:
            return tries(claims.read, uri, deadline_s=deadline_s)
        except RetryableFetchError as exc:
            count = tries.statistics["attempt_number"]
            detail = f"{exc} ({count} tries within fetch.deadline_s, {self._settings.deadline_s:g} s)"
            raise BadInputError(Reason.UNREACHABLE, detail) from exc

    def _mime(self, event: Event, data: bytes) -> str:
        """The type of the bytes, if the topic is the right one for it."""
        if not data:
            raise BadInputError(
                Reason.CORRUPT, "no bytes in it; to delete an asset send the null value, not an empty one"
            )
        sniffed = sniff(data, declared=event.content_type)
        if sniffed.modality is None:
            declared = f", declared as {event.content_type}" if event.content_type else ""
            raise BadInputError(Reason.UNSUPPORTED, f"{sniffed.mime} by its bytes{declared}: no decoder reads it")
        if sniffed.modality is not event.modality:
            raise BadInputError(Reason.WRONG_TOPIC, self._wrong_topic(event, sniffed))
        return sniffed.mime

    def _wrong_topic(self, event: Event, sniffed: Sniffed) -> str:
        right = self._topic_of.get(sniffed.modality) if sniffed.modality else None
        advice = f"send it to {right}" if right else f"there is no topic of {sniffed.modality}"
        return f"{sniffed.mime} by its bytes, on {event.position.topic}, a topic of {event.modality}: {advice}"


def _asked_to_wait_s(state: tenacity.RetryCallState) -> float:
    """What the server's `Retry-After` asked for."""
    failure = state.outcome.exception() if state.outcome else None
    return failure.retry_after_s if isinstance(failure, RetryableFetchError) else 0.0
