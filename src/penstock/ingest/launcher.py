"""Starts the workers of an ingest plane: topics, Ray, pools, models, collections and writers, in this order."""

from __future__ import annotations

import logging
import shutil
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from penstock.assembly import join_ray, open_assets, open_store
from penstock.broker.topics import ensure_changes_topic, ensure_topics
from penstock.config import Settings, without_secrets
from penstock.encoders.base import Fingerprint
from penstock.encoders.profiles import OCR, Profile
from penstock.errors import ConfigError, PermanentError
from penstock.ingest.actor_results import START_TIMEOUT_S, results_of
from penstock.ingest.executor.autoscaler import Autoscaler, ElasticPool, WorkerSpec
from penstock.ingest.executor.crash_notes import journal_dir
from penstock.ingest.executor.ray_actor import Actor, control, spawn_actors, when_ready
from penstock.ingest.executor.scaling_policy import ScalingPolicy, ScalingRules
from penstock.ingest.executor.workers import (
    EncodeWorker,
    EncodeWorkerFactory,
    MediaWorkerFactory,
    WriterFactory,
    init_long_media_process,
    init_media_process,
)
from penstock.ingest.gpu_nodes import await_gpus, gpus_of_an_encoder
from penstock.ingest.lane.assembly import all_roles
from penstock.ingest.lane.handles import DECODE, FETCH, LONG_MEDIA, WRITE, WorkerHandles
from penstock.ingest.shared_assets import require_shared_assets, require_shared_replay_key
from penstock.media.own_services import own_hosts
from penstock.observability.build_info import export_build_info
from penstock.observability.exposition import connect
from penstock.observability.node_endpoints import start_keeping
from penstock.observability.process import prepare_process
from penstock.records import SEGMENTED_MODALITIES, TIMED_MODALITIES, Assignment
from penstock.store.base import IndexSpec
from penstock.store.spec import index_spec
from penstock.store.writer import Writer
from penstock.versions.switching import finish_switch_if_known

logger = logging.getLogger(__name__)

_FETCH_THREADS = 8  # claim-check batches in flight in one fetch worker; it waits for hosts, not for the CPU


class _Spawn(Protocol):
    """Starts a number of actors of one pool."""

    def __call__(self, size: int, *, first_number: int = 0) -> list[Actor]: ...


@dataclass(frozen=True, slots=True)
class LaunchedWorkers:
    """The actors of all pools, ready for lanes, and what adds and removes them."""

    handles: WorkerHandles
    autoscaler: Autoscaler


class PlaneLauncher:
    """Starts the workers of one ingest plane.

    Args:
        settings: with the addresses of Kafka, store and Ray.
        profile: the models.
        check_spec: called with the requirements on the collections before they are created; raises to refuse them.
    """

    def __init__(
        self, settings: Settings, profile: Profile, check_spec: Callable[[IndexSpec], None] | None = None
    ) -> None:
        self._settings = settings
        self._check_spec = check_spec
        self._profile = profile
        self._roles = all_roles(profile, settings, settings.ingest.modalities)
        self._journal_dir = journal_dir(settings)

    def launch(self, lag: Callable[[str], int | None], stop: threading.Event) -> LaunchedWorkers | None:
        """Starts all workers, and returns once they are ready.

        1. Settings and topics are checked, and missing topics created.
        2. The process joins the Ray cluster, whose nodes have to share the asset store and the key of replays.
        3. The workers start, once there are nodes for them, and the encoders report the fingerprints of their models.
        4. The collections are provisioned for these fingerprints, and the writers start.

        Args:
            lag: the records of a pool's topics that are not settled; None if unknown.
            stop: ends the wait for nodes with GPUs.

        Returns:
            the workers; None if `stop` ended the wait.

        Raises:
            ConfigError: settings, topics or collections do not fit.
            UnavailableError: broker, store, Ray or a model's hub does not answer.
        """
        settings = self._settings
        shutil.rmtree(self._journal_dir, ignore_errors=True)  # of this group's former driver
        self._check_topics()  # 1
        join_ray(settings.ray_address)  # 2
        require_shared_assets(settings)
        require_shared_replay_key(settings)
        connect(settings, "ingest")
        gpus = gpus_of_an_encoder(settings)
        spawns = self._spawns(gpus)
        fetch = spawns[FETCH](1)  # 3
        decode = spawns[DECODE](settings.ingest.decoders)
        encoders = {role: spawns[role](settings.ingest.encoders) for role in self._roles}
        segmented = SEGMENTED_MODALITIES.intersection(settings.ingest.modalities)
        long_media = spawns[LONG_MEDIA](settings.ingest.long_media_decoders) if segmented else []
        if not await_gpus(self._demand(gpus), stop, max(START_TIMEOUT_S, settings.ingest.worker_start_timeout_s)):
            return None
        fingerprints = _await_ready([*fetch, *decode, *long_media], encoders)
        writers, concurrent_writes = self._start_writers(fingerprints)  # 4
        handles = WorkerHandles(fetch, decode, long_media, encoders, writers, concurrent_writes)
        return LaunchedWorkers(handles, self._autoscaler(handles, spawns, fingerprints, gpus, lag))

    def _demand(self, gpus: float) -> float:
        """Returns the GPUs of all encoders together."""
        return gpus * self._settings.ingest.encoders * sum(role != OCR for role in self._roles)

    def _check_topics(self) -> None:
        if TIMED_MODALITIES.intersection(self._settings.ingest.modalities) and self._profile.speech is None:
            raise ConfigError(
                f"profile {self._profile.name} has no speech model, so it can index neither audio nor video: use "
                "--profile reference, small or gpu, or leave them out of ingest.modalities"
            )
        report = ensure_topics(self._settings.kafka, self._settings.ingest.modalities)
        for finding in report.findings:
            logger.warning("%s", finding)
        try:
            ensure_changes_topic(self._settings.kafka)
        except (ConfigError, PermanentError) as exc:
            logger.warning(
                "there is no change feed: %s. Events are indexed all the same; results are not cached and watches not "
                "evaluated. Allow the topic, or set kafka.changes_topic to an empty text.",
                exc,
            )

    def _spawns(self, gpus: float) -> Mapping[str, _Spawn]:
        """Returns the function that starts actors, by pool."""
        # Bytes of strangers are parsed here: of secrets these processes get what they use alone.
        settings = without_secrets(self._settings, keep=("tracing", "metrics"))
        hosts = own_hosts(self._settings)  # that of Redis stands in a secret
        fetching = without_secrets(self._settings, keep=("tracing", "metrics", "fetch"))
        prepare = partial(_begin, prepare_process, settings)
        anywhere = partial(spawn_actors, journal_dir=self._journal_dir, on_start=prepare)
        start = partial(anywhere, labels=settings.placement.workers)
        prepare_media = partial(_begin, init_media_process, settings)
        fetch = partial(start, MediaWorkerFactory(fetching, hosts), on_start=prepare_media)
        decode = partial(start, MediaWorkerFactory(settings, hosts), on_start=prepare_media)
        cpus = settings.ingest.worker_cpus
        long_media = partial(fetch, on_start=partial(_begin, init_long_media_process, settings))
        encode = partial(anywhere, num_cpus=0 if gpus else cpus, num_gpus=gpus, labels=settings.placement.encoders)
        return {
            FETCH: partial(fetch, name=FETCH, num_cpus=0.1, concurrent_calls=_FETCH_THREADS),
            DECODE: partial(decode, name=DECODE, num_cpus=cpus),
            LONG_MEDIA: partial(long_media, name=LONG_MEDIA, num_cpus=cpus),
            **{role: partial(encode, EncodeWorkerFactory(settings, role), name=role) for role in self._roles},
            OCR: partial(start, EncodeWorkerFactory(settings, OCR), name=OCR, num_cpus=cpus),  # never on a GPU
        }

    def _autoscaler(
        self,
        handles: WorkerHandles,
        spawns: Mapping[str, _Spawn],
        fingerprints: Mapping[str, Fingerprint],
        gpus: float,
        lag: Callable[[str], int | None],
    ) -> Autoscaler:
        ingest, by_pool = self._settings.ingest, handles.by_pool()
        limits = {DECODE: (ingest.decoders, ingest.decoder_limit)}
        limits |= dict.fromkeys(self._roles, (ingest.encoders, ingest.encoder_limit))
        pools: dict[str, ElasticPool] = {}
        for name, (min_workers, max_workers) in limits.items():
            spec = WorkerSpec(
                partial(_spawn_further, spawns[name]),
                f"{gpus:g} GPU" if gpus and name not in (DECODE, OCR) else f"{ingest.worker_cpus:g} CPU",
                fingerprints.get(name),
            )
            rules = ScalingRules(min_workers, max_workers, ingest.scale_up_after_s, ingest.scale_down_after_s)
            policy = ScalingPolicy(rules, time.monotonic)
            pools[name] = ElasticPool(
                name, tuple(by_pool[name]), spec, policy, ingest.worker_start_timeout_s, time.monotonic
            )
        return Autoscaler(pools, lag)

    def _start_writers(self, fingerprints: Mapping[str, Fingerprint]) -> tuple[list[Actor], int]:
        """Provisions the collections and starts the writers.

        Returns:
            the writers, and the number of batches that each has in flight: as many of both as the store allows.
        """
        settings = self._settings
        spec = index_spec(self._profile, fingerprints, settings.store)
        if self._check_spec is not None:
            self._check_spec(spec)
        export_build_info(profile=self._profile.name, index_version=spec.version, models=spec.model_slug.values())
        store = open_store(settings.store)
        try:
            store.ensure(spec)
            finish_switch_if_known(store, open_assets(settings))
            concurrent = store.capabilities.concurrent_writes
        finally:
            store.close()
        shards, writes = (settings.ingest.writers, settings.ingest.concurrent_writes) if concurrent else (1, 1)
        if shards < settings.ingest.writers:
            logger.warning("ingest.writers is %d, but this store allows one writer only", settings.ingest.writers)
        writers = spawn_actors(
            WriterFactory(settings, spec, shards),
            shards,
            name=WRITE,
            journal_dir=self._journal_dir,
            on_start=partial(_begin, prepare_process, settings),
            num_cpus=0.1,
            labels=settings.placement.workers,
            concurrent_calls=writes,
        )
        results_of([when_ready(writer) for writer in writers], "a writer to start", START_TIMEOUT_S)
        for writer in writers:
            start_writer(writer, ())
        return writers, writes


def start_writer(writer: Actor, assignments: Sequence[Assignment]) -> None:
    """Lets a writer accept writes, under these assignments and newer ones.

    Raises:
        UnavailableError: the writer does not answer.
    """
    results_of([control(writer, Writer.start, tuple(assignments))], "a writer")


def _begin(prepare: Callable[[Settings, str], None], settings: Settings, process: str) -> None:
    """Prepares the process of a worker, and has the metrics of its node served. Called first in the worker's actor."""
    prepare(settings, process)
    start_keeping(settings, has_driver=True)


def _await_ready(workers: Sequence[Actor], encoders: Mapping[str, Sequence[Actor]]) -> dict[str, Fingerprint]:
    """Waits for all workers and the models of the encoders, and returns the fingerprint of each role's encoder."""
    fingerprints = {
        role: [control(actor, EncodeWorker.fingerprint) for actor in actors] for role, actors in encoders.items()
    }
    results_of([when_ready(actor) for actor in workers], "a worker to start", START_TIMEOUT_S)
    return {
        role: results_of(answers, f"the {role} encoder to load", START_TIMEOUT_S)[0]
        for role, answers in fingerprints.items()
    }


def _spawn_further(spawn: _Spawn, number: int) -> Actor:
    """Starts one more actor of a pool."""
    return spawn(1, first_number=number)[0]
