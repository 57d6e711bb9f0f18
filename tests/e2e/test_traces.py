"""One event is followed from its producer to the search that found it, in a collector on loopback."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from benchmarks.local_ingest import LocalIngest
from penstock.broker.base import Message
from penstock.broker.traced_producer import TracedProducer
from penstock.config import Settings, load_settings
from penstock.observability import tracing
from penstock.observability.open_telemetry import export_traces
from penstock.serve.app import build_query_plane, create_app
from tests.e2e.stack import Stack
from tests.otlp import Collector, ReceivedSpan, collecting

TOPIC = "media.text"
SECRET = "the harbour master sings"  # of a user; no span may have any of its words


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as collector:
        yield collector


def settings_of(folder: Path, collector: Collector, sample_rate: float) -> Settings:
    return load_settings(
        profile="null:32",
        data_dir=folder,
        ingest={"modalities": ["text"], "min_free_disk_bytes": 0},
        tracing={"endpoint": collector.url, "sample_rate": sample_rate},
    )


def search(ingest: LocalIngest, settings: Settings, **headers: str) -> list[str]:
    """Searches the store that the ingest plane fills, and returns the keys of the hits."""
    plane = build_query_plane(settings, store=ingest.store)

    async def send() -> httpx.Response:
        transport = httpx.ASGITransport(create_app(plane))
        async with httpx.AsyncClient(transport=transport, base_url="http://penstock") as client:
            return await client.post("/v1/search", json={"text": SECRET}, headers=headers)

    try:
        response = asyncio.run(send())
    finally:
        plane.close()
    assert response.status_code == 200, response.text
    return [hit["key"] for hit in response.json()["hits"]]


def children(spans: list[ReceivedSpan], parent: ReceivedSpan) -> set[str]:
    return {span.name for span in spans if span.parent_id == parent.span_id}


def test_one_event_is_followed_from_produce_to_the_search_that_found_it(tmp_path: Path, collector: Collector) -> None:
    settings = settings_of(tmp_path, collector, 1.0)
    ingest = LocalIngest(settings)
    with tracing.using(export_traces(settings.tracing, "test")):
        producer = TracedProducer(ingest.broker.producer())
        with ingest.running():
            producer.send(Message(TOPIC, b"song", SECRET.encode())).result()
            ingest.await_settled(1)
        assert search(ingest, settings) == ["song"]
        tracing.current().flush(10)

    sent = collector.one(f"send {TOPIC}")
    processed = collector.one(f"process {TOPIC}")
    batch = collector.one(f"batch {TOPIC}")
    request = collector.one("POST /v1/search")
    # From the producer to the event: one trace. The ids of spans name their parents.
    assert (sent.kind, processed.kind, sent.parent_id) == ("PRODUCER", "CONSUMER", "")
    assert (processed.trace_id, processed.parent_id) == (sent.trace_id, sent.span_id)
    assert processed.attributes["penstock.outcome"] == "indexed"
    assert processed.attributes["messaging.kafka.offset"] == 0
    # To its batch and what the workers did for it.
    assert (batch.trace_id, batch.parent_id) == (sent.trace_id, processed.span_id)
    assert [link.span_id for link in batch.links] == [processed.span_id]
    assert [link.span_id for link in processed.links] == [batch.span_id]
    assert {"fetch_and_decode", "encode", "write"} <= children(collector.spans, batch)
    assert collector.one("commit").links[0].span_id == processed.span_id
    # To the search, a trace of its own, which links to the event.
    assert request.kind == "SERVER"
    assert request.trace_id != sent.trace_id
    assert request.attributes["penstock.outcome"] == "200"
    assert {"encode", "search", "fuse", "search text.passage"} <= children(collector.spans, request)
    (link,) = request.links
    assert (link.trace_id, link.span_id) == (processed.trace_id, processed.span_id)
    assert link.attributes["messaging.kafka.offset"] == 0


def test_spans_carry_nothing_that_users_sent(tmp_path: Path, collector: Collector) -> None:
    settings = settings_of(tmp_path, collector, 1.0)
    ingest = LocalIngest(settings)
    with tracing.using(export_traces(settings.tracing, "test")):
        producer = TracedProducer(ingest.broker.producer())
        with ingest.running():
            secret_url = b"http://user:password@127.0.0.1:1/harbour"
            headers = (
                ("ce_id", b"harbour-1"),
                ("ce_source", b"harbour"),
                ("ce_type", b"harbour"),
                ("ce_specversion", b"1.0"),
                ("ce_title", b"harbour"),
                ("ce_tenant", b"harbour"),
            )
            producer.send(Message(TOPIC, b"harbour", SECRET.encode(), headers)).result()
            producer.send(Message(TOPIC, b"claim", None, (*headers, ("ce_dataref", secret_url)))).result()
            ingest.await_settled(2)
        search(ingest, settings)
        tracing.current().flush(10)
    assert len(ingest.letters.sent) == 1
    (failed,) = (span for span in collector.named(f"process {TOPIC}") if span.failed)
    assert failed.attributes["penstock.reason"] == ingest.letters.sent[0].reason.value
    for word in ("harbour", "sings", "password", "127.0.0.1"):
        assert word not in repr(collector.spans)


def test_a_trace_that_its_producer_does_not_sample_is_traced_nowhere(tmp_path: Path, collector: Collector) -> None:
    unsampled, sampled = settings_of(tmp_path, collector, 0.0), settings_of(tmp_path, collector, 1.0)
    ingest = LocalIngest(sampled)
    with tracing.using(export_traces(unsampled.tracing, "produce")):
        TracedProducer(ingest.broker.producer()).send(Message(TOPIC, b"song", SECRET.encode())).result()
    with tracing.using(export_traces(sampled.tracing, "test")):
        with ingest.running():
            ingest.await_settled(1)
        keys = search(ingest, sampled, traceparent=f"00-{'a' * 32}-{'b' * 16}-00")
        tracing.current().flush(10)
    assert keys == ["song"]
    assert collector.spans == []


def test_a_search_continues_the_trace_of_its_client(tmp_path: Path, collector: Collector) -> None:
    settings = settings_of(tmp_path, collector, 0.0)
    ingest = LocalIngest(settings)
    with tracing.using(export_traces(settings.tracing, "test")):
        search(ingest, settings, traceparent=f"00-{'a' * 32}-{'b' * 16}-01", tracestate="vendor=x")
        tracing.current().flush(10)
    request = collector.one("POST /v1/search")
    assert (request.trace_id, request.parent_id, request.trace_state) == ("a" * 32, "b" * 16, "vendor=x")
    assert {span.trace_id for span in collector.spans} == {"a" * 32}


@pytest.mark.services
@pytest.mark.exhaustive
def test_one_event_is_followed_through_kafka_and_ray(tmp_path: Path, collector: Collector) -> None:
    """As `test_one_event_is_followed_from_produce_to_the_search_that_found_it`, each step in a process of its own."""
    environment = {
        "PENSTOCK_PROFILE": "null:8",
        "PENSTOCK_INGEST__MODALITIES": '["text"]',
        "PENSTOCK_QUERY__PORT": "0",
        "PENSTOCK_TRACING__ENDPOINT": collector.url,
        "PENSTOCK_TRACING__SAMPLE_RATE": "1",
    }
    file = tmp_path / "song.txt"
    file.write_text(SECRET)
    stack = Stack(tmp_path / "data", environment)
    try:
        stack.start()
        stack.json("produce", str(file), "--key", "song")
        stack.settle()
        assert [hit["key"] for hit in stack.search(SECRET)] == ["song"]
        collector.await_spans(lambda _: bool(collector.named("POST /v1/search")), "the search")
        assert stack.stop() == 0
    finally:
        stack.close()

    sent = collector.one(f"send {TOPIC}")
    processed = collector.one(f"process {TOPIC}")
    batch = collector.one(f"batch {TOPIC}")
    request = collector.one("POST /v1/search")
    calls = {span.name: span for span in collector.spans if span.parent_id == batch.span_id}
    assert {"fetch_and_decode", "encode", "write"} <= calls.keys()
    assert {span.trace_id for span in (processed, batch, *calls.values())} == {sent.trace_id}
    assert collector.one("commit").trace_id == sent.trace_id
    assert (processed.parent_id, batch.parent_id) == (sent.span_id, processed.span_id)
    assert [link.span_id for link in request.links] == [processed.span_id]
    processes = [span.resource["penstock.process"] for span in (sent, processed, calls["fetch_and_decode"], request)]
    assert processes == ["produce", "lane", "decode", "query"]
    assert calls["write"].attributes["penstock.worker"] == "write-0"
    assert "harbour" not in repr(collector.spans)
