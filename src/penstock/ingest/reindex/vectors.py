"""Fills a new version by a transform of the old one's vectors, with the services of the settings (`copying`)."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing
from functools import partial

from penstock.assembly import open_assets, open_store, open_version
from penstock.broker.base import Partition
from penstock.broker.group_offsets import KafkaGroupOffsets
from penstock.broker.topics import group_lag
from penstock.encoders.load import fingerprint
from penstock.encoders.profiles import load_profile
from penstock.encoders.transform import Transform
from penstock.ingest.lane.assembly import required_roles
from penstock.ingest.reindex.copying import Copier
from penstock.ingest.reindex.job import FillJob
from penstock.ingest.reindex.throttle import Throttle
from penstock.records import Collection, Field
from penstock.store.spec import index_spec

_MEASURE_EVERY_S = 3.0


def copy_vectors(
    job: FillJob,
    ending: threading.Event,
    throttle: Throttle,
    read_age_s: Callable[[], float | None],
    check_lease: Callable[[], None],
) -> None:
    """Copies the old version through the transform of the new one's profile. Raises as `Copier.copy` and `check_lease`.

    Args:
        job: what is filled.
        ending: ends the copy.
        throttle: sets its pace.
        read_age_s: measures the age of the oldest live event that is not settled.
        check_lease: called before each request that changes something; raises once the lease does not hold.
    """
    profile = load_profile(job.new.profile)
    roles = [role for role in required_roles(profile, job.new.ingest.modalities) if role in profile.roles]
    spec = index_spec(profile, {role: fingerprint(role, profile) for role in roles}, job.new.store)

    def transform_of(collection: Collection, field: Field) -> Transform | None:
        role = profile.vectors.get(collection, {}).get(field)
        return None if role is None else profile.transform_of(role)

    def begin_at(offsets: Mapping[Partition, int]) -> None:
        check_lease()
        KafkaGroupOffsets(job.new.kafka).set(offsets)

    with ExitStack() as opened:
        new = opened.enter_context(closing(open_store(job.new.store, before_write=check_lease)))
        new.ensure(spec)
        live = job.settings.kafka
        Copier(
            old=opened.enter_context(closing(open_version(job.settings.store, job.reindex.from_version))),
            new=new,
            collections=list(spec.vectors),
            transform_of=transform_of,
            live_lag=partial(group_lag, live, live.topics_of(job.settings.ingest.modalities)),
            begin_at=begin_at,
            notes=open_assets(job.settings),
            pause=_pauses(ending, throttle, read_age_s, check_lease),
            wall_ms=lambda: time.time_ns() // 1_000_000,
            on_progress=job.show,
        ).copy()


def _pauses(
    ending: threading.Event,
    throttle: Throttle,
    read_age_s: Callable[[], float | None],
    check_lease: Callable[[], None],
) -> Callable[[int], bool]:
    """Returns a function that waits for as long as some assets take at the pace, and adjusts the pace now and then."""
    measured_s = [time.monotonic()]

    def pause(assets: int) -> bool:
        if time.monotonic() - measured_s[0] >= _MEASURE_EVERY_S:
            measured_s[0] = time.monotonic()
            throttle.adjust(read_age_s())
        stops = ending.wait(assets / throttle.pace)
        check_lease()
        return stops

    return pause
