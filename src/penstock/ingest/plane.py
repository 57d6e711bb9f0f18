"""The ingest plane: runs pools, writers and lanes as Ray actors, and restores those that fail.

    fetch ─► decode ─► encoders ─► writers        pools of actors, restarted by Ray when they die
    lanes                                         one consumer each, restarted by the plane

A restarted writer knows no assignments; the plane collects them from all lanes before it accepts anything.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial

import ray
from ray.exceptions import RayError

from penstock.assembly import open_assets
from penstock.auth import check_exposure
from penstock.broker.base import PartitionLag
from penstock.broker.kafka_control import KafkaControlGroup
from penstock.broker.record_times import record_times
from penstock.config import Settings, keep_secrets_in_files
from penstock.encoders.profiles import load_profile
from penstock.errors import PenstockError
from penstock.ingest.actor_results import results_of
from penstock.ingest.asset_gc import sweep_until
from penstock.ingest.background import start_background_threads, start_endpoint_thread
from penstock.ingest.executor.autoscaler import LoadMeter, PoolLoad
from penstock.ingest.executor.ray_actor import Actor, control
from penstock.ingest.health import Publisher, store_probe, unready_reasons
from penstock.ingest.holds import HoldLog
from penstock.ingest.lag import LagMonitor, readable_lag
from penstock.ingest.lane.actor import LaneActor
from penstock.ingest.lane.assembly import all_roles
from penstock.ingest.lane.handles import DECODE
from penstock.ingest.lane_supervisor import LaneSupervisor
from penstock.ingest.launcher import LaunchedWorkers, PlaneLauncher, start_writer
from penstock.ingest.lease import DriverLease, LeaseHolder
from penstock.ingest.lease_keeper import LeaseKeeper
from penstock.ingest.lease_members import LaneMember, WriterMember, lease_members, send_renewal
from penstock.ingest.reindex.drop_watch import DropWatch
from penstock.ingest.status import PlaneState, PlaneStatus, sum_lanes
from penstock.ingest.tenant_topics import TenantTopics, check_tenants
from penstock.observability import metrics
from penstock.store.base import IndexSpec
from penstock.store.writer import Writer

logger = logging.getLogger(__name__)

_MONITOR_S = 1.0
_STOP_MARGIN_S = 30.0  # beyond the drain timeout, for lanes that commit and leave the group


class IngestPlane:
    """Owns the actors of one ingest plane; they end with it.

    Over the limit because each thread and each duty has an attribute.

    Args:
        settings: with addresses of Kafka, store and Ray filled in.
        fills: whether it fills a version of the index beside the one that another plane feeds: that other one sweeps
            media, ends the time of assets, sends canaries and has the metrics, which have no label for the version.
        check_spec: called with the requirements on the collections before they are created; raises to refuse them.
        before_lanes: called under the lease once the collections are there, before any event is received. What it is
            given has to be called before each request that changes rows, and raises once the lease does not hold.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        fills: bool = False,
        check_spec: Callable[[IndexSpec], None] | None = None,
        before_lanes: Callable[[Callable[[], None]], None] = lambda _: None,
    ) -> None:
        self._settings = settings
        self._fills = fills
        self._check_spec = check_spec
        self._before_lanes = before_lanes
        self._profile = load_profile(settings.profile)
        self._workers: LaunchedWorkers | None = None
        self._keeper: LeaseKeeper | None = None
        self._lanes = LaneSupervisor(settings)
        self._tenant_topics = TenantTopics(settings)
        self._load_meter = LoadMeter[LaneActor]()
        self._loads: Mapping[str, PoolLoad] = {}
        self._state = PlaneState.STARTING
        self._blocked = False
        self._stopping = threading.Event()
        self._lag = LagMonitor(
            readable_lag(settings.kafka, self._topics),
            self._stopping,
            read_times=partial(record_times, settings.kafka) if settings.metrics.enabled else None,
            exports=not fills,
        )
        self._store_probe = store_probe(settings, self._stopping)
        self._hold_log = HoldLog(time.monotonic)
        self._publisher = Publisher(settings)
        self._monitor = threading.Thread(target=self._watch, name="ingest-monitor", daemon=True)

    def start(self, stop: threading.Event | None = None) -> bool:
        """Returns once records are received.

        1. The driver takes the lease of the consumer group, and looks up the topics of tenants.
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
        check_tenants(settings)
        self._publisher.remove_ended()
        start_endpoint_thread(self._stopping, settings)
        stop = stop or threading.Event()
        self._keeper = self._take_lease(stop)  # 1
        if self._keeper is None:
            return False
        settings = self._settings = self._tenant_topics.first()
        self._lanes = LaneSupervisor(settings)
        starting = self.status()
        with self._publisher.repeating(starting, list(unready_reasons(starting, expected_lanes=0, partitions=None))):
            self._keeper.start()  # 2
            launcher = PlaneLauncher(settings, self._profile, self._check_spec)
            self._workers = launcher.launch(self._lag_of, stop)
            if self._workers is None:
                return False
            self._before_lanes(self._keeper.check_write)
            self._lanes.start(self._workers.handles)  # 3
        self._state = PlaneState.RUNNING
        if self._workers.autoscaler.can_scale or settings.metrics.enabled or self._fills:
            self._lag.start()
        self._store_probe.start()
        self._monitor.start()
        if self._fills:
            return True
        sweep = (self._stopping, settings)
        threading.Thread(target=sweep_until, args=sweep, name="asset-sweeper", daemon=True).start()
        start_background_threads(self._stopping, lambda: self._settings)
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

    def set_pace(self, events_per_s: float | None) -> None:
        """Sets how many events per second the plane dispatches at most; None: as many as there are."""
        self._lanes.set_pace(events_per_s)

    def lags(self) -> Sequence[PartitionLag] | None:
        """Returns the progress of the plane's group in every partition, as last measured; None if it is unknown."""
        return self._lag.lags()

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
            self._take_up_topics,
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
        for pool, size in status.workers.items() if not self._fills else ():
            metrics.WORKERS.labels(pool).set(size)

    def _topics(self) -> Collection[str]:
        return self._settings.kafka.topics_of(self._settings.ingest.modalities)

    def _take_up_topics(self) -> None:
        """Starts the lanes again with the topics of new tenants; the former lanes drain and commit."""
        settings = self._tenant_topics.later()
        if settings is None or self._state is not PlaneState.RUNNING:
            return
        if new := sorted(settings.kafka.topics().keys() - self._settings.kafka.topics().keys()):
            logger.info("there are new topics, and the lanes start again with them: %s", ", ".join(new))
            self._settings = settings
            self._lanes.replace(settings)

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
        modalities = [
            modality
            for modality in self._settings.ingest.modalities
            if pool == DECODE or pool in all_roles(self._profile, self._settings, [modality])
        ]
        return self._lag.total(self._settings.kafka.topics_of(modalities))

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
    """Runs the plane until `stop` is set or its version of the index is removed, then drains.

    Args:
        settings: with addresses of Kafka, store and Ray filled in.
        stop: ends it.
        on_status: called once a second.

    Raises:
        LeaseHeldError: another driver ingests for this consumer group, or does so now.
        ConfigError: others reach `metrics.host`, and no request needs credentials.
        PenstockError: as `IngestPlane.start` does.
    """
    if settings.metrics.enabled and not settings.metrics.has_secret("token"):
        check_exposure(settings, "metrics.host", settings.metrics.host)
    watch = DropWatch(open_assets(settings), settings.store.version, fills=False, clock=time.monotonic)
    plane = IngestPlane(keep_secrets_in_files(settings, "ingest"))
    try:
        watch.check_start()
        if not plane.start(stop):
            return
        while not stop.wait(1.0):
            plane.check()
            if watch.must_end():
                logger.warning("version %d of the index is removed, and this plane ends", settings.store.version)
                break
            if on_status is not None:
                on_status(plane.status())
    finally:
        plane.stop()
