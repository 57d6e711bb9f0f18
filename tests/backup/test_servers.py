"""Backups of 20,000 entries between real servers, and the drill: everything but Kafka is lost under load."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from penstock.assembly import open_assets
from penstock.audit import run_audit
from penstock.broker.base import Message
from penstock.broker.producer import MessageProducer
from penstock.broker.topics import ensure_topics
from penstock.config import KafkaSettings, Settings, load_settings, to_environment
from penstock.records import Access, Channel, Collection, Field, Position
from penstock.store.base import EntryQuery
from penstock.store.milvus.store import MilvusStore
from tests.audit.simulated_plane import kinds
from tests.backup.loader import DIM, GROUP, centre_of, load, media_of, spec_of
from tests.e2e.stack import Stack, eventually
from tests.services import kafka_server
from tests.store.servers import milvus_lite_server, milvus_standalone

pytestmark = [pytest.mark.services, pytest.mark.exhaustive]

ENTRIES = int(os.environ.get("PENSTOCK_TEST_BACKUP_ENTRIES", "20000"))
QUERIES = 200
MAX_S = 120.0
MAX_MB = 500.0
# Runs a command and reports its peak of memory: a child's own `ru_maxrss` begins with that of this process.
_MEASURED = (
    "import resource, sys; from penstock.cli.main import main; code = main(sys.argv[1:]); "
    "peak = next(line for line in open('/proc/self/status') if line.startswith('VmHWM')); "
    "print(peak.split()[1], file=sys.stderr); sys.exit(code)"
)


@dataclass(frozen=True)
class Ran:
    output: Any
    seconds: float
    peak_mb: float


def run(settings: Settings, *arguments: str, code: int = 0) -> Ran:
    """Runs a command as a process of its own."""
    began_s = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", _MEASURED, *arguments, "--json"],
        env=os.environ | to_environment(settings),
        capture_output=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == code, done.stderr.decode()
    peak_kb = int(done.stderr.decode().strip().rpartition("\n")[2])
    return Ran(json.loads(done.stdout or b"null"), time.monotonic() - began_s, peak_kb / 1024)


def first_ten(store: MilvusStore, channel: Channel) -> list[list[str]]:
    """Returns the first ten hits of each query."""
    hits = []
    for number in range(QUERIES):
        centre = centre_of(number % (ENTRIES // GROUP), channel.field)
        query = EntryQuery(channel, centre, Access.to_all_of("default"), None, limit=10, timeout_s=60)
        hits.append([hit.entry.id for hit in store.search(query)])
    return hits


@pytest.mark.timeout(1800)
def test_twenty_thousand_entries_move_from_lite_to_a_real_milvus(tmp_path: Path) -> None:
    with kafka_server() as kafka, milvus_lite_server() as lite, milvus_standalone() as standalone:
        source = load_settings(
            data_dir=tmp_path / "source",
            profile="null:8",
            kafka={"bootstrap_servers": kafka, "group": f"g-{uuid.uuid4().hex[:8]}", "partitions": 2},
            store={"uri": lite.uri, "timeout_s": 60.0, "consistency": "Strong"},
            ingest={"modalities": ["text", "image"]},
        )
        ensure_topics(source.kafka, source.ingest.modalities)
        store = MilvusStore(source.store)
        store.ensure(spec_of())
        load(source, store, open_assets(source), ENTRIES)
        passage, joint = Channel(Collection.TEXT, Field.PASSAGE), Channel(Collection.IMAGE, Field.JOINT)
        before = {channel: first_ten(store, channel) for channel in (passage, joint)}
        entries = store.count(Collection.TEXT) + store.count(Collection.IMAGE)
        sample = [row[0] for row in before[joint]]
        vectors = {entry.id: entry.vectors[Field.JOINT] for entry in store.get(Collection.IMAGE, sample)}
        assert entries >= ENTRIES
        store.close()

        url = (tmp_path / "backups").as_uri()
        backup = run(source, "backup", url)
        assert sum(backup.output["counts"]["entries"].values()) == entries
        assert backup.output["media"]["copied"] == ENTRIES // 2
        again = run(source, "backup", url, "--keep", "1")
        assert (again.output["media"]["copied"], again.output["pruned"]["backups"]) == (0, 1)

        target = source.model_copy(
            update={
                "data_dir": tmp_path / "target",
                "store": source.store.model_copy(update={"uri": standalone.uri}),
            }
        )
        restored = run(target, "restore", url)
        assert (restored.output["entries"], restored.output["to_replay"]) == (entries, 0)
        copy = MilvusStore(target.store)
        copy.ensure(spec_of())
        assert copy.count(Collection.TEXT) + copy.count(Collection.IMAGE) == entries
        after = {channel: first_ten(copy, channel) for channel in (passage, joint)}
        for entry in copy.get(Collection.IMAGE, sample):
            np.testing.assert_array_equal(entry.vectors[Field.JOINT], vectors.pop(entry.id))
        assert not vectors
        copy.close()
        name = next(stored.sha256 for stored in open_assets(source).list())
        assert open_assets(target).read(name) == open_assets(source).read(name)
        assert media_of("k1") in {open_assets(target).read(stored.sha256) for stored in open_assets(target).list()}
        report = run_audit(target)
        run(target, "restore", url, code=2)  # not empty any more
        sys.stdout.write(
            f"\n{entries} entries of 2 x {DIM}: backup {backup.seconds:.1f} s, peak {backup.peak_mb:.0f} MB; "
            f"restore {restored.seconds:.1f} s, peak {restored.peak_mb:.0f} MB; "
            f"{backup.output['bytes'] / 1e6:.0f} MB without media; seconds {backup.output['seconds']} and "
            f"{restored.output['seconds']}\n"
        )
    assert kinds(report) == {}
    assert report.balanced
    assert report.entries == entries
    same = {
        str(channel): sum(a == b for a, b in zip(before[channel], after[channel], strict=True)) for channel in before
    }
    assert same == {str(channel): QUERIES for channel in before}
    assert backup.seconds <= MAX_S
    assert max(backup.peak_mb, restored.peak_mb) <= MAX_MB


@dataclass
class Load:
    """Produces until the end of a test, and remembers the last value of each key."""

    kafka: KafkaSettings
    last: dict[str, bytes | None] = field(default_factory=dict)
    acknowledged: int = 0

    @contextmanager
    def running(self) -> Iterator[threading.Event]:
        """Yields an event that ends the load."""
        stop = threading.Event()
        thread = threading.Thread(target=self._produce, args=(stop,), name="load")
        thread.start()
        try:
            yield stop
        finally:
            stop.set()
            thread.join()

    def _produce(self, stop: threading.Event) -> None:
        producer = MessageProducer(self.kafka)
        number = 0
        while not stop.wait(0.02):
            key = f"k{number % 400}"
            value = None if number % 23 == 0 else f"Text {number} of a harbour.".encode()
            sent: list[Future[Position]] = [producer.send(Message(self.kafka.text_topic, key.encode(), value))]
            if number % 40 == 0:
                sent.append(producer.send(Message(self.kafka.image_topic, b"i%d" % number, b"no image")))
            for future in sent:
                future.result(60)
            self.last[key] = value
            self.acknowledged += len(sent)
            number += 1
        producer.close(60)


@pytest.mark.timeout(1200)
def test_everything_but_kafka_is_lost_under_load_and_comes_back(tmp_path: Path) -> None:
    folder, url = tmp_path / "data", (tmp_path / "backups").as_uri()
    with kafka_server() as kafka:
        environment = {
            "PENSTOCK_PROFILE": "null:8",
            "PENSTOCK_KAFKA__BOOTSTRAP_SERVERS": kafka,
            "PENSTOCK_QUERY__PORT": "0",
            "PENSTOCK_INGEST__MODALITIES": '["text", "image"]',
            "PENSTOCK_REPLAY__KEY": "k" * 40,  # kept elsewhere than in the data folder
        }
        stack = Stack(folder, environment)
        load_ = Load(KafkaSettings(bootstrap_servers=kafka))
        try:
            stack.start()
            with load_.running() as stop:
                eventually(lambda: stack.counts()["asset"] >= 300, "300 assets are indexed", 120)
                backup = stack.json("backup", url)
                assert backup["counts"]["assets"] >= 300
                after_backup = load_.acknowledged
                eventually(lambda: load_.acknowledged >= after_backup + 400, "the load continues", 120)
                stack.kill_tree()
                shutil.rmtree(folder)
                folder.mkdir()

                def restored() -> bool:
                    done = stack.run("restore", url)
                    assert done.returncode in (0, 2), done.stderr.decode()
                    assert done.returncode == 0 or b"an ingest plane reads for group" in done.stderr, done.stderr
                    return done.returncode == 0

                eventually(restored, "the dead members have left the group, and the index is restored", 180)
                stack.start()
                before_stop = load_.acknowledged
                eventually(lambda: load_.acknowledged >= before_stop + 100, "the load continues", 120)
                stop.set()
            stack.settle()
            report = stack.json("audit")
            assert report["balanced"]
            assert (report["problem_counts"], report["in_flight"]) == ({}, 0)
            assert report["produced"] == load_.acknowledged
            live = {key for key, value in load_.last.items() if value is not None}
            assert stack.counts()["text"] == len(live)
            key = sorted(live)[0]
            (entry,) = stack.stored(key)
            assert entry.text.encode() == load_.last[key]
        finally:
            stack.close()
