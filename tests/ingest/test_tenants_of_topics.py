"""Two tenants, each with topics of its own, through a plane with a real broker, store and Ray; one arrives later."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
import ray

from penstock.audit import run_audit
from penstock.broker.base import DeadLetter, Message
from penstock.broker.deadletters import scan_dead_letters
from penstock.broker.headers import ORIGIN, ORIGIN_TIMESTAMP
from penstock.broker.producer import MessageProducer
from penstock.broker.tenant_topics import with_topics
from penstock.broker.topics import ensure_media_topics
from penstock.broker.wire import encode_event
from penstock.config import Settings, load_settings
from penstock.errors import Reason
from penstock.ingest import tenant_topics
from penstock.ingest.plane import IngestPlane
from penstock.records import Inline, Outcome
from tests.services import kafka_server
from tests.store.servers import milvus_lite_server

pytestmark = [pytest.mark.services, pytest.mark.exhaustive, pytest.mark.timeout(280)]

ACME, GLOBEX = "media.acme.text", "media.globex.text"


@pytest.fixture
def settings() -> Iterator[Settings]:
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="penstock-topics-", ignore_cleanup_errors=True))
        servers = stack.enter_context(kafka_server())
        yield load_settings(
            profile="null:16",
            data_dir=Path(folder),
            tenant="acme",
            kafka={"bootstrap_servers": servers, "tenants": "media.{tenant}.{modality}"},
            metrics={"enabled": False},
            store={"uri": stack.enter_context(milvus_lite_server()).uri},
            ingest={"modalities": ["text"], "lanes": 2, "decoders": 1, "batch_events": 8, "writers": 1},
        )


@pytest.fixture
def plane(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[IngestPlane]:
    monkeypatch.setattr(tenant_topics, "INTERVAL_S", 1.0)
    ray.init("local", num_cpus=8, include_dashboard=False, log_to_driver=False, object_store_memory=128 * 1024**2)
    started = IngestPlane(settings)
    try:
        started.start()
        yield started
    finally:
        started.stop()
        ray.shutdown()


def event(topic: str, tenant: str, text: bytes, *more: tuple[str, bytes]) -> Message:
    message = encode_event(topic=topic, key="contract", payload=Inline(text), source="/t", tenant=tenant)
    return replace(message, headers=(*message.headers, *more))


def produce(settings: Settings, messages: Sequence[Message]) -> None:
    producer = MessageProducer(settings.kafka)
    try:
        for message in messages:
            producer.send(message).result(60)
    finally:
        producer.close(10)


def eventually(holds: Callable[[], bool], plane: IngestPlane, awaited: str) -> None:
    deadline_s = time.monotonic() + 90
    while not holds():
        assert time.monotonic() < deadline_s, f"did not happen: {awaited}; {plane.status()}"
        time.sleep(0.2)


def letters(settings: Settings) -> list[DeadLetter]:
    return list(scan_dead_letters(settings.kafka))


def test_each_tenant_writes_for_itself_alone_and_a_new_one_is_taken_up(settings: Settings, plane: IngestPlane) -> None:
    forged = ((ORIGIN, b"media.acme.text/0/2147483646"), (ORIGIN_TIMESTAMP, b"4600000000000000000"))
    produce(
        settings,
        [event(ACME, "acme", b"of acme"), event(ACME, "globex", b"poison"), event(ACME, "acme", b"pinned", *forged)],
    )
    eventually(lambda: len(letters(settings)) == 2, plane, "two dead letters")
    ensure_media_topics(settings.kafka, [GLOBEX])
    produce(settings, [event(GLOBEX, "globex", b"of globex"), event(ACME, "acme", b"new of acme")])

    def settled() -> bool:
        report = run_audit(with_topics(settings))
        return sum(balance.in_flight for balance in report.partitions) == 0 and len(report.partitions) > 4

    eventually(settled, plane, "everything is settled, with the topic of the new tenant")
    report = run_audit(with_topics(settings))
    assert report.balanced, report.problems
    ended = dict.fromkeys((ACME, GLOBEX), 0)
    for partition in report.partitions:
        ended[partition.partition.topic] += partition.outcomes.get(Outcome.DEAD_LETTERED, 0)
    assert ended == {ACME: 2, GLOBEX: 0}
    assert {letter.reason for letter in letters(settings)} == {Reason.FORBIDDEN}
    assert all(letter.origin.offset < 10 for letter in letters(settings))
