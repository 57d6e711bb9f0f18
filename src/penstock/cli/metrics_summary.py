"""Summarizes the metrics of both planes for `penstock status`, as records and as lines of text.

Over the limit because each metric has a field, its meaning and a line.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from prometheus_client import Counter, Histogram

from penstock.cli.reindex_metrics import reindex_lines, reindex_metrics
from penstock.cli.scrape import Scrape
from penstock.observability import metrics


@dataclass(frozen=True, slots=True)
class DurationSummary:
    """Number and quantiles of durations since the start; a quantile is None without observations."""

    count: int
    p50_s: float | None
    p95_s: float | None


@dataclass(frozen=True, slots=True)
class BatchSizes:
    """Number of batches, and their mean size. Means are exact; quantiles are not if most batches have one size."""

    count: int
    mean_events: float
    mean_bytes: float


@dataclass(frozen=True, slots=True)
class PoolUsage:
    """Workers of a pool, the share of their time in calls, and the p95 of the queue wait."""

    workers: int
    busy_share: float
    wait_p95_s: float | None


@dataclass(frozen=True, slots=True)
class CanarySummary:
    """Quantiles of the time from produced to found, and the number of canaries by result."""

    p50_s: float | None
    p95_s: float | None
    results: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class MetricsSummary:
    """The metrics of a node: totals and quantiles since the start, rates and busy shares between two scrapes.

    Over the limit because it has a field for every metric and is one JSON document.

    Attributes:
        over_s: seconds between the two scrapes.
        events_per_s: settled events by modality.
        events: settled events by modality and outcome.
        dead_letters: by reason.
        tenant_events: settled events by tenant and outcome.
        tenant_waiting: events that wait for the quota of their tenant.
        lost_offsets: offsets that retention removed before they were committed, by topic.
        index_changes: changes of the index for the change feed, by result.
        asset_sweeps: sweeps of the asset store, by result.
        backup_age_s: age of the last backup, by index version.
        oldest_unsettled_s: age of the oldest record that is not committed, by topic; absent while it is unknown.
        held: lanes that are paused, by cause, and halted partitions.
        dead_letters_open: dead letters whose event nothing has resolved yet, by topic; absent while it is unknown.
        batches: by modality.
        steps: durations of the ingest steps, for a batch.
        pools: by pool.
        in_flight_bytes: by lane.
        breaker_open: whether the breaker of a dependency is open.
        retries: by cause.
        commits: by result.
        image_texts: images by the model that read or described them, and result.
        reindex: by version that is filled; see `reindex_metrics`.
        freshness: by modality.
        http: durations of HTTP requests, by route and status.
        queries: durations of searches, by HTTP status.
        query_steps: durations of the steps of a search.
        channels: durations by channel and result. A missing channel takes as long as its deadline, so its durations are
            apart from those that answered.
        shed: steps that searches left out for the load.
        limited: requests beyond a limit, by whose it is and kind.
        caches: look-ups by cache and result.
        cache_bytes: what a cache holds, estimated.
        understanding: words of questions and of the index, by part and what was made of them.
        answers: by what wrote them and result.
        answer_steps: durations of the steps of an answer.
        answer_sentences: sentences of answers, by support and whether they were shown.
        received_events: events of requests to /v1/events, by result.
        produced_items: items of `penstock produce` on this node, by result.
        feedback: events by outcome.
        watches: by state.
        watch_matches: by result.
        watch_delay: time from the write of an entry to its match, by collection.
        canary: by modality.
        builds: what runs: version, profile, index version and models, one text each.
        processes: number of running processes by kind.
        spans: of traces, by result.
    """

    over_s: float
    events_per_s: Mapping[str, float]
    events: Mapping[str, Mapping[str, int]]
    dead_letters: Mapping[str, int]
    tenant_events: Mapping[str, Mapping[str, int]]
    tenant_waiting: Mapping[str, int]
    lost_offsets: Mapping[str, int]
    index_changes: Mapping[str, int]
    asset_sweeps: Mapping[str, int]
    backup_age_s: Mapping[str, float]
    oldest_unsettled_s: Mapping[str, float]
    held: Mapping[str, int]
    dead_letters_open: Mapping[str, int]
    batches: Mapping[str, BatchSizes]
    steps: Mapping[str, DurationSummary]
    pools: Mapping[str, PoolUsage]
    in_flight_bytes: Mapping[str, float]
    breaker_open: Mapping[str, bool]
    retries: Mapping[str, int]
    commits: Mapping[str, int]
    auth_failures: Mapping[str, int]
    image_texts: Mapping[str, Mapping[str, int]]
    reindex: Mapping[str, Mapping[str, float]]
    freshness: Mapping[str, DurationSummary]
    http: Mapping[str, Mapping[str, DurationSummary]]
    queries: Mapping[str, DurationSummary]
    query_steps: Mapping[str, DurationSummary]
    channels: Mapping[str, Mapping[str, DurationSummary]]
    shed: Mapping[str, int]
    limited: Mapping[str, Mapping[str, int]]
    caches: Mapping[str, Mapping[str, int]]
    cache_bytes: Mapping[str, int]
    understanding: Mapping[str, Mapping[str, int]]
    answers: Mapping[str, Mapping[str, int]]
    answer_steps: Mapping[str, DurationSummary]
    answer_sentences: Mapping[str, Mapping[str, int]]
    received_events: Mapping[str, int]
    produced_items: Mapping[str, int]
    feedback: Mapping[str, int]
    watches: Mapping[str, int]
    watch_matches: Mapping[str, int]
    watch_delay: Mapping[str, DurationSummary]
    canary: Mapping[str, CanarySummary]
    builds: Sequence[str]
    processes: Mapping[str, int]
    spans: Mapping[str, int]


def summarize(before: Scrape, now: Scrape) -> MetricsSummary:
    """Returns the totals and quantiles of `now`, and the rates and busy shares between the two scrapes."""
    window_s = now.at_s - before.at_s
    return MetricsSummary(
        over_s=round(window_s, 3),
        events_per_s=_rates(before.by(metrics.EVENTS, "modality"), now.by(metrics.EVENTS, "modality"), window_s),
        events=_counts(now, metrics.EVENTS, "modality", "outcome"),
        dead_letters=_whole(now.by(metrics.DEAD_LETTERS, "reason")),
        tenant_events=_counts(now, metrics.TENANT_EVENTS, "tenant", "outcome"),
        tenant_waiting=_whole(now.by(metrics.TENANT_WAITING, "tenant")),
        lost_offsets=_whole(now.by(metrics.LOST_OFFSETS, "topic")),
        index_changes=_whole(now.by(metrics.INDEX_CHANGES, "result")),
        asset_sweeps=_whole(now.by(metrics.ASSET_SWEEPS, "result")),
        backup_age_s=now.by(metrics.BACKUP_AGE, "index_version"),
        oldest_unsettled_s=now.by(metrics.OLDEST_UNSETTLED, "topic"),
        held=_whole(now.by(metrics.HELD, "why")),
        dead_letters_open=_whole(now.by(metrics.DEAD_LETTERS_OPEN, "topic")),
        batches=_batches(now),
        steps=_durations(now, metrics.STEP, "step"),
        pools=_pools(before, now, window_s),
        in_flight_bytes=now.by(metrics.IN_FLIGHT, "lane"),
        breaker_open={
            dependency: bool(value) for dependency, value in now.by(metrics.BREAKER_OPEN, "dependency").items()
        },
        retries=_whole(now.by(metrics.RETRIES, "cause")),
        commits=_whole(now.by(metrics.COMMITS, "result")),
        auth_failures=_whole(now.by(metrics.AUTH_FAILURES, "service")),
        image_texts=_counts(now, metrics.IMAGE_TEXTS, "role", "result"),
        reindex=reindex_metrics(now),
        freshness=_durations(now, metrics.FRESHNESS, "modality"),
        http=_durations_by(now, metrics.HTTP, "route", "status"),
        queries=_durations(now, metrics.QUERY, "status"),
        query_steps=_durations(now, metrics.QUERY_STEP, "step"),
        channels=_durations_by(now, metrics.QUERY_CHANNEL, "channel", "result"),
        shed=_whole(now.by(metrics.QUERY_SHED, "step")),
        limited=_counts(now, metrics.REQUESTS_LIMITED, "scope", "kind"),
        caches=_counts(now, metrics.CACHE_REQUESTS, "cache", "result"),
        cache_bytes=_whole(now.by(metrics.CACHE_BYTES, "cache")),
        understanding=_counts(now, metrics.UNDERSTANDING, "part", "result"),
        answers=_counts(now, metrics.ANSWERS, "generator", "result"),
        answer_steps=_durations(now, metrics.ANSWER_STEP, "step"),
        answer_sentences=_counts(now, metrics.ANSWER_SENTENCES, "support", "result"),
        received_events=_whole(now.by(metrics.RECEIVED_EVENTS, "result")),
        produced_items=_whole(now.by(metrics.PRODUCED_ITEMS, "result")),
        feedback=_whole(now.by(metrics.FEEDBACK_EVENTS, "outcome")),
        watches=_whole(now.by(metrics.WATCHES, "state")),
        watch_matches=_whole(now.by(metrics.WATCH_MATCHES, "result")),
        watch_delay=_durations(now, metrics.WATCH_DELAY, "collection"),
        canary=_canary(now),
        builds=_builds(now),
        processes=_whole(now.by(metrics.PROCESSES, "process")),
        spans=_whole(now.by(metrics.SPANS, "result")),
    )


def _whole(counts: Mapping[str, float]) -> Mapping[str, int]:
    return {name: int(count) for name, count in counts.items()}


def _rates(before: Mapping[str, float], now: Mapping[str, float], window_s: float) -> Mapping[str, float]:
    return {name: round((total - before.get(name, 0.0)) / window_s, 3) for name, total in now.items()}


def _durations(now: Scrape, metric: Histogram, label: str) -> Mapping[str, DurationSummary]:
    return {
        value: _duration(now, metric, count, **{label: value}) for value, count in now.counts(metric, label).items()
    }


def _duration(now: Scrape, metric: Histogram, count: int, **labels: str) -> DurationSummary:
    p50_s, p95_s = (now.quantile_s(metric, q, **labels) for q in (0.5, 0.95))
    return DurationSummary(count, p50_s, p95_s)


def _batches(now: Scrape) -> Mapping[str, BatchSizes]:
    counts = now.counts(metrics.BATCH_EVENTS, "modality")
    events, sizes = _means(now, metrics.BATCH_EVENTS), _means(now, metrics.BATCH_BYTES)
    return {
        modality: BatchSizes(counts[modality], events[modality], mean_bytes) for modality, mean_bytes in sizes.items()
    }


def _means(now: Scrape, metric: Histogram) -> Mapping[str, float]:
    counts = now.counts(metric, "modality")
    sums = {labels["modality"]: value for labels, value in now.samples.get(f"{metrics.name_of(metric)}_sum", ())}
    return {modality: round(sums[modality] / count, 3) for modality, count in counts.items() if count}


def _pools(before: Scrape, now: Scrape, window_s: float) -> Mapping[str, PoolUsage]:
    busy = _rates(before.by(metrics.BUSY, "pool"), now.by(metrics.BUSY, "pool"), window_s)
    return {
        pool: PoolUsage(
            workers=int(workers),
            busy_share=round(busy.get(pool, 0.0) / workers, 3) if workers else 0.0,
            wait_p95_s=now.quantile_s(metrics.QUEUE_WAIT, 0.95, pool=pool),
        )
        for pool, workers in now.by(metrics.WORKERS, "pool").items()
    }


def _durations_by(
    now: Scrape, metric: Histogram, outer: str, inner: str
) -> Mapping[str, Mapping[str, DurationSummary]]:
    durations: dict[str, dict[str, DurationSummary]] = {}
    for labels, count in now.samples.get(f"{metrics.name_of(metric)}_count", ()):
        duration = _duration(now, metric, int(count), **labels)
        durations.setdefault(labels[outer], {})[labels[inner]] = duration
    return durations


def _builds(now: Scrape) -> Sequence[str]:
    labels = [labels for labels, _ in now.samples.get(metrics.name_of(metrics.BUILD_INFO), ())]
    return [
        f"{build['version']}, profile {build['profile']}, index v{build['index_version']} of {build['model']}"
        for build in labels
    ]


def _counts(now: Scrape, metric: Counter, outer: str, inner: str) -> Mapping[str, Mapping[str, int]]:
    counts: dict[str, dict[str, int]] = {}
    for labels, value in now.samples.get(f"{metrics.name_of(metric)}_total", ()):
        counts.setdefault(labels[outer], {})[labels[inner]] = int(value)
    return counts


def _canary(now: Scrape) -> Mapping[str, CanarySummary]:
    durations = _durations(now, metrics.CANARY, "modality")
    summaries = {}
    for modality, results in _counts(now, metrics.CANARIES, "modality", "result").items():
        duration = durations.get(modality, _UNOBSERVED)
        summaries[modality] = CanarySummary(duration.p50_s, duration.p95_s, results)
    return summaries


# --- text ------------------------------------------------------------------------------------------------------------


def summary_lines(summary: MetricsSummary) -> Iterator[str]:
    """Yields a line for each kind of metric that has a value."""
    yield from _listed(
        f"settled per second, over the last {summary.over_s:.1f} s",
        (f"{rate:g} {modality}" for modality, rate in summary.events_per_s.items()),
    )
    yield from _listed("batches, mean", (_batch(name, sizes) for name, sizes in summary.batches.items()))
    yield from _duration_line("steps, p50 / p95 of a batch", summary.steps)
    yield from _listed("pools", (_pool(name, usage) for name, usage in summary.pools.items()))
    yield from _listed("commits", _named(summary.commits))
    yield from _listed("offsets lost to retention", _named(summary.lost_offsets))
    settled = {tenant: sum(counts.values()) for tenant, counts in summary.tenant_events.items()}
    yield from _listed("settled by tenant", _named(settled))
    yield from _listed(
        "waiting for a quota", _named({tenant: count for tenant, count in summary.tenant_waiting.items() if count})
    )
    yield from _listed("changes of the index", _named(summary.index_changes))
    yield from _listed("sweeps of the asset store", _named(summary.asset_sweeps))
    yield from _listed(
        "last backup", (f"{age_s / 3600:.1f} h ago of version {name}" for name, age_s in summary.backup_age_s.items())
    )
    yield from _listed(
        "oldest unsettled", (f"{age_s:.1f} s {name}" for name, age_s in summary.oldest_unsettled_s.items())
    )
    yield from _listed("held", _named({why: count for why, count in summary.held.items() if count}))
    yield from _listed("dead letters open", _named(summary.dead_letters_open))
    retries = ", ".join(_named(summary.retries))
    breakers = ", ".join(dependency for dependency, is_open in summary.breaker_open.items() if is_open)
    yield f"retries: {retries or 'none'}; breakers open: {breakers or 'none'}"
    yield from _listed("refused logins", _named(summary.auth_failures))
    for role, results in summary.image_texts.items():
        yield f"images for {role}: {', '.join(_named(results))}"
    yield from reindex_lines(summary.reindex)
    yield from _listed(
        "requests by route and status, p50 / p95",
        (
            f"{route} {status} {_p50_p95(duration)}"
            for route, by_status in summary.http.items()
            for status, duration in by_status.items()
        ),
    )
    yield from _duration_line("searches by status, p50 / p95", summary.queries)
    yield from _duration_line("searches by step, p50 / p95", summary.query_steps)
    yield from _listed(
        "channels, p50 / p95 of those that answered",
        (_channel(name, results) for name, results in summary.channels.items()),
    )
    yield from _listed("left out for the load", _named(summary.shed))
    for scope, kinds in summary.limited.items():
        yield f"beyond the limits of a {scope}: {', '.join(_named(kinds))}"
    yield from _parts_of_queries(summary)
    yield from _inputs(summary)
    yield from _listed("watches", _named(summary.watches))
    yield from _listed("matches of watches", _named(summary.watch_matches))
    yield from _duration_line("matches after the write, p50 / p95", summary.watch_delay)
    for modality, canary in summary.canary.items():
        yield f"{modality} canary, produced to found: {_p50_p95(canary)} ({', '.join(_named(canary.results))})"
    yield from _listed("builds", summary.builds)
    yield from _listed("processes", _named(summary.processes))
    yield from _listed("spans of traces", _named(summary.spans))


def _inputs(summary: MetricsSummary) -> Iterator[str]:
    """Yields the lines of what was sent other than by producers of Kafka."""
    yield from _listed("events by HTTP", _named(summary.received_events))
    yield from _listed("items of penstock produce", _named(summary.produced_items))
    yield from _listed("events of feedback", _named(summary.feedback))


def _parts_of_queries(summary: MetricsSummary) -> Iterator[str]:
    """Yields the lines on understanding, caches and answers."""
    for part, results in summary.understanding.items():
        yield f"{part} of questions: {', '.join(_named(results))}"
    for cache, results in summary.caches.items():
        held = f", {summary.cache_bytes[cache] / 1e6:,.1f} MB" if cache in summary.cache_bytes else ""
        yield f"{cache} cache: {results.get('hit', 0)} hits, {results.get('miss', 0)} misses{held}"
    for generator, results in summary.answers.items():
        yield f"answers by {generator}: {', '.join(_named(results))}"
    for support, results in summary.answer_sentences.items():
        yield f"{support} sentences of answers: {', '.join(_named(results))}"
    yield from _duration_line("answers by step, p50 / p95", summary.answer_steps)


_UNOBSERVED = DurationSummary(0, None, None)


def _listed(heading: str, parts: Iterable[str]) -> Iterator[str]:
    if line := ", ".join(parts):
        yield f"{heading}: {line}"


def _duration_line(heading: str, durations: Mapping[str, DurationSummary]) -> Iterator[str]:
    return _listed(heading, (f"{name} {_p50_p95(duration)}" for name, duration in durations.items()))


def _named(counts: Mapping[str, int]) -> Iterator[str]:
    return (f"{count} {name}" for name, count in counts.items())


def _batch(modality: str, sizes: BatchSizes) -> str:
    return f"{modality} {sizes.mean_events:,.1f} events and {sizes.mean_bytes / 1000:,.1f} kB"


def _pool(name: str, usage: PoolUsage) -> str:
    return f"{name} {100 * usage.busy_share:.0f} % of {usage.workers} busy (waits {_seconds(usage.wait_p95_s)})"


def _channel(name: str, results: Mapping[str, DurationSummary]) -> str:
    missing = f" ({results['missing'].count} missing)" if "missing" in results else ""
    return f"{name} {_p50_p95(results.get('answered', _UNOBSERVED))}{missing}"


def _p50_p95(duration: DurationSummary | CanarySummary) -> str:
    return f"{_seconds(duration.p50_s)} / {_seconds(duration.p95_s)}"


def _seconds(seconds: float | None) -> str:
    if seconds is None:
        return "–"
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1000:.0f} ms"
