"""Doubles of the steps and of the servers that pause before each request, and may fail there."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import replace
from typing import Any, TypeVar

from penstock.broker.base import Partition, PollResult
from penstock.broker.deadletters import DeadLetterWriter
from penstock.broker.memory.consumer import MemoryConsumer
from penstock.concurrency import KeyedLocks
from penstock.errors import PermanentError, Reason, UnavailableError, WorkerLostError
from penstock.records import (
    AssetRow,
    ClaimCheck,
    Collection,
    Decoded,
    EncoderInput,
    Entry,
    Event,
    Field,
    Inline,
    PendingEntry,
    Position,
    Record,
    Rejected,
)
from penstock.store.memory import MemoryStore
from tests.ingest.doubles import ROLE, ScriptedEncoder, text_of
from tests.ingest.simulation.stepping import AFTER, BEFORE, HALF, LOST, LOST_AFTER, REFUSED, SPOILED, pause

T = TypeVar("T")


class SimulatedMedia:
    """Decodes `good:7:3` to three passages, rejects `bad:…` until that is repaired; `crash:…` kills the worker.

    A claim check is to the text that it has for an address.
    """

    def __init__(self) -> None:
        self.repaired: set[str] = set()
        self.spoiled: set[str] = set()

    def fetch(self, events: Sequence[Event]) -> tuple[Event, ...]:
        if pause("fetch") == LOST:
            raise WorkerLostError("the fetcher died")
        return tuple(map(_fetched, events))

    def decode(self, events: Sequence[Event], roles: Sequence[str]) -> tuple[Decoded, EncoderInput]:
        return self.fetch_and_decode(events, roles)

    def fetch_and_decode(self, events: Sequence[Event], roles: Sequence[str]) -> tuple[Decoded, EncoderInput]:
        if pause("decode") == LOST:
            raise WorkerLostError("the decoder died")
        if any(text_of(event).startswith("crash") for event in events):
            raise WorkerLostError("the decoder died of it", blamed=True)
        indexable, pending, rejected = [], [], []
        for event in events:
            text = text_of(event)
            if (text.startswith("bad") and text not in self.repaired) or text in self.spoiled:
                rejected.append(Rejected(event.position, "decode", Reason.CORRUPT, "it is bad"))
            elif not event.is_tombstone:
                indexable.append(replace(event, payload=ClaimCheck("asset:x")))
                pending += _pending_entries(indexable[-1], text, len(pending))
        tombstones = tuple(event for event in events if event.is_tombstone)
        texts = tuple("poison" if entry.text.startswith("poison") else entry.text for entry in pending)
        return Decoded(tuple(indexable), tombstones, tuple(pending), tuple(rejected)), EncoderInput(ROLE, texts, texts)


def _fetched(event: Event) -> Event:
    claim_check = event.payload if isinstance(event.payload, ClaimCheck) else None
    return event if claim_check is None else replace(event, payload=Inline(claim_check.uri.encode()))


def _pending_entries(event: Event, text: str, row: int) -> list[PendingEntry]:
    def vectors(part: int) -> tuple[tuple[Field, str, int], ...]:
        return ((Field.PASSAGE, ROLE, row + part),)

    return [
        PendingEntry(event, Collection.TEXT, part, "text/plain", "asset:x", text, vectors=vectors(part))
        for part in range(parts_of(text))
    ]


def parts_of(text: str) -> int:
    return int(text.rpartition(":")[2])


class FaultyEncoder(ScriptedEncoder):
    def encode(self, batch: EncoderInput) -> Any:
        if pause("encode") == LOST:
            raise WorkerLostError("the encoder died")
        return super().encode(batch)


class FaultyStore:
    """A `MemoryStore` before which every request pauses, and may fail: before it is applied, after it, or half done."""

    def __init__(self, inner: MemoryStore, media: SimulatedMedia) -> None:
        self._inner = inner
        self._media = media

    def catch_up(self) -> None:
        self._read("catch up", self._inner.catch_up)

    def asset_rows(self, ids: Sequence[str]) -> Mapping[str, AssetRow]:
        return self._read("rows", lambda: self._inner.asset_rows(ids))

    def entry_ids(self, collection: Collection, ids: Sequence[str]) -> Mapping[str, frozenset[str]]:
        return self._read("ids", lambda: self._inner.entry_ids(collection, ids))

    def upsert(self, collection: Collection, entries: Sequence[Entry]) -> None:
        if any(entry.text.startswith("refused") for entry in entries):
            raise PermanentError("the store refuses such a text")
        try:
            self._write("upsert", entries, lambda some: self._inner.upsert(collection, some))
        except SpoiledError:
            self._media.spoiled.update(entry.text for entry in entries)
            raise

    def delete(self, collection: Collection, ids: Sequence[str]) -> None:
        self._write("delete", ids, lambda some: self._inner.delete(collection, some))

    def put_asset_rows(self, rows: Sequence[AssetRow]) -> None:
        self._write("put rows", rows, self._inner.put_asset_rows)

    def _read(self, at: str, request: Callable[[], T]) -> T:
        fault = pause(at)
        raise_if_lost(fault)
        raise_if_unanswered(fault in (BEFORE, AFTER, HALF), at)
        return request()

    def _write(self, at: str, items: Sequence[T], request: Callable[[Sequence[T]], None]) -> None:
        fault = pause(at)
        raise_if_unanswered(fault == BEFORE, at)
        if fault != LOST:
            request(items[: (len(items) + 1) // 2] if fault in (HALF, SPOILED) else items)
        raise_if_lost(fault)
        raise_if_unanswered(fault in (AFTER, HALF), at)


class SpoiledError(WorkerLostError):
    """The writer died, and by the time it is back the media that it was writing are gone."""


def raise_if_lost(fault: str) -> None:
    if fault == SPOILED:
        raise SpoiledError("the writer died")
    if fault in (LOST, LOST_AFTER):
        raise WorkerLostError("the writer died")


def raise_if_unanswered(fails: bool, at: str) -> None:
    if fails:
        raise UnavailableError(f"the answer to {at} was lost")


class FaultySink:
    """The dead-letter topic, which may be unavailable, lose its answer, or refuse a letter permanently."""

    def __init__(self, inner: DeadLetterWriter) -> None:
        self._inner = inner

    def send(self, record: Record, rejected: Rejected) -> Future[Position]:
        fault = pause("dead letter")
        failed: Future[Position] = Future()
        failed.set_exception(
            PermanentError("the dead-letter topic takes no such message")
            if fault == REFUSED
            else UnavailableError("the dead-letter topic does not answer")
        )
        if fault in (BEFORE, REFUSED):
            return failed
        sent = self._inner.send(record, rejected)
        return failed if fault == AFTER else sent


class FaultyConsumer:
    """A member that pauses before each poll and commit; a dead one says nothing to its group any more."""

    def __init__(self, inner: MemoryConsumer) -> None:
        self.inner = inner
        self.dead = False

    def poll(self, timeout_s: float, max_records: int) -> PollResult:
        pause("poll")
        return self.inner.poll(timeout_s, max_records)

    def commit(self, offsets: Mapping[Partition, int], timeout_s: float) -> None:
        fault = pause("commit")
        raise_if_unanswered(fault == BEFORE, "commit")
        self.inner.commit(offsets, timeout_s)
        raise_if_unanswered(fault == AFTER, "commit")

    def close(self, timeout_s: float) -> None:
        if not self.dead:
            self.inner.close(timeout_s)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


class PausingLocks(KeyedLocks):
    """Locks whose waiters pause, and die with their writer."""

    def _wait(self) -> None:
        self._changed.release()
        try:
            raise_if_lost(pause("lock"))
        finally:
            self._changed.acquire()
