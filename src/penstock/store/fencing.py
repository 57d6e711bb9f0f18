"""Refuses writes of lanes that have lost their partition, and of drivers that have lost their lease.

A partition is lost to a newer generation of the consumer group, the lease to a newer epoch (`store.lease`).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable

from penstock.errors import NotReadyError
from penstock.records import Assignment
from penstock.store.base import EntryWriter
from penstock.store.lease import LeaseGuard

logger = logging.getLogger(__name__)


class Fence:
    """The newest known generation of each partition. Safe to call from several threads.

    A new fence knows nothing and admits nothing until `start`: after a restart it could otherwise take the write of a
    lane that has lost its partition for a rightful one. It then learns newer assignments from the writes themselves.

    Args:
        store: catches up with other writers before a newer assignment or epoch is recorded.
        lease: of the driver; None where there is no other driver, as in tests and benchmarks.
    """

    def __init__(self, store: EntryWriter, lease: LeaseGuard | None = None) -> None:
        self._store = store
        self._lease = lease
        self._epoch = 0  # up to which the store has caught up
        self._lock = threading.Lock()  # guards the generations
        self._generations: dict[tuple[str, int], int] | None = None

    @property
    def is_started(self) -> bool:
        """Whether the assignments in force are known."""
        return self._generations is not None

    def start(self, assignments: Iterable[Assignment]) -> None:
        """Records the assignments in force. Never lowers a known generation.

        Raises:
            UnavailableError: the store does not answer; the fence is not started.
        """
        self._store.catch_up()
        with self._lock:
            self._generations = self._generations or {}
            self._record_assignments(assignments)

    def check(self, lane: str, assignments: Iterable[Assignment], epoch: int = 0) -> frozenset[tuple[str, int]]:
        """Returns the (topic, partition) pairs whose assignment is older than the newest known; records newer ones.

        The events of these pairs must be refused.

        Call it with the assets locked. Later reads then see everything that a newer owner wrote to them while this
        write waited. They also see everything written while a partition had another owner, perhaps in another plane.

        Raises:
            NotReadyError: the fence is not started, or the lease is not confirmed under this epoch.
            UnavailableError: the store does not answer.
        """
        assignments = tuple(assignments)
        if self._lease is not None:
            self._lease.admit(epoch)
        if self._has_newer_assignment(assignments) or epoch > self._epoch:
            self._store.catch_up()  # before any thread can take these assignments for known
            self._epoch = max(epoch, self._epoch)
        with self._lock:
            assert self._generations is not None
            fenced = frozenset(
                (assignment.topic, assignment.partition)
                for assignment in assignments
                if assignment.generation < self._generations.get((assignment.topic, assignment.partition), -1)
            )
            self._record_assignments(assignments)
        for topic, partition in sorted(fenced):
            logger.warning("refused a write of lane %s to %s[%d]: it has lost the partition", lane, topic, partition)
        return fenced

    def _has_newer_assignment(self, assignments: Iterable[Assignment]) -> bool:
        with self._lock:
            known = self._generations
            if known is None:
                raise NotReadyError("writer restarted: waiting for partition assignments; the batch will be retried")
            return any(
                assignment.generation > known.get((assignment.topic, assignment.partition), -1)
                for assignment in assignments
            )

    def _record_assignments(self, assignments: Iterable[Assignment]) -> None:
        known = self._generations
        assert known is not None
        for assignment in assignments:
            key = (assignment.topic, assignment.partition)
            known[key] = max(assignment.generation, known.get(key, -1))
