"""Lets a sender send only as much as the ingest plane can take while it stays fresh."""

from __future__ import annotations

import time
from collections.abc import Callable

from penstock.errors import UnavailableError

_LOOK_S = 0.25  # between two looks at a lag that is too high; a look opens connections, and takes some 50 ms
_PATIENCE_S = 30.0  # for a broker that does not answer, as long as a message has to be acknowledged


class LagGate:
    """Admits messages while the group's lag, and what was sent since it was read, stay below a bound.

    Each look at the lag gives credit for what is missing to the bound; each message takes one. So the lag never
    exceeds the bound by the sender's doing, however long a look takes.

    Args:
        read_lag: returns the events that the group has not committed.
        max_lag: the bound.
        in_flight: returns the messages that were sent and are not acknowledged, which no lag counts yet.
        clock: monotonic seconds.
        sleep: waits for seconds.
    """

    def __init__(
        self,
        read_lag: Callable[[], int],
        max_lag: int,
        *,
        in_flight: Callable[[], int],
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._read_lag = read_lag
        self._max_lag = max_lag
        self._in_flight = in_flight
        self._clock = clock
        self._sleep = sleep
        self._credit = 0
        self.waited_s = 0.0

    def admit(self) -> None:
        """Waits until one more message may be sent.

        Raises:
            UnavailableError: the lag could not be read for half a minute.
        """
        while self._credit <= 0:
            self._credit = self._max_lag - self._lag() - self._in_flight()
            if self._credit <= 0:
                self.waited_s += _LOOK_S
                self._sleep(_LOOK_S)
        self._credit -= 1

    def _lag(self) -> int:
        until_s = self._clock() + _PATIENCE_S
        while True:
            try:
                return self._read_lag()
            except UnavailableError:
                if self._clock() >= until_s:
                    raise
                self._sleep(_LOOK_S)
