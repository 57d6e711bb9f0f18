"""Tests the summary of the metrics in `penstock status`, from the text that an endpoint returns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from penstock.cli.metrics_summary import summarize, summary_lines
from penstock.cli.scrape import Scrape, parse, scrape
from penstock.errors import UnavailableError
from penstock.observability import metrics


@pytest.fixture(autouse=True)
def _at_zero() -> None:
    for metric in metrics.every_metric():
        metric.clear()


def scraped(at_s: float = 0.0) -> Scrape:
    """Returns a scrape of this process."""
    registry = CollectorRegistry()
    for metric in metrics.every_metric():
        registry.register(metric)
    return parse(generate_latest(registry).decode(), at_s=at_s)


def test_quantiles_are_linear_within_a_bucket_and_end_at_the_last_bound() -> None:
    for seconds in (0.015, 0.015, 0.025, 0.025):
        metrics.QUERY.labels(200).observe(seconds)
    metrics.QUERY.labels(503).observe(1000.0)
    now = scraped()
    assert now.quantile_s(metrics.QUERY, 0.25, status="200") == pytest.approx(0.015)
    assert now.quantile_s(metrics.QUERY, 0.5, status="200") == pytest.approx(0.02)
    assert now.quantile_s(metrics.QUERY, 1.0, status="200") == pytest.approx(0.03)
    assert now.quantile_s(metrics.QUERY, 0.5, status="503") == pytest.approx(5.0)
    assert now.quantile_s(metrics.QUERY, 0.5, status="400") is None


def test_quantiles_are_over_all_values_of_the_other_labels() -> None:
    metrics.STEP.labels("encode", "text").observe(0.04)
    metrics.STEP.labels("encode", "image").observe(2.0)
    now = scraped()
    assert now.counts(metrics.STEP, "step") == {"encode": 2}
    assert now.quantile_s(metrics.STEP, 0.5, step="encode") == pytest.approx(0.05)
    assert now.quantile_s(metrics.STEP, 0.5, step="encode", modality="image") == pytest.approx(1.75)


def test_rates_and_busy_shares_are_of_the_time_between_two_scrapes() -> None:
    metrics.WORKERS.labels("decode").set(2)
    metrics.EVENTS.labels("text", "indexed").inc(100)
    metrics.BUSY.labels("decode").inc(50)
    before = scraped(10.0)
    metrics.EVENTS.labels("text", "indexed").inc(20)
    metrics.EVENTS.labels("image", "dead_lettered").inc(1)
    metrics.BUSY.labels("decode").inc(4)
    figures = summarize(before, scraped(14.0))
    assert figures.events_per_s == {"text": 5.0, "image": 0.25}
    assert asdict(figures.pools["decode"]) == {"workers": 2, "busy_share": 0.5, "wait_p95_s": None}


def test_batches_are_summarized_by_their_means() -> None:
    for events, size_bytes in ((31, 40_000), (32, 60_000)):
        metrics.BATCH_EVENTS.labels("text").observe(events)
        metrics.BATCH_BYTES.labels("text").observe(size_bytes)
    figures = summarize(scraped(0.0), scraped(1.0))
    assert asdict(figures.batches["text"]) == {"count": 2, "mean_events": 31.5, "mean_bytes": 50_000}
    assert "batches, mean: text 31.5 events and 50.0 kB" in summary_lines(figures)


def test_missing_channels_are_counted_apart_and_do_not_slow_the_answered_ones() -> None:
    metrics.QUERY_CHANNEL.labels("text.passage", "answered").observe(0.01)
    metrics.QUERY_CHANNEL.labels("text.passage", "missing").observe(1.9)
    metrics.QUERY_CHANNEL.labels("image.joint", "missing").observe(1.9)
    figures = summarize(scraped(0.0), scraped(1.0))
    passage = figures.channels["text.passage"]
    assert (passage["answered"].count, passage["missing"].count) == (1, 1)
    assert passage["answered"].p95_s == pytest.approx(0.00975)
    assert passage["missing"].p50_s == pytest.approx(1.5)
    (channels,) = (line for line in summary_lines(figures) if line.startswith("channels"))
    assert "text.passage 8 ms / 10 ms (1 missing)" in channels
    assert "image.joint – / – (1 missing)" in channels


def test_events_are_counted_by_outcome_and_dead_letters_by_reason() -> None:
    metrics.EVENTS.labels("text", "deleted").inc(2)
    metrics.EVENTS.labels("text", "superseded").inc(3)
    metrics.EVENTS.labels("image", "dead_lettered").inc(1)
    metrics.DEAD_LETTERS.labels("corrupt").inc(1)
    figures = summarize(scraped(0.0), scraped(1.0))
    assert figures.events == {"text": {"deleted": 2, "superseded": 3}, "image": {"dead_lettered": 1}}
    assert figures.dead_letters == {"corrupt": 1}


class Samples(dict[str, Sequence[tuple[Mapping[str, str], float]]]):
    """Records which samples are requested."""

    requested: set[str]

    def get(self, name: str, default: Any = None) -> Any:
        self.requested.add(name)
        return super().get(name, default)


def test_every_metric_is_in_the_summary() -> None:
    """Lag is the exception: it is read from the broker."""
    metrics.WORKERS.labels("decode").set(1)
    now = scraped(1.0)
    samples = Samples(now.samples)
    samples.requested = set()
    summarize(scraped(0.0), replace(now, samples=samples))
    names = {metrics.name_of(metric) for metric in metrics.every_metric()}
    summarized = {name for name in names for sample in samples.requested if sample.startswith(name)}
    assert names - summarized == {metrics.name_of(metrics.LAG)}


def test_every_measured_metric_has_a_line() -> None:
    before = scraped(0.0)
    metrics.EVENTS.labels("text", "indexed").inc(3)
    metrics.STEP.labels("encode", "text").observe(0.04)
    metrics.WORKERS.labels("decode").set(1)
    metrics.RETRIES.labels("store").inc(2)
    metrics.BREAKER_OPEN.labels("store").set(1)
    metrics.QUERY.labels(200).observe(0.02)
    metrics.QUERY_CHANNEL.labels("text.passage", "answered").observe(0.01)
    metrics.CACHE_REQUESTS.labels("query", "hit").inc(7)
    metrics.UNDERSTANDING.labels("rewrite", "failed").inc(3)
    metrics.CANARIES.labels("text", "late").inc()
    metrics.COMMITS.labels("acknowledged").inc(5)
    metrics.COMMITS.labels("fenced").inc()
    metrics.LOST_OFFSETS.labels("media.text").inc(9)
    metrics.TENANT_EVENTS.labels("acme", "indexed").inc(6)
    metrics.TENANT_WAITING.labels("acme").set(70)
    metrics.REQUESTS_LIMITED.labels("caller", "voice").inc(8)
    metrics.RECEIVED_EVENTS.labels("accepted").inc(12)
    metrics.PRODUCED_ITEMS.labels("refused").inc(13)
    metrics.QUERY_STEP.labels("fuse").observe(0.01)
    metrics.PROCESSES.labels("lane").set(1)
    metrics.IMAGE_TEXTS.labels("ocr", "words").inc(2)
    for state, count in (("done", 30), ("total", 90), ("missing", 2)):
        metrics.REINDEX_ASSETS.labels("2", state).set(count)
    metrics.REINDEX_RATE.labels("2").set(4)
    metrics.REINDEX_LEFT.labels("2").set(15)
    metrics.REINDEX_LAG.labels("2").set(11)
    metrics.OLDEST_UNSETTLED.labels("media.text").set(12.34)
    metrics.HELD.labels("disk").set(1)
    metrics.HELD.labels("store").set(0)
    metrics.DEAD_LETTERS_OPEN.labels("media.dlq").set(4)
    metrics.HTTP.labels("/v1/media/{sha256}", 404).observe(0.015)
    metrics.BUILD_INFO.labels("1.2.3", "shelf", 2, "clip+use").set(1)
    metrics.SPANS.labels("dropped").inc(4)
    metrics.ASSET_SWEEPS.labels("held").inc(2)
    metrics.BACKUP_AGE.labels("3").set(7_200)
    metrics.AUTH_FAILURES.labels("kafka").inc(3)
    text = "\n".join(summary_lines(summarize(before, scraped(1.0))))
    for expected in (
        "3 text",
        "encode 38 ms / 49 ms",
        "decode 0 % of 1 busy (waits –)",
        "retries: 2 store; breakers open: store",
        "200 15 ms / 20 ms",
        "text.passage 8 ms / 10 ms",
        "query cache: 7 hits, 0 misses",
        "rewrite of questions: 3 failed",
        "text canary, produced to found: – / – (1 late)",
        "commits: 5 acknowledged, 1 fenced",
        "images for ocr: 2 words",
        "re-index to version 2: 30 of 90 assets, 2 missing, 4.0/s, 15 s left, lag 11",
        "offsets lost to retention: 9 media.text",
        "settled by tenant: 6 acme",
        "waiting for a quota: 70 acme",
        "beyond the limits of a caller: 8 voice",
        "events by HTTP: 12 accepted",
        "items of penstock produce: 13 refused",
        "sweeps of the asset store: 2 held",
        "searches by step, p50 / p95: fuse 8 ms / 10 ms",
        "processes: 1 lane",
        "oldest unsettled: 12.3 s media.text",
        "held: 1 disk\n",
        "dead letters open: 4 media.dlq",
        "requests by route and status, p50 / p95: /v1/media/{sha256} 404 15 ms / 20 ms",
        "builds: 1.2.3, profile shelf, index v2 of clip+use",
        "spans of traces: 4 dropped",
        "refused logins: 3 kafka",
    ):
        assert expected in text


def test_a_summary_without_measurements_is_one_line() -> None:
    assert list(summary_lines(summarize(scraped(0.0), scraped(1.0)))) == ["retries: none; breakers open: none"]


def test_an_endpoint_that_does_not_answer_is_named() -> None:
    with pytest.raises(UnavailableError, match=r"http://127\.0\.0\.1:1/metrics"):
        scrape("http://127.0.0.1:1/metrics")
