"""What `penstock status` makes of the metrics: read from the text that an endpoint gives."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from penstock import metrics
from penstock.cli.measured import lines, measured
from penstock.cli.scrape import Scrape, parse, scrape
from penstock.errors import UnavailableError


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
    figures = measured(before, seen(14.0))
    assert figures["events_per_s"] == {"text": 5.0, "image": 0.25}
    assert figures["pools"]["decode"] == {"workers": 2, "busy_share": 0.5, "wait_p95_s": None}


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
    told = "\n".join(lines(measured(before, seen(1.0))))
    for expected in (
        "3 text",
        "encode 38 ms / 49 ms",
        "decode 0 % of 1 busy (waits –)",
        "retries: 2 store; breakers open: store",
        "200 15 ms / 20 ms",
        "text.passage 8 ms / 10 ms",
        "query cache: 7 hits, 0 misses",
        "text canary, produced to found: – / – (1 late)",
    ):
        assert expected in told


def test_nothing_measured_yet_is_said_in_one_line() -> None:
    assert list(lines(measured(seen(0.0), seen(1.0)))) == ["retries: none; breakers open: none"]


def test_an_endpoint_that_does_not_answer_is_named() -> None:
    with pytest.raises(UnavailableError, match=r"http://127\.0\.0\.1:1/metrics"):
        scrape("http://127.0.0.1:1/metrics")
