"""What `penstock status` shows of the metrics: as plain values, and as lines for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from prometheus_client import Histogram

from penstock import metrics
from penstock.cli.scrape import Scrape


def measured(before: Scrape, now: Scrape) -> dict[str, Any]:
    """The figures of a node: totals and quantiles since the start, rates and busy shares between the two scrapes."""
    window_s = now.at_s - before.at_s
    return {
        "over_s": round(window_s, 3),
        "events_per_s": _rates(before.by(metrics.EVENTS, "modality"), now.by(metrics.EVENTS, "modality"), window_s),
        "steps": _quantiles(now, metrics.STEP, "step"),
        "pools": _pools(before, now, window_s),
        "in_flight_bytes": now.by(metrics.IN_FLIGHT, "lane"),
        "breaker_open": {what: bool(value) for what, value in now.by(metrics.BREAKER_OPEN, "what").items()},
        "retries": _whole(now.by(metrics.RETRIES, "cause")),
        "commits": _whole(now.by(metrics.COMMITS, "result")),
        "freshness": _quantiles(now, metrics.FRESHNESS, "modality"),
        "queries": _quantiles(now, metrics.QUERY, "status"),
        "channels": _quantiles(now, metrics.QUERY_CHANNEL, "channel"),
        "caches": _caches(now),
        "canary": _canary(now),
    }


def _whole(counts: Mapping[str, float]) -> dict[str, int]:
    return {name: int(count) for name, count in counts.items()}


def _rates(before: Mapping[str, float], now: Mapping[str, float], window_s: float) -> dict[str, float]:
    return {name: round((total - before.get(name, 0.0)) / window_s, 3) for name, total in now.items()}


def _quantiles(now: Scrape, metric: Histogram, label: str) -> dict[str, dict[str, Any]]:
    return {
        value: {
            "count": count,
            "p50_s": now.quantile_s(metric, 0.5, **{label: value}),
            "p95_s": now.quantile_s(metric, 0.95, **{label: value}),
        }
        for value, count in now.counts(metric, label).items()
    }


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


def _caches(now: Scrape) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    for labels, value in now.samples.get(f"{metrics.name_of(metrics.CACHE_REQUESTS)}_total", ()):
        found.setdefault(labels["cache"], {})[labels["result"]] = int(value)
    return found


def _canary(now: Scrape) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for labels, value in now.samples.get(f"{metrics.name_of(metrics.CANARIES)}_total", ()):
        canary = found.setdefault(labels["modality"], {"p50_s": None, "p95_s": None, "results": {}})
        canary["results"][labels["result"]] = int(value)
    for modality, figures in _quantiles(now, metrics.CANARY, "modality").items():
        found[modality].update(p50_s=figures["p50_s"], p95_s=figures["p95_s"])
    return found


# --- for people ------------------------------------------------------------------------------------------------------


def lines(figures: Mapping[str, Any]) -> Iterator[str]:
    """A line for each kind of thing that there is something to say of."""
    rates = ", ".join(f"{rate:g} {modality}" for modality, rate in figures["events_per_s"].items())
    if rates:
        yield f"settled per second, over the last {figures['over_s']:.1f} s: {rates}"
    yield from _line("steps, p50 / p95 of a batch", figures["steps"])
    pools = (
        f"{pool} {100 * one['busy_share']:.0f} % of {one['workers']} busy (waits {_seconds(one['wait_p95_s'])})"
        for pool, one in figures["pools"].items()
    )
    if told := ", ".join(pools):
        yield f"pools: {told}"
    retries = ", ".join(f"{count} {cause}" for cause, count in figures["retries"].items())
    breakers = [what for what, is_open in figures["breaker_open"].items() if is_open]
    yield f"retries: {retries or 'none'}; breakers open: {', '.join(breakers) or 'none'}"
    yield from _line("searches by status, p50 / p95", figures["queries"])
    yield from _line("channels, p50 / p95", figures["channels"])
    for cache, results in figures["caches"].items():
        yield f"{cache} cache: {results.get('hit', 0)} hits, {results.get('miss', 0)} misses"
    for modality, one in figures["canary"].items():
        results = ", ".join(f"{count} {result}" for result, count in one["results"].items())
        yield f"{modality} canary, produced to found: {_seconds(one['p50_s'])} / {_seconds(one['p95_s'])} ({results})"


def _line(what: str, quantiles: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    told = ", ".join(f"{name} {_seconds(one['p50_s'])} / {_seconds(one['p95_s'])}" for name, one in quantiles.items())
    if told:
        yield f"{what}: {told}"


def _seconds(seconds: float | None) -> str:
    if seconds is None:
        return "–"
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1000:.0f} ms"
