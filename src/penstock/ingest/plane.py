"""The ingest plane: starts pools, writers and lanes as Ray actors, and keeps them whole.

    fetch ─► decode ─► encoders ─► writers        pools of actors, restarted by Ray when they die
    lanes                                         one consumer each, restarted by the plane

A restarted writer knows no assignments; the plane collects them from all lanes before it accepts anything.
"""

from __future__ import annotations

import logging
import random
import shutil
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayActorError, RayError

from penstock.broker.consumer import LaneConsumer
from penstock.broker.deadletters import DeadLetters
from penstock.broker.producer import Producer
from penstock.broker.topics import ensure_topics
from penstock.broker.wire import parse_record
from penstock.config import Settings
from penstock.encoders.base import Fingerprint
from penstock.encoders.profiles import Profile, load_profile
from penstock.errors import PenstockError, UnavailableError
from penstock.ingest.batching import Batcher, BatchLimits
from penstock.ingest.lane import Lane, LaneLimits, LaneStatus
from penstock.ingest.pipeline import Pipeline, Pools
from penstock.ingest.ray_pool import RayPool, spawn
from penstock.ingest.retries import Backoff, Breaker
from penstock.ingest.status import PlaneStatus, summed, write_status
from penstock.ingest.sweeping import sweep_until
from penstock.ingest.workers import MakeEncodeWorker, MakeMediaWorker, MakeWriter, known_good, open_store
from penstock.processes import free_bytes
from penstock.records import COLLECTIONS_OF, Assignment, Modality
from penstock.store.assets import AssetStore, asset_uri
from penstock.store.spec import index_spec

logger = logging.getLogger(__name__)

_CALL_TIMEOUT_S = 300.0  # a worker that answers nothing for so long is given up; an hour of ViT-B-32 on a CPU is less
_START_TIMEOUT_S = 600.0  # models may have to be downloaded
_MONITOR_S = 1.0
_ASK_TIMEOUT_S = 5.0  # for a lane that may be stopped or dead; its partitions will be another's
_FETCH_THREADS = 8  # claim-check batches under way in one fetch worker; it waits for hosts, not for the CPU


@dataclass(frozen=True)
class Handles:
    """The actors of the pools, as a lane needs them."""

    fetch: Sequence[Any]
    decode: Sequence[Any]
    encoders: Mapping[str, Sequence[Any]]
    writers: Sequence[Any]

    def pools(self) -> Pools:
        """Pools of these actors, with this process's view of how busy they are."""
        pool = partial(RayPool, call_timeout_s=_CALL_TIMEOUT_S)
        return Pools(
            fetch=pool("fetch", self.fetch),
            decode=pool("decode", self.decode),
            encoders={role: pool(f"{role} encode", handles) for role, handles in self.encoders.items()},
            writers=pool("write", self.writers),
        )


class IngestPlane:
    """Owns the actors of one ingest plane; they end with it.

    Args:
        settings: with addresses of Kafka, store and Ray filled in.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._profile = load_profile(settings.profile)
        self._notes = settings.data_dir / "calls"
        self._handles: Handles | None = None
        self._lanes: list[Any] = []
        self._state = "starting"
        self._stopping = threading.Event()
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
        _connect(settings)
        gpus = settings.ingest.encoder_gpus if ray.cluster_resources().get("GPU", 0) else 0.0  # type: ignore[no-untyped-call]
        fetch, decode, encoders = self._spawn_workers(gpus)
        fingerprints = _await_ready([*fetch, *decode], encoders)
        writers = self._spawn_writers(fingerprints)
        self._handles = Handles(fetch, decode, encoders, writers)
        self._lanes = [self._spawn_lane(number) for number in range(settings.ingest.lanes)]
        _get([lane.assignments.remote() for lane in self._lanes], "a lane to start", _START_TIMEOUT_S)
        self._state = "running"
        self._monitor.start()
        self._sweeper.start()

    def stop(self) -> None:
        """Lets the lanes drain within `drain_s` and commit, then ends all actors. Idempotent."""
        if self._state == "stopped":
            return
        self._state = "draining"
        timeout_s = self._settings.ingest.drain_s + 30.0
        stopped = [lane.stop.remote() for lane in self._lanes]
        ray.wait(stopped, num_returns=len(stopped), timeout=timeout_s) if stopped else None
        self._stopping.set()
        if self._monitor.is_alive():
            self._monitor.join()
        self._state = "stopped"
        write_status(self._settings.data_dir, self.status())
        for actor in self._actors():
            ray.kill(actor)
        self._lanes, self._handles = [], None

    def status(self) -> PlaneStatus:
        """Summed over the lanes that answer now."""
        lanes: list[LaneStatus] = [one for one in self._ask_lanes("status") if one is not None]
        return summed(
            lanes,
            state=self._state,
            updated_ms=time.time_ns() // 1_000_000,
            profile=self._profile.name,
            workers=self._worker_counts(),
        )

    # --- starting ---------------------------------------------------------------------------------------------------

    def _check_topics(self) -> None:
        report = ensure_topics(self._settings.kafka, self._settings.ingest.modalities)
        for finding in report.findings:
            logger.warning("%s", finding)

    def _spawn_workers(self, gpus: float) -> tuple[list[Any], list[Any], dict[str, list[Any]]]:
        settings = self._settings
        make = MakeMediaWorker(settings)
        fetch = spawn(make, 1, name="fetch", notes=self._notes, num_cpus=0.1, threads=_FETCH_THREADS)
        decode = spawn(make, settings.ingest.decoders, name="decode", notes=self._notes, num_cpus=1)
        encoders = {
            role: spawn(
                MakeEncodeWorker(settings, role),
                settings.ingest.encoders,
                name=role,
                notes=self._notes,
                num_cpus=0 if gpus else 1,
                num_gpus=gpus,
            )
            for role in needed_roles(self._profile, settings.ingest.modalities)
        }
        return fetch, decode, encoders

    def _spawn_writers(self, fingerprints: Mapping[str, Fingerprint]) -> list[Any]:
        settings = self._settings
        spec = index_spec(self._profile, fingerprints, settings.store)
        store = open_store(settings)
        try:
            store.ensure(spec)
            shards = settings.ingest.writers if store.capabilities.sharded_writes else 1
        finally:
            store.close()
        if shards < settings.ingest.writers:
            logger.warning("ingest.writers is %d, but this store takes one writer only", settings.ingest.writers)
        make = MakeWriter(settings, spec, shards)
        writers = spawn(make, shards, name="writer", notes=self._notes, num_cpus=0.1)
        _get([writer.ready.remote() for writer in writers], "a writer to start", _START_TIMEOUT_S)
        for writer in writers:
            _begin(writer, ())
        return writers

    def _spawn_lane(self, number: int) -> Any:
        options = {"num_cpus": 0.1, "max_restarts": 0, "max_concurrency": 4}  # `_mend_lanes` restarts it
        return ray.remote(LaneHost).options(**options).remote(self._settings, self._handles, number)

    # --- keeping it whole -------------------------------------------------------------------------------------------

    def _watch(self) -> None:
        while not self._stopping.wait(_MONITOR_S):
            for duty in (self._mend_writers, self._mend_lanes, self._tell):
                try:
                    duty()
                except (PenstockError, RayError) as exc:
                    logger.warning("the ingest plane's monitor goes on after: %s", exc)
                except Exception:  # whatever it is, the plane must not stay unwatched
                    logger.exception("the ingest plane's monitor goes on after a surprise")

    def _tell(self) -> None:
        write_status(self._settings.data_dir, self.status())

    def _mend_writers(self) -> None:
        """Tells a restarted writer what every lane that answers owns; until then it accepts nothing."""
        assert self._handles is not None
        for writer in self._handles.writers:
            if _get([writer.ask.remote("begun")], "a writer", _ASK_TIMEOUT_S)[0]:
                continue
            known = [one for lane in self._ask_lanes("assignments") if lane is not None for one in lane]
            logger.warning("a writer was restarted; it is told the %d assignments in force", len(known))
            _begin(writer, known)

    def _mend_lanes(self) -> None:
        """A lane that died, or whose loop ended though nobody stopped it, is started anew.

        Not left to Ray's restarts, which need the constructor's arguments from an object store that may have lost them.
        """
        for number, lane in enumerate(self._lanes):
            if self._stopping.is_set() or self._state != "running" or _lives(lane):
                continue
            logger.error("lane-%d ended and is started anew; Ray's log of it says why", number)
            ray.kill(lane)
            self._lanes[number] = self._spawn_lane(number)

    def _ask_lanes(self, method: str) -> list[Any]:
        """What every lane answers; None for one that does not."""
        refs = [getattr(lane, method).remote() for lane in self._lanes]
        deadline_s = time.monotonic() + _ASK_TIMEOUT_S
        answers: list[Any] = []
        for ref in refs:
            try:
                answers.append(ray.get(ref, timeout=max(0.0, deadline_s - time.monotonic())))
            except RayError:
                answers.append(None)
        return answers

    def _actors(self) -> list[Any]:
        handles = self._handles
        if handles is None:
            return list(self._lanes)
        encoders = [actor for group in handles.encoders.values() for actor in group]
        return [*self._lanes, *handles.fetch, *handles.decode, *encoders, *handles.writers]

    def _worker_counts(self) -> dict[str, int]:
        handles = self._handles
        if handles is None:
            return {}
        encoders = {role: len(group) for role, group in handles.encoders.items()}
        return {"fetch": len(handles.fetch), "decode": len(handles.decode), **encoders, "write": len(handles.writers)}


class LaneHost:
    """The Ray actor around a lane: the loop in a thread of its own, questions answered beside it."""

    def __init__(self, settings: Settings, handles: Handles, number: int) -> None:
        self._lane = make_lane(settings, handles.pools(), f"lane-{number}")
        self._thread = threading.Thread(target=self._lane.run, name="lane", daemon=True)
        self._thread.start()

    def assignments(self) -> tuple[Assignment, ...]:
        return self._lane.assignments()

    def status(self) -> LaneStatus:
        return self._lane.status()

    def running(self) -> bool:
        return self._thread.is_alive()

    def stop(self) -> None:
        """Returns once the lane has drained, committed and left the group."""
        self._lane.stop()
        self._thread.join()


def make_lane(settings: Settings, pools: Pools, name: str) -> Lane:
    """A lane with everything it needs, on the configured Kafka."""
    ingest = settings.ingest
    backoff = Backoff(ingest.backoff_initial_s, ingest.backoff_max_s, random.Random())
    abandon = threading.Event()
    profile = load_profile(settings.profile)
    topics = {topic: modality for topic, modality in settings.kafka.topics().items() if modality in ingest.modalities}
    assets = AssetStore(settings.asset_store_url)
    dead_letters = DeadLetters(
        Producer(settings.kafka), settings.kafka.dead_letter_topic, stash=lambda data: asset_uri(assets.put(data))
    )
    pipeline = Pipeline(
        lane=name,
        pools=pools,
        roles={modality: needed_roles(profile, [modality]) for modality in ingest.modalities},
        dead_letters=dead_letters,
        backoff=backoff,
        breaker=Breaker("store", clock=time.monotonic, backoff=backoff),
        sleep=abandon.wait,
        known_good=known_good(settings),
    )
    limits = BatchLimits(ingest.batch_events, ingest.batch_bytes, ingest.linger_ms / 1000, ingest.batches_in_flight)
    return Lane(
        name=name,
        consumer=LaneConsumer(settings.kafka, list(topics), drain_s=ingest.drain_s),
        pipeline=pipeline,
        batcher=Batcher(limits, time.monotonic),
        parse=lambda record, modality: parse_record(
            record, modality=modality, default_tenant=settings.tenant, max_inline_bytes=settings.fetch.max_bytes
        ),
        topics=topics,
        limits=LaneLimits(ingest.budget_bytes, ingest.commit_interval_ms / 1000, ingest.drain_s),
        threads=2 * len(topics) * ingest.batches_in_flight,  # inline media and claim checks are queues of their own
        gate=partial(disk_full, settings),
        abandon=abandon,
        clock=time.monotonic,
        wall_ms=lambda: time.time_ns() // 1_000_000,
    )


def needed_roles(profile: Profile, modalities: Sequence[Modality]) -> tuple[str, ...]:
    """The encoders that entries of these modalities need, each once."""
    fields = [profile.vectors[collection] for modality in modalities for collection in COLLECTIONS_OF[modality]]
    return tuple(dict.fromkeys(role for by_field in fields for role in by_field.values()))


def disk_full(settings: Settings) -> str:
    """Why nothing may be taken in because of the disk; empty if there is room."""
    free = free_bytes(settings.data_dir)
    if free >= settings.ingest.min_free_disk_bytes:
        return ""
    return (
        f"{free} bytes are free in {settings.data_dir}, fewer than ingest.min_free_disk_bytes "
        f"({settings.ingest.min_free_disk_bytes}); free some, ingest goes on by itself"
    )


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


def _connect(settings: Settings) -> None:
    if ray.is_initialized():
        return
    try:
        ray.init(
            address=settings.ray_address, include_dashboard=False, log_to_driver=False, logging_level=logging.WARNING
        )
    except (ConnectionError, RuntimeError, ValueError) as exc:
        raise UnavailableError(
            f"no Ray cluster answers at {settings.ray_address or 'this machine'}: {exc}. Check ray_address."
        ) from exc


def _await_ready(workers: Sequence[Any], encoders: Mapping[str, Sequence[Any]]) -> dict[str, Fingerprint]:
    """Waits for all workers, and for the models of the encoders; the fingerprint of each role's encoder."""
    fingerprints = {role: [actor.ask.remote("fingerprint") for actor in actors] for role, actors in encoders.items()}
    _get([actor.ready.remote() for actor in workers], "a worker to start", _START_TIMEOUT_S)
    return {role: _get(refs, f"the {role} encoder to load", _START_TIMEOUT_S)[0] for role, refs in fingerprints.items()}


def _lives(lane: Any) -> bool:
    """Whether a lane runs; one that gives no answer may be busy or suspended, and counts as living."""
    try:
        return bool(ray.get(lane.running.remote(), timeout=_ASK_TIMEOUT_S))
    except GetTimeoutError:
        return True
    except RayActorError:
        return False


def _begin(writer: Any, assignments: Sequence[Assignment]) -> None:
    _get([writer.ask.remote("begin", tuple(assignments))], "a writer", _ASK_TIMEOUT_S)


def _get(refs: Sequence[Any], what: str, timeout_s: float) -> list[Any]:
    """Fetches answers of actors; a vendor's error becomes one of ours."""
    try:
        answers: list[Any] = ray.get(list(refs), timeout=timeout_s)
    except RayError as exc:
        cause = getattr(exc, "cause", None) or getattr(exc, "__cause__", None)
        if isinstance(cause, PenstockError):
            raise cause from exc
        raise UnavailableError(f"waited for {what}: {str(exc).strip().splitlines()[-1]}") from exc
    return answers
