"""The ingest plane: starts pools, writers and lanes as Ray actors, and keeps them whole.

    fetch ─► decode ─► encoders ─► writers        pools of actors, restarted by Ray when they die
    lanes                                         one consumer each, restarted by the plane

A restarted writer knows no assignments; the plane collects them from all lanes before it accepts anything.
"""

from __future__ import annotations

import logging
import shutil
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayActorError, RayError

from penstock.assembly import join_ray, open_store
from penstock.broker.topics import ensure_topics, group_lag
from penstock.config import Settings
from penstock.encoders.base import Fingerprint
from penstock.encoders.profiles import load_profile
from penstock.errors import ConfigError, PenstockError, UnavailableError
from penstock.ingest.asset_gc import sweep_until
from penstock.ingest.background import observe
from penstock.ingest.executor.autoscaler import Autoscaler, ElasticPool, LaneUsage, LoadMeter, PoolLoad, WorkerSpec
from penstock.ingest.executor.ray_actor import control, remote_reason, spawn_actors, when_ready
from penstock.ingest.executor.scaling_policy import ScalingPolicy, ScalingRules
from penstock.ingest.executor.workers import (
    EncodeWorker,
    EncodeWorkerFactory,
    MediaWorkerFactory,
    WriterFactory,
    init_long_media_process,
    init_media_process,
)
from penstock.ingest.lag import LagMonitor
from penstock.ingest.lane.actor import LaneHost, WorkerHandles, needed_roles
from penstock.ingest.lane.status import LaneStatus
from penstock.ingest.status import PlaneStatus, summed, write_status
from penstock.observability import metrics
from penstock.observability.exposition import connect
from penstock.records import TIMED_MODALITIES, Assignment
from penstock.store.spec import index_spec
from penstock.store.writer import Writer

logger = logging.getLogger(__name__)

_START_TIMEOUT_S = 600.0  # models may have to be downloaded
_MONITOR_S = 1.0
_ASK_TIMEOUT_S = 5.0  # for a lane that may be stopped or dead; its partitions will be another's
_FETCH_THREADS = 8  # claim-check batches under way in one fetch worker; it waits for hosts, not for the CPU


class IngestPlane:
    """Owns the actors of one ingest plane; they end with it.

    Args:
        settings: with addresses of Kafka, store and Ray filled in.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._profile = load_profile(settings.profile)
        self._notes = settings.data_dir / "calls"
        self._handles: WorkerHandles | None = None
        self._elastic = Autoscaler({}, lambda _: None)
        self._meter = LoadMeter()
        self._measured: Mapping[str, PoolLoad] = {}
        self._lanes: list[Any] = []
        self._leaving: dict[Any, Any] = {}  # lanes that drain, with what is there once they have left the group
        self._wanted_lanes = settings.ingest.lanes
        self._state = "starting"
        self._held = False
        self._stopping = threading.Event()
        self._lag = LagMonitor(partial(group_lag, settings.kafka), self._stopping)
        self._monitor = threading.Thread(target=self._watch, name="ingest-monitor", daemon=True)
        self._sweeper = threading.Thread(
            target=sweep_until, args=(self._stopping, settings), name="asset-sweeper", daemon=True
        )

    def start(self) -> None:
        """Returns once events are taken in.

        Raises:
            ConfigError: settings, topics or collections that do not fit.
            UnavailableError: broker, store, Ray or a model's hub does not answer.
        """
        settings = self._settings
        write_status(settings.data_dir, self.status())
        shutil.rmtree(self._notes, ignore_errors=True)  # of actors that are no more
        self._check_topics()
        join_ray(settings.ray_address)
        connect(settings, "ingest")
        gpus = settings.ingest.encoder_gpus if ray.cluster_resources().get("GPU", 0) else 0.0  # type: ignore[no-untyped-call]
        spawners = self._spawners(gpus)
        fetch = spawners["fetch"](1)
        decode = spawners["decode"](settings.ingest.decoders)
        encoders = {role: spawners[role](settings.ingest.encoders) for role in self._roles()}
        slices = (
            spawners["slice"](settings.ingest.long_media_decoders)
            if TIMED_MODALITIES.intersection(settings.ingest.modalities)
            else []
        )
        fingerprints = _await_ready([*fetch, *decode, *slices], encoders)
        writers, at_once = self._spawn_writers(fingerprints)
        self._handles = WorkerHandles(fetch, decode, slices, encoders, writers, at_once)
        self._elastic = self._make_elastic(spawners, fingerprints, gpus)
        self._lanes = [self._spawn_lane(number) for number in range(settings.ingest.lanes)]
        _get([lane.assignments.remote() for lane in self._lanes], "a lane to start", _START_TIMEOUT_S)
        self._state = "running"
        if self._elastic.can_scale or settings.metrics.enabled:
            self._lag.start()
        self._monitor.start()
        self._sweeper.start()
        observe(self._stopping, settings)

    def stop(self) -> None:
        """Lets the lanes drain within `drain_s` and commit, then ends all actors. Idempotent."""
        if self._state == "stopped":
            return
        self._state = "draining"
        timeout_s = self._settings.ingest.drain_timeout_s + 30.0
        stopped = [*(lane.stop.remote() for lane in self._lanes), *self._leaving.values()]
        ray.wait(stopped, num_returns=len(stopped), timeout=timeout_s) if stopped else None
        self._stopping.set()
        if self._monitor.is_alive():
            self._monitor.join()
        self._state = "stopped"
        write_status(self._settings.data_dir, self.status())
        for actor in self._actors():
            ray.kill(actor)
        self._lanes, self._leaving, self._handles = [], {}, None

    def resize_lanes(self, count: int) -> None:
        """Has lanes join, or drain and leave, until there are `count`. Returns at once; partitions move meanwhile."""
        self._wanted_lanes = count

    def status(self) -> PlaneStatus:
        """Summed over the lanes that answer now."""
        lanes: list[LaneStatus] = [one for one in self._ask_lanes("status") if one is not None]
        self._held = any(lane.store_error or lane.paused or not lane.broker_available for lane in lanes)
        return summed(
            lanes,
            state=self._state,
            updated_ms=time.time_ns() // 1_000_000,
            profile=self._profile.name,
            workers={pool: len(group) for pool, group in self._handles.by_pool().items()} if self._handles else {},
            busy={pool: measured.utilization for pool, measured in self._measured.items()},
        )

    def actors(self) -> Mapping[str, Any]:
        """Every actor by name: `lane-0`, `decode-0`, `joint.image-0`, `write-0`."""
        pools = {"lane": self._lanes, **(self._handles.by_pool() if self._handles else {})}
        return {f"{pool}-{number}": actor for pool, actors in pools.items() for number, actor in enumerate(actors)}

    # --- starting ---------------------------------------------------------------------------------------------------

    def _check_topics(self) -> None:
        if TIMED_MODALITIES.intersection(self._settings.ingest.modalities) and self._profile.speech is None:
            raise ConfigError(
                f"profile {self._profile.name} has no speech model, so it takes in neither audio nor video: use "
                "--profile reference, small or gpu, or leave them out of ingest.modalities"
            )
        report = ensure_topics(self._settings.kafka, self._settings.ingest.modalities)
        for finding in report.findings:
            logger.warning("%s", finding)

    def _roles(self) -> Sequence[str]:
        return needed_roles(self._profile, self._settings.ingest.modalities)

    def _spawners(self, gpus: float) -> Mapping[str, Callable[..., list[Any]]]:
        """By pool, what starts so many of its actors."""
        start = partial(spawn_actors, journal_dir=self._notes, on_start=partial(connect, self._settings))
        media = partial(start, MediaWorkerFactory(self._settings), on_start=partial(init_media_process, self._settings))
        encode = partial(start, num_cpus=0 if gpus else 1, num_gpus=gpus)
        return {
            "fetch": partial(media, name="fetch", num_cpus=0.1, concurrent_calls=_FETCH_THREADS),
            "decode": partial(media, name="decode", num_cpus=1),
            "slice": partial(
                media, name="slice", num_cpus=1, on_start=partial(init_long_media_process, self._settings)
            ),
            **{role: partial(encode, EncodeWorkerFactory(self._settings, role), name=role) for role in self._roles()},
        }

    def _make_elastic(
        self, spawners: Mapping[str, Callable[..., list[Any]]], fingerprints: Mapping[str, Fingerprint], gpus: float
    ) -> Autoscaler:
        assert self._handles is not None
        ingest = self._settings.ingest
        pools: dict[str, ElasticPool] = {}
        for name in ("decode", *self._roles()):
            fewest, most = (
                (ingest.decoders, ingest.decoder_limit) if name == "decode" else (ingest.encoders, ingest.encoder_limit)
            )
            kind = WorkerSpec(
                partial(_start_one, spawners[name]),
                f"{gpus:g} GPU" if gpus and name != "decode" else "1 CPU",
                fingerprints.get(name),
            )
            rules = ScalingRules(fewest, most, ingest.scale_up_after_s, ingest.scale_down_after_s)
            handles = tuple(self._handles.by_pool()[name])
            scaler = ScalingPolicy(rules, time.monotonic)
            pools[name] = ElasticPool(name, handles, kind, scaler, ingest.worker_start_timeout_s, time.monotonic)
        return Autoscaler(pools, self._lag_of)

    def _lag_of(self, pool: str) -> int | None:
        """Records of the topics that this pool works for, not settled yet."""
        modalities = self._settings.ingest.modalities
        served = [one for one in modalities if pool == "decode" or pool in needed_roles(self._profile, [one])]
        return self._lag.total([self._settings.kafka.topic_of(modality) for modality in served])

    def _spawn_writers(self, fingerprints: Mapping[str, Fingerprint]) -> tuple[list[Any], int]:
        """As many, and with as many batches at once, as the store allows."""
        settings = self._settings
        spec = index_spec(self._profile, fingerprints, settings.store)
        store = open_store(settings.store)
        try:
            store.ensure(spec)
            concurrent = store.capabilities.concurrent_writes
        finally:
            store.close()
        shards, at_once = (settings.ingest.writers, settings.ingest.concurrent_writes) if concurrent else (1, 1)
        if shards < settings.ingest.writers:
            logger.warning("ingest.writers is %d, but this store takes one writer only", settings.ingest.writers)
        make = WriterFactory(settings, spec, shards)
        on_start = partial(connect, settings)
        writers = spawn_actors(
            make,
            shards,
            name="write",
            journal_dir=self._notes,
            on_start=on_start,
            num_cpus=0.1,
            concurrent_calls=at_once,
        )
        _get([when_ready(writer) for writer in writers], "a writer to start", _START_TIMEOUT_S)
        for writer in writers:
            _begin(writer, ())
        return writers, at_once

    def _spawn_lane(self, number: int) -> Any:
        options: dict[str, Any] = {"num_cpus": 0.1, "max_concurrency": 4, "scheduling_strategy": "SPREAD"}
        options["max_restarts"] = 0  # `_mend_lanes` restarts it
        return ray.remote(LaneHost).options(**options).remote(self._settings, self._handles, number)

    # --- keeping it whole -------------------------------------------------------------------------------------------

    def _watch(self) -> None:
        while not self._stopping.wait(_MONITOR_S):
            for duty in (self._mend_writers, self._mend_lanes, self._move_lanes, self._resize_pools, self._tell):
                try:
                    duty()
                except (PenstockError, RayError) as exc:
                    logger.warning("the ingest plane's monitor goes on after: %s", exc)
                except Exception:  # whatever it is, the plane must not stay unwatched
                    logger.exception("the ingest plane's monitor goes on after a surprise")

    def _tell(self) -> None:
        status = self.status()
        write_status(self._settings.data_dir, status)
        for pool, size in status.workers.items():
            metrics.WORKERS.labels(pool).set(size)

    def _mend_writers(self) -> None:
        """Tells a restarted writer what every lane that answers owns; until then it accepts nothing."""
        assert self._handles is not None
        for writer in self._handles.writers:
            if _get([control(writer, Writer.is_started)], "a writer", _ASK_TIMEOUT_S)[0]:
                continue
            known = [one for lane in self._ask_lanes("assignments") if lane is not None for one in lane]
            logger.warning("a writer was restarted; it is told the %d assignments in force", len(known))
            _begin(writer, known)

    def _mend_lanes(self) -> None:
        """A lane that died, or whose loop hangs or ended though nobody stopped it, is started anew.

        Not left to Ray's restarts, which need the constructor's arguments from an object store that may have lost them.
        """
        for number, lane in enumerate(self._lanes):
            if _lives(lane) or self._state != "running":  # asked last: a lane that is stopped ends too
                continue
            logger.error("lane-%d ended or hangs, and is started anew; Ray's log of it says why", number)
            ray.kill(lane)
            self._lanes[number] = self._spawn_lane(number)

    def _move_lanes(self) -> None:
        """Brings the lanes to the number that is wanted. One that leaves is asked like the others until it has left."""
        if self._state != "running":
            return
        while len(self._lanes) < self._wanted_lanes:
            self._lanes.append(self._spawn_lane(len(self._lanes)))
        self._leaving |= {lane: lane.stop.remote() for lane in self._lanes[self._wanted_lanes :]}
        del self._lanes[self._wanted_lanes :]
        for lane, left in list(self._leaving.items()):
            if ray.wait([left], timeout=0)[0]:
                ray.kill(lane)
                del self._leaving[lane]

    def _resize_pools(self) -> None:
        """Measures the load, moves every pool one step towards its size, and tells the lanes whom to call."""
        if self._state != "running":
            return
        assert self._handles is not None
        reports: Sequence[LaneUsage | None] = self._ask_lanes("usage")
        answered = {lane: one for lane, one in zip(self._all_lanes, reports, strict=True) if one is not None}
        sizes = {pool: len(group) for pool, group in self._handles.by_pool().items()}
        self._measured = self._meter.measure(answered, sizes)
        self._elastic.step(reports, self._measured, blocked=self._held)
        self._handles = self._handles.resized(self._elastic)
        for lane, report in answered.items():
            if report.version < self._handles.version:
                lane.resize.remote(self._handles)

    def _ask_lanes(self, method: str) -> list[Any]:
        """What every lane answers; None for one that does not."""
        refs = [getattr(lane, method).remote() for lane in self._all_lanes]
        deadline_s = time.monotonic() + _ASK_TIMEOUT_S
        answers: list[Any] = []
        for ref in refs:
            try:
                answers.append(ray.get(ref, timeout=max(0.0, deadline_s - time.monotonic())))
            except RayError:
                answers.append(None)
        return answers

    @property
    def _all_lanes(self) -> list[Any]:
        return [*self._lanes, *self._leaving]

    def _actors(self) -> list[Any]:
        pools = self._handles.by_pool().values() if self._handles else ()
        return [*self._all_lanes, *(actor for group in pools for actor in group), *self._elastic.unpublished()]


def run_ingest(
    settings: Settings, stop: threading.Event, on_status: Callable[[PlaneStatus], None] | None = None
) -> None:
    """Runs the plane until `stop` is set, then drains; `on_status` is called once a second."""
    plane = IngestPlane(settings)
    try:
        plane.start()
        while not stop.wait(1.0):
            if on_status is not None:
                on_status(plane.status())
    finally:
        plane.stop()


def _await_ready(workers: Sequence[Any], encoders: Mapping[str, Sequence[Any]]) -> dict[str, Fingerprint]:
    """Waits for all workers, and for the models of the encoders; the fingerprint of each role's encoder."""
    fingerprints = {
        role: [control(actor, EncodeWorker.fingerprint) for actor in actors] for role, actors in encoders.items()
    }
    _get([when_ready(actor) for actor in workers], "a worker to start", _START_TIMEOUT_S)
    return {role: _get(refs, f"the {role} encoder to load", _START_TIMEOUT_S)[0] for role, refs in fingerprints.items()}


def _start_one(spawner: Callable[..., list[Any]], number: int) -> Any:
    return spawner(1, first_number=number)[0]


def _lives(lane: Any) -> bool:
    """Whether a lane runs; one that gives no answer may be busy or suspended, and counts as living."""
    try:
        return bool(ray.get(lane.running.remote(), timeout=_ASK_TIMEOUT_S))
    except GetTimeoutError:
        return True
    except RayActorError:
        return False


def _begin(writer: Any, assignments: Sequence[Assignment]) -> None:
    _get([control(writer, Writer.start, tuple(assignments))], "a writer", _ASK_TIMEOUT_S)


def _get(refs: Sequence[Any], what: str, timeout_s: float) -> list[Any]:
    """Fetches answers of actors; a vendor's error becomes one of ours."""
    try:
        answers: list[Any] = ray.get(list(refs), timeout=timeout_s)
    except RayError as exc:
        cause = getattr(exc, "cause", None) or getattr(exc, "__cause__", None)
        if isinstance(cause, PenstockError):
            raise cause from exc
        raise UnavailableError(f"waited for {what}: {remote_reason(exc)}") from exc
    return answers
