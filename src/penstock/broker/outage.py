"""Logs the absence of all brokers once, and spaces out attempts to connect and those that are refused."""

from __future__ import annotations

import logging

from penstock.retries import Backoff

logger = logging.getLogger(__name__)

# Joining a group takes a second or two; only a longer silence is worth a line. The plane's driver warns of it.
_PATIENCE_S = 3.0
_REFUSED_RETRY_S = 5.0  # only a change of the brokers' rights or settings helps


class RefusedRequests:
    """Spaces out the requests of a client that brokers let connect, and deny what it needs.

    Attributes:
        reason: why the latest request was refused; empty if it was not.
    """

    def __init__(self) -> None:
        self.reason = ""
        self._retry_at_s = 0.0

    def wait_s(self, now_s: float) -> float:
        """Returns the seconds until the next request is due; 0 if it is."""
        return max(0.0, self._retry_at_s - now_s)

    def record(self, error: Exception, now_s: float) -> None:
        """Notes that a request was refused."""
        self.reason, self._retry_at_s = str(error), now_s + _REFUSED_RETRY_S


class Outage:
    """Logs once that no broker answers and once that one answers again.

    Args:
        server: the brokers, for the log.
        backoff: the waits between attempts to connect.
    """

    def __init__(self, server: str, backoff: Backoff) -> None:
        self._server = server
        self._backoff = backoff
        self._since_s: float | None = None
        self._logged = False
        self._failures = 0
        self._next_attempt_s = 0.0

    def wait_s(self, now_s: float) -> float:
        """Returns the seconds until the next attempt to connect is due; 0 if it is."""
        return max(0.0, self._next_attempt_s - now_s)

    def record_failure(self, now_s: float) -> None:
        """Notes that an attempt to connect failed."""
        self._failures += 1
        self._next_attempt_s = now_s + self._backoff.wait_s(self._failures)
        self.record(False, now_s)

    def record(self, available: bool, now_s: float) -> None:
        """Notes whether a broker answers now, and logs a change."""
        if available:
            if self._logged:
                logger.info("%s answers again", self._server)
            self._since_s, self._logged, self._failures = None, False, 0
            return
        self._since_s = now_s if self._since_s is None else self._since_s
        if not self._logged and now_s - self._since_s >= _PATIENCE_S:
            logger.info("%s does not answer; retrying", self._server)
            self._logged = True
