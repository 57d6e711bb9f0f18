"""Collects the status of all parts of the system for `penstock status`."""

from __future__ import annotations

import shutil
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from penstock.cli.metrics_summary import MetricsSummary
    from penstock.cli.scrape import Scrape
    from penstock.client import QueryStatusJson
    from penstock.config import Settings
    from penstock.ingest.status import PlaneStatus

MAX_DEAD_LETTERS_READ = 5_000  # reasons are counted among the first ones only
_MIN_RATE_WINDOW_S = 1.0
_STALE_AFTER_MS = 10_000  # the ingest plane writes its status each second

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class TopicStatus:
    """A topic's size, and the consumer group's progress in it.

    Attributes:
        modality: the modality of its events.
        partitions: number of partitions.
        lag: offsets that the group has not committed yet.
        records: offsets that the topic holds.
        lost: ranges that retention removed before the group committed them.
    """

    modality: str
    partitions: int
    lag: int
    records: int
    lost: Sequence[str]


@dataclass(frozen=True, slots=True)
class DeadLetterStatus:
    """Number of dead letters.

    Attributes:
        total: offsets that the dead-letter topic holds.
        by_reason: number by reason, among the first `counted_by_reason`.
        counted_by_reason: number of dead letters that were read, at most `MAX_DEAD_LETTERS_READ`.
    """

    total: int
    by_reason: Mapping[str, int]
    counted_by_reason: int


@dataclass(frozen=True, slots=True)
class IndexStatus:
    """The store's name and version, the rows of each collection, and the number of assets."""

    store: str | None
    entries: Mapping[str, int]
    assets: int


@dataclass(frozen=True, slots=True)
class DiskStatus:
    """Free and total bytes of the data folder's disk, and the free bytes below which ingestion pauses."""

    free_bytes: int
    total_bytes: int
    needed_bytes: int


@dataclass(frozen=True, slots=True)
class SystemStatus:
    """The status of all parts. A part that is unavailable is None and has its error in `problems`.

    Attributes:
        profile: the configured profile.
        addresses: addresses of the services by name; None if a service is not configured.
        topics: media topics by name; None for planes elsewhere where no Kafka is configured.
        dead_letters: the dead-letter topic; None in the same case.
        ingest: the ingest plane.
        search: the status that the query plane reports.
        disk: the disk of the data folder; None for planes elsewhere.
        index: the contents of the store.
        metrics: the metrics of both planes; None also if they are disabled.
        problems: errors by part.
    """

    profile: str
    addresses: Mapping[str, str | None]
    topics: Mapping[str, TopicStatus] | None
    dead_letters: DeadLetterStatus | None
    ingest: PlaneStatus | None
    search: QueryStatusJson | None
    disk: DiskStatus | None
    index: IndexStatus | None
    metrics: MetricsSummary | None
    problems: Mapping[str, str]


def collect_status(settings: Settings) -> SystemStatus:
    """Returns the status of all parts. Takes a second at least, over which rates are measured."""
    from penstock.cli.scrape import metrics_url
    from penstock.client import query_url

    problems: dict[str, str] = {}

    def collected(name: str, part: Callable[[Settings], T]) -> T | None:
        return _or_problem(name, part, settings, problems)

    first_scrape = collected("metrics", _scraped)
    addresses = {
        "kafka": settings.kafka.bootstrap_servers,
        "milvus": settings.store.uri,
        "ray": settings.ray_address,
        "search": query_url(settings),
        "metrics": ", ".join(settings.metrics.urls) or (metrics_url(settings) if settings.metrics.enabled else None),
        "data_dir": None if settings.metrics.urls else str(settings.data_dir),
    }
    # Planes elsewhere answer also where nothing but their addresses is configured.
    has_broker = settings.kafka.bootstrap_servers is not None or not settings.metrics.urls
    denied: dict[str, str] = {}
    topics = collected("topics", partial(topic_statuses, denied=denied)) if has_broker else None
    problems |= {f"topic {topic}": line for topic, line in denied.items()}
    dead_letters = collected("dead_letters", dead_letter_status) if has_broker else None
    ingest = collected("ingest", ingest_status)
    search = collected("search", _search)
    disk = None if settings.metrics.urls else collected("disk", _disk)
    has_store = settings.store.uri is not None or not settings.metrics.urls
    index = _index_of(search) or (collected("index", _index) if has_store else None)
    metrics = collected("metrics", partial(_metrics, first_scrape)) if first_scrape else None
    return SystemStatus(
        settings.profile, addresses, topics, dead_letters, ingest, search, disk, index, metrics, problems
    )


def _or_problem(name: str, part: Callable[[Settings], T], settings: Settings, problems: dict[str, str]) -> T | None:
    from penstock.errors import PenstockError

    try:
        return part(settings)
    except PenstockError as exc:
        problems[name] = str(exc)
        return None


def topic_statuses(settings: Settings, denied: dict[str, str] | None = None) -> Mapping[str, TopicStatus]:
    """Reads the size of each media topic and the lag of the consumer group.

    Args:
        settings: names the topics.
        denied: receives a line about each topic that may not be described, which is left out.
    """
    from penstock.broker.tenant_topics import with_topics
    from penstock.broker.topics import group_lag

    settings = with_topics(settings)
    denied = {} if denied is None else denied
    modalities = settings.kafka.topics_of(settings.ingest.modalities)
    partitions = group_lag(settings.kafka, list(modalities), denied.__setitem__)
    statuses = {}
    for topic, modality in modalities.items():
        if topic in denied:
            continue
        of_topic = [lag for lag in partitions if lag.partition.topic == topic]
        statuses[topic] = TopicStatus(
            modality=str(modality),
            partitions=len(of_topic),
            lag=sum(lag.lag for lag in of_topic),
            records=sum(lag.log_end - lag.log_start for lag in of_topic),
            lost=[str(lag.lost) for lag in of_topic if lag.lost is not None],
        )
    return statuses


def dead_letter_status(settings: Settings) -> DeadLetterStatus:
    """Counts the dead letters, and the reasons of the first `MAX_DEAD_LETTERS_READ`."""
    from penstock.broker.deadletters import scan_dead_letters
    from penstock.broker.topics import group_lag

    total = sum(lag.log_end - lag.log_start for lag in group_lag(settings.kafka, [settings.kafka.dead_letter_topic]))
    letters = scan_dead_letters(settings.kafka, limit=MAX_DEAD_LETTERS_READ) if total else ()
    by_reason = Counter(str(letter.reason) for letter in letters)
    return DeadLetterStatus(total, dict(by_reason), by_reason.total())


def ingest_status(settings: Settings) -> PlaneStatus:
    """Returns the latest status of the ingest plane. Raises UnavailableError if none runs."""
    from penstock.config import start_hint
    from penstock.errors import UnavailableError
    from penstock.ingest.status import PlaneState, read_status

    if settings.metrics.urls:
        from penstock.cli.remote_ingest import remote_status

        named = "group" in settings.kafka.model_fields_set  # this machine may know nothing of the plane's Kafka
        return remote_status(settings.metrics.urls, settings, settings.kafka.group if named else "")
    status = read_status(settings.data_dir, settings.kafka.group)
    if status is None:
        raise UnavailableError(f"no ingest plane has run on {settings.data_dir}. {start_hint(settings)}")
    age_ms = time.time_ns() // 1_000_000 - status.updated_ms
    if age_ms > _STALE_AFTER_MS or status.state is PlaneState.STOPPED:
        last = f"the last one was {status.state} {age_ms // 1000} s ago"
        raise UnavailableError(f"no ingest plane runs: {last}. {start_hint(settings)}")
    return status


def _search(settings: Settings) -> QueryStatusJson:
    from penstock.client import get_status, query_url

    return get_status(query_url(settings), settings)


def _disk(settings: Settings) -> DiskStatus:
    usage = shutil.disk_usage(settings.data_dir)
    return DiskStatus(usage.free, usage.total, settings.ingest.min_free_disk_bytes)


def _index_of(search: QueryStatusJson | None) -> IndexStatus | None:
    """Returns the counts of the query plane, which are quicker to get than those of the store."""
    if search is None or search["assets"] is None:
        return None
    return IndexStatus(search["store"], search["entries"], search["assets"])


def _index(settings: Settings) -> IndexStatus:
    from penstock.assembly import open_store
    from penstock.records import AUDIBLE_COLLECTIONS, COLLECTIONS_OF

    store = open_store(settings.store)
    try:
        collections = {collection for modality in settings.ingest.modalities for collection in COLLECTIONS_OF[modality]}
        counts = {collection: store.count(collection) for collection in sorted(collections)}
        entries = {str(name): count for name, count in counts.items() if count or name not in AUDIBLE_COLLECTIONS}
        return IndexStatus(store.capabilities.product, entries, store.count_assets())
    finally:
        store.close()


def _scraped(settings: Settings) -> Scrape | None:
    return _scrape(settings) if settings.metrics.enabled or settings.metrics.urls else None


def _metrics(first_scrape: Scrape, settings: Settings) -> MetricsSummary:
    """Returns the metrics, with rates over the time since the first scrape, which is a second at least."""
    from penstock.cli.metrics_summary import summarize

    time.sleep(max(0.0, first_scrape.at_s + _MIN_RATE_WINDOW_S - time.monotonic()))
    return summarize(first_scrape, _scrape(settings))


def _scrape(settings: Settings) -> Scrape:
    from penstock.cli.remote_ingest import scrape_all
    from penstock.cli.scrape import metrics_url

    return scrape_all(settings.metrics.urls or [metrics_url(settings)], settings)
