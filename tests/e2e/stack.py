"""Runs `penstock up` as an operator would: a process in a folder of its own, and the other commands beside it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
import psutil

from benchmarks.components import Component
from benchmarks.memory import pss_mb
from penstock.broker.base import DeadLetter, Message, PartitionLag
from penstock.broker.deadletters import scan_dead_letters
from penstock.broker.producer import MessageProducer
from penstock.broker.topics import group_lag
from penstock.config import Endpoints, Settings, load_settings, read_endpoints, with_endpoints
from penstock.ingest.status import read_status
from penstock.records import Collection, Entry, Modality, Position
from penstock.store.milvus.store import MilvusStore
from tests.store.scans import all_entries

_START_TIMEOUT_S = 240.0
_SETTLE_TIMEOUT_S = 120.0


def eventually(holds: Callable[[], bool], condition: str, timeout_s: float) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline_s, f"did not hold within {timeout_s:.0f} s: {condition}"
        time.sleep(0.1)


class Stack:
    """One data folder and, while it runs, the `penstock up` on it."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self.folder = folder
        own = {"PENSTOCK_METRICS__PORT": "0", "PENSTOCK_CANARY__INTERVAL_S": "0"}  # canaries would stand in the counts
        self.environment = {**os.environ, **own, **environment, "PENSTOCK_DATA_DIR": str(folder)}
        self._log = folder.with_name("up.log")
        self._up: subprocess.Popen[bytes] | None = None

    # ---- life ----

    def start(self, timeout_s: float = _START_TIMEOUT_S) -> None:
        with self._log.open("ab") as log:
            self._up = subprocess.Popen(self._command("up"), env=self.environment, stdout=log, stderr=log)
        eventually(self._ready, f"penstock up is ready; {self._log} says why not", timeout_s)

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        assert self._up is not None
        self._up.terminate()
        return self._up.wait(90)

    def kill_tree(self) -> None:
        """Sends SIGKILL to all processes, as a power failure would."""
        assert self._up is not None
        tree = [psutil.Process(self._up.pid), *psutil.Process(self._up.pid).children(recursive=True)]
        for process in tree:
            process.suspend()  # so that none restarts another
        for process in tree:
            process.kill()
        self._up.wait(30)
        psutil.wait_procs(tree, timeout=30)

    @property
    def supervisor(self) -> psutil.Process:
        """The `penstock up`."""
        assert self._up is not None
        return psutil.Process(self._up.pid)

    def plane(self, command: str) -> psutil.Process:
        """The driver of a plane: `ingest` or `serve`."""
        assert self._up is not None
        children = psutil.Process(self._up.pid).children(recursive=True)
        (driver,) = (child for child in children if child.cmdline()[-1:] == [command])
        return driver

    def process_with(self, word: str) -> psutil.Process:
        """The one process whose command has this word."""
        assert self._up is not None
        children = psutil.Process(self._up.pid).children(recursive=True)
        (process,) = (child for child in children if word in child.cmdline())
        return process

    def close(self) -> None:
        """Stops it at the end of a test, also a failed one."""
        if self._up is not None and self._up.poll() is None:
            try:
                self.stop()
            except subprocess.TimeoutExpired:
                self.kill_tree()

    def _ready(self) -> bool:
        assert self._up is not None
        assert self._up.poll() is None, f"penstock up ended with {self._up.returncode}: {self._log.read_text()[-2000:]}"
        return read_endpoints(self.folder) is not None

    # ---- as an operator ----

    def run(
        self,
        *arguments: str,
        stdin: bytes | None = None,
        environment: Mapping[str, str] | None = None,
        timeout_s: float = 120.0,
    ) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            self._command(*arguments),
            env=environment or self.environment,
            input=stdin,
            capture_output=True,
            timeout=timeout_s,
            check=False,
        )

    def json(self, *arguments: str, code: int = 0, timeout_s: float = 120.0) -> Any:
        done = self.run(*arguments, "--json", timeout_s=timeout_s)
        assert done.returncode == code, done.stderr.decode()
        return json.loads(done.stdout)

    def search(self, text: str | None = None, **body: Any) -> list[dict[str, Any]]:
        """Hits of POST /v1/search."""
        request = body if text is None else {"text": text, **body}
        response = httpx.post(f"{self.endpoints.query_url}/v1/search", json=request, timeout=30)
        assert response.status_code == 200, response.text
        hits: list[dict[str, Any]] = response.json()["hits"]
        return hits

    def ask(self, question: str) -> dict[str, Any]:
        """The response of POST /v1/ask."""
        url = f"{self.endpoints.query_url}/v1/ask"
        response = httpx.post(url, json={"question": question}, timeout=60)
        assert response.status_code == 200, response.text
        answer: dict[str, Any] = response.json()
        return answer

    def post(self, body: Mapping[str, Any]) -> httpx.Response:
        return httpx.post(f"{self.endpoints.query_url}/v1/search", json=dict(body), timeout=30)

    # ---- for assertions ----

    @property
    def endpoints(self) -> Endpoints:
        endpoints = read_endpoints(self.folder)
        assert endpoints is not None
        return endpoints

    @property
    def settings(self) -> Settings:
        return with_endpoints(load_settings(data_dir=self.folder))

    def produce(self, messages: Sequence[Message]) -> list[Position]:
        """Straight through a producer; returns once all are acknowledged."""
        producer = MessageProducer(self.settings.kafka)
        try:
            futures = [producer.send(message) for message in messages]
            return [future.result(60) for future in futures]
        finally:
            producer.close(10)

    def settled(self) -> bool:
        """Whether everything produced is settled and committed."""
        return not any(partition.lag for partition in self._lag())

    def settle(self, timeout_s: float = _SETTLE_TIMEOUT_S) -> None:
        """Waits for it."""
        deadline_s = time.monotonic() + timeout_s
        while behind := [partition for partition in self._lag() if partition.lag]:
            log = (self.folder / "logs" / "ingest.log").read_text()[-3000:]
            status = read_status(self.folder, self.settings.kafka.group)
            assert time.monotonic() < deadline_s, f"not settled: {behind}; {status}; {log}"
            time.sleep(0.1)

    def ingest_mb(self) -> float:
        """The ingest plane's memory now, PSS."""
        assert self._up is not None
        return pss_mb(psutil.Process(self._up.pid).children(recursive=True))[Component.INGEST]

    def counts(self) -> dict[str, int]:
        """Entries by collection, and asset rows."""
        store = MilvusStore(self.settings.store)
        try:
            entries = {collection.value: store.count(collection) for collection in (Collection.TEXT, Collection.IMAGE)}
            return {**entries, "asset": store.count_assets()}
        finally:
            store.close()

    def stored(self, key: str) -> list[Entry]:
        """All entries of the assets of that key, by collection and part."""
        store = MilvusStore(self.settings.store)
        try:
            collections = {channel.collection for channel in store.channels()}
            entries = [entry for collection in collections for entry in all_entries(store, collection)]
        finally:
            store.close()
        return sorted(
            (entry for entry in entries if entry.asset.key == key), key=lambda entry: (entry.collection, entry.part)
        )

    def entries_of(self, key: str, topic: str = "media.text") -> list[dict[str, Any]]:
        """Returns the hits of a search restricted to one asset."""
        return self.search("anything", filter={"and": [{"key": key}, {"topic": topic}]}, limit=50)

    def dead_letters(self, key: str) -> list[DeadLetter]:
        return list(scan_dead_letters(self.settings.kafka, key=key.encode()))

    def _lag(self) -> Sequence[PartitionLag]:
        kafka = self.settings.kafka
        named = self.environment.get("PENSTOCK_INGEST__MODALITIES")
        modalities = list(Modality) if named is None else map(Modality, json.loads(named))
        return group_lag(kafka, [kafka.topic_of(modality) for modality in modalities])

    def _command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "penstock.cli.main", *arguments]


def kill(process: psutil.Process) -> None:
    os.kill(process.pid, signal.SIGKILL)
