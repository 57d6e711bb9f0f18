"""A canary: a marked event that goes the whole way, from a producer to the answer of a query.

It is of a tenant of its own, so that nobody else's search finds it, and of one key in each topic, so that the newer one
replaces the older. Everything else about it is real: it is batched, decoded, encoded, written and committed like any
event, and its content differs each time, so that no cache spares the encoder the work.
"""

from __future__ import annotations

import io
import logging
import random
from collections.abc import Callable, Mapping
from concurrent.futures import TimeoutError as FutureTimeoutError
from enum import StrEnum
from typing import Any

import httpx
from PIL import Image

from penstock.broker.base import Message
from penstock.broker.wire import encode_event
from penstock.errors import PenstockError, UnavailableError
from penstock.observability import metrics
from penstock.records import Inline, Modality

logger = logging.getLogger(__name__)

TENANT = "penstock-canary"
KEY = "penstock-canary"
ATTRIBUTE = "canary"
# The first look comes soon, the others ever later: what is measured is too long by a fifth at most, or by a tenth of a
# second, and six searches are made for a canary of a second: an embedded store with one core has others to answer.
_FIRST_LOOK_S = 0.1
_LOOKS_GROW = 1.25
_LONGEST_WAIT_S = 2.0
_ASK_TIMEOUT_S = 5.0
_PICTURE_PX = 16


class CanaryResult(StrEnum):
    """How a canary ended."""

    FOUND = "found"
    LATE = "late"  # not found within the time there was, though the query plane answered
    UNSENT = "unsent"  # Kafka did not acknowledge it
    UNANSWERED = "unanswered"  # not found, and the query plane's last answer was none


class Canary:
    """Sends canaries and looks for them.

    Args:
        topics: by modality, of those that `MEDIA` has something for.
        send: returns once Kafka has acknowledged the message.
        search: number of hits of a body for `/v1/search`; raises UnavailableError if there is no answer.
        timeout_s: how long one is looked for.
        clock: monotonic seconds.
        sleep: waits so many seconds, or less; True if the plane stops.
        rng: makes each unlike the others.
    """

    def __init__(
        self,
        *,
        topics: Mapping[Modality, str],
        produce: Callable[[Message], object],
        search: Callable[[Mapping[str, Any]], int],
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
        """One of each modality, in turn."""
        for modality in self._topics:
            self.send(modality)

    def send(self, modality: Modality) -> CanaryResult | None:
        """Sends one, and counts how it ended. None, and nothing counted, if the plane stops meanwhile."""
        nonce = f"{self._rng.getrandbits(64):016x}"
        started_s = self._clock()
        try:
            self._send(self._message(modality, nonce))
        except (PenstockError, FutureTimeoutError) as exc:
            logger.warning("the %s canary could not be sent: %r", modality, exc)
            result: CanaryResult | None = CanaryResult.UNSENT
        else:
            result = self._look_for(modality, nonce, started_s)
        if result is not None:
            metrics.CANARIES.labels(modality, result).inc()
        if result is CanaryResult.FOUND:
            metrics.CANARY.labels(modality).observe(self._clock() - started_s)
        return result

    def _look_for(self, modality: Modality, nonce: str, started_s: float) -> CanaryResult | None:
        body = {
            "text": f"the canary {nonce}",
            "tenant": TENANT,
            "modalities": [modality.value],
            "filter": {f"attributes.{ATTRIBUTE}": nonce},
            "limit": 1,
        }
        wait_s, result, why = _FIRST_LOOK_S, CanaryResult.UNANSWERED, "there was no time to look"
        while self._clock() - started_s < self._timeout_s:
            if self._sleep(wait_s):
                return None
            try:
                if self._search(body):
                    return CanaryResult.FOUND
                result, why = CanaryResult.LATE, "the query plane answers, but without it"
            except UnavailableError as exc:
                result, why = CanaryResult.UNANSWERED, str(exc)
            wait_s = min(wait_s * _LOOKS_GROW, _LONGEST_WAIT_S)
        logger.warning("the %s canary was not found within %g s: %s", modality, self._timeout_s, why)
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


def count_hits(client: httpx.Client, body: Mapping[str, Any]) -> int:
    """How many hits the query plane has for a search. Raises UnavailableError if it gives no answer."""
    try:
        response = client.post("/v1/search", json=dict(body), timeout=_ASK_TIMEOUT_S)
        response.raise_for_status()
        return len(response.json()["hits"])
    except (httpx.HTTPError, ValueError, KeyError) as exc:
        raise UnavailableError(f"{client.base_url} did not answer a search: {exc!r}") from exc


def _text(nonce: str) -> bytes:
    return f"The canary {nonce} sings in the penstock.".encode()


def _picture(nonce: str) -> bytes:
    """A PNG of noise that the nonce decides."""
    pixels = random.Random(nonce).randbytes(_PICTURE_PX * _PICTURE_PX * 3)
    sink = io.BytesIO()
    Image.frombytes("RGB", (_PICTURE_PX, _PICTURE_PX), pixels).save(sink, "PNG")
    return sink.getvalue()


MEDIA: Mapping[Modality, Callable[[str], bytes]] = {Modality.TEXT: _text, Modality.IMAGE: _picture}
"""What a canary of each modality is made of; the others are too costly to be sent all the time."""
