"""Keeps the driver's lease while the plane runs, and passes each confirmation on to writers and lanes."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from penstock.errors import LeaseHeldError, PenstockError, UnconfirmedError
from penstock.ingest.lease import CONFIRM_INTERVAL_S, DriverLease
from penstock.store.lease import Renewal

logger = logging.getLogger(__name__)

# Until every recipient has had a confirmation: nothing is written before.
_EAGER_INTERVAL_S = 0.1
_EAGER_FOR_S = 5.0
_MAX_PENDING = 5


class SentMessage(Protocol):
    """A message under way to a writer or lane."""

    def received(self) -> bool | None:
        """Returns whether it was received; None while that is not known."""


@dataclass(slots=True)
class _Recipient:
    """A writer or lane.

    Attributes:
        since_s: when it was seen first.
        pending: the messages under way, by mark.
        received: the newest mark that it is known to have received.
        confirmed: the newest mark that it had received when the lease was confirmed.
    """

    since_s: float
    pending: dict[int, SentMessage] = field(default_factory=dict)
    received: int = 0
    confirmed: int = 0

    def collect(self) -> None:
        """Notes which messages were received."""
        for mark, delivery in list(self.pending.items()):
            if (received := delivery.received()) is not None:
                del self.pending[mark]
                self.received = max(self.received, mark) if received else self.received


class LeaseRenewals:
    """Turns confirmations into messages; see `store.lease` for why this is safe.

    1. Note which messages were received. If the last confirmation failed, this one may take seconds, in which the
       recipients must not take the driver for dead: send each a message that confirms nothing. It is noted in the next
       turn at the earliest.
    2. Confirm the lease.
    3. Send each recipient a new message; those that were noted in 1 are confirmed with it.

    Args:
        confirm: confirms the lease; see `DriverLease.confirm`.
        send: sends a message to a recipient.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        confirm: Callable[[], int | None],
        send: Callable[[Hashable, Renewal], SentMessage],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._confirm = confirm
        self._send = send
        self._clock = clock
        self._mark = 0
        self._epoch = 0
        self._waits = False  # for the broker: the last confirmation failed
        self._recipients: dict[Hashable, _Recipient] = {}

    def turn(self, members: Sequence[Hashable]) -> None:
        """Makes one turn for these recipients.

        Raises:
            LeaseHeldError: another driver holds the lease.
        """
        known = self._recipients
        self._recipients = {member: known.get(member) or _Recipient(self._clock()) for member in members}
        for recipient in self._recipients.values():  # 1
            recipient.collect()
        if self._waits:
            self._send_all(confirming=False)
        self._waits = True  # also if the next line raises
        epoch = self._confirm()  # 2
        self._waits = epoch is None
        if epoch is not None and epoch != self._epoch:
            self._epoch = epoch
            for recipient in self._recipients.values():
                recipient.pending.clear()
                recipient.received = recipient.confirmed = 0
        elif epoch is not None:
            for recipient in self._recipients.values():
                recipient.confirmed = recipient.received
        self._send_all(confirming=True)  # 3

    def _send_all(self, *, confirming: bool) -> None:
        self._mark += 1
        for member, recipient in self._recipients.items():
            if len(recipient.pending) >= _MAX_PENDING:
                continue  # it is suspended, and would receive all of them when it continues
            renewal = Renewal(self._epoch, self._mark, recipient.confirmed if confirming else 0)
            recipient.pending[self._mark] = self._send(member, renewal)

    @property
    def interval_s(self) -> float:
        """Returns the seconds until the next turn is due."""
        since_s = [recipient.since_s for recipient in self._recipients.values() if not recipient.confirmed]
        waiting = any(self._clock() - first_s < _EAGER_FOR_S for first_s in since_s)
        return _EAGER_INTERVAL_S if waiting else CONFIRM_INTERVAL_S


class LeaseKeeper:
    """Confirms a lease in a thread of its own until `stop`.

    Args:
        lease: acquired.
        members: returns the present writers and lanes.
        send: sends a message to one of them.
        sleep: waits for these seconds.
    """

    def __init__(
        self,
        lease: DriverLease,
        members: Callable[[], Sequence[Hashable]],
        send: Callable[[Hashable, Renewal], SentMessage],
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self._sleep = sleep
        self._lease = lease
        self._members = members
        self._renewals = LeaseRenewals(lease.confirm, send)
        self._stop = threading.Event()
        self._lost: LeaseHeldError | None = None
        self._thread = threading.Thread(target=self._run, name="lease", daemon=True)

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def check(self) -> None:
        """Raises `LeaseHeldError` once another driver holds the lease."""
        if self._lost is not None:
            raise self._lost

    def check_write(self) -> None:
        """Returns if this process may send a request to the store now, as `LeaseGuard.check` does in a writer.

        Raises:
            LeaseHeldError: another driver holds the lease.
            UnconfirmedError: the last confirmation has run out.
        """
        self.check()
        if not self._lease.holds:
            raise UnconfirmedError("the lease is not confirmed: nothing is written until it is")

    @property
    def is_lost(self) -> bool:
        """Returns whether another driver holds the lease."""
        return self._lost is not None

    def stop(self, *, writers_may_run: bool = False) -> None:
        """Ends the thread and releases the lease. Idempotent.

        Args:
            writers_may_run: whether a write may still be under way. The lease is kept, without a confirmation, until no
                writer may act on the last one.
        """
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        if writers_may_run and not self.is_lost and (wait_s := self._lease.valid_s) > 0:
            logger.warning("writers may still be at work: the lease is released in %.1f s", wait_s)
            self._sleep(wait_s)
        self._lease.release()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._renewals.turn(self._members())
            except LeaseHeldError as exc:
                self._lost = exc
                return
            except PenstockError as exc:
                logger.warning("the lease could not be confirmed and will be retried: %s", exc)
            except Exception:  # whatever it is, an unconfirmed lease stops every write
                logger.exception("unexpected error while the lease was confirmed; continuing")
            self._stop.wait(self._renewals.interval_s)
