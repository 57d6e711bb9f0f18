"""Sends canaries: marked events that pass through both planes, from a producer to the result of a search.

A canary has a tenant of its own, so that no other search finds it, and one key in each topic, so that the newer one
replaces the older. It is batched, decoded, encoded, written and committed like any event, and its content differs each
time, so that no cache spares the encoder the work.
"""

from __future__ import annotations

import io
import logging
import random
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import replace
from enum import StrEnum

import httpx
from PIL import Image

from penstock.broker.base import Message
from penstock.broker.wire import encode_event
from penstock.errors import PenstockError, UnavailableError
from penstock.observability import metrics, tracing
from penstock.observability.tracing import Header
from penstock.records import Inline, Modality, Position

logger = logging.getLogger(__name__)

TENANT = "penstock-canary"
KEY = "penstock-canary"
ATTRIBUTE = "canary"
# The waits between searches grow. The measured time is too long by a fifth at most, or by a tenth of a second, and a
# canary of one second takes six searches: an embedded store with one core has others to answer.
_FIRST_WAIT_S = 0.1
_WAIT_GROWTH = 1.25
_MAX_WAIT_S = 2.0
_SEARCH_TIMEOUT_S = 5.0
_IMAGE_PX = 16


class CanaryResult(StrEnum):
    """The results of a canary."""

    FOUND = "found"
    LATE = "late"  # not found in time, though the query plane answered
    UNSENT = "unsent"  # Kafka did not acknowledge it
    UNANSWERED = "unanswered"  # not found, and the query plane did not answer the last search


class Canary:
    """Sends canaries and searches for them.

    Args:
        topics: by modality, for those in `MEDIA`.
        produce: returns once Kafka has acknowledged the message.
        search: returns the number of hits of a body for `/v1/search`, which is sent with headers; raises
            UnavailableError if there is no answer.
        timeout_s: how long a canary is searched for.
        clock: monotonic seconds.
        sleep: waits a number of seconds, or less; returns True if the plane stops.
        rng: makes each canary unlike the others.
    """

    def __init__(
        self,
        *,
        topics: Mapping[Modality, str],
        produce: Callable[[Message], Position],
        search: Callable[[Mapping[str, object], Sequence[Header]], int],
        timeout_s: float,
        clock: Callable[[], float],
        sleep: Callable[[float], bool],
        rng: random.Random,
    ) -> None:
        self._topics = topics
        self._send = produce
        self._search = search
        self._timeout_s = timeout_s
        self._clock = clock
        self._sleep = sleep
        self._rng = rng

    def send_all(self) -> None:
        """Sends a canary of each modality, one after the other."""
        for modality in self._topics:
            self.send(modality)

    def send(self, modality: Modality) -> CanaryResult | None:
        """Sends a canary, and returns and counts its result; None, and not counted, if the plane stops.

        If the process traces, the message begins a trace, which all searches for it continue.
        """
        nonce = f"{self._rng.getrandbits(64):016x}"
        started_s = self._clock()
        message = self._message(modality, nonce)
        span = tracing.current().send(message.topic)
        try:
            position = self._send(replace(message, headers=(*message.headers, *span.headers)))
        except (PenstockError, FutureTimeoutError) as exc:
            logger.warning("the %s canary could not be sent: %r", modality, exc)
            span.end("failed", failed=True)
            result: CanaryResult | None = CanaryResult.UNSENT
        else:
            span.end("acknowledged", partition=position.partition, offset=position.offset)
            result = self._search_for(modality, nonce, started_s, span.headers)
        if result is not None:
            metrics.CANARIES.labels(modality, result).inc()
        if result is CanaryResult.FOUND:
            metrics.CANARY.labels(modality).observe(self._clock() - started_s)
        return result

    def _search_for(
        self, modality: Modality, nonce: str, started_s: float, headers: Sequence[Header]
    ) -> CanaryResult | None:
        body = {
            "text": f"the canary {nonce}",
            "tenant": TENANT,
            "modalities": [modality.value],
            "filter": {f"attributes.{ATTRIBUTE}": nonce},
            "limit": 1,
        }
        wait_s, result, reason = _FIRST_WAIT_S, CanaryResult.UNANSWERED, "there was no time to search"
        while self._clock() - started_s < self._timeout_s:
            if self._sleep(wait_s):
                return None
            try:
                if self._search(body, headers):
                    return CanaryResult.FOUND
                result, reason = CanaryResult.LATE, "the query plane answers, but does not find it"
            except UnavailableError as exc:
                result, reason = CanaryResult.UNANSWERED, str(exc)
            wait_s = min(wait_s * _WAIT_GROWTH, _MAX_WAIT_S)
        logger.warning("the %s canary was not found within %g s: %s", modality, self._timeout_s, reason)
        return result

    def _message(self, modality: Modality, nonce: str) -> Message:
        return encode_event(
            topic=self._topics[modality],
            key=KEY,
            payload=Inline(MEDIA[modality](nonce)),
            source="penstock/canary",
            tenant=TENANT,
            title="A canary of Penstock's own",
            attributes={ATTRIBUTE: nonce},
            event_id=nonce,
        )


def count_hits(client: httpx.Client, body: Mapping[str, object], headers: Sequence[Header] = ()) -> int:
    """Returns the number of hits of a search.

    Raises:
        UnavailableError: the query plane does not answer.
    """
    named = {name: value.decode() for name, value in headers}
    try:
        response = client.post("/v1/search", json=dict(body), headers=named, timeout=_SEARCH_TIMEOUT_S)
        response.raise_for_status()
        return len(response.json()["hits"])
    except (httpx.HTTPError, ValueError, KeyError) as exc:
        raise UnavailableError(f"{client.base_url} did not answer a search: {exc!r}") from exc


def _text(nonce: str) -> bytes:
    return f"The canary {nonce} sings in the penstock.".encode()


def _image(nonce: str) -> bytes:
    """Returns a PNG of noise that the nonce determines."""
    pixels = random.Random(nonce).randbytes(_IMAGE_PX * _IMAGE_PX * 3)
    sink = io.BytesIO()
    Image.frombytes("RGB", (_IMAGE_PX, _IMAGE_PX), pixels).save(sink, "PNG")
    return sink.getvalue()


MEDIA: Mapping[Modality, Callable[[str], bytes]] = {Modality.TEXT: _text, Modality.IMAGE: _image}
"""The media of a canary, by modality. Audio and video are too costly to be sent all the time."""
