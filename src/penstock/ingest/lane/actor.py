"""What runs in a lane's process: the lane with everything it needs, and the Ray actor around it."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from penstock.assembly import open_assets
from penstock.assets import asset_uri
from penstock.broker.consumer import LaneConsumer
from penstock.broker.deadletters import DeadLetterWriter
from penstock.broker.producer import MessageProducer
from penstock.broker.wire import parse_record
from penstock.config import Settings
from penstock.encoders.profiles import SPEECH, Profile, load_profile
from penstock.ingest.executor.autoscaler import Autoscaler, LaneUsage
from penstock.ingest.executor.proxies import Pools
from penstock.ingest.executor.ray_pool import RayPool
from penstock.ingest.executor.workers import known_good_events
from penstock.ingest.lane.batcher import Batcher, BatchLimits
from penstock.ingest.lane.lane import Lane, LaneLimits
from penstock.ingest.lane.status import LaneStatus
from penstock.ingest.pipeline.driver import Pipeline
from penstock.observability.exposition import connect
from penstock.processes import free_bytes
from penstock.records import COLLECTIONS_OF, TIMED_MODALITIES, Assignment, Modality
from penstock.retries import Backoff, Breaker
from penstock.runtime_tuning import relax_gc, tune_malloc


@dataclass(frozen=True)
class WorkerHandles:
    """The actors of the pools, as a lane needs them.

    Attributes:
        writes_at_once: batches that each writer has under way.
        version: rises with every change of the elastic pools, decode and encoders.
    """

    fetch: Sequence[Any]
    decode: Sequence[Any]
    long_media: Sequence[Any]
    encoders: Mapping[str, Sequence[Any]]
    writers: Sequence[Any]
    concurrent_writes: int = 1
    version: int = 0

    def by_pool(self) -> Mapping[str, Sequence[Any]]:
        """By the pool's name, as `penstock status` shows it; an encoder's is its role."""
        media = {"fetch": self.fetch, "decode": self.decode, "slice": self.long_media}
        return {**media, **self.encoders, "write": self.writers}

    def resized(self, elastic: Autoscaler) -> WorkerHandles:
        by_pool = elastic.handles()
        encoders = {role: by_pool[role] for role in self.encoders}
        return replace(self, decode=by_pool["decode"], encoders=encoders, version=elastic.version)


class LaneHost:
    """The Ray actor around a lane: the loop in a thread of its own, questions answered beside it."""

    def __init__(self, settings: Settings, handles: WorkerHandles, number: int) -> None:
        connect(settings, "lane")
        tune_malloc()
        pool = partial(RayPool, call_timeout_s=settings.ingest.call_timeout_s)
        self._pools = {name: pool(name, group) for name, group in handles.by_pool().items()}
        self._version = handles.version
        self._resizing = threading.Lock()
        pools = Pools.over(
            fetch=self._pools["fetch"],
            decode=self._pools["decode"],
            long_media=self._pools["slice"],
            encoders={role: self._pools[role] for role in handles.encoders},
            writers=self._pools["write"],
            concurrent_writes=handles.concurrent_writes,
        )
        self._lane = make_lane(settings, pools, f"lane-{number}")
        relax_gc()
        self._thread = threading.Thread(target=self._lane.run, name="lane", daemon=True)
        self._thread.start()

    def resize(self, handles: WorkerHandles) -> None:
        """From now on calls go to these actors; those under way go on. An older set than the one in use is ignored."""
        with self._resizing:
            if handles.version > self._version:
                by_pool = handles.by_pool()
                for name in ("decode", *handles.encoders):
                    self._pools[name].replace(by_pool[name])
                self._version = handles.version

    def usage(self) -> LaneUsage:
        """What this lane asks of each actor. The version is read first, so that it never promises too much."""
        version = self._version
        return LaneUsage(version, time.monotonic(), {name: pool.usage() for name, pool in self._pools.items()})

    def assignments(self) -> tuple[Assignment, ...]:
        return self._lane.assignments()

    def status(self) -> LaneStatus:
        return self._lane.status()

    def running(self) -> bool:
        """Whether the lane goes on; not, if its loop ended or hangs."""
        return self._thread.is_alive() and not self._lane.is_stuck()

    def stop(self) -> None:
        """Returns once the lane has drained, committed and left the group."""
        self._lane.stop()
        self._thread.join()


def make_lane(settings: Settings, pools: Pools, name: str) -> Lane:
    """A lane with everything it needs, on the configured Kafka."""
    ingest = settings.ingest
    backoff = Backoff(ingest.initial_backoff_s, ingest.max_backoff_s, random.Random())
    abandon = threading.Event()
    profile = load_profile(settings.profile)
    topics = {topic: modality for topic, modality in settings.kafka.topics().items() if modality in ingest.modalities}
    assets = open_assets(settings)
    dead_letters = DeadLetterWriter(
        MessageProducer(settings.kafka),
        settings.kafka.dead_letter_topic,
        offload=lambda data: asset_uri(assets.put(data)),
    )
    pipeline = Pipeline(
        lane=name,
        pools=pools,
        roles={modality: needed_roles(profile, [modality]) for modality in ingest.modalities},
        dead_letters=dead_letters,
        backoff=backoff,
        breaker=Breaker("store", clock=time.monotonic, backoff=backoff),
        sleep=abandon.wait,
        known_good=known_good_events(settings),
    )
    limits = BatchLimits(
        min_events=ingest.batch_events,
        max_bytes=ingest.max_batch_bytes,
        linger_s=ingest.linger_ms / 1000,
        max_in_flight=ingest.max_batches_in_flight,
        max_events=max(ingest.batch_events, ingest.max_batch_events),
        max_step_s=ingest.target_step_ms / 1000,
        max_continuations=settings.long_media.max_concurrent,
        slow_topics=frozenset(topic for topic, modality in topics.items() if modality in TIMED_MODALITIES),
    )
    # Inline media, claim checks and long media are queues of their own.
    threads = len(topics) * (2 * ingest.max_batches_in_flight + settings.long_media.max_concurrent)
    return Lane(
        name=name,
        consumer=LaneConsumer(settings.kafka, list(topics), drain_timeout_s=ingest.drain_timeout_s),
        pipeline=pipeline,
        batcher=Batcher(limits, time.monotonic),
        parse=lambda record: parse_record(
            record,
            modality=topics[record.position.topic],
            default_tenant=settings.tenant,
            max_inline_bytes=settings.fetch.max_bytes,
        ),
        topics=topics,
        limits=LaneLimits(ingest.max_in_flight_bytes, ingest.commit_interval_ms / 1000, ingest.drain_timeout_s),
        executor=ThreadPoolExecutor(threads, thread_name_prefix=f"{name}-batch"),
        admission_check=partial(disk_full, settings),
        abandon=abandon,
        clock=time.monotonic,
        wall_ms=lambda: time.time_ns() // 1_000_000,
    )


def needed_roles(profile: Profile, modalities: Sequence[Modality]) -> tuple[str, ...]:
    """The encoders that entries of these modalities need, each once, the transcriber among them."""
    fields = [profile.vectors[collection] for modality in modalities for collection in COLLECTIONS_OF[modality]]
    roles = [role for by_field in fields for role in by_field.values()]
    return tuple(dict.fromkeys([*([SPEECH] if TIMED_MODALITIES.intersection(modalities) else []), *roles]))


def disk_full(settings: Settings) -> str:
    """Why nothing may be taken in because of the disk; empty if there is room."""
    free = free_bytes(settings.data_dir)
    if free >= settings.ingest.min_free_disk_bytes:
        return ""
    return (
        f"{free} bytes are free in {settings.data_dir}, fewer than ingest.min_free_disk_bytes "
        f"({settings.ingest.min_free_disk_bytes}); free some, ingest goes on by itself"
    )
