"""When to try again: backoff with jitter, and a breaker that spares an absent store the whole crowd."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from penstock.errors import PenstockError, TransientError
from penstock.observability import metrics


@dataclass(frozen=True, slots=True)
class Backoff:
    """Exponential backoff with full jitter (Brooker, "Exponential Backoff And Jitter", 2015).

    Attributes:
        initial_s: upper bound of the first wait, seconds.
        max_s: upper bound of any wait.
        rng: the random source.
    """

    initial_s: float
    max_s: float
    rng: random.Random

    def wait_s(self, attempt: int) -> float:
        """Seconds to wait after the failed attempt `attempt`, counted from 1; at least a tenth of the bound."""
        bound = min(self.max_s, self.initial_s * 2 ** min(attempt - 1, 30))
        return self.rng.uniform(bound / 10, bound)


class Breaker:
    """Lets calls through while they succeed; after a transient failure, one at a time until one succeeds.

    Safe to use from several threads.

    Args:
        dependency: its name in the metric and in `status`, such as "store".
        clock: monotonic seconds.
        backoff: how long it stays shut after each failure in a row.
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
        """Whether the last call failed (the circuit is broken)."""
        return self._failures > 0

    def wait_s(self) -> float:
        """Seconds until a call may be tried; 0 if now. Where the answer is 0, call `attempt` at once."""
        with self._lock:
            if self._failures == 0:
                return 0.0
            if self._probing:
                return self._backoff.initial_s
            return max(0.0, self._shut_until_s - self._clock())

    @contextmanager
    def attempt(self) -> Iterator[None]:
        """Around a call: notes whether it failed transiently. Any other outcome means that the other side answers."""
        with self._lock:
            probe = self._failures > 0
            self._probing = self._probing or probe
        try:
            yield
        except TransientError as exc:
            with self._lock:
                self._failures += 1
                self._shut_until_s = self._clock() + self._backoff.wait_s(self._failures)
                self.last_error = str(exc)
            metrics.BREAKER_OPEN.labels(self.dependency).set(1)
            raise
        except PenstockError:
            self._answered()
            raise
        else:
            self._answered()
        finally:
            if probe:
                with self._lock:
                    self._probing = False

    def _answered(self) -> None:
        with self._lock:
            self._failures = 0
        metrics.BREAKER_OPEN.labels(self.dependency).set(0)
