"""Keeps the lanes of an ingest plane running: starts them, restarts those that end, adds and drains them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import ray
from ray import ObjectRef
from ray.exceptions import GetTimeoutError, RayActorError

from penstock.config import Settings
from penstock.ingest.actor_results import ANSWER_TIMEOUT_S, START_TIMEOUT_S, results_of, results_or_none
from penstock.ingest.executor.autoscaler import LaneUsage
from penstock.ingest.executor.crash_notes import read_on
from penstock.ingest.lane.actor import LaneActor, LaneHost, LaneJournal, call_lane, spawn_lane
from penstock.ingest.lane.handles import WorkerHandles
from penstock.ingest.lane.receive_journal import read_journal
from penstock.ingest.lane.status import LaneStatus
from penstock.ingest.lane.suspects import DeathToll
from penstock.records import Assignment

T = TypeVar("T")

logger = logging.getLogger(__name__)


class LaneSupervisor:
    """The lanes of an ingest plane. Used from the plane's monitor, but for `resize` and `stop`.

    Args:
        settings: of the plane.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._target = settings.ingest.lanes
        self._lanes: list[LaneActor] = []
        self._draining: dict[LaneActor, ObjectRef[bool]] = {}  # each with what resolves once it has left the group
        self._stopping = False
        self._deaths = DeathToll()
        self._pace: float | None = None  # of all lanes together, events per second
        self._journals: dict[LaneActor, ObjectRef[LaneJournal]] = {}

    @property
    def lanes(self) -> Sequence[LaneActor]:
        """Returns the lanes that are to stay, by number."""
        return self._lanes

    @property
    def all(self) -> Sequence[LaneActor]:
        """Returns all lanes, those that drain included."""
        return [*self._lanes, *tuple(self._draining)]  # a copy first: the keeper of the lease reads it too

    def start(self, handles: WorkerHandles) -> None:
        """Starts the lanes, and returns once they are running.

        Raises:
            ConfigError: the group or a topic is refused.
            UnavailableError: a lane cannot be started.
        """
        self._lanes = [self._spawn(handles, number) for number in range(self._target)]
        answers = [call_lane(lane, LaneHost.assignments) for lane in self._lanes]
        results_of(answers, "a lane to start", START_TIMEOUT_S)

    def resize(self, count: int) -> None:
        """Sets the number of lanes and returns immediately; `move_to_target` starts or drains the difference."""
        self._target = count

    def set_pace(self, events_per_s: float | None) -> None:
        """Sets how many events per second all lanes together dispatch at most, also those that start later."""
        self._pace = events_per_s
        for lane in self.all:
            self._send_pace(lane)

    def restart_ended(self, handles: WorkerHandles) -> None:
        """Restarts the lanes that died, and those whose loop is stuck or ended although it was not stopped."""
        lanes = tuple(self._lanes)
        for number, (lane, alive) in enumerate(zip(lanes, _are_alive(lanes), strict=True)):
            if alive or self._stopping:  # read last: a lane that is stopped ends too
                continue
            logger.error("lane-%d ended or is stuck and will be restarted; its log in Ray says why", number)
            ray.kill(lane)
            self._count_death(lane)
            self._lanes[number] = self._spawn(handles, number)

    def replace(self, settings: Settings) -> None:
        """Drains all lanes, and has `move_to_target` start as many with other settings."""
        if self._stopping:
            return
        self._settings = settings
        self._draining |= {lane: call_lane(lane, LaneHost.stop) for lane in self._lanes}
        self._lanes = []

    def move_to_target(self, handles: WorkerHandles) -> None:
        """Starts the lanes that are missing, and drains those above the number.

        A lane that drains is queried like the others until it has left the group.
        """
        if self._stopping:
            return
        while len(self._lanes) < self._target:
            self._lanes.append(self._spawn(handles, len(self._lanes)))
        self._draining |= {lane: call_lane(lane, LaneHost.stop) for lane in self._lanes[self._target :]}
        del self._lanes[self._target :]
        for lane, left in list(self._draining.items()):
            if ray.wait([left], timeout=0)[0]:
                ray.kill(lane)
                del self._draining[lane]
                self._journals.pop(lane, None)

    def stop(self, timeout_s: float) -> bool:
        """Drains all lanes, and returns once they have left the group or the time is over.

        Returns:
            whether all of them have drained; otherwise writers may still work for one.
        """
        self._stopping = True
        left = [*(call_lane(lane, LaneHost.stop) for lane in self._lanes), *self._draining.values()]
        if not left:
            return True
        ended, running = ray.wait(left, num_returns=len(left), timeout=timeout_s)
        return not running and all(results_or_none(ended))

    # --- queries ----------------------------------------------------------------------------------------------------

    def statuses(self) -> Sequence[LaneStatus]:
        """Returns the status of every lane that answers."""
        return [status for status in self._query(LaneHost.status) if status is not None]

    def assignments(self) -> Sequence[Assignment]:
        """Returns the partitions of all lanes that answer."""
        answers = self._query(LaneHost.assignments)
        return [assignment for answer in answers if answer is not None for assignment in answer]

    def usages(self) -> Mapping[LaneActor, LaneUsage | None]:
        """Returns the load that each lane puts on the workers; None for a lane that does not answer."""
        return dict(zip(self.all, self._query(LaneHost.usage), strict=True))

    def publish(self, handles: WorkerHandles, usages: Mapping[LaneActor, LaneUsage | None]) -> None:
        """Sends the handles to the lanes that answered with an older version of them."""
        for lane, usage in usages.items():
            if usage is not None and usage.version < handles.version:
                call_lane(lane, LaneHost.update_handles, handles)

    # --- records that lanes die of ----------------------------------------------------------------------------------

    def _spawn(self, handles: WorkerHandles, number: int) -> LaneActor:
        lane = spawn_lane(self._settings, handles, number, self._deaths.suspects)
        self._journals[lane] = call_lane(lane, LaneHost.journal)
        if self._pace is not None:
            self._send_pace(lane)
        return lane

    def _send_pace(self, lane: LaneActor) -> None:
        call_lane(lane, LaneHost.set_pace, None if self._pace is None else self._pace / self._target)

    def _count_death(self, lane: LaneActor) -> None:
        """Reads which record a dead lane was parsing. The lanes that live learn of a record that became a suspect."""
        answer = self._journals.pop(lane, None)
        journal = None if answer is None else _result_or_none(answer)
        position = None if journal is None else read_on(journal.node, read_journal, journal.path)
        if position is None:
            return
        logger.error("a lane died while it parsed the record at %s", position)
        if self._deaths.add(position):
            for other in self.all:
                call_lane(other, LaneHost.suspect, self._deaths.suspects)

    def _query(self, method: Callable[[LaneHost], T]) -> list[T | None]:
        return results_or_none([call_lane(lane, method) for lane in self.all])


def _are_alive(lanes: Sequence[LaneActor]) -> list[bool]:
    """Returns which lanes run, after one time-out for all. One that does not answer may be busy: it counts as alive."""
    answers = [call_lane(lane, LaneHost.is_running) for lane in lanes]
    answered = ray.wait(answers, num_returns=len(answers), timeout=ANSWER_TIMEOUT_S)[0] if answers else []
    return [answer not in answered or _is_running(answer) for answer in answers]


def _result_or_none(answer: ObjectRef[T]) -> T | None:
    """Returns a result that is there already; None if it is not, or its actor died first."""
    return results_or_none([answer])[0] if ray.wait([answer], timeout=0)[0] else None


def _is_running(answered: ObjectRef[bool]) -> bool:
    try:
        return ray.get(answered, timeout=ANSWER_TIMEOUT_S)
    except GetTimeoutError:
        return True
    except RayActorError:
        return False
