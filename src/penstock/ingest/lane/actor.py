"""The Ray actor around a lane, and the typed requests to it."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeAlias, TypeVar

import ray
from ray import ObjectRef
from ray.actor import ActorHandle

from penstock.broker.record_parser import RecordParser, present_ms
from penstock.broker.replay_keys import ReplayKeys
from penstock.config import Settings
from penstock.ingest.executor.autoscaler import LaneUsage
from penstock.ingest.executor.crash_notes import journal_dir
from penstock.ingest.executor.proxies import Pools
from penstock.ingest.executor.ray_pool import RayPool
from penstock.ingest.lane.assembly import build_lane
from penstock.ingest.lane.handles import DECODE, FETCH, LONG_MEDIA, WRITE, WorkerHandles
from penstock.ingest.lane.receive_journal import ReceiveJournal
from penstock.ingest.lane.status import LaneStatus
from penstock.ingest.lane.suspects import NotedParser
from penstock.observability import tracing
from penstock.observability.node_endpoints import start_keeping
from penstock.observability.process import prepare_process
from penstock.records import Assignment, Position
from penstock.runtime_tuning import relax_gc, tune_malloc
from penstock.store.lease import LeaseGuard, Renewal

P = ParamSpec("P")
T = TypeVar("T")

logger = logging.getLogger(__name__)

_WATCH_INTERVAL_S = 1.0
_FLUSH_S = 2.0  # of spans, before the plane ends this process


@dataclass(frozen=True, slots=True)
class LaneJournal:
    """Names the file in which a lane notes the record that it parses, and the node that has it."""

    node: str
    path: Path


class LaneHost:
    """Runs the loop of a lane in a thread of its own, and answers questions beside it.

    Args:
        settings: of the plane.
        handles: the actors that the lane calls.
        number: of the lane.
        suspects: records that other lanes have died of.
    """

    def __init__(
        self, settings: Settings, handles: WorkerHandles, number: int, suspects: frozenset[Position] = frozenset()
    ) -> None:
        prepare_process(settings, "lane")
        start_keeping(settings, has_driver=True)
        tune_malloc()
        pool = partial(RayPool, call_timeout_s=settings.ingest.call_timeout_s)
        self._pools = {name: pool(name, actors) for name, actors in handles.by_pool().items()}
        self._version = handles.version
        self._updating = threading.Lock()
        pools = Pools.over(
            fetch=self._pools[FETCH],
            decode=self._pools[DECODE],
            long_media=self._pools[LONG_MEDIA],
            encoders={role: self._pools[role] for role in handles.encoders},
            writers=self._pools[WRITE],
            concurrent_writes=handles.concurrent_writes,
        )
        self._lease = LeaseGuard(settings.ingest.lease_timeout_s)
        self._journal = _journal_of_this_actor(settings)
        parser = RecordParser.of(settings, ReplayKeys.of(settings), now_ms=present_ms)
        self._parser = NotedParser(parser, ReceiveJournal(self._journal.path), suspects)
        self._lane = build_lane(settings, pools, f"lane-{number}", self._lease, self._parser)
        relax_gc()
        self._drained = False
        self._thread = threading.Thread(target=self._run, name="lane", daemon=True)
        self._thread.start()
        watch = partial(self._leave_without_driver, settings.ingest.lease_timeout_s)
        threading.Thread(target=watch, name="lease-watch", daemon=True).start()

    def update_handles(self, handles: WorkerHandles) -> None:
        """Sends later calls to these actors, unless their set is older than the one in use. Running calls continue."""
        with self._updating:
            if handles.version > self._version:
                by_pool = handles.by_pool()
                for name in (DECODE, *handles.encoders):
                    self._pools[name].replace(by_pool[name])
                self._version = handles.version

    def usage(self) -> LaneUsage:
        """Returns the load that this lane puts on each actor.

        The version is read first: the actors may then be of a newer set, never of an older one.
        """
        version = self._version
        return LaneUsage(version, time.monotonic(), {name: pool.usage() for name, pool in self._pools.items()})

    def journal(self) -> LaneJournal:
        """Returns where the lane notes the record that it parses."""
        return self._journal

    def suspect(self, positions: frozenset[Position]) -> None:
        """Has records of which lanes have died parsed by a process of its own."""
        self._parser.suspect(positions)

    def renew_lease(self, renewal: Renewal) -> None:
        """Takes a message of the driver about its lease; see `LeaseGuard.renew`."""
        self._lease.renew(renewal)

    def set_pace(self, events_per_s: float | None) -> None:
        """Sets how many events per second the lane dispatches at most; see `Lane.set_pace`."""
        self._lane.set_pace(events_per_s)

    def assignments(self) -> tuple[Assignment, ...]:
        """Returns the partitions that the lane owns."""
        return self._lane.assignments()

    def status(self) -> LaneStatus:
        """Returns the status of the lane as of its latest commit interval."""
        return self._lane.status()

    def is_running(self) -> bool:
        """Returns whether the loop of the lane has neither ended nor got stuck."""
        return self._thread.is_alive() and not self._lane.is_stuck()

    def stop(self) -> bool:
        """Returns once the lane has drained, committed and left the group.

        Returns:
            whether it drained in time; otherwise writers may still work for it.
        """
        self._lane.stop()
        self._thread.join()
        tracing.current().flush(_FLUSH_S)
        return self._drained

    def _run(self) -> None:
        self._drained = self._lane.run()

    def _leave_without_driver(self, timeout_s: float) -> None:
        """Ends the lane once the driver has been silent for a session: its successor's lanes need the partitions.

        A driver that was killed takes its actors along; one that is suspended, or whose node is lost, does not.
        """
        while self._thread.is_alive():
            if self._lease.silent_s > timeout_s:
                logger.error("the driver has been silent for %.0f s: the lane leaves the consumer group", timeout_s)
                self._lane.stop(drain=False)
                return
            self._thread.join(_WATCH_INTERVAL_S)


def _journal_of_this_actor(settings: Settings) -> LaneJournal:
    context = ray.get_runtime_context()
    return LaneJournal(context.get_node_id(), journal_dir(settings) / "lanes" / str(context.get_actor_id()))


LaneActor: TypeAlias = ActorHandle[LaneHost]
"""A handle of a lane's actor: hashable, and passed between processes."""


def spawn_lane(
    settings: Settings, handles: WorkerHandles, number: int, suspects: frozenset[Position] = frozenset()
) -> LaneActor:
    """Starts the actor of a lane.

    Ray does not restart it: that needs the constructor's arguments from an object store that may have lost them. The
    plane does (`LaneSupervisor.restart_ended`).
    """
    options: dict[str, Any] = {
        "num_cpus": 0.1,
        "max_concurrency": 4,
        "max_restarts": 0,
        "label_selector": settings.placement.workers,
        "scheduling_strategy": "SPREAD",
    }
    actor: Any = ray.remote(LaneHost)
    lane: LaneActor = actor.options(**options).remote(settings, handles, number, suspects)
    return lane


def call_lane(
    lane: LaneActor, method: Callable[Concatenate[LaneHost, P], T], *args: P.args, **kwargs: P.kwargs
) -> ObjectRef[T]:
    """Calls a method of a lane and returns a reference to its result."""
    untyped: Any = lane
    result: ObjectRef[T] = getattr(untyped, method.__name__).remote(*args, **kwargs)
    return result
