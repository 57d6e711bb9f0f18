"""Decides which failed requests are sent again, and when. Both clients obey it; it does nothing itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import httpx

from penstock.client.problems import error_of, retry_after_s
from penstock.errors import UnavailableError

_NEVER_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)


@dataclass(frozen=True, slots=True)
class PlaneCall:
    """A request to the query plane.

    Attributes:
        method, path, params, json, headers: of HTTP; the path begins with a slash.
        timeout_s: until the response begins, and between two parts of it; None: that of the client.
        files: contents by name, sent as a form instead of JSON; `form` has its other fields.
        repeatable: whether it may be sent again after it may have been carried out.
        repeatable_when_unavailable: whether it may in any case after 503 with `Retry-After`: nothing was begun.
    """

    method: str
    path: str
    params: Mapping[str, str | int] = field(default_factory=dict)
    json: object = None
    headers: Mapping[str, str] = field(default_factory=dict)
    timeout_s: float | None = None
    files: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    form: Mapping[str, str] = field(default_factory=dict)
    repeatable: bool = True
    repeatable_when_unavailable: bool = False


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Limits how often a request is sent again, and for how long.

    Attributes:
        max_retries: attempts after the first; 0: none.
        max_wait_s: of all waits of one request together, seconds. A `Retry-After` beyond it is not waited for.
        initial_s: the first wait where the server names none, seconds; each further one is twice as long.
    """

    max_retries: int = 3
    max_wait_s: float = 20.0
    initial_s: float = 0.25


DEFAULT_RETRIES = RetryPolicy()


class RequestAttempts:
    """The attempts of one request.

    Args:
        call: the request.
        policy: how often it is sent again.
        url: of the query plane, for messages.
    """

    def __init__(self, call: PlaneCall, policy: RetryPolicy, url: str) -> None:
        self._call = call
        self._policy = policy
        self._url = url
        self._failures = 0
        self._waited_s = 0.0

    def succeeded(self) -> None:
        """Notes progress: after it a failure has all attempts again."""
        self._failures, self._waited_s = 0, 0.0

    def after_error(self, exc: httpx.HTTPError) -> float:
        """Returns the seconds to wait before the next attempt.

        Raises:
            UnavailableError: there is none, because the request may have been carried out or has failed too often.
        """
        may_repeat = isinstance(exc, _NEVER_SENT) or (self._call.repeatable and not isinstance(exc, httpx.ReadTimeout))
        return self._wait_after(exc, may_repeat=may_repeat)

    def after_break(self, exc: httpx.HTTPError) -> float:
        """Returns the seconds to wait before the request for the rest of a response that broke off or fell silent.

        Raises:
            UnavailableError: it broke off too often without progress.
        """
        return self._wait_after(exc, may_repeat=True)

    def _wait_after(self, exc: httpx.HTTPError, *, may_repeat: bool) -> float:
        wait_s = self._wait_s(None) if may_repeat else None
        if wait_s is None:
            reason = str(exc) or type(exc).__name__
            raise UnavailableError(f"no query plane responds at {self._url} ({reason})") from exc
        return wait_s

    def after_response(self, response: httpx.Response) -> float:
        """Returns the seconds to wait before the next attempt. The response, no success, has been read.

        Raises:
            PenstockError: there is none: the error of the response.
        """
        proposed_s, call = retry_after_s(response.headers), self._call
        may_repeat = response.status_code == 429 or (
            response.status_code == 503
            and (call.repeatable or (call.repeatable_when_unavailable and proposed_s is not None))
        )
        wait_s = self._wait_s(proposed_s) if may_repeat else None
        if wait_s is None:
            raise error_of(response)
        return wait_s

    def _wait_s(self, proposed_s: float | None) -> float | None:
        """Returns the next wait, and counts it; None if the attempts or their time are used up."""
        policy = self._policy
        wait_s = policy.initial_s * 2**self._failures if proposed_s is None else proposed_s
        if self._failures >= policy.max_retries or self._waited_s + wait_s > policy.max_wait_s:
            return None
        self._failures += 1
        self._waited_s += wait_s
        return wait_s
