"""Measures what announcing changes costs the ingest plane: CPU time an event, and the wait of a batch.

    python -m benchmarks.changes [--batch 32] [--seconds 10]

Publishes batches as a lane does to an embedded Kafka, with a follower that receives them, and prints JSON.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import threading
import time
from pathlib import Path

from benchmarks.statistics import median, quantile
from penstock.broker.producer import MessageProducer
from penstock.broker.tail import KafkaTail
from penstock.broker.topics import ensure_changes_topic
from penstock.config import KafkaSettings
from penstock.embedded.kafka import EmbeddedKafka
from penstock.ingest.changes import ChangePublisher
from penstock.records import Collection, IndexChange, Position


def main() -> None:
    """Runs the benchmark, as the module's docstring says."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.changes", description=__doc__)
    parser.add_argument("--batch", type=int, default=32, help="events of a batch")
    parser.add_argument("--seconds", type=float, default=10.0, help="how long batches are published")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, EmbeddedKafka(Path(folder), heap_mb=384) as broker:
        settings = KafkaSettings(bootstrap_servers=broker.bootstrap_servers)
        ensure_changes_topic(settings)
        print(json.dumps(_measure(settings, options.batch, options.seconds), indent=2))


def _measure(settings: KafkaSettings, batch: int, seconds: float) -> dict[str, float]:
    producer = MessageProducer(settings)
    publisher = ChangePublisher(producer, settings.changes_topic, sleep=lambda _: False)
    publisher.publish(_changes(0, batch))  # the first message looks up the topic
    received_s = _Received(settings, publisher, batch)
    waits_s: list[float] = []
    cpu_s, started_s = time.process_time(), time.monotonic()
    number = 0
    while time.monotonic() - started_s < seconds:
        number += 1
        began_s = time.perf_counter()
        publisher.publish(_changes(number * batch, batch))
        waits_s.append(time.perf_counter() - began_s)
    cpu_s = time.process_time() - cpu_s
    producer.close(5)
    return {
        "batch": batch,
        "batches": number,
        "cpu_us_per_event": round(cpu_s / (number * batch) * 1e6, 1),
        "cpu_ms_per_batch": round(cpu_s / number * 1e3, 2),
        "publish_ms_p50": round(median(waits_s) * 1e3, 2),
        "publish_ms_p95": round(quantile(waits_s, 0.95) * 1e3, 2),
        "received_ms_after_publish_began_p50": round(median(received_s.delays_s) * 1e3, 2),
        "received_ms_after_publish_began_p95": round(quantile(received_s.delays_s, 0.95) * 1e3, 2),
    }


class _Received:
    """The time from the begin of a publication to its receipt by a follower, of 200 batches a while apart."""

    def __init__(self, settings: KafkaSettings, publisher: ChangePublisher, batch: int) -> None:
        self.delays_s: list[float] = []
        tail = KafkaTail(settings, settings.changes_topic)
        while not tail.poll(0.1).caught_up:
            pass
        for number in range(200):
            began_s = time.perf_counter()
            thread = threading.Thread(target=publisher.publish, args=(_changes(number, batch),))
            thread.start()
            while not tail.poll(1.0).records:
                pass
            self.delays_s.append(time.perf_counter() - began_s)
            thread.join()
        tail.close()


def _changes(first: int, count: int) -> list[IndexChange]:
    now_ms = time.time_ns() // 1_000_000
    return [
        IndexChange(
            tenant="default",
            topic="media.image",
            key=f"photos/2026/{number:08d}.jpg",
            origin=Position("media.image", number % 4, number),
            deleted=False,
            counts={Collection.IMAGE: 1},
            indexed_at_ms=now_ms,
            timestamp_ms=now_ms,
        )
        for number in range(first, first + count)
    ]


if __name__ == "__main__":
    main()
