from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from penstock.errors import UnavailableError
from penstock.observability import tracing
from penstock.observability.open_telemetry import OpenTelemetryTracing
from penstock.query.executor import BoundedExecutor
from penstock.query.links import link_found_events
from penstock.query.types import Hit
from penstock.records import AssetRef, AssetRow, Collection, Outcome, Position, Version, bare_entry

TOPIC = "media.text"
TRACEPARENT = f"00-{'a' * 32}-{'b' * 16}-01"
SAMPLED = [(b"traceparent", f"00-{'c' * 32}-{'d' * 16}-01".encode())]
UNSAMPLED = [(b"traceparent", f"00-{'c' * 32}-{'d' * 16}-00".encode())]


class Rows:
    """Asset rows as a store returns them."""

    def __init__(self, *rows: AssetRow) -> None:
        self._rows = {row.asset.id: row for row in rows}
        self.reads: list[list[str]] = []
        self.error: Exception | None = None

    def asset_rows(self, asset_ids: Sequence[str]) -> Mapping[str, AssetRow]:
        self.reads.append(list(asset_ids))
        if self.error is not None:
            raise self.error
        return {asset_id: row for asset_id, row in self._rows.items() if asset_id in asset_ids}


@pytest.fixture
def executor() -> Iterator[BoundedExecutor]:
    executor = BoundedExecutor(threads=1, queue_size=1, clock=time.monotonic, calls="calls", retry_after_s=1)
    yield executor
    executor.close()


def asset(key: str) -> AssetRef:
    return AssetRef("default", TOPIC, key)


def row(key: str, offset: int, traceparent: str = TRACEPARENT) -> AssetRow:
    return AssetRow(asset(key), Version(1_000, 0, offset), Outcome.INDEXED, {}, "", 2_000, traceparent=traceparent)


def hit(key: str, offset: int, part: int = 0) -> Hit:
    entry = replace(bare_entry(asset(key), Collection.TEXT, part), origin=Position(TOPIC, 0, offset))
    return Hit(entry, 1.0, ())


def links(rows: Rows, executor: BoundedExecutor, hits: Sequence[Hit], headers: Any = SAMPLED) -> list[Any]:
    """Returns the offsets that the span of a search links to."""
    exporter = InMemorySpanExporter()

    async def search() -> None:
        with tracing.current().request("/v1/search", headers) as span:
            span.end("200")
            await link_found_events(hits, rows, executor)  # type: ignore[arg-type]

    with tracing.using(OpenTelemetryTracing(SimpleSpanProcessor(exporter), sample_rate=0.0)):
        asyncio.run(search())
    return [link for span in exporter.get_finished_spans() for link in span.links]


def test_a_sampled_search_links_to_the_event_of_each_hit_once(executor: BoundedExecutor) -> None:
    rows = Rows(row("a", 5), row("b", 6))
    linked = links(rows, executor, [hit("a", 5), hit("a", 5, part=1), hit("b", 6)])
    assert [link.attributes["messaging.kafka.offset"] for link in linked] == [5, 6]
    assert {f"{link.context.trace_id:032x}" for link in linked} == {"a" * 32}
    assert len(rows.reads) == 1


def test_an_event_that_was_not_traced_and_a_newer_version_have_no_link(executor: BoundedExecutor) -> None:
    rows = Rows(row("untraced", 5, traceparent=""), row("newer", 9))
    assert links(rows, executor, [hit("untraced", 5), hit("newer", 6), hit("gone", 7)]) == []


def test_a_search_that_is_not_sampled_reads_nothing(executor: BoundedExecutor) -> None:
    rows = Rows(row("a", 5))
    assert links(rows, executor, [hit("a", 5)], UNSAMPLED) == []
    assert links(rows, executor, []) == []
    assert rows.reads == []


def test_a_store_that_does_not_answer_costs_the_links_alone(executor: BoundedExecutor) -> None:
    rows = Rows(row("a", 5))
    rows.error = UnavailableError("no answer")
    assert links(rows, executor, [hit("a", 5)]) == []
