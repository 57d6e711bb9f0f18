"""Real servers for tests: each starts on a free port with a folder of its own, and is gone afterwards in any case."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from penstock.broker.embedded import EmbeddedKafka


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
