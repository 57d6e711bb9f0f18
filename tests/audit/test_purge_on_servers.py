"""A purge on a real Kafka and a real store: the audit balances before and after it, and the tenant is gone."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from penstock.assembly import open_assets
from penstock.audit import run_audit
from penstock.broker.base import Message
from penstock.broker.deadletters import scan_dead_letters
from penstock.broker.producer import MessageProducer
from penstock.broker.topics import ensure_topics
from penstock.cli.purge import purge_with
from penstock.config import Settings
from penstock.ingest.purge import PurgeRequest
from penstock.records import Collection
from penstock.store.milvus.store import MilvusStore
from tests.audit.simulated_plane import kinds
from tests.audit.test_servers import DEADLINE_S, ingest, servers  # noqa: F401 - a fixture
from tests.store.builders import spec
from tests.store.scans import all_entries

pytestmark = [pytest.mark.services, pytest.mark.exhaustive, pytest.mark.timeout(300)]

OTHER = (
    ("ce_specversion", b"1.0"),
    ("ce_id", b"1"),
    ("ce_source", b"test"),
    ("ce_type", b"t"),
    ("ce_tenant", b"other"),
)


@pytest.fixture
def settings(servers: Settings, tmp_path: Path) -> Settings:  # noqa: F811 - the fixture
    return servers.model_copy(update={"data_dir": tmp_path})


def test_a_purged_tenant_is_gone_and_the_audit_balances(settings: Settings) -> None:
    ensure_topics(settings.kafka, settings.ingest.modalities)
    store = MilvusStore(settings.store)
    store.ensure(spec())
    producer = MessageProducer(settings.kafka)
    topic = settings.kafka.text_topic
    values = [b"1", b"3", b"bad", b"2"]
    for number in range(24):
        headers = OTHER if number % 3 == 0 else ()
        message = Message(topic, b"key-%d" % (number % 10), values[number % 4], headers)
        producer.send(message).result(DEADLINE_S)
    ingest(settings, store, 24)
    kept = _named(store, "other")
    assert kinds(run_audit(settings)) == {}
    foretold = purge_with(settings, PurgeRequest("default", dry_run=True), quiet=True)
    assert foretold.assets > 3
    assert foretold.dead_letters > 1

    plane = threading.Thread(target=ingest, args=(settings, store, foretold.assets))
    plane.start()  # settles the tombstones, which the purge waits for
    receipt = purge_with(settings, PurgeRequest("default", wait_s=60.0), quiet=True)
    plane.join(DEADLINE_S)
    assert not plane.is_alive()
    assert (receipt.assets, receipt.entries) == (foretold.assets, foretold.entries)
    assert (receipt.dead_letters, receipt.left, receipt.is_complete) == (foretold.dead_letters, 0, True)
    assert _named(store, "default") == set()
    assert _named(store, "other") == kept
    letters = list(scan_dead_letters(settings.kafka))
    assert sum(letter.purged for letter in letters) == foretold.dead_letters
    assert all(letter.purged or dict(letter.headers)["ce_tenant"] == b"other" for letter in letters)
    report = run_audit(settings)
    assert kinds(report) == {}
    assert report.balanced

    again = purge_with(settings, PurgeRequest("default", wait_s=60.0), quiet=True)
    assert (again.assets, again.dead_letters, again.is_complete) == (0, 0, True)
    assert list(open_assets(settings).list()) == []
    store.close()
    producer.close(DEADLINE_S)


def _named(store: MilvusStore, tenant: str) -> set[tuple[str, int]]:
    entries = all_entries(store, Collection.TEXT)
    return {(entry.asset.key, entry.part) for entry in entries if entry.asset.tenant == tenant}
