"""All metrics of Penstock, with their labels and buckets.

Each is counted where the event happens, in whatever process that is: `EVENTS.labels(modality, outcome).inc()`. In a
connected process (`exposition.connect`) the values go to files of the node, and from there to its endpoint. In any
other process (tests, use as a library) they stay in memory and cost next to nothing. Call `labels` at each use: a child
that was kept from before `connect` counts nowhere. docs/metrics.md says what to look for in each.

A new metric needs a row in docs/metrics.md in the same order and words (tests/observability/test_metrics.py compares
them), a place in `cli/metrics_summary.py` (tests/cli/test_metrics_summary.py) and a move in tests/e2e/test_metrics.py.

Every metric has a label, since `prometheus_client` can reset only metrics with labels when a process is connected.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, TypeAlias

from prometheus_client import Counter, Gauge, Histogram

PREFIX = "penstock_"
UNKNOWN = math.nan  # a gauge of this value is not exported, until it has another

Metric: TypeAlias = Counter | Gauge | Histogram

# The time of one step for a batch: a millisecond to decode a few texts, some seconds for ViT-B-32 over 32 images on a
# CPU, minutes for a write that waits for an unavailable store.
_STEP_S = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0)
# Dense around 1.5 s, the bound of p95 at half load; up to an hour, the age of events after an outage.
_FRESH_S = (0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0, 60.0, 300.0, 3600.0)
# Dense around the 20 ms that a search may take beyond its parts, with the objective of latency (200 ms, ops/slo.toml);
# up to the default deadline of 2 s and late responses.
_QUERY_S = (0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.25, 0.5, 1.0, 2.0, 5.0)
# A check takes milliseconds, a search tens of them, a hosted model seconds, a small one on a CPU up to a minute.
_ANSWER_S = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 60.0)
# The time of an encoder follows powers of two; 32 is a full batch by default, unless more events wait.
_EVENTS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
_BYTES = (1 << 10, 1 << 13, 1 << 16, 1 << 18, 1 << 20, 1 << 22, 1 << 24, 1 << 26)  # 16 MiB is full by default

_all: dict[str, Metric] = {}


def every_metric() -> Sequence[Metric]:
    """Returns all metrics, in the order in which they are defined."""
    return tuple(_all.values())


def name_of(metric: Metric) -> str:
    """Returns the name of a metric in Prometheus, without the suffix of a sample."""
    return next(iter(metric.describe())).name


def _counter(name: str, description: str, *labels: str) -> Counter:
    counter = _all[name] = Counter(PREFIX + name, description, labels, registry=None)
    return counter


def _gauge(name: str, description: str, *labels: str, merge: Literal["livesum", "livemax"]) -> Gauge:
    """Defines a gauge. `merge` combines the values of the living processes; those of dead ones are dropped."""
    gauge = _all[name] = Gauge(PREFIX + name, description, labels, registry=None, multiprocess_mode=merge)
    return gauge


def _histogram(name: str, description: str, *labels: str, buckets: Sequence[float]) -> Histogram:
    histogram = _all[name] = Histogram(PREFIX + name, description, labels, registry=None, buckets=buckets)
    return histogram


# --- events ----------------------------------------------------------------------------------------------------------

EVENTS = _counter("events", "Settled events, by outcome", "modality", "outcome")
DEAD_LETTERS = _counter("dead_letters", "Events settled as dead letters, by reason", "reason")
FRESHNESS = _histogram(
    "freshness_seconds",
    "Time from produced to acknowledged by the store, of each indexed event; replays of dead letters excluded",
    "modality",
    buckets=_FRESH_S,
)
TENANT_EVENTS = _counter(
    "tenant_events", "Settled events of a tenant, by outcome; tenants beyond 200 are `other`", "tenant", "outcome"
)
TENANT_WAITING = _gauge(
    "tenant_waiting_events",
    "Events that a lane has received of a tenant at its quota, and that wait for it",
    "tenant",
    merge="livesum",
)
LOST_OFFSETS = _counter("lost_offsets", "Offsets that retention removed before they were committed", "topic")
INDEX_CHANGES = _counter(
    "index_changes", "Changes of the index for the change feed: published, or dropped as it did not take them", "result"
)
LAG = _gauge(
    "lag_records",
    "Offsets that are not committed yet, as reported by the broker",
    "topic",
    "partition",
    merge="livemax",
)

OLDEST_UNSETTLED = _gauge(
    "oldest_unsettled_seconds",
    "Age of the oldest record that is not committed yet: from its timestamp to now; 0 without any",
    "topic",
    merge="livemax",
)
HELD = _gauge(
    "held",
    "Lanes that are paused, by cause (disk, lease, budget, store, broker), and halted partitions",
    "why",
    merge="livesum",
)
DEAD_LETTERS_OPEN = _gauge(
    "dead_letters_open", "Dead letters whose event nothing has indexed or superseded since", "topic", merge="livemax"
)

ASSET_SWEEPS = _counter("asset_sweeps", "Sweeps of the asset store: done, held by the brake, or failed", "result")
BACKUP_AGE = _gauge(
    "backup_age_seconds",
    "Time since the last complete backup of an index began; no value without one",
    "index_version",
    merge="livemax",
)

# --- lanes and steps -------------------------------------------------------------------------------------------------

STEP = _histogram(
    "step_seconds", "Time of one step for one batch, over all attempts", "step", "modality", buckets=_STEP_S
)
BATCH_EVENTS = _histogram("batch_events", "Events in a batch", "modality", buckets=_EVENTS)
BATCH_BYTES = _histogram("batch_bytes", "Bytes of the records of a batch", "modality", buckets=_BYTES)
IN_FLIGHT = _gauge("in_flight_bytes", "Bytes of queued and processed records in a lane", "lane", merge="livesum")
COMMITS = _counter(
    "commits",
    "Commits of offsets: acknowledged, unanswered (to be repeated), denied (the right to a topic is missing; the other "
    "offsets are committed) or fenced",
    "result",
)
RETRIES = _counter(
    "retries", "Attempts that failed transiently and are repeated: of a batch, its write or its dead letters", "cause"
)
BREAKER_OPEN = _gauge(
    "breaker_open", "1 while the dependency behind a breaker does not answer, else 0", "dependency", merge="livemax"
)
AUTH_FAILURES = _counter(
    "auth_failures", "Logins that Kafka or the store refused, and certificates that do not fit", "service"
)

IMAGE_TEXTS = _counter(
    "image_texts",
    "Images that a model read or described: words, none or failed; failed ones are indexed without",
    "role",
    "result",
)

# --- re-index --------------------------------------------------------------------------------------------------------

REINDEX_ASSETS = _gauge(
    "reindex_assets",
    "Assets of the old version of the index, while a new one is filled: done, total or missing",
    "version",
    "state",
    merge="livemax",
)
REINDEX_RATE = _gauge(
    "reindex_assets_per_second", "Assets that come to the new version, over a minute", "version", merge="livemax"
)
REINDEX_LEFT = _gauge(
    "reindex_left_seconds", "Time that the rest of the fill takes at this rate", "version", merge="livemax"
)
REINDEX_LAG = _gauge(
    "reindex_lag_records", "Records that the group of the new version has not committed", "version", merge="livemax"
)

# --- pools -----------------------------------------------------------------------------------------------------------

WORKERS = _gauge("workers", "Workers of a pool", "pool", merge="livesum")
BUSY = _counter("worker_busy_seconds", "Time that the workers of a pool spent on calls that succeeded", "pool")
QUEUE_WAIT = _histogram(
    "queue_wait_seconds", "Time of a call beyond the time that its worker spent on it", "pool", buckets=_STEP_S
)

# --- queries ---------------------------------------------------------------------------------------------------------

QUERY = _histogram(
    "query_seconds", "Time of a request to /v1/search in its replica, by HTTP status", "status", buckets=_QUERY_S
)
QUERY_STEP = _histogram("query_step_seconds", "Time of one step of an answered search", "step", buckets=_QUERY_S)
QUERY_CHANNEL = _histogram(
    "query_channel_seconds",
    "Time of one channel, from the moment its query vector is ready: answered or missing",
    "channel",
    "result",
    buckets=_QUERY_S,
)
QUERY_SHED = _counter(
    "query_shed", "Steps that searches left out for the load: rewrite, rerank, deeper or channels", "step"
)
REQUESTS_LIMITED = _counter(
    "requests_limited",
    "Requests beyond a limit, by whose it is (caller or tenant) and kind (requests, images, voice or answers)",
    "scope",
    "kind",
)
CACHE_REQUESTS = _counter(
    "cache_requests",
    "Look-ups in a cache of embeddings or of results: hit, miss, or shared with a search that runs",
    "cache",
    "result",
)
CACHE_BYTES = _gauge("cache_bytes", "Bytes of what a cache holds, estimated", "cache", merge="livesum")
UNDERSTANDING = _counter(
    "understanding",
    "Words of questions and of the index, by part (spelling, synonyms, rewrite, vocabulary) and what was made of them",
    "part",
    "result",
)

ANSWER_STEP = _histogram("answer_step_seconds", "Time of one step of an answer", "step", buckets=_ANSWER_S)
ANSWERS = _counter(
    "answers",
    "Answers by what wrote them (model, extractive or none) and their result: answered, partial or abstained",
    "generator",
    "result",
)
ANSWER_SENTENCES = _counter(
    "answer_sentences", "Sentences of answers by what the sources say about them: shown or dropped", "support", "result"
)

RECEIVED_EVENTS = _counter(
    "received_events",
    "Events of requests to /v1/events: accepted, repeated (answered as before), refused, limited or unacknowledged",
    "result",
)
PRODUCED_ITEMS = _counter(
    "produced_items", "Items of `penstock produce` on this node: acknowledged, refused or unacknowledged", "result"
)
FEEDBACK_EVENTS = _counter("feedback_events", "Events of feedback by their outcome", "outcome")
WATCHES = _gauge(
    "watches", "Watches: evaluated, without words for now, or invalid under the settings", "state", merge="livemax"
)
WATCH_MATCHES = _counter("watch_matches", "Matches of watches: written to their topic, or dropped", "result")
WATCH_DELAY = _histogram(
    "watch_delay_seconds",
    "Time from the write of an entry to the acknowledgement of its match",
    "collection",
    buckets=_FRESH_S,
)

HTTP = _histogram(
    "http_seconds", "Time of an HTTP request in its replica, by route and status", "route", "status", buckets=_QUERY_S
)

# --- end to end ------------------------------------------------------------------------------------------------------

CANARY = _histogram(
    "canary_seconds", "Time from producing a canary to finding it with a query", "modality", buckets=_FRESH_S
)
CANARIES = _counter("canaries", "Canaries: found, late, unsent or unanswered", "modality", "result")
BUILD_INFO = _gauge(
    "build_info",
    "1 for each version, profile, index version and models that run",
    *("version", "profile", "index_version", "model"),
    merge="livemax",
)
PROCESSES = _gauge("processes", "Living processes that count, by name", "process", merge="livesum")
SPANS = _counter("spans", "Spans of traces, where tracing is on: exported or dropped", "result")
