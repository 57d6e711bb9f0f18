"""Checks that no event that `/v1/events` accepted is missing after SIGKILL of the query plane and of the broker."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import httpx
import pytest

from penstock.broker.reader import KafkaReader
from penstock.broker.topics import ensure_media_topics
from penstock.config import KafkaSettings
from penstock.processes import free_port, listens
from tests.services import kafka_broker

CLIENTS = 16
EVENTS = int(os.environ.get("PENSTOCK_TEST_HTTP_EVENTS", "1600"))
TOPIC = "media.text"
_DEADLINE_S = 240.0


class Clients:
    """Clients that send events until each is accepted, and repeat what failed with the same key."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._lock = threading.Lock()
        self.accepted: set[str] = set()
        self.failures: Counter[str] = Counter()
        self._threads = [threading.Thread(target=self._run, args=(number,), daemon=True) for number in range(CLIENTS)]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def wait_for(self, count: int) -> None:
        until_s = time.monotonic() + _DEADLINE_S
        while len(self.accepted) < count:
            assert time.monotonic() < until_s, (len(self.accepted), self.failures)
            time.sleep(0.02)

    def join(self) -> None:
        for thread in self._threads:
            thread.join(_DEADLINE_S)
            assert not thread.is_alive(), self.failures

    def _run(self, number: int) -> None:
        with httpx.Client(base_url=self._url, timeout=60) as client:
            for event in range(EVENTS // CLIENTS):
                self._send(client, f"{number}-{event}")

    def _send(self, client: httpx.Client, name: str) -> None:
        while True:
            try:
                body = {"key": name, "text": f"event {name}"}
                answer = client.post("/v1/events", json=body, headers={"Idempotency-Key": name})
                outcome = str(answer.status_code)
            except httpx.HTTPError as exc:
                outcome = type(exc).__name__
            if outcome == "202":
                with self._lock:
                    self.accepted.add(name)
                return
            with self._lock:
                self.failures[outcome] += 1
            assert outcome in ("429", "503") or not outcome.isdigit(), answer.text
            time.sleep(0.2)  # as a client waits before it tries again


def _wait_until_answered(port: int) -> None:
    until_s = time.monotonic() + _DEADLINE_S
    while not listens("127.0.0.1", port):
        assert time.monotonic() < until_s
        time.sleep(0.2)


@pytest.mark.services
@pytest.mark.exhaustive
def test_no_accepted_event_is_missing_after_kills(tmp_path: Path) -> None:
    port = free_port()

    def start_plane(bootstrap_servers: str) -> subprocess.Popen[bytes]:
        arguments = ["-m", "tests.e2e.event_server", str(port), bootstrap_servers, str(tmp_path / "data")]
        return subprocess.Popen([sys.executable, *arguments])

    with kafka_broker() as broker:
        kafka = KafkaSettings(bootstrap_servers=broker.bootstrap_servers)
        ensure_media_topics(kafka, [TOPIC])
        plane = start_plane(broker.bootstrap_servers)
        try:
            clients = Clients(f"http://127.0.0.1:{port}")
            _wait_until_answered(port)
            clients.start()
            clients.wait_for(EVENTS // 4)
            plane.kill()
            plane.wait()
            plane = start_plane(broker.bootstrap_servers)
            clients.wait_for(EVENTS // 2)
            broker.kill()
            broker.start()
            clients.join()
        finally:
            plane.kill()
            plane.wait()
        with KafkaReader(kafka) as reader:
            written = Counter(
                (record.key or b"").decode()
                for partition, log in reader.bounds([TOPIC]).items()
                for record in reader.read(partition, log.start, log.end)
            )
    assert len(clients.accepted) == EVENTS // CLIENTS * CLIENTS
    assert written.keys() == clients.accepted
    assert clients.failures, "neither kill was noticed by a client"
    again = sum(written.values()) - len(written)
    print(f"{len(clients.accepted)} accepted, {again} written twice, {dict(clients.failures)}")  # noqa: T201
