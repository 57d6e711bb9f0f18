"""Retries after transient failures: exponential backoff, and a circuit breaker for dependencies."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from penstock.errors import PenstockError, TransientError, UnconfirmedError
from penstock.observability import metrics

_MAX_DOUBLINGS = 30  # keeps the power finite; every maximum is reached long before


@dataclass(frozen=True, slots=True)
class Backoff:
    """Exponential backoff, with full jitter (Brooker, "Exponential Backoff And Jitter", 2015) or with none.

    Attributes:
        initial_s: upper bound of the first wait, seconds.
        max_s: upper bound of any wait.
        rng: the random source; None: each wait is its upper bound.
    """

    initial_s: float
    max_s: float
    rng: random.Random | None = None

    def wait_s(self, attempt: int) -> float:
        """Returns the seconds to wait after failed attempt number `attempt`, counted from 1.

        With jitter, at least a tenth of the upper bound.
        """
        bound = min(self.max_s, self.initial_s * 2 ** min(attempt - 1, _MAX_DOUBLINGS))
        return bound if self.rng is None else self.rng.uniform(bound / 10, bound)


class Breaker:
    """A circuit breaker: after a transient failure it lets one call through at a time, until one succeeds.

    Thread-safe.

    Args:
        dependency: its name in the metric `breaker_open` and in `penstock status`, such as "store".
        clock: monotonic seconds.
        backoff: the wait after each failure in a row.

    Attributes:
        last_error: the message of the latest transient failure; empty if there was none.
    """

    def __init__(self, dependency: str, *, clock: Callable[[], float], backoff: Backoff) -> None:
        self.dependency = dependency
        self._clock = clock
        self._backoff = backoff
        self._lock = threading.Lock()
        self._failures = 0
        self._shut_until_s = 0.0
        self._probing = False
        self.last_error = ""

    @property
    def is_open(self) -> bool:
        """Whether the last call failed, so that calls are held back."""
        return self._failures > 0

    def wait_s(self) -> float:
        """Returns the seconds until a call may be tried. If 0, call `attempt` immediately."""
        with self._lock:
            if self._failures == 0:
                return 0.0
            if self._probing:
                return self._backoff.initial_s
            return max(0.0, self._shut_until_s - self._clock())

    @contextmanager
    def attempt(self) -> Iterator[None]:
        """Observes a call. A transient failure opens the breaker; any other end proves that the dependency answers.

        An `UnconfirmedError` does neither: the call did not reach the dependency.
        """
        with self._lock:
            probe = self._failures > 0
            self._probing = self._probing or probe
        try:
            yield
        except UnconfirmedError:
            raise
        except TransientError as exc:
            with self._lock:
                self._failures += 1
                self._shut_until_s = self._clock() + self._backoff.wait_s(self._failures)
                self.last_error = str(exc)
            metrics.BREAKER_OPEN.labels(self.dependency).set(1)
            raise
        except PenstockError:
            self._close()
            raise
        else:
            self._close()
        finally:
            if probe:
                with self._lock:
                    self._probing = False

    def _close(self) -> None:
        with self._lock:
            self._failures = 0
        metrics.BREAKER_OPEN.labels(self.dependency).set(0)
