"""The real workers, each with a place where a switch makes it fail."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from penstock.assembly import open_store
from penstock.config import Settings
from penstock.errors import UnavailableError
from penstock.ingest.executor.workers import (
    EncodeWorker,
    EncodeWorkerFactory,
    MediaWorker,
    MediaWorkerFactory,
    TranscribeWorker,
)
from penstock.records import (
    AssetRow,
    Checkpoint,
    Collection,
    Decoded,
    Encoded,
    EncoderInput,
    Entry,
    Event,
    Transcript,
    WriteResult,
)
from penstock.store.base import IndexSpec, Store
from penstock.store.lease import LeaseGuard
from penstock.store.writer import Writer, WriteRequest
from tests.faults.switches import Switches

CRASHES = "this text kills the process that encodes it"


class FaultyEncodeWorker(EncodeWorker):
    """`encode` can be held; a certain text kills it."""

    def __init__(self, worker: EncodeWorker, switches: Switches) -> None:
        self._worker = worker
        self._switches = switches

    def encode(self, batch: EncoderInput) -> Encoded:
        if any(CRASHES in text for text in batch.texts):
            os.kill(os.getpid(), signal.SIGKILL)
        if len(batch):
            self._switches.wait_while_held("encode")
        return self._worker.encode(batch)

    def fingerprint(self) -> Any:
        return self._worker.fingerprint()


class FaultyTranscribeWorker(TranscribeWorker):
    """`transcribe` can be held."""

    def __init__(self, worker: TranscribeWorker, switches: Switches) -> None:
        self._worker = worker
        self._switches = switches

    def transcribe(self, batch: EncoderInput, start: int, apart: bool) -> tuple[tuple[Transcript, ...], int | None]:
        if len(batch):
            self._switches.wait_while_held("transcribe")
        return self._worker.transcribe(batch, start, apart)

    def fingerprint(self) -> Any:
        return self._worker.fingerprint()


class FaultyMediaWorker(MediaWorker):
    """`fetch_and_decode` and `decode_segments` can be held, first and later segments apart. Each segment is noted."""

    def __init__(self, worker: MediaWorker, switches: Switches) -> None:
        self._worker = worker
        self._switches = switches

    def fetch(self, events: Sequence[Event]) -> Any:
        return self._worker.fetch(events)

    def decode(self, *args: Any) -> tuple[Any, ...]:
        return self._worker.decode(*args)

    def fetch_and_decode(self, events: Sequence[Event], roles: Sequence[str]) -> tuple[Any, ...]:
        self._switches.wait_while_held("decode")
        return self._worker.fetch_and_decode(events, roles)

    def decode_segments(
        self, events: Sequence[Event], known: Sequence[Checkpoint], roles: Sequence[str], keep: bool
    ) -> tuple[Any, ...]:
        resumed = {checkpoint.asset.id for checkpoint in known}
        for event in events:
            self._switches.note("later-segment" if event.asset.id in resumed else "first-segment", str(event.position))
        self._switches.wait_while_held("later-segment" if resumed else "segment")
        return self._worker.decode_segments(events, known, roles, keep)

    def compose(self, segments: Any, *transcripts: Sequence[Transcript]) -> tuple[Any, EncoderInput]:
        return self._worker.compose(segments, *transcripts)


class FaultyStore:
    """A store whose writes can be held before they happen, and whose answers can be lost after they did."""

    def __init__(self, store: Store, switches: Switches) -> None:
        self._store = store
        self._switches = switches

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def upsert(self, collection: Collection, entries: Sequence[Entry]) -> None:
        self._switches.wait_while_held("upsert")
        with self._switches.doing("upsert"):
            self._store.upsert(collection, entries)
        self._lose("upsert")

    def delete(self, collection: Collection, ids: Sequence[str]) -> None:
        self._store.delete(collection, ids)
        self._lose("delete")

    def put_asset_rows(self, rows: Sequence[AssetRow]) -> None:
        self._switches.wait_while_held("put_asset_rows")
        self._store.put_asset_rows(rows)
        self._lose("put_asset_rows")

    def _lose(self, operation: str) -> None:
        if self._switches.take(f"lose-{operation}"):
            raise UnavailableError(f"the answer to {operation} was lost on its way")


class FaultyWriter(Writer):
    """The writes of one lane can be held before they begin."""

    def __init__(self, store: Any, switches: Switches, **options: Any) -> None:
        super().__init__(store, **options)
        self._switches = switches

    def write(self, request: WriteRequest, decoded: Decoded, *encoded: Encoded) -> tuple[WriteResult, ...]:
        self._switches.wait_while_held(f"write-of-{request.lane}")
        return super().write(request, decoded, *encoded)


@dataclass(frozen=True)
class MakeFaultyEncodeWorker:
    switches: Switches
    settings: Settings
    role: str

    def __call__(self, number: int) -> FaultyEncodeWorker | FaultyTranscribeWorker:
        worker = EncodeWorkerFactory(self.settings, self.role)(number)
        if isinstance(worker, TranscribeWorker):
            return FaultyTranscribeWorker(worker, self.switches)
        return FaultyEncodeWorker(worker, self.switches)


@dataclass(frozen=True)
class MakeFaultyMediaWorker:
    switches: Switches
    settings: Settings
    hosts: Sequence[str] | None = None

    def __call__(self, number: int) -> FaultyMediaWorker:
        return FaultyMediaWorker(MediaWorkerFactory(self.settings, self.hosts)(number), self.switches)


@dataclass(frozen=True)
class MakeFaultyWriter:
    switches: Switches
    settings: Settings
    spec: IndexSpec
    shards: int

    def __call__(self, number: int) -> Writer:
        lease = LeaseGuard(self.settings.ingest.lease_timeout_s)
        store = open_store(self.settings.store, lease.check)
        store.ensure(self.spec)
        return FaultyWriter(
            FaultyStore(store, self.switches),
            self.switches,
            wall_ms=lambda: time.time_ns() // 1_000_000,
            shard=number,
            shards=self.shards,
            lease=lease,
        )
