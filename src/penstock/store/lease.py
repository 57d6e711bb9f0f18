"""Keeps in a writer or lane its driver's epoch, and the time until which it may act on it.

No two clocks are compared, and a delayed message only shortens the time (Gray and Cheriton, 1989, with the time of
receipt at this end as the start of the lease):

    driver                                   writer
      renewal: mark 7               ─►       notes its own time as that of mark 7
      the call has returned         ◄─
      commit in the control group            (acknowledged: no other driver takes over within a session from here)
      renewal: mark 8, 7 confirmed  ─►       may write for `valid_s` from its time of mark 7
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from penstock.errors import UnconfirmedError

# Writers stop at this share of the session. What remains is for a request that they have sent just before: a write
# takes 5 to 400 ms. Clocks of two machines differ by less than one in ten thousand.
VALID_SHARE = 0.8
_NEVER = float("-inf")


@dataclass(frozen=True, slots=True)
class Renewal:
    """A message of the driver to a writer or lane.

    Attributes:
        epoch: the generation of the control group in which the driver received the lease.
        mark: the number of this message; rises.
        confirmed: the number of a message that had been received when the lease was confirmed; 0 for none.
    """

    epoch: int
    mark: int
    confirmed: int


def boot_time_s() -> float:
    """Returns seconds since the machine's start, including those in which it was suspended."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


class LeaseGuard:
    """Says whether the lease still holds, without a request to any process. Safe to call from several threads.

    Args:
        timeout_s: the session of the control group; a confirmation is good for `VALID_SHARE` of it.
        clock: monotonic seconds that continue while the process or the machine is suspended.
    """

    def __init__(self, timeout_s: float, clock: Callable[[], float] = boot_time_s) -> None:
        self._valid_s = timeout_s * VALID_SHARE
        self._clock = clock
        self._lock = threading.Lock()
        self._epoch = 0
        self._marks: dict[int, float] = {}
        self._confirmed = 0  # the newest mark that a message of this epoch has confirmed
        self._valid_until_s = _NEVER
        self._contact_s = clock()

    @property
    def epoch(self) -> int:
        """The newest epoch that the driver has named; 0 before the first."""
        return self._epoch

    @property
    def holds(self) -> bool:
        """Returns whether a request may be sent to the store now."""
        return self._clock() < self._valid_until_s

    @property
    def silent_s(self) -> float:
        """Seconds since the driver's last message, whether its lease was confirmed or not."""
        return self._clock() - self._contact_s

    def renew(self, renewal: Renewal) -> None:
        """Takes a message of the driver. A former epoch's are ignored; others may come in any order, or twice."""
        with self._lock:
            if renewal.epoch < self._epoch:
                return
            if renewal.epoch > self._epoch:
                self._epoch, self._valid_until_s, self._confirmed = renewal.epoch, _NEVER, 0
                self._marks.clear()
            self._contact_s = self._clock()
            if renewal.mark >= self._confirmed:  # an older one may have come before, at a time that was dropped
                self._marks.setdefault(renewal.mark, self._contact_s)
            if (received_s := self._marks.get(renewal.confirmed)) is not None:
                self._valid_until_s = max(self._valid_until_s, received_s + self._valid_s)
            self._confirmed = max(self._confirmed, renewal.confirmed)
            self._marks = {mark: at_s for mark, at_s in self._marks.items() if mark >= self._confirmed}

    def check(self) -> None:
        """Returns if a request may be sent to the store now.

        Raises:
            UnconfirmedError: the lease has run out, or was never confirmed.
        """
        if not self.holds:
            raise UnconfirmedError("the driver's lease is not confirmed: nothing is written until it is")

    def admit(self, epoch: int) -> None:
        """Returns if a write under this epoch may begin.

        Raises:
            UnconfirmedError: as `check` does, or the writer or its caller does not know the newest epoch yet.
        """
        self.check()
        if epoch != self._epoch:
            raise UnconfirmedError(f"a write of epoch {epoch} reached a writer of epoch {self._epoch}: it is retried")
