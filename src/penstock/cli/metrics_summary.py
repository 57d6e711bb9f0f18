"""What `penstock status` shows of the metrics: as plain values, and as lines for people."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from prometheus_client import Counter, Histogram

from penstock.cli.scrape import Scrape
from penstock.observability import metrics


def summarize(before: Scrape, now: Scrape) -> dict[str, Any]:
    """The figures of a node: totals and quantiles since the start, rates and busy shares between the two scrapes."""
    window_s = now.at_s - before.at_s
    return {
        "over_s": round(window_s, 3),
        "events_per_s": _rates(before.by(metrics.EVENTS, "modality"), now.by(metrics.EVENTS, "modality"), window_s),
        "events": _counts(now, metrics.EVENTS, "modality", "outcome"),
        "dead_letters": _whole(now.by(metrics.DEAD_LETTERS, "reason")),
        "lost_offsets": _whole(now.by(metrics.LOST_OFFSETS, "topic")),
        "batches": _batches(now),
        "steps": _quantiles(now, metrics.STEP, "step"),
        "pools": _pools(before, now, window_s),
        "in_flight_bytes": now.by(metrics.IN_FLIGHT, "lane"),
        "breaker_open": {
            dependency: bool(value) for dependency, value in now.by(metrics.BREAKER_OPEN, "dependency").items()
        },
        "retries": _whole(now.by(metrics.RETRIES, "cause")),
        "commits": _whole(now.by(metrics.COMMITS, "result")),
        "freshness": _quantiles(now, metrics.FRESHNESS, "modality"),
        "queries": _quantiles(now, metrics.QUERY, "status"),
        "query_steps": _quantiles(now, metrics.QUERY_STEP, "step"),
        "channels": _channels(now),
        "caches": _counts(now, metrics.CACHE_REQUESTS, "cache", "result"),
        "canary": _canary(now),
        "processes": _whole(now.by(metrics.PROCESSES, "process")),
    }


def _whole(counts: Mapping[str, float]) -> dict[str, int]:
    return {name: int(count) for name, count in counts.items()}


def _rates(before: Mapping[str, float], now: Mapping[str, float], window_s: float) -> dict[str, float]:
    return {name: round((total - before.get(name, 0.0)) / window_s, 3) for name, total in now.items()}


def _quantiles(now: Scrape, metric: Histogram, label: str) -> dict[str, dict[str, Any]]:
    return {value: _taken(now, metric, count, **{label: value}) for value, count in now.counts(metric, label).items()}


def _taken(now: Scrape, metric: Histogram, count: int, **labels: str) -> dict[str, Any]:
    p50_s, p95_s = (now.quantile_s(metric, q, **labels) for q in (0.5, 0.95))
    return {"count": count, "p50_s": p50_s, "p95_s": p95_s}


def _batches(now: Scrape) -> dict[str, dict[str, Any]]:
    """Means, since they are exact; quantiles are not, where most batches are of one size."""
    counts = now.counts(metrics.BATCH_EVENTS, "modality")
    events, sizes = _means(now, metrics.BATCH_EVENTS), _means(now, metrics.BATCH_BYTES)
    return {
        modality: {"count": counts[modality], "mean_events": events[modality], "mean_bytes": mean_bytes}
        for modality, mean_bytes in sizes.items()
    }


def _means(now: Scrape, metric: Histogram) -> dict[str, float]:
    counts = now.counts(metric, "modality")
    sums = {labels["modality"]: value for labels, value in now.samples.get(f"{metrics.name_of(metric)}_sum", ())}
    return {modality: round(sums[modality] / count, 3) for modality, count in counts.items() if count}


def _pools(before: Scrape, now: Scrape, window_s: float) -> dict[str, dict[str, Any]]:
    busy = _rates(before.by(metrics.BUSY, "pool"), now.by(metrics.BUSY, "pool"), window_s)
    return {
        pool: {
            "workers": int(workers),
            "busy_share": round(busy.get(pool, 0.0) / workers, 3) if workers else 0.0,
            "wait_p95_s": now.quantile_s(metrics.QUEUE_WAIT, 0.95, pool=pool),
        }
        for pool, workers in now.by(metrics.WORKERS, "pool").items()
    }


def _channels(now: Scrape) -> dict[str, dict[str, Any]]:
    """By channel and result: what a missing one took is its deadline, and says nothing about those that answered."""
    found: dict[str, dict[str, Any]] = {}
    for labels, count in now.samples.get(f"{metrics.name_of(metrics.QUERY_CHANNEL)}_count", ()):
        taken = _taken(now, metrics.QUERY_CHANNEL, int(count), **labels)
        found.setdefault(labels["channel"], {})[labels["result"]] = taken
    return found


def _counts(now: Scrape, metric: Counter, outer: str, inner: str) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    for labels, value in now.samples.get(f"{metrics.name_of(metric)}_total", ()):
        found.setdefault(labels[outer], {})[labels[inner]] = int(value)
    return found


def _canary(now: Scrape) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {
        modality: {"p50_s": None, "p95_s": None, "results": results}
        for modality, results in _counts(now, metrics.CANARIES, "modality", "result").items()
    }
    for modality, figures in _quantiles(now, metrics.CANARY, "modality").items():
        found[modality].update(p50_s=figures["p50_s"], p95_s=figures["p95_s"])
    return found


# --- for people ------------------------------------------------------------------------------------------------------


def lines(figures: Mapping[str, Any]) -> Iterator[str]:
    """A line for each kind of thing that there is something to say of."""
    rates = ", ".join(f"{rate:g} {modality}" for modality, rate in figures["events_per_s"].items())
    if rates:
        yield f"settled per second, over the last {figures['over_s']:.1f} s: {rates}"
    yield from _listed("batches, mean", map(_batch, figures["batches"].items()))
    yield from _line("steps, p50 / p95 of a batch", figures["steps"])
    pools = (
        f"{pool} {100 * one['busy_share']:.0f} % of {one['workers']} busy (waits {_seconds(one['wait_p95_s'])})"
        for pool, one in figures["pools"].items()
    )
    yield from _listed("pools", pools)
    yield from _listed("commits", _named(figures["commits"]))
    yield from _listed("offsets lost to retention", _named(figures["lost_offsets"]))
    retries = ", ".join(_named(figures["retries"]))
    breakers = [what for what, is_open in figures["breaker_open"].items() if is_open]
    yield f"retries: {retries or 'none'}; breakers open: {', '.join(breakers) or 'none'}"
    yield from _line("searches by status, p50 / p95", figures["queries"])
    yield from _line("searches by step, p50 / p95", figures["query_steps"])
    yield from _listed("channels, p50 / p95 of what they answered", map(_channel, figures["channels"].items()))
    for cache, results in figures["caches"].items():
        yield f"{cache} cache: {results.get('hit', 0)} hits, {results.get('miss', 0)} misses"
    for modality, one in figures["canary"].items():
        results = ", ".join(_named(one["results"]))
        yield f"{modality} canary, produced to found: {_p50_p95(one)} ({results})"
    yield from _listed("processes", _named(figures["processes"]))


def _listed(what: str, told: Iterable[str]) -> Iterator[str]:
    if line := ", ".join(told):
        yield f"{what}: {line}"


def _line(what: str, quantiles: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    return _listed(what, (f"{name} {_p50_p95(one)}" for name, one in quantiles.items()))


def _named(counts: Mapping[str, int]) -> Iterator[str]:
    return (f"{count} {name}" for name, count in counts.items())


def _batch(named: tuple[str, Mapping[str, Any]]) -> str:
    modality, one = named
    return f"{modality} {one['mean_events']:,.1f} events and {one['mean_bytes'] / 1000:,.1f} kB"


def _channel(named: tuple[str, Mapping[str, Mapping[str, Any]]]) -> str:
    channel, results = named
    missing = f" ({results['missing']['count']} missing)" if "missing" in results else ""
    return f"{channel} {_p50_p95(results.get('answered', _NOTHING))}{missing}"


_NOTHING: Mapping[str, Any] = {"p50_s": None, "p95_s": None}


def _p50_p95(one: Mapping[str, Any]) -> str:
    return f"{_seconds(one['p50_s'])} / {_seconds(one['p95_s'])}"


def _seconds(seconds: float | None) -> str:
    if seconds is None:
        return "–"
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1000:.0f} ms"
