"""Runs Kafka, Milvus Lite and an S3 server on the address of a bridge, where the pods of a test find them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import s3fs

from penstock.embedded import kafka, milvus
from penstock.processes import free_port
from tests.operate.control_plane import wait_until

_WEED = Path(sys.executable).parent / "weed"
_BUCKET = "media"


@dataclass(frozen=True, slots=True)
class Addresses:
    """The addresses of the services, and the keys of the S3 server."""

    kafka: str
    store: str
    s3: str
    key_id: str = "penstock"
    key: str = "for-the-tests-only"

    def bucket(self) -> s3fs.S3FileSystem:
        """Returns the S3 server as a file system."""
        return s3fs.S3FileSystem(key=self.key_id, secret=self.key, endpoint_url=self.s3)


@contextmanager
def services(host: str, folder: Path) -> Iterator[Addresses]:
    """Yields running services that listen on this address, with an empty bucket `media`."""
    with pytest.MonkeyPatch.context() as patch:  # the embedded ones listen on loopback, which no pod reaches
        patch.setattr(kafka, "_HOST", host)
        patch.setattr(milvus, "HOST", host)
        broker = kafka.EmbeddedKafka(folder / "kafka", heap_mb=384)
        with milvus.EmbeddedMilvus(folder / "milvus") as store:
            try:
                addresses = Addresses(broker.start(), store.start(), f"http://{host}:{free_port()}")
                with _s3(addresses, folder / "s3"):
                    yield addresses
            finally:
                broker.kill()


@contextmanager
def _s3(addresses: Addresses, folder: Path) -> Iterator[None]:
    folder.mkdir()
    host, port = addresses.s3.removeprefix("http://").split(":")
    credentials = [{"accessKey": addresses.key_id, "secretKey": addresses.key}]
    identity = {"name": "tests", "credentials": credentials, "actions": ["Admin", "Read", "Write", "List"]}
    (folder / "s3.json").write_text(json.dumps({"identities": [identity]}), encoding="utf-8")
    ports = {name: free_port() for name in ("master", "volume", "filer")}
    command = [
        *(_WEED, "server", "-s3", f"-s3.port={port}", f"-s3.config={folder / 's3.json'}", f"-dir={folder}"),
        *(f"-{name}.port={number}" for name, number in ports.items()),
        *(f"-{name}.port.grpc={free_port()}" for name in ports),
        *(f"-s3.port.grpc={free_port()}", f"-ip={host}", f"-ip.bind={host}", "-volume.max=20"),
    ]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, cwd=folder)
    try:
        wait_until(lambda: _answers(addresses.s3), "the S3 server answers", 60)
        wait_until(lambda: _makes_bucket(addresses), "the S3 server makes a bucket", 60)
        yield
    finally:
        process.kill()  # SIGTERM does not end it
        process.wait()


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=2).status_code < 500
    except httpx.HTTPError:
        return False


def _makes_bucket(addresses: Addresses) -> bool:
    try:
        addresses.bucket().mkdir(_BUCKET)
    except OSError:
        return False
    return True
