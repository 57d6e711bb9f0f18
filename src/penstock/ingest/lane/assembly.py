"""Builds a lane from the settings: its consumer, pipeline, batcher and limits."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from penstock.assembly import folders_that_grow, open_assets
from penstock.assets import asset_uri
from penstock.broker.consumer import LaneConsumer
from penstock.broker.deadletters import DeadLetterWriter
from penstock.broker.producer import MessageProducer
from penstock.broker.record_parser import present_ms
from penstock.broker.replay_keys import ReplayKeys
from penstock.config import KafkaSettings, Settings
from penstock.encoders.profiles import SPEECH, Profile, load_profile
from penstock.ingest.changes import ChangePublisher
from penstock.ingest.executor.media_decoders import image_text_roles
from penstock.ingest.executor.proxies import Pools
from penstock.ingest.executor.workers import known_good_events
from penstock.ingest.holds import Why
from penstock.ingest.lane.batcher import Batcher, BatchLimits
from penstock.ingest.lane.lane import Lane, LaneLimits
from penstock.ingest.lane.quotas import TenantQuotas
from penstock.ingest.pipeline.driver import Pipeline
from penstock.processes import free_bytes
from penstock.records import (
    COLLECTIONS_OF,
    SEGMENTED_MODALITIES,
    TIMED_MODALITIES,
    WORDED_COLLECTIONS,
    Event,
    Modality,
    Record,
    Rejected,
)
from penstock.retries import Backoff, Breaker
from penstock.store.lease import LeaseGuard

# With topics for each tenant; more batches than that wait for a thread. Their bytes are bounded apart.
_MAX_BATCH_THREADS = 256


def build_lane(
    settings: Settings, pools: Pools, name: str, lease: LeaseGuard, parse: Callable[[Record], Event | Rejected]
) -> Lane:
    """Builds a lane on the configured Kafka, which starts nothing while the driver's lease is unconfirmed."""
    ingest = settings.ingest
    abandon = threading.Event()
    topics = settings.kafka.topics_of(ingest.modalities)
    # Inline media, claim checks and long media are queues of their own.
    threads = min(
        len(topics) * (2 * ingest.max_batches_in_flight + settings.long_media.max_concurrent), _MAX_BATCH_THREADS
    )
    return Lane(
        name=name,
        consumer=LaneConsumer(_membership(settings.kafka, name), list(topics), drain_timeout_s=ingest.drain_timeout_s),
        pipeline=_build_pipeline(settings, pools, name, abandon, lease),
        batcher=Batcher(
            _batch_limits(settings, topics),
            time.monotonic,
            TenantQuotas(settings.quota, ingest.lanes, time.monotonic),
        ),
        parse=parse,
        topics=topics,
        limits=LaneLimits(ingest.max_in_flight_bytes, ingest.commit_interval_ms / 1000, ingest.drain_timeout_s),
        executor=ThreadPoolExecutor(threads, thread_name_prefix=f"{name}-batch"),
        admission_checks={
            Why.LEASE: partial(check_lease, lease),
            Why.DISK: partial(check_disk, settings, folders_that_grow(settings, open_assets(settings))),
        },
        abandon=abandon,
        clock=time.monotonic,
        wall_ms=present_ms,
    )


def required_roles(profile: Profile, modalities: Sequence[Modality]) -> tuple[str, ...]:
    """Returns the roles of the models that these modalities need, each one time, the speech model among them."""
    fields = [profile.vectors.get(collection, {}) for modality in modalities for collection in COLLECTIONS_OF[modality]]
    roles = [role for by_field in fields for role in by_field.values()]
    return tuple(dict.fromkeys([*([SPEECH] if TIMED_MODALITIES.intersection(modalities) else []), *roles]))


def all_roles(profile: Profile, settings: Settings, modalities: Sequence[Modality]) -> tuple[str, ...]:
    """Returns the roles of `required_roles`, and those of the models that give an image's words."""
    is_worded = any(WORDED_COLLECTIONS.intersection(COLLECTIONS_OF[modality]) for modality in modalities)
    words = image_text_roles(settings, profile) if is_worded else ()
    return (*required_roles(profile, modalities), *words)


def check_lease(lease: LeaseGuard) -> str:
    """Returns why nothing may be received because of the driver's lease; an empty text while it is confirmed."""
    return "" if lease.holds else "the lease of the driver is not confirmed"


def check_disk(settings: Settings, folders: Sequence[Path]) -> str:
    """Returns why nothing may be received because of the disk of these folders; an empty text if they have room."""
    for folder in folders:
        free = free_bytes(folder)
        if free < settings.ingest.min_free_disk_bytes:
            return (
                f"{free} bytes are free in {folder}, fewer than ingest.min_free_disk_bytes "
                f"({settings.ingest.min_free_disk_bytes}); free some, and ingest continues by itself"
            )
    return ""


def _build_pipeline(
    settings: Settings, pools: Pools, lane: str, abandon: threading.Event, lease: LeaseGuard
) -> Pipeline:
    ingest = settings.ingest
    backoff = Backoff(ingest.initial_backoff_s, ingest.max_backoff_s, random.Random())
    profile = load_profile(settings.profile)
    assets = open_assets(settings)
    producer = MessageProducer(settings.kafka)
    return Pipeline(
        lane=lane,
        pools=pools,
        roles={modality: all_roles(profile, settings, [modality]) for modality in ingest.modalities},
        dead_letters=DeadLetterWriter(
            producer,
            settings.kafka.dead_letter_topic,
            offload=lambda data: asset_uri(assets.put(data)),
            replays=ReplayKeys.of(settings),
        ),
        backoff=backoff,
        breaker=Breaker("store", clock=time.monotonic, backoff=backoff),
        sleep=abandon.wait,
        known_good=known_good_events(settings),
        epoch=lambda: lease.epoch,
        changes=ChangePublisher(producer, topic, index_version=settings.store.version, sleep=abandon.wait)
        if (topic := settings.kafka.changes_topic)
        else None,
    )


def _membership(kafka: KafkaSettings, lane: str) -> KafkaSettings:
    """Returns the settings of a lane's consumer: a static member is known by the name of its lane."""
    if kafka.group_instance_id is None:
        return kafka
    return kafka.model_copy(update={"group_instance_id": f"{kafka.group_instance_id}-{lane}"})


def _batch_limits(settings: Settings, topics: Mapping[str, Modality]) -> BatchLimits:
    ingest = settings.ingest
    return BatchLimits(
        min_events=ingest.batch_events,
        max_bytes=ingest.max_batch_bytes,
        linger_s=ingest.linger_ms / 1000,
        max_in_flight=ingest.max_batches_in_flight,
        max_events=max(ingest.batch_events, ingest.max_batch_events),
        max_step_s=ingest.target_step_ms / 1000,
        max_continuations=settings.long_media.max_concurrent,
        slow_topics=frozenset(topic for topic, modality in topics.items() if modality in SEGMENTED_MODALITIES),
    )
