"""What `penstock status` makes of the metrics: read from the text that an endpoint gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from penstock.cli.metrics_summary import lines, summarize
from penstock.cli.scrape import Scrape, parse, scrape
from penstock.errors import UnavailableError
from penstock.observability import metrics


@pytest.fixture(autouse=True)
def _at_zero() -> None:
    for metric in metrics.every_metric():
        metric.clear()


def seen(at_s: float = 0.0) -> Scrape:
    """A scrape of this process."""
    registry = CollectorRegistry()
    for metric in metrics.every_metric():
        registry.register(metric)
    return parse(generate_latest(registry).decode(), at_s=at_s)


def test_quantiles_are_linear_within_a_bucket_and_end_at_the_last_bound() -> None:
    for seconds in (0.015, 0.015, 0.025, 0.025):
        metrics.QUERY.labels(200).observe(seconds)
    metrics.QUERY.labels(503).observe(1000.0)
    found = seen()
    assert found.quantile_s(metrics.QUERY, 0.25, status="200") == pytest.approx(0.015)
    assert found.quantile_s(metrics.QUERY, 0.5, status="200") == pytest.approx(0.02)
    assert found.quantile_s(metrics.QUERY, 1.0, status="200") == pytest.approx(0.03)
    assert found.quantile_s(metrics.QUERY, 0.5, status="503") == pytest.approx(5.0)
    assert found.quantile_s(metrics.QUERY, 0.5, status="400") is None


def test_quantiles_take_together_what_the_other_labels_tell_apart() -> None:
    metrics.STEP.labels("encode", "text").observe(0.04)
    metrics.STEP.labels("encode", "image").observe(2.0)
    found = seen()
    assert found.counts(metrics.STEP, "step") == {"encode": 2}
    assert found.quantile_s(metrics.STEP, 0.5, step="encode") == pytest.approx(0.05)
    assert found.quantile_s(metrics.STEP, 0.5, step="encode", modality="image") == pytest.approx(1.75)


def test_rates_and_busy_shares_are_of_the_time_between_two_scrapes() -> None:
    metrics.WORKERS.labels("decode").set(2)
    metrics.EVENTS.labels("text", "indexed").inc(100)
    metrics.BUSY.labels("decode").inc(50)
    before = seen(10.0)
    metrics.EVENTS.labels("text", "indexed").inc(20)
    metrics.EVENTS.labels("image", "dead_lettered").inc(1)
    metrics.BUSY.labels("decode").inc(4)
    figures = summarize(before, seen(14.0))
    assert figures["events_per_s"] == {"text": 5.0, "image": 0.25}
    assert figures["pools"]["decode"] == {"workers": 2, "busy_share": 0.5, "wait_p95_s": None}


def test_a_batch_is_told_by_its_means() -> None:
    for events, size_bytes in ((31, 40_000), (32, 60_000)):
        metrics.BATCH_EVENTS.labels("text").observe(events)
        metrics.BATCH_BYTES.labels("text").observe(size_bytes)
    figures = summarize(seen(0.0), seen(1.0))
    assert figures["batches"] == {"text": {"count": 2, "mean_events": 31.5, "mean_bytes": 50_000}}
    assert "batches, mean: text 31.5 events and 50.0 kB" in lines(figures)


def test_channels_that_are_missing_are_counted_apart_and_slow_no_answers() -> None:
    metrics.QUERY_CHANNEL.labels("text.passage", "answered").observe(0.01)
    metrics.QUERY_CHANNEL.labels("text.passage", "missing").observe(1.9)
    metrics.QUERY_CHANNEL.labels("image.joint", "missing").observe(1.9)
    figures = summarize(seen(0.0), seen(1.0))
    passage = figures["channels"]["text.passage"]
    assert (passage["answered"]["count"], passage["missing"]["count"]) == (1, 1)
    assert passage["answered"]["p95_s"] < 0.011
    assert passage["missing"]["p50_s"] > 1
    (told,) = (line for line in lines(figures) if line.startswith("channels"))
    assert "text.passage 8 ms / 10 ms (1 missing)" in told
    assert "image.joint – / – (1 missing)" in told


def test_events_and_dead_letters_are_told_by_how_they_ended() -> None:
    metrics.EVENTS.labels("text", "deleted").inc(2)
    metrics.EVENTS.labels("text", "superseded").inc(3)
    metrics.EVENTS.labels("image", "dead_lettered").inc(1)
    metrics.DEAD_LETTERS.labels("corrupt").inc(1)
    figures = summarize(seen(0.0), seen(1.0))
    assert figures["events"] == {"text": {"deleted": 2, "superseded": 3}, "image": {"dead_lettered": 1}}
    assert figures["dead_letters"] == {"corrupt": 1}


class Samples(dict[str, Sequence[tuple[Mapping[str, str], float]]]):
    """Keeps which were asked for."""

    asked: set[str]

    def get(self, name: str, default: Any = None) -> Any:
        self.asked.add(name)
        return super().get(name, default)


def test_every_metric_is_among_the_figures() -> None:
    """But lag, of which the broker itself is asked."""
    metrics.WORKERS.labels("decode").set(1)
    found = seen(1.0)
    samples = Samples(found.samples)
    samples.asked = set()
    summarize(seen(0.0), replace(found, samples=samples))
    names = {metrics.name_of(metric) for metric in metrics.every_metric()}
    told = {name for name in names for asked in samples.asked if asked.startswith(name)}
    assert names - told == {metrics.name_of(metrics.LAG)}


def test_everything_that_was_measured_is_told_in_words() -> None:
    before = seen(0.0)
    metrics.EVENTS.labels("text", "indexed").inc(3)
    metrics.STEP.labels("encode", "text").observe(0.04)
    metrics.WORKERS.labels("decode").set(1)
    metrics.RETRIES.labels("store").inc(2)
    metrics.BREAKER_OPEN.labels("store").set(1)
    metrics.QUERY.labels(200).observe(0.02)
    metrics.QUERY_CHANNEL.labels("text.passage", "answered").observe(0.01)
    metrics.CACHE_REQUESTS.labels("query", "hit").inc(7)
    metrics.CANARIES.labels("text", "late").inc()
    metrics.COMMITS.labels("acknowledged").inc(5)
    metrics.COMMITS.labels("fenced").inc()
    metrics.LOST_OFFSETS.labels("media.text").inc(9)
    metrics.QUERY_STEP.labels("fuse").observe(0.01)
    metrics.PROCESSES.labels("lane").set(1)
    told = "\n".join(lines(summarize(before, seen(1.0))))
    for expected in (
        "3 text",
        "encode 38 ms / 49 ms",
        "decode 0 % of 1 busy (waits –)",
        "retries: 2 store; breakers open: store",
        "200 15 ms / 20 ms",
        "text.passage 8 ms / 10 ms",
        "query cache: 7 hits, 0 misses",
        "text canary, produced to found: – / – (1 late)",
        "commits: 5 acknowledged, 1 fenced",
        "offsets lost to retention: 9 media.text",
        "searches by step, p50 / p95: fuse 8 ms / 10 ms",
        "processes: 1 lane",
    ):
        assert expected in told


def test_nothing_measured_yet_is_said_in_one_line() -> None:
    assert list(lines(summarize(seen(0.0), seen(1.0)))) == ["retries: none; breakers open: none"]


def test_an_endpoint_that_does_not_answer_is_named() -> None:
    with pytest.raises(UnavailableError, match=r"http://127\.0\.0\.1:1/metrics"):
        scrape("http://127.0.0.1:1/metrics")
