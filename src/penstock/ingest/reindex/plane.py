"""Runs the plane that feeds a new version of the index, and fills the version beside it.

plane       consumes the topics from their start, in a group of its own
fill        thread: hands over what the topics no longer have (`filling`), then looks again now and then
throttle    thread: measures the live group's freshness, and sets the plane's pace until the version is filled
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from functools import partial

from penstock.assembly import open_assets, open_store, open_version
from penstock.assets import AssetStore
from penstock.broker.producer import MessageProducer
from penstock.broker.record_times import record_times
from penstock.broker.replay_keys import ReplayKeys
from penstock.broker.tenant_topics import with_topics
from penstock.config import Settings, keep_secrets_in_files, read_endpoints
from penstock.errors import ConfigError, PenstockError, TransientError
from penstock.ingest.background import start_endpoint_thread
from penstock.ingest.lag import readable_lag
from penstock.ingest.plane import IngestPlane
from penstock.ingest.reindex.drop_watch import DropWatch
from penstock.ingest.reindex.filling import Filler, StoppedFillError
from penstock.ingest.reindex.gauges import ProgressGauges
from penstock.ingest.reindex.job import FillJob
from penstock.ingest.reindex.refills import RefillTargets
from penstock.ingest.reindex.starting import check_differs
from penstock.ingest.reindex.throttle import Throttle, oldest_age_s
from penstock.observability.exposition import connect
from penstock.store.base import IndexSpec
from penstock.versions import Progress, Reindex, drop_reindex, read_progress, version_settings, write_progress

logger = logging.getLogger(__name__)

_MEASURE_EVERY_S = 3.0
_SAMPLES = 5  # of the live group's freshness before the fill begins, a second apart
# Later planes of a fill would take what this one does to live events for normal; so is a live plane that is down.
_MOST_NORMAL_S = 30.0
_LOOK_AGAIN_S = 600.0
_RETRY_S = 10.0
_CLOSE_TIMEOUT_S = 10.0
# Ray's CPUs are a count of actors here: all of a second plane take less than the one that `penstock up` leaves over.
_SHARED_CPUS = 0.02
_IN_FLIGHT_BYTES = 32 * 1024 * 1024


def filling_settings(settings: Settings) -> Settings:
    """Returns the settings of the plane that fills a version, from those of the version.

    It has no metrics and canaries of its own, pools of fixed size, and little memory for records; and it fits beside
    the planes of `penstock up` on the same Ray.
    """
    ingest = settings.ingest
    running = read_endpoints(settings.data_dir)
    shares_ray = running is not None and running.ray_address == settings.ray_address
    ingest = ingest.model_copy(
        update={
            "max_decoders": None,
            "max_encoders": None,
            "max_in_flight_bytes": min(ingest.max_in_flight_bytes, _IN_FLIGHT_BYTES),
            "worker_cpus": _SHARED_CPUS if shares_ray else ingest.worker_cpus,
            "wait_for_lease": True,
        }
    )
    return settings.model_copy(
        update={
            "ingest": ingest,
            "metrics": settings.metrics.model_copy(update={"enabled": False}),
            "canary": settings.canary.model_copy(update={"interval_s": 0.0}),
        }
    )


def run_reindex(
    settings: Settings,
    reindex: Reindex,
    stop: threading.Event,
    *,
    begins: bool = False,
    max_per_s: float | None = None,
    anyway: bool = False,
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> None:
    """Runs the plane of the new version until `stop` is set or the version is dropped, then drains.

    Args:
        settings: of the deployment: those of the version that is served.
        reindex: the re-index.
        stop: ends it; run it again to continue.
        begins: whether its record was made just now, and goes again if the re-index is refused.
        max_per_s: events per second at most while the version is filled; None: as many as live events allow.
        anyway: fills also with the encoders of the present version.
        on_progress: called with each count.

    Raises:
        ConfigError: the new version would be the same, or settings, topics or collections do not fit.
        PenstockError: as `IngestPlane.start` does.
    """
    new = version_settings(settings, reindex, reindex.to_version)
    notes = open_assets(settings)
    DropWatch(notes, reindex.to_version, fills=True, clock=time.monotonic).check_start()
    connect(settings, "reindex")
    ending = threading.Event()
    start_endpoint_thread(ending, settings)
    normal_s = _normal_s(settings, notes, ending)
    gauges = ProgressGauges(reindex.to_version)

    def show(progress: Progress) -> None:
        gauges.show(progress)
        on_progress(progress)

    job = FillJob(settings, reindex, new, show)
    throttle = Throttle(normal_s=normal_s, max_per_s=max_per_s, clock=time.monotonic)
    plane = IngestPlane(
        keep_secrets_in_files(filling_settings(new), "reindex"),
        fills=True,
        check_spec=None if anyway else partial(_check_differs, settings, reindex),
        before_lanes=partial(_copy_until_done, job, stop, throttle),
    )
    try:
        if not plane.start(stop):
            return
        _feed(plane, job, throttle, stop=stop, ending=ending)
    except StoppedFillError:
        return
    except ConfigError:
        if begins and not _has_begun(settings, reindex):
            drop_reindex(notes)
        raise
    finally:
        ending.set()
        plane.stop()


def _feed(
    plane: IngestPlane, job: FillJob, throttle: Throttle, *, stop: threading.Event, ending: threading.Event
) -> None:
    """Fills the version while the plane runs, until `stop` is set or the version has another plane, or goes."""
    version, filled = job.reindex.to_version, threading.Event()
    watch = DropWatch(open_assets(job.settings), version, fills=True, clock=time.monotonic)
    plane.set_pace(throttle.pace)
    threads = [
        threading.Thread(target=_fill_until, args=(ending, job, filled), name="fill"),
        threading.Thread(target=_throttle_until, args=(ending, job, plane, throttle, filled), name="throttle"),
    ]
    for thread in threads:
        thread.start()
    try:
        while not stop.wait(1.0):
            plane.check()
            if watch.must_end():
                logger.warning("the re-index has ended, and so does the plane of version %d", version)
                return
    finally:
        ending.set()
        for thread in threads:
            thread.join()


def _has_begun(settings: Settings, reindex: Reindex) -> bool:
    """Returns whether the new version has collections."""
    with closing(open_store(settings.store)) as store:
        return bool(store.collections_of(reindex.to_version))


def _check_differs(settings: Settings, reindex: Reindex, spec: IndexSpec) -> None:
    """Refuses the vectors that the old version has, unless the new one has been begun before."""
    with closing(open_store(settings.store)) as store:
        if not store.collections_of(reindex.to_version):  # else it was begun, and not refused
            check_differs(spec, store.encoders_of(reindex.from_version))


# --- freshness -------------------------------------------------------------------------------------------------------


def _normal_s(settings: Settings, notes: AssetStore, ending: threading.Event) -> float:
    """Returns how old the oldest live event is that is not settled, before the fill began, and records it."""
    known = read_progress(notes)
    if known is not None:
        return known.normal_s
    read_age_s = _live_age(settings)
    ages = []
    for _ in range(_SAMPLES):
        ages.append(read_age_s() or 0.0)
        ending.wait(1.0)
    normal_s = min(max(ages), _MOST_NORMAL_S)
    write_progress(notes, Progress(0, 0, 0, 0.0, time.time_ns() // 1_000_000, normal_s=normal_s))
    return normal_s


def _live_age(settings: Settings) -> Callable[[], float | None]:
    """Returns a function that measures the age of the oldest event that the live group has not settled."""
    known = with_topics(settings)
    read_lag = readable_lag(settings.kafka, lambda: known.kafka.topics_of(known.ingest.modalities))

    def measure() -> float | None:
        try:
            return oldest_age_s(read_lag(), partial(record_times, settings.kafka), now_s=time.time())
        except PenstockError as exc:
            logger.info("the freshness of live events could not be measured, and is measured again: %s", exc)
            return None

    return measure


def _throttle_until(
    ending: threading.Event, job: FillJob, plane: IngestPlane, throttle: Throttle, filled: threading.Event
) -> None:
    """Sets the pace of the plane until the version is filled; then it has none, so that it follows live events."""
    read_age_s = _live_age(job.settings)
    while not filled.is_set() and not ending.wait(_MEASURE_EVERY_S):
        before = throttle.pace
        if throttle.adjust(read_age_s()) != before:
            logger.info("the fill continues with %.1f events/s at most", throttle.pace)
            plane.set_pace(throttle.pace)
    plane.set_pace(None)


def _copy_until_done(job: FillJob, stop: threading.Event, throttle: Throttle, check_lease: Callable[[], None]) -> None:
    """Copies the vectors of the old version, where the new one is a transform of it; what fails is repeated.

    Raises:
        StoppedFillError: `stop` was set.
        LeaseHeldError: another driver fills the version.
        ConfigError: the group of the new version runs already, or the old version lacks a collection.
    """
    if job.reindex.transform is None:
        return
    from penstock.ingest.reindex.vectors import copy_vectors

    while True:
        try:
            copy_vectors(job, stop, throttle, _live_age(job.settings), check_lease)
            return
        except TransientError as exc:
            logger.warning("the copy is interrupted and will continue: %s", exc)
            if stop.wait(_RETRY_S):
                raise StoppedFillError from exc


# --- filling ---------------------------------------------------------------------------------------------------------


def _fill_until(ending: threading.Event, job: FillJob, filled: threading.Event) -> None:
    """Fills the version, and looks again every ten minutes; what fails is repeated."""
    while not ending.is_set():
        try:
            with ExitStack() as opened:
                filler = open_filler(job, ending, opened)
                if filler.progress.filled:
                    filled.set()
                    filler.look_again()
                else:
                    filler.fill()
            filled.set()
            ending.wait(_LOOK_AGAIN_S)
        except StoppedFillError:
            return
        except PenstockError as exc:
            logger.warning("the fill is interrupted and will continue: %s", exc)
            ending.wait(_RETRY_S)
        except Exception:  # whatever it is, the version must not stay incomplete without a word
            logger.exception("the fill is interrupted by an unexpected error, and will continue")
            ending.wait(_RETRY_S)


def open_filler(job: FillJob, ending: threading.Event, opened: ExitStack) -> Filler:
    """Returns what fills the version by the services of the settings, which `opened` closes."""
    known = with_topics(job.new)
    kafka, topics = known.kafka, known.kafka.topics_of(known.ingest.modalities)
    notes = open_assets(job.settings)
    producer = MessageProducer(kafka)
    opened.callback(producer.close, _CLOSE_TIMEOUT_S)
    framed = frozenset(kafka.framed_topics)
    return Filler(
        old=opened.enter_context(closing(open_version(job.settings.store, job.reindex.from_version))),
        new=opened.enter_context(closing(open_version(job.settings.store, job.reindex.to_version))),
        targets=RefillTargets(topics.get, kafka.tenant_of, framed.__contains__, notes.exists),
        producer=producer,
        sign=ReplayKeys.of(job.settings).signed,
        lag=readable_lag(kafka, lambda: topics),
        notes=notes,
        sleep=ending.wait,
        clock=time.monotonic,
        wall_ms=lambda: time.time_ns() // 1_000_000,
        on_progress=job.show,
    )
