"""Parses records that lanes died of in a bounded process, so that no lane dies of them again.

    1. A lane notes each record before it parses it (`ReceiveJournal`).
    2. The supervisor reads the note of a lane that died, and counts the deaths of each record.
    3. After `MAX_DEATHS` the record is a suspect: each lane that receives it has a child process parse it.
    4. A child that dies, or takes too much memory or time, makes the record a dead letter `crashes_worker`.

The offset is so settled and committed as that of any other dead letter, in its order.
"""

from __future__ import annotations

import logging
import pickle
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from penstock.errors import Reason
from penstock.ingest.lane.receive_journal import ReceiveJournal
from penstock.records import Event, Position, Record, Rejected

logger = logging.getLogger(__name__)

MAX_DEATHS = 3
_MAX_NOTED = 10_000  # positions; a plane whose lanes died of more has another fault than its records
# A child imports for .3 s, and parses 16 MiB in less than one; a busy machine takes many times longer. The lane does
# not poll during that time: after fifteen suspects of one poll that run into it, kafka.max_poll_interval_ms has passed.
_CHILD_TIMEOUT_S = 20.0


class DeathToll:
    """Counts how many lanes died while they parsed each record. Belongs to the supervisor of the lanes."""

    def __init__(self) -> None:
        self._deaths: Counter[Position] = Counter()

    def add(self, position: Position) -> bool:
        """Counts a death, and returns whether the record has just become a suspect."""
        if len(self._deaths) >= _MAX_NOTED and position not in self._deaths:
            self._deaths.clear()
        self._deaths[position] += 1
        return self._deaths[position] == MAX_DEATHS

    @property
    def suspects(self) -> frozenset[Position]:
        """Returns the records that are to be parsed in a process of their own."""
        return frozenset(position for position, deaths in self._deaths.items() if deaths >= MAX_DEATHS)


@dataclass(slots=True)
class NotedParser:
    """Parses records for a lane, with a note of each, and suspects in a child process.

    Attributes:
        parse: step 1; picklable, as the child gets it.
        journal: receives the notes.
        suspects: records that lanes died of. Replaced as a whole, from another thread.
    """

    parse: Callable[[Record], Event | Rejected]
    journal: ReceiveJournal
    suspects: frozenset[Position] = field(default=frozenset())

    def __call__(self, record: Record) -> Event | Rejected:
        """Parses a record. An exception leaves the note, as the lane ends of it."""
        if record.position in self.suspects:
            return parse_in_child(self.parse, record)
        self.journal.begin(record.position)
        parsed = self.parse(record)
        self.journal.end()
        return parsed

    def suspect(self, positions: Iterable[Position]) -> None:
        """Has these records parsed in a child when they arrive."""
        self.suspects |= frozenset(positions)


def parse_in_child(
    parse: Callable[[Record], Event | Rejected], record: Record, *, timeout_s: float = _CHILD_TIMEOUT_S
) -> Event | Rejected:
    """Parses a record in a process of its own, of bounded memory and time (`parse_child`).

    Returns:
        what `parse` returned there; a rejection as `CRASHES_WORKER` if the process died, or ran into a bound.
    """
    logger.warning("the record at %s has ended %d lanes: a process of its own parses it", record.position, MAX_DEATHS)
    command = [sys.executable, "-m", "penstock.ingest.lane.parse_child"]
    try:
        done = subprocess.run(
            command, input=pickle.dumps((parse, record)), capture_output=True, timeout=timeout_s, check=False
        )
    except subprocess.TimeoutExpired:
        return _rejected(record, f"had not parsed it after {timeout_s:g} s")
    if done.returncode:
        logger.error("the process ended so: %s", done.stderr[-2_000:].decode(errors="replace"))
        how = f"signal {-done.returncode}" if done.returncode < 0 else f"exit code {done.returncode}"
        return _rejected(record, f"died of it too ({how})")
    parsed: Event | Rejected = pickle.loads(done.stdout)
    return parsed


def _rejected(record: Record, outcome: str) -> Rejected:
    detail = f"{MAX_DEATHS} lanes died while they parsed the message, and a process of its own {outcome}"
    return Rejected(record.position, "receive", Reason.CRASHES_WORKER, detail)
