"""Every metric of Penstock, once: its name, what it tells, its labels, and why its buckets are where they are.

Counted where the thing happens, in whatever process that is: `EVENTS.labels(modality, outcome).inc()`. In a process
that was connected (`exposition.connect`) the values go to files of the node, and from there to its one endpoint; in any
other (tests, use as a library) they stay in memory and cost next to nothing. Labels are asked for at each use and not
kept from before `connect`. docs/metrics.md says what to look for in each.

Every metric has a label: only labelled ones can be begun anew by `prometheus_client`'s public means when a process is
connected.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

from prometheus_client import Counter, Gauge, Histogram

PREFIX = "penstock_"

Metric: TypeAlias = Counter | Gauge | Histogram

# What a batch's step takes: a millisecond for decoding a few texts, some seconds for ViT-B-32 over 32 pictures on a
# CPU, minutes for a write that waits for an absent store.
_STEP_S = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0)
# Dense about 1.5 s, which p95 shall not exceed at half load; up to an hour, because after an outage that is how old
# what arrives is.
_FRESH_S = (0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0, 60.0, 300.0, 3600.0)
# Dense about the 20 ms that a search may take beyond its parts, up to the default deadline of 2 s and what is late.
_QUERY_S = (0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 2.0, 5.0)
# An encoder's time follows powers of two; 32 is a full batch by default, unless more wait.
_EVENTS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
_BYTES = (1 << 10, 1 << 13, 1 << 16, 1 << 18, 1 << 20, 1 << 22, 1 << 24, 1 << 26)  # 16 MiB is full by default

_all: dict[str, Metric] = {}


def every_metric() -> Sequence[Metric]:
    """In the order in which they are defined."""
    return tuple(_all.values())


def name_of(metric: Metric) -> str:
    """As Prometheus has it, without a sample's suffix."""
    return next(iter(metric.describe())).name


def _counter(name: str, tells: str, *labels: str) -> Counter:
    made = _all[name] = Counter(PREFIX + name, tells, labels, registry=None)
    return made


def _gauge(name: str, tells: str, *labels: str, over_processes: Literal["livesum", "livemax"]) -> Gauge:
    """`over_processes`: how the values of several living processes become one; those of dead ones are dropped."""
    made = _all[name] = Gauge(PREFIX + name, tells, labels, registry=None, multiprocess_mode=over_processes)
    return made


def _histogram(name: str, tells: str, *labels: str, buckets: Sequence[float]) -> Histogram:
    made = _all[name] = Histogram(PREFIX + name, tells, labels, registry=None, buckets=buckets)
    return made


# --- events ----------------------------------------------------------------------------------------------------------

EVENTS = _counter("events", "Events settled, by how they ended", "modality", "outcome")
DEAD_LETTERS = _counter("dead_letters", "Events settled as dead letters, by reason", "reason")
FRESHNESS = _histogram(
    "freshness_seconds",
    "From produced to acknowledged by the store, for each event indexed; replays of dead letters left out",
    "modality",
    buckets=_FRESH_S,
)
LOST_OFFSETS = _counter("lost_offsets", "Offsets that retention removed before they were committed", "topic")
LAG = _gauge(
    "lag_records",
    "Offsets not committed yet, as the broker counts them",
    "topic",
    "partition",
    over_processes="livemax",
)

# --- lanes and steps -------------------------------------------------------------------------------------------------

STEP = _histogram("step_seconds", "What a step took for one batch, over all tries", "step", "modality", buckets=_STEP_S)
BATCH_EVENTS = _histogram("batch_events", "Events in a batch", "modality", buckets=_EVENTS)
BATCH_BYTES = _histogram("batch_bytes", "Bytes of the records of a batch", "modality", buckets=_BYTES)
IN_FLIGHT = _gauge(
    "in_flight_bytes", "Bytes of records waiting and under way in a lane", "lane", over_processes="livesum"
)
COMMITS = _counter("commits", "Commits of offsets: acknowledged, unanswered (tried again) or fenced", "result")
RETRIES = _counter(
    "retries", "Tries that failed for now and are made again: of a batch, its write or its dead letters", "cause"
)
BREAKER_OPEN = _gauge(
    "breaker_open",
    "1 while what stands behind a breaker does not answer, else 0",
    "dependency",
    over_processes="livemax",
)

# --- pools -----------------------------------------------------------------------------------------------------------

WORKERS = _gauge("workers", "Workers of a pool", "pool", over_processes="livesum")
BUSY = _counter("worker_busy_seconds", "Seconds that the workers of a pool spent on calls that ended well", "pool")
QUEUE_WAIT = _histogram(
    "queue_wait_seconds", "What a call took beyond the time its worker was busy with it", "pool", buckets=_STEP_S
)

# --- queries ---------------------------------------------------------------------------------------------------------

QUERY = _histogram(
    "query_seconds", "A request to /v1/search within its replica, by HTTP status", "status", buckets=_QUERY_S
)
QUERY_STEP = _histogram("query_step_seconds", "A step of a search that was answered", "step", buckets=_QUERY_S)
QUERY_CHANNEL = _histogram(
    "query_channel_seconds",
    "One channel's answer, from when its query vector was there: answered or missing",
    "channel",
    "result",
    buckets=_QUERY_S,
)
CACHE_REQUESTS = _counter("cache_requests", "Vectors asked of a cache: hit or miss", "cache", "result")

# --- the whole way ---------------------------------------------------------------------------------------------------

CANARY = _histogram(
    "canary_seconds", "From producing a marked event to finding it with a query", "modality", buckets=_FRESH_S
)
CANARIES = _counter("canaries", "Marked events sent: found, late, unsent or unanswered", "modality", "result")
PROCESSES = _gauge("processes", "Living processes that count, by what they are", "process", over_processes="livesum")
