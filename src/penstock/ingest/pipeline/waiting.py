"""Waits between attempts: with backoff, for the store, and only while the lane runs."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

from penstock.errors import PenstockError, UnconfirmedError
from penstock.ingest.pipeline.types import StoppedError
from penstock.observability import metrics
from penstock.retries import Backoff, Breaker

T = TypeVar("T")

logger = logging.getLogger(__name__)


class Waiting:
    """Paces the attempts of a lane's batches. Safe to use from several threads.

    Args:
        backoff: the waits between attempts.
        breaker: of the store.
        sleep: waits for these seconds at most; returns whether the lane stops.
    """

    def __init__(self, *, backoff: Backoff, breaker: Breaker, sleep: Callable[[float], bool]) -> None:
        self._backoff = backoff
        self._breaker = breaker
        self._sleep = sleep
        self._unconfirmed: dict[Attempts, str] = {}  # the loops that wait for the lease, and the writers' messages

    @property
    def lease_error(self) -> str:
        """Returns why the writers refuse requests without the driver's lease; empty while they do not."""
        return next(iter(tuple(self._unconfirmed.values())), "")

    @property
    def store_error(self) -> str:
        """Returns why the store does not answer; empty while it does."""
        return self._breaker.last_error if self._breaker.is_open else ""

    def attempts(self) -> Attempts:
        """Begins a retry loop."""
        return Attempts(self._backoff, self.pause)

    def until_store_answers(
        self, request: Callable[[], T], *, subject: str, retry_on: tuple[type[PenstockError], ...]
    ) -> T:
        """Sends a request to the writers until it succeeds.

        Args:
            request: the request.
            subject: for the log, what waits.
            retry_on: errors that a later attempt may not meet; all others are raised.

        Raises:
            StoppedError: the lane stops.
        """
        attempts = self.attempts()
        try:
            return self._until_store_answers(request, attempts, subject=subject, retry_on=retry_on)
        finally:
            self._unconfirmed.pop(attempts, None)

    def _until_store_answers(
        self,
        request: Callable[[], T],
        attempts: Attempts,
        *,
        subject: str,
        retry_on: tuple[type[PenstockError], ...],
    ) -> T:
        while True:
            while (wait_s := self._breaker.wait_s()) > 0:
                self.pause(wait_s)
            try:
                with self._breaker.attempt():
                    return request()
            except UnconfirmedError as exc:
                metrics.RETRIES.labels("lease").inc()
                self._unconfirmed[attempts] = str(exc)
            except retry_on as exc:
                self._unconfirmed.pop(attempts, None)
                metrics.RETRIES.labels("store").inc()
                logger.info("%s: waiting for the store: %s", subject, exc)  # the driver warns of it
            attempts.back_off()

    def pause(self, seconds: float) -> None:
        """Waits.

        Raises:
            StoppedError: the lane stops.
        """
        if self._sleep(seconds):
            raise StoppedError


class Attempts:
    """The attempts of one retry loop.

    Attributes:
        number: of the present attempt, counted from 1.
    """

    __slots__ = ("_backoff", "_pause", "number")

    def __init__(self, backoff: Backoff, pause: Callable[[float], None]) -> None:
        self._backoff = backoff
        self._pause = pause
        self.number = 1

    def back_off(self) -> None:
        """Waits before the next attempt, longer after each one.

        Raises:
            StoppedError: the lane stops.
        """
        self._pause(self._backoff.wait_s(self.number))
        self.number += 1
