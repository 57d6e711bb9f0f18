"""The lease of an ingest plane's driver: at most one driver of a consumer group writes, in any Ray cluster.

    acquire    observe the control group ─► join it once it has no member ─► own its partition, leave a note of oneself
    confirm    poll ─► commit in the same generation: no other driver owns the partition for a session from then on
    release    leave the group, after the last write

A driver joins only an empty group. So a standby causes no rebalance, in which a driver could lose its membership. The
epoch is the generation in which the partition was received; the coordinator never gives the same one twice.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Self

from penstock.broker.base import Consumer
from penstock.broker.control import ControlGroup, ControlGroupState
from penstock.errors import ConfigError, FencedError, LeaseHeldError, UnavailableError
from penstock.store.lease import VALID_SHARE, boot_time_s

logger = logging.getLogger(__name__)

CONFIRM_INTERVAL_S = 1.0
_OBSERVE_INTERVAL_S = 0.5
_POLL_S = 0.1
_COMMIT_TIMEOUT_S = 2.0
_ANSWER_TIMEOUT_S = 20.0  # of the broker at the start: a new one creates the topic of its groups first
_CLOSE_TIMEOUT_S = 5.0
_NEVER = float("-inf")


@dataclass(frozen=True, slots=True)
class LeaseHolder:
    """A driver, as the note of the control group names it.

    Attributes:
        host, pid: its process.
        since_ms: its start, milliseconds since the epoch.
        ray: the address of its Ray cluster.
        token: distinguishes it from any other driver.
    """

    host: str
    pid: int
    since_ms: int
    ray: str
    token: str

    @classmethod
    def of_this_process(cls, ray_address: str | None) -> Self:
        """Returns a new holder for this process."""
        ray = ray_address or "a local one"
        return cls(socket.gethostname(), os.getpid(), time.time_ns() // 1_000_000, ray, uuid.uuid4().hex)

    @classmethod
    def parse(cls, note: str) -> Self | None:
        """Returns the holder that wrote a note; None for an empty or foreign one."""
        try:
            fields = json.loads(note)
            return cls(**{name: fields[name] for name in cls.__slots__})
        except (ValueError, KeyError, TypeError):
            return None

    def note(self, confirmations: int) -> str:
        """Returns the note after this many confirmations; each differs from the one before."""
        return json.dumps(asdict(self) | {"confirmations": confirmations})

    def __str__(self) -> str:
        since = datetime.fromtimestamp(self.since_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        return f"the driver with pid {self.pid} on {self.host}, since {since}, on Ray {self.ray}"


class _HolderWatch:
    """Finds out whether the holder of the lease is alive: its note changes with every confirmation."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._note: str | None = None
        self._changed_s = clock()
        self._said = ""

    @property
    def silent_s(self) -> float:
        """Returns the seconds since the note was seen to change."""
        return self._clock() - self._changed_s

    def begin_anew(self) -> None:
        """Counts the silence after this call: no note could be read before."""
        self._changed_s = self._clock()

    def is_alive(self, note: str) -> bool:
        """Returns whether the note has changed since the last call."""
        changed = self._note is not None and note != self._note
        if changed:
            self._changed_s = self._clock()
        self._note = note
        return changed

    def say(self, message: str) -> None:
        """Logs a message, unless it was the last one."""
        if message != self._said:
            logger.warning("%s", message)
            self._said = message


class DriverLease:
    """The lease of one driver. Used from one thread at a time.

    Args:
        group: the control group.
        group_name: of the consumer group that is ingested for, for messages.
        holder: this driver.
        timeout_s: the session of the control group.
        clock: monotonic seconds that continue while the machine is suspended.
        sleep: waits for these seconds.
    """

    def __init__(
        self,
        group: ControlGroup,
        group_name: str,
        holder: LeaseHolder,
        *,
        timeout_s: float,
        clock: Callable[[], float] = boot_time_s,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self._group = group
        self._group_name = group_name
        self._holder = holder
        self._timeout_s = timeout_s
        self._clock = clock
        self._sleep = sleep
        self._consumer: Consumer | None = None
        self._epoch: int | None = None
        self._confirmations = 0
        self._confirmed_s = clock()
        self._proven_s = _NEVER  # the lease was confirmed at this time or later
        self._foreign_note = ""
        self._refusal = ""

    def acquire(self, *, wait: bool, stop: threading.Event) -> bool:
        """Waits until no other driver holds the lease, and takes it.

        The lease of a driver that ended without leaving is free once its session has run out; one whose note changes is
        alive.

        Args:
            wait: whether to wait for a driver that is alive to end.
            stop: ends the wait.

        Returns:
            whether this driver holds the lease now; False only if `stop` was set.

        Raises:
            LeaseHeldError: another driver is alive, and `wait` is False.
            ConfigError: the broker refuses this client, or it lacks a right on the control group or its topic.
            UnavailableError: the broker does not answer, or the group never becomes empty. A standby that has had an
                answer waits for the broker too.
        """
        watch = _HolderWatch(self._clock)
        patient = False
        while not stop.is_set():
            state = self._observe(stop, watch, patient=patient)
            if state is None:
                return False
            patient = wait
            if state.members == 0:
                if self._join(state.note, stop):
                    return True
                watch = _HolderWatch(self._clock)
            elif watch.is_alive(state.note):
                if not wait:
                    raise self._held_error(state.note)
                watch.say(f"waiting for {_name(state.note)} to end")
            elif watch.silent_s > self._timeout_s / 2:
                watch.say(f"{_name(state.note)} is silent; its lease runs out within {self._timeout_s:.0f} s")
                if watch.silent_s > 3 * self._timeout_s:
                    raise UnavailableError(
                        f"the control group of {self._group_name} keeps a member that does not confirm its lease "
                        f"({_name(state.note)}). Another program may consume the topic: see kafka.control_topic."
                    )
            self._sleep(_OBSERVE_INTERVAL_S)
        return False

    def confirm(self) -> int | None:
        """Returns the epoch if the broker has confirmed now that this driver holds the lease; None if not, for now.

        A driver that was removed joins again, and holds the lease in a newer epoch if it receives the partition. One
        whose session must have run out looks for a successor first, which its joining would disturb by a rebalance.

        Raises:
            LeaseHeldError: another driver holds it now.
        """
        assert self._consumer is not None
        if self._clock() - self._confirmed_s > self._timeout_s:
            self._refuse_successor()
        generation = self._consumer.generation()
        self._follow_group()
        if self._epoch is None:
            self._refuse_successor()
            return None
        began_s = self._clock()
        try:
            self._consumer.commit({self._group.partition: 0}, _COMMIT_TIMEOUT_S, note=self._next_note())
        except FencedError:
            self._epoch = None
            return None
        except UnavailableError:
            return None
        # A join between the poll and the commit may have changed owners in between: the next poll reports it.
        if self._consumer.generation() != generation:
            return None
        self._confirmed_s, self._proven_s = self._clock(), began_s
        return self._epoch

    @property
    def holds(self) -> bool:
        """Returns whether this process may send a request to the store now. Safe to call from another thread."""
        return self._epoch is not None and self._clock() < self._proven_s + VALID_SHARE * self._timeout_s

    @property
    def valid_s(self) -> float:
        """Returns the seconds for which a writer may still act on the latest confirmation; 0 if for none."""
        return max(0.0, self._confirmed_s + VALID_SHARE * self._timeout_s - self._clock())

    def release(self) -> None:
        """Leaves the control group, so that another driver need not wait. Idempotent."""
        consumer, self._consumer = self._consumer, None
        self._epoch = None
        if consumer is not None:
            consumer.close(_CLOSE_TIMEOUT_S)
        self._group.close()

    # --- acquire ----------------------------------------------------------------------------------------------------

    def _observe(self, stop: threading.Event, watch: _HolderWatch, *, patient: bool) -> ControlGroupState | None:
        """Returns the state of the group, once the broker answers; None if `stop` is set first.

        Args:
            stop: ends the wait.
            watch: of the present holder.
            patient: whether to wait for an answer without an end.
        """
        deadline_s = self._clock() + _ANSWER_TIMEOUT_S
        while not stop.is_set():
            try:
                return self._group.state()
            except UnavailableError:
                if not patient and self._clock() > deadline_s:
                    raise
                if patient:
                    watch.say("no broker answers; this standby waits until one does")
                watch.begin_anew()
                self._sleep(_OBSERVE_INTERVAL_S)
        return None

    def _join(self, note: str, stop: threading.Event) -> bool:
        """Joins the group and returns whether this driver received the lease; leaves if another one did.

        Args:
            note: as it was before this driver joined.
            stop: ends the attempt.
        """
        self._consumer, self._foreign_note = self._group.join(), note
        self._confirmed_s = self._clock()
        deadline_s = self._clock() + _ANSWER_TIMEOUT_S
        while not stop.is_set() and self._clock() < deadline_s:
            try:
                if self.confirm() is not None:
                    return True
                if self._refusal:
                    raise ConfigError(self._refusal)
            except LeaseHeldError:
                break
            self._sleep(_POLL_S)
        self._consumer.close(_CLOSE_TIMEOUT_S)
        self._consumer = None
        return False

    def _held_error(self, note: str) -> LeaseHeldError:
        return LeaseHeldError(
            f"another driver ingests for the consumer group {self._group_name}: {_name(note)}. Stop it, use another "
            "kafka.group and store.version, or start this one with --wait (ingest.wait_for_lease) as its standby."
        )

    # --- confirm ----------------------------------------------------------------------------------------------------

    def _follow_group(self) -> None:
        """Applies what the group decided. A lease that is being revoked is not confirmed any more."""
        assert self._consumer is not None
        partition = self._group.partition
        polled = self._consumer.poll(_POLL_S, 1)
        self._refusal = polled.refusal or polled.denied.get(partition.topic, "")
        if partition in polled.revoked_without_drain:
            self._epoch = None
        for assigned in polled.assigned:
            self._epoch = assigned.assignment.generation
            logger.info("holds the lease of %s in epoch %d", self._group_name, self._epoch)
        if partition in polled.revoking:
            self._epoch = None

    def _refuse_successor(self) -> None:
        """Raises `LeaseHeldError` if the note is of another driver and was written after this one had joined."""
        try:
            note = self._group.state().note
        except UnavailableError:
            return
        holder = LeaseHolder.parse(note)
        if note != self._foreign_note and holder is not None and holder.token != self._holder.token:
            raise self._held_error(note)

    def _next_note(self) -> str:
        self._confirmations += 1
        return self._holder.note(self._confirmations)


def _name(note: str) -> str:
    return str(LeaseHolder.parse(note) or "a driver that has just started")
