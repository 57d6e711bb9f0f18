"""The ingest plane: runs pools, writers and lanes as Ray actors, and restores those that fail.

    fetch ─► decode ─► encoders ─► writers        pools of actors, restarted by Ray when they die
    lanes                                         one consumer each, restarted by the plane

A restarted writer knows no assignments; the plane collects them from all lanes before it accepts anything.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

import ray
from ray.exceptions import RayError

from penstock.broker.kafka_control import KafkaControlGroup
from penstock.broker.record_times import record_times
from penstock.broker.topics import group_lag
from penstock.config import Settings
from penstock.encoders.profiles import load_profile
from penstock.errors import PenstockError
from penstock.ingest.actor_results import results_of
from penstock.ingest.asset_gc import sweep_until
from penstock.ingest.background import start_background_threads, start_endpoint_thread
from penstock.ingest.executor.autoscaler import LoadMeter, PoolLoad
from penstock.ingest.executor.ray_actor import Actor, control
from penstock.ingest.health import Publisher, store_probe, unready_reasons
from penstock.ingest.holds import HoldLog
from penstock.ingest.lag import LagMonitor
from penstock.ingest.lane.actor import LaneActor
from penstock.ingest.lane.assembly import all_roles
from penstock.ingest.lane.handles import DECODE
from penstock.ingest.lane_supervisor import LaneSupervisor
from penstock.ingest.launcher import LaunchedWorkers, PlaneLauncher, start_writer
from penstock.ingest.lease import DriverLease, LeaseHolder
from penstock.ingest.lease_keeper import LeaseKeeper
from penstock.ingest.lease_members import LaneMember, WriterMember, lease_members, send_renewal
from penstock.ingest.status import PlaneState, PlaneStatus, sum_lanes
from penstock.observability import metrics
from penstock.store.writer import Writer

logger = logging.getLogger(__name__)

_MONITOR_S = 1.0
_STOP_MARGIN_S = 30.0  # beyond the drain timeout, for lanes that commit and leave the group


class IngestPlane:
    """Owns the actors of one ingest plane; they end with it.

    Args:
        settings: with addresses of Kafka, store and Ray filled in.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._profile = load_profile(settings.profile)
        self._workers: LaunchedWorkers | None = None
        self._keeper: LeaseKeeper | None = None
        self._lanes = LaneSupervisor(settings)
        self._load_meter = LoadMeter[LaneActor]()
        self._loads: Mapping[str, PoolLoad] = {}
        self._state = PlaneState.STARTING
        self._blocked = False
        self._stopping = threading.Event()
        topics = [settings.kafka.topic_of(modality) for modality in settings.ingest.modalities]
        self._lag = LagMonitor(
            partial(group_lag, settings.kafka, topics),
            self._stopping,
            read_times=partial(record_times, settings.kafka) if settings.metrics.enabled else None,
        )
        self._store_probe = store_probe(settings, self._stopping)
        self._hold_log = HoldLog(time.monotonic)
        self._publisher = Publisher(settings)
        self._monitor = threading.Thread(target=self._watch, name="ingest-monitor", daemon=True)

    def start(self, stop: threading.Event | None = None) -> bool:
        """Returns once records are received.

        1. The driver takes the lease of the consumer group.
        2. The workers start, and the lease is confirmed to them from then on.
        3. The lanes start.

        Args:
            stop: ends the wait for the lease and for nodes with GPUs.

        Returns:
            whether the plane runs; False only if `stop` was set while it waited.

        Raises:
            LeaseHeldError: another driver ingests for this consumer group.
            ConfigError: settings, topics or collections that do not fit.
            UnavailableError: broker, store, Ray or a model's hub does not answer.
        """
        settings = self._settings
        self._publisher.remove_ended()
        start_endpoint_thread(self._stopping, settings)
        stop = stop or threading.Event()
        self._keeper = self._take_lease(stop)  # 1
        if self._keeper is None:
            return False
        starting = self.status()
        with self._publisher.repeating(starting, list(unready_reasons(starting, expected_lanes=0, partitions=None))):
            self._keeper.start()  # 2
            self._workers = PlaneLauncher(settings, self._profile).launch(self._lag_of, stop)
            if self._workers is None:
                return False
            self._lanes.start(self._workers.handles)  # 3
        self._state = PlaneState.RUNNING
        if self._workers.autoscaler.can_scale or settings.metrics.enabled:
            self._lag.start()
        self._store_probe.start()
        self._monitor.start()
        sweep = (self._stopping, settings)
        threading.Thread(target=sweep_until, args=sweep, name="asset-sweeper", daemon=True).start()
        start_background_threads(self._stopping, settings)
        return True

    def check(self) -> None:
        """Raises `LeaseHeldError` once another driver ingests for this consumer group: this plane must end."""
        if self._keeper is not None:
            self._keeper.check()

    def stop(self) -> None:
        """Lets the lanes drain within `drain_timeout_s` and commit, then ends all actors. Idempotent.

        The end of an actor cannot be observed. Where a lane did not drain, a writer may still be at work for it, and
        the lease is released once no writer may act on it any more.
        """
        if self._state is PlaneState.STOPPED or self._keeper is None:
            self._stopping.set()
            return
        self._state = PlaneState.DRAINING
        drained = True
        if not self._keeper.is_lost:  # otherwise nothing can be written any more
            drained = self._lanes.stop(self._settings.ingest.drain_timeout_s + _STOP_MARGIN_S)
        self._stopping.set()
        if self._monitor.is_alive():
            self._monitor.join()
        self._state = PlaneState.STOPPED
        self._publish_status()
        self._kill_actors()
        self._keeper.stop(writers_may_run=not drained)
        self._lanes, self._workers = LaneSupervisor(self._settings), None

    def resize_lanes(self, count: int) -> None:
        """Sets the number of lanes and returns immediately; lanes join, or drain and leave, in the background."""
        self._lanes.resize(count)

    def status(self) -> PlaneStatus:
        """Returns the present status, summed over the lanes that answer."""
        lanes = self._lanes.statuses()
        self._blocked = any(lane.store_error or lane.paused or not lane.broker_available for lane in lanes)
        status = sum_lanes(
            lanes,
            state=self._state,
            updated_ms=time.time_ns() // 1_000_000,
            profile=self._profile.name,
            workers=self._workers.handles.sizes() if self._workers else {},
            busy={pool: load.utilization for pool, load in self._loads.items()},
        )
        error = status.store_error or self._store_probe.error
        return replace(status, store_error=error, held={**self._store_probe.held, **status.held})

    def actors(self) -> Mapping[str, Actor | LaneActor]:
        """Returns every actor by name: `lane-0`, `decode-0`, `joint.image-0`, `write-0`."""
        pools: dict[str, Sequence[Actor | LaneActor]] = {"lane": self._lanes.lanes}
        pools |= self._workers.handles.by_pool() if self._workers else {}
        return {f"{pool}-{number}": actor for pool, actors in pools.items() for number, actor in enumerate(actors)}

    # --- the monitor ------------------------------------------------------------------------------------------------

    def _watch(self) -> None:
        duties = (
            self._restore_writers,
            self._restart_lanes,
            self._resize_lanes,
            self._scale_pools,
            self._publish_status,
        )
        while not self._stopping.wait(_MONITOR_S):
            for duty in duties:
                try:
                    duty()
                except (PenstockError, RayError) as exc:
                    logger.warning("ingest monitor: %s failed and will be repeated: %s", duty.__name__, exc)
                except Exception:  # whatever it is, the plane must not stay unwatched
                    logger.exception("ingest monitor: unexpected error in %s; continuing", duty.__name__)

    def _restore_writers(self) -> None:
        """Gives a restarted writer the assignments of all lanes that answer; until then it accepts nothing."""
        assert self._workers is not None
        for writer in self._workers.handles.writers:
            if results_of([control(writer, Writer.is_started)], "a writer")[0]:
                continue
            assignments = self._lanes.assignments()
            logger.warning("a writer was restarted; it receives the %d present assignments", len(assignments))
            start_writer(writer, assignments)

    def _restart_lanes(self) -> None:
        """Restarts lanes that ended."""
        assert self._workers is not None
        self._lanes.restart_ended(self._workers.handles)

    def _resize_lanes(self) -> None:
        """Moves the number of lanes towards its target."""
        assert self._workers is not None
        self._lanes.move_to_target(self._workers.handles)

    def _scale_pools(self) -> None:
        """Measures the load, moves every pool one step towards its size, and sends the new actors to the lanes."""
        if self._state is not PlaneState.RUNNING:
            return
        assert self._workers is not None
        handles, autoscaler = self._workers.handles, self._workers.autoscaler
        usages = self._lanes.usages()
        answered = {lane: usage for lane, usage in usages.items() if usage is not None}
        self._loads = self._load_meter.measure(answered, handles.sizes())
        autoscaler.step(list(usages.values()), self._loads, blocked=self._blocked)
        self._workers = LaunchedWorkers(handles.rescaled(autoscaler), autoscaler)
        self._lanes.publish(self._workers.handles, usages)

    def _publish_status(self) -> None:
        status = self.status()
        lanes = len(self._lanes.all)
        if self._state is not PlaneState.STOPPED:
            self._hold_log.update(status.held, complete=status.lanes >= lanes)
        reasons = unready_reasons(status, expected_lanes=lanes, partitions=self._lag.partitions())
        self._publisher.publish(status, list(reasons))
        for pool, size in status.workers.items():
            metrics.WORKERS.labels(pool).set(size)

    # --- the lease ---------------------------------------------------------------------------------------------------

    def _take_lease(self, stop: threading.Event) -> LeaseKeeper | None:
        settings, ingest = self._settings, self._settings.ingest
        lease = DriverLease(
            KafkaControlGroup(settings.kafka, ingest.lease_timeout_s),
            settings.kafka.group,
            LeaseHolder.of_this_process(settings.ray_address),
            timeout_s=ingest.lease_timeout_s,
            sleep=partial(self._stand_by, stop),
        )
        try:
            taken = lease.acquire(wait=ingest.wait_for_lease, stop=stop)
        except BaseException:
            lease.release()
            raise
        if not taken:
            lease.release()
            return None
        return LeaseKeeper(lease, self._lease_members, send_renewal)

    def _stand_by(self, stop: threading.Event, seconds: float) -> None:
        self._publisher.stand_by(self.status())
        stop.wait(seconds)

    def _lease_members(self) -> Sequence[WriterMember | LaneMember]:
        return lease_members(self._workers.handles.writers if self._workers else (), self._lanes.all)

    # --- actors -----------------------------------------------------------------------------------------------------

    def _lag_of(self, pool: str) -> int | None:
        """Returns the records of the topics that a pool works for that are not settled; None if unknown."""
        topics = [
            self._settings.kafka.topic_of(modality)
            for modality in self._settings.ingest.modalities
            if pool == DECODE or pool in all_roles(self._profile, self._settings, [modality])
        ]
        return self._lag.total(topics)

    def _kill_actors(self) -> None:
        for lane in self._lanes.all:
            ray.kill(lane)
        if self._workers is None:
            return
        pools = self._workers.handles.by_pool().values()
        for actor in (*(actor for pool in pools for actor in pool), *self._workers.autoscaler.unpublished()):
            ray.kill(actor)


def run_ingest(
    settings: Settings, stop: threading.Event, on_status: Callable[[PlaneStatus], None] | None = None
) -> None:
    """Runs the plane until `stop` is set, then drains; `on_status` is called once a second.

    Raises:
        LeaseHeldError: another driver ingests for this consumer group, or does so now.
        PenstockError: as `IngestPlane.start` does.
    """
    plane = IngestPlane(settings)
    try:
        if not plane.start(stop):
            return
        while not stop.wait(1.0):
            plane.check()
            if on_status is not None:
                on_status(plane.status())
    finally:
        plane.stop()
