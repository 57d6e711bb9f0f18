"""The ingest plane's real parts over doubles, in steps that a test decides: for property tests.

Lanes and batches run in threads of their own, but only one at a time and only while it is stepped, from one pause to
the next. Pauses are wherever another process would be asked: Kafka, a worker, the store, the dead-letter topic. The
test decides who goes next, what fails there, and what time it is; so the same decisions always give the same run.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeVar

from penstock.broker.base import Message, Partition, PollResult
from penstock.broker.deadletters import DeadLetterWriter, parse_dead_letter
from penstock.broker.headers import ORIGIN, ORIGIN_TIMESTAMP, format_origin, parse_origin
from penstock.broker.memory.broker import MemoryBroker
from penstock.broker.memory.consumer import MemoryConsumer
from penstock.broker.wire import parse_record
from penstock.concurrency import KeyedLocks
from penstock.errors import PermanentError, Reason, UnavailableError, WorkerLostError
from penstock.ingest.delivery import Batch
from penstock.ingest.executor.pool import Call, call_all
from penstock.ingest.executor.proxies import Pools
from penstock.ingest.lane.batcher import Batcher, BatchLimits
from penstock.ingest.lane.lane import Lane, LaneLimits
from penstock.ingest.pipeline.driver import Pipeline
from penstock.records import (
    AssetRow,
    ClaimCheck,
    Decoded,
    EncoderInput,
    Entry,
    Event,
    Field,
    Inline,
    Modality,
    PendingEntry,
    Position,
    Record,
    Rejected,
    Version,
    entry_id,
)
from penstock.records import (
    Collection as Table,
)
from penstock.retries import Backoff, Breaker
from penstock.store.memory import MemoryStore
from penstock.store.writer import Writer
from tests.ingest.builders import event
from tests.ingest.doubles import ROLE, ScriptedEncoder, memory_store, text_of
from tests.store.lagging import LaggingStore
from tests.store.scans import all_asset_rows, all_entries

T = TypeVar("T")
GROUP = "penstock"
DLQ = "media.dlq"
PARTITIONS = (Partition("media.text", 0), Partition("media.text", 1), Partition("media.notes", 0))
TOPICS = {partition.topic: Modality.TEXT for partition in PARTITIONS}
_PATIENCE = 4_000  # rounds within which everything has to be settled once nothing fails any more
_HALT_S = 31.0  # past the time after which a lane tries a halted partition again

# What a step can do to what it lets go on.
BEFORE, AFTER, HALF, REFUSED, LOST, LOST_AFTER, SPOILED = (
    "before", "after", "half", "refused", "lost", "lost after", "spoiled"
)  # fmt: skip
FAULTS = ("", "", "", BEFORE, AFTER, HALF, REFUSED, LOST, LOST_AFTER)
_ABANDON = "abandon"
_here = threading.local()
_planned: dict[str, str] = {}
"""By the name of a pause, what fails at the next one of that name."""


class AbandonedError(BaseException):
    """Ends a thread whose process died; nothing in the code under test catches it."""


class Actor:
    """A thread that runs only while it is stepped."""

    def __init__(self, work: Callable[[], object]) -> None:
        self.at = "start"
        self.ended = False
        self._work = work
        self._fault = ""
        self._error: BaseException | None = None
        self._go, self._back = threading.Semaphore(0), threading.Semaphore(0)
        threading.Thread(target=self._run, daemon=True).start()

    def step(self, fault: str = "") -> None:
        """Runs it to its next pause, or to its end. Raises what broke it."""
        if self.ended:
            return
        self._fault = fault
        self._go.release()
        self._back.acquire()
        if self._error is not None:
            raise self._error

    def end(self) -> None:
        while not self.ended:
            self.step(_ABANDON)

    def pause(self, at: str) -> str:
        """Called within: gives control back; the fault with which it is stepped on."""
        self.at = at
        self._back.release()
        self._go.acquire()
        if self._fault == _ABANDON:
            raise AbandonedError
        return self._fault or _planned.pop(at, "")

    def _run(self) -> None:
        _here.actor = self
        self._go.acquire()
        try:
            if self._fault != _ABANDON:
                self._work()
        except AbandonedError:
            pass
        except BaseException as exc:
            self._error = exc
        finally:
            self.ended = True
            self._back.release()


def pause(at: str) -> str:
    actor: Actor | None = getattr(_here, "actor", None)
    return actor.pause(at) if actor else ""


# ---- doubles that pause -------------------------------------------------------------------------------------------


class Media:
    """Decodes `good:7:3` to three passages, rejects `bad:…` until that is mended; `crash:…` kills the worker.

    A claim check is to the text that it has for an address.
    """

    def __init__(self) -> None:
        self.mended: set[str] = set()
        self.spoiled: set[str] = set()

    def fetch(self, events: Sequence[Event]) -> tuple[Event, ...]:
        if pause("fetch") == LOST:
            raise WorkerLostError("the fetcher died")
        return tuple(
            replace(one, payload=Inline(one.payload.uri.encode())) if isinstance(one.payload, ClaimCheck) else one
            for one in events
        )

    def decode(self, events: Sequence[Event], roles: Sequence[str]) -> tuple[Decoded, EncoderInput]:
        return self.fetch_and_decode(events, roles)

    def fetch_and_decode(self, events: Sequence[Event], roles: Sequence[str]) -> tuple[Decoded, EncoderInput]:
        if pause("decode") == LOST:
            raise WorkerLostError("the decoder died")
        if any(text_of(one).startswith("crash") for one in events):
            raise WorkerLostError("the decoder died of it", blamed=True)
        indexable, drafts, rejected = [], [], []
        for one in events:
            text = text_of(one)
            if (text.startswith("bad") and text not in self.mended) or text in self.spoiled:
                rejected.append(Rejected(one.position, "decode", Reason.CORRUPT, "it is bad"))
            elif not one.is_tombstone:
                indexable.append(replace(one, payload=ClaimCheck("asset:x")))
                drafts += _drafts(indexable[-1], text, len(drafts))
        tombstones = tuple(one for one in events if one.is_tombstone)
        texts = tuple("poison" if draft.text.startswith("poison") else draft.text for draft in drafts)
        return Decoded(tuple(indexable), tombstones, tuple(drafts), tuple(rejected)), EncoderInput(ROLE, texts, texts)


def _drafts(one: Event, text: str, row: int) -> list[PendingEntry]:
    return [
        PendingEntry(one, Table.TEXT, part, "text/plain", "asset:x", text, vectors=((Field.PASSAGE, ROLE, row + part),))
        for part in range(parts_of(text))
    ]


def parts_of(text: str) -> int:
    return int(text.rpartition(":")[2])


class ShakyEncoder(ScriptedEncoder):
    def encode(self, batch: EncoderInput) -> Any:
        if pause("encode") == LOST:
            raise WorkerLostError("the encoder died")
        return super().encode(batch)


class ShakyStore:
    """A `MemoryStore` before which every request pauses, and may fail: before it is applied, after it, or half done."""

    def __init__(self, inner: MemoryStore, media: Media) -> None:
        self._inner = inner
        self._media = media

    def catch_up(self) -> None:
        self._read("catch up", self._inner.catch_up)

    def asset_rows(self, ids: Sequence[str]) -> Mapping[str, AssetRow]:
        return self._read("rows", lambda: self._inner.asset_rows(ids))

    def entry_ids(self, collection: Table, ids: Sequence[str]) -> Mapping[str, frozenset[str]]:
        return self._read("ids", lambda: self._inner.entry_ids(collection, ids))

    def upsert(self, collection: Table, entries: Sequence[Entry]) -> None:
        if any(entry.text.startswith("refused") for entry in entries):
            raise PermanentError("the store refuses such a text")
        try:
            self._write("upsert", entries, lambda some: self._inner.upsert(collection, some))
        except SpoiledError:
            self._media.spoiled.update(entry.text for entry in entries)
            raise

    def delete(self, collection: Table, ids: Sequence[str]) -> None:
        self._write("delete", ids, lambda some: self._inner.delete(collection, some))

    def put_asset_rows(self, rows: Sequence[AssetRow]) -> None:
        self._write("put rows", rows, self._inner.put_asset_rows)

    def _read(self, at: str, request: Callable[[], T]) -> T:
        fault = pause(at)
        _lose(fault)
        _fail(fault in (BEFORE, AFTER, HALF), at)
        return request()

    def _write(self, at: str, items: Sequence[T], request: Callable[[Sequence[T]], None]) -> None:
        fault = pause(at)
        _fail(fault == BEFORE, at)
        if fault != LOST:
            request(items[: (len(items) + 1) // 2] if fault in (HALF, SPOILED) else items)
        _lose(fault)
        _fail(fault in (AFTER, HALF), at)


class SpoiledError(WorkerLostError):
    """The writer died, and by the time it is back the media that it was writing are gone."""


def _lose(fault: str) -> None:
    if fault == SPOILED:
        raise SpoiledError("the writer died")
    if fault in (LOST, LOST_AFTER):
        raise WorkerLostError("the writer died")


def _fail(fails: bool, at: str) -> None:
    if fails:
        raise UnavailableError(f"the answer to {at} was lost")


class ShakySink:
    """The dead-letter topic: may be away, lose its answer, or refuse a letter for good."""

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


class ShakyConsumer:
    """A member that pauses before each poll and commit; a dead one says nothing to its group any more."""

    def __init__(self, inner: MemoryConsumer) -> None:
        self.inner = inner
        self.dead = False

    def poll(self, timeout_s: float, max_records: int) -> PollResult:
        pause("poll")
        return self.inner.poll(timeout_s, max_records)

    def commit(self, offsets: Mapping[Partition, int], timeout_s: float) -> None:
        fault = pause("commit")
        _fail(fault == BEFORE, "commit")
        self.inner.commit(offsets, timeout_s)
        _fail(fault == AFTER, "commit")

    def close(self, timeout_s: float) -> None:
        if not self.dead:
            self.inner.close(timeout_s)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


class InlinePool:
    """Workers in the caller's thread, each busy with `at_once` calls at most; None: with any number."""

    def __init__(self, workers: Sequence[Any], *, at_once: int | None = None) -> None:
        self.workers = list(workers)
        self.busy: list[list[Actor]] = [[] for _ in workers]
        self._at_once = at_once

    @property
    def size(self) -> int:
        return len(self.workers)

    def put(self, value: object) -> Any:
        return value

    def fetch(self, ref: Any) -> Any:
        return ref

    def run(self, method: Callable[..., Any], *args: Any, returns: int = 1) -> Call:
        return self.run_on(0, method, *args, returns=returns)

    def run_on(self, worker: int, method: Callable[..., Any], *args: Any, returns: int = 1) -> Call:
        with self._turn(worker):
            asked = self.workers[worker]
            result = getattr(asked, method.__name__)(*args)
            if self.workers[worker] is not asked:
                raise WorkerLostError("the worker was killed before it answered")
        return Call((result,) if returns == 1 else tuple(result), 0.0)

    def run_on_all(self, method: Callable[..., Any], *args: Any, returns: int = 1) -> Sequence[Call]:
        calls = [partial(self.run_on, worker, method, *args, returns=returns) for worker in range(self.size)]
        return call_all(partial(partial, call) for call in calls)

    def works_for(self, actor: Actor) -> bool:
        return any(actor in busy for busy in self.busy)

    @contextmanager
    def _turn(self, worker: int) -> Iterator[None]:
        while self._at_once is not None and len(self.busy[worker]) >= self._at_once:
            pause("queue")
        actor: Actor | None = getattr(_here, "actor", None)
        if actor is None:
            yield
            return
        self.busy[worker].append(actor)
        try:
            yield
        finally:
            self.busy[worker].remove(actor)


class PausingLocks(KeyedLocks):
    """Who waits for another's claim pauses; with the writer, it dies."""

    def _wait(self) -> None:
        self._changed.release()
        try:
            _lose(pause("claim"))
        finally:
            self._changed.acquire()


class StageExecutor(Executor):
    """Makes an actor of each batch. No asset may be in two of a lane's batches at once."""

    def __init__(self) -> None:
        self.actors: list[Actor] = []
        self._flying: dict[int, frozenset[str]] = {}

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        (batch,) = args
        assert isinstance(batch, Batch)
        assets = frozenset(item.asset_id for item in batch.deliveries if item.asset_id is not None)
        for flying in self._flying.values():
            assert not assets & flying, "two events of one asset are in flight together"
        self._flying[batch.number] = assets
        self.actors.append(Actor(lambda: self._drive(fn, batch)))
        return Future()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Batches that hang go on hanging."""

    def _drive(self, fn: Callable[[Batch], object], batch: Batch) -> None:
        try:
            fn(batch)
        finally:
            del self._flying[batch.number]


# ---- the world ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Known:
    """An event as the test wrote it. `text` is None for a tombstone; `key` is None for what cannot be understood."""

    position: Position
    timestamp_ms: int
    key: str | None
    text: str | None

    @property
    def asset_id(self) -> str:
        assert self.key is not None
        return event(0, self.key, topic=self.position.topic).asset.id

    @property
    def version(self) -> Version:
        return Version(self.timestamp_ms, self.position.partition, self.position.offset)


@dataclass(eq=False)
class Process:
    """A lane's process: its loop and its batches."""

    lane: Lane
    consumer: ShakyConsumer
    executor: StageExecutor
    loop: Actor
    dead: bool = False


@dataclass
class World:
    """Kafka, the store, writers, and any number of lanes; and what was written, to judge them by."""

    shards: int = 1
    at_once: int = 1  # batches that a writer has under way
    now_s: float = 1_000.0
    known: dict[Position, Known] = field(default_factory=dict)
    lanes: list[Process] = field(default_factory=list)
    orphans: list[Actor] = field(default_factory=list)  # batches of dead lanes that a writer is still busy with
    ghosts: list[MemoryConsumer] = field(default_factory=list)  # of dead lanes; their group does not know yet

    def __post_init__(self) -> None:
        _planned.clear()
        self.broker = MemoryBroker(clock=self.clock, now_ms=self.now_ms, blocking=False)
        for partition in PARTITIONS:
            self.broker.create_topic(partition.topic, partition.partition + 1)
        self.broker.create_topic(DLQ, 1)
        self.store = memory_store()
        self.media = Media()
        self.writers = InlinePool([self._writer(shard) for shard in range(self.shards)], at_once=self.at_once)
        self.tell_writers()
        self.sink = DeadLetterWriter(self.broker.producer(), DLQ, offload=lambda _: "", now=self.clock)
        self.newest: dict[str, Version] = {}
        self.committed: dict[Partition, int] = {}
        self._names = iter(range(1_000))

    def clock(self) -> float:
        return self.now_s

    def now_ms(self) -> int:
        return round(self.now_s * 1000)

    # ---- what is written ----

    def produce(self, partition: Partition, key: str, kind: str, parts: int) -> None:
        """One event; its text names it. Time goes on, so that its timestamp is its own."""
        self.now_s += 0.001
        text = None if kind == "tombstone" else f"{kind}:{len(self.known)}:{parts}"
        at = self.broker.append(_message(partition, key, kind, text))
        self.known[at] = Known(at, self.now_ms(), None if kind == "malformed" else key, text)

    def replay(self, one: Known, *, mend: bool) -> None:
        """Sends an event again as `ingest.replay` does, perhaps after what was wrong with it has been put right."""
        if mend and one.text is not None:
            self.media.mended.add(one.text)
        self.now_s += 0.001
        kind = "malformed" if one.key is None else (one.text or "tombstone").partition(":")[0]
        partition = Partition(one.position.topic, one.position.partition)
        again = _message(partition, one.key or "?", kind, one.text)
        origin = ((ORIGIN, format_origin(one.position)), (ORIGIN_TIMESTAMP, b"%d" % one.timestamp_ms))
        self.broker.append(replace(again, headers=again.headers + origin))

    def spoil(self, one: Known) -> None:
        """What the event is about cannot be read any more from now on, as a claim check that is gone."""
        if one.text is not None:
            self.media.spoiled.add(one.text)

    def plan(self, at: str, fault: str) -> None:
        """Something fails at the next pause of that name."""
        _planned[at] = fault

    def retain(self, partition: Partition) -> None:
        """Retention removes what is committed."""
        self.broker.expire(partition, self.broker.committed(GROUP).get(partition, 0))

    # ---- processes ----

    def join(self) -> None:
        name = f"lane-{next(self._names)}"
        consumer = ShakyConsumer(self.broker.consumer(GROUP, TOPICS, drain_timeout_s=2.0))
        executor = StageExecutor()
        abandon = threading.Event()
        lane = Lane(
            name=name,
            consumer=consumer,  # type: ignore[arg-type]
            pipeline=self._pipeline(name, abandon),
            batcher=Batcher(BatchLimits(4, 100_000, 0.05, 2), self.clock),
            parse=_parse,
            topics=TOPICS,
            limits=LaneLimits(10_000, 0.1, 2.0),  # ten records, with what each takes beside its value
            executor=executor,
            admission_check=lambda: "",
            abandon=abandon,
            clock=self.clock,
            wall_ms=self.now_ms,
        )
        self.lanes.append(Process(lane, consumer, executor, Actor(lane.run)))

    def crash(self, process: Process) -> None:
        """SIGKILL of a lane's process. What a writer is doing for it goes on; its group learns of it later."""
        process.dead = process.consumer.dead = True
        process.loop.end()
        for actor in process.executor.actors:
            if self.writers.works_for(actor):
                self.orphans.append(actor)
            else:
                actor.end()
        self.lanes.remove(process)
        self.ghosts.append(process.consumer.inner)

    def kill_writer(self, shard: int, fault: str) -> None:
        """SIGKILL of a writer, before or after the store did what it asked last; another takes its place, and waits to
        be told the assignments.
        """
        self.writers.workers[shard] = self._writer(shard)
        for actor in list(self.writers.busy[shard]):
            actor.step(fault)

    def tell_writers(self) -> None:
        """What the plane's monitor does after a writer was restarted."""
        known = [one for process in self.lanes for one in process.lane.assignments()]
        for writer in self.writers.workers:
            if not writer.is_started():
                writer.start(known)

    def evict(self, number: int) -> None:
        """The group gives up a member it has not heard of: a dead one, or one that lives and was merely slow."""
        if self.ghosts:
            self.broker.evict(self.ghosts.pop())
        elif self.lanes:
            self.broker.evict(self.lanes[number % len(self.lanes)].consumer.inner)

    def actors(self) -> list[Actor]:
        """All batches under way, those of dead lanes included."""
        batches = [actor for process in self.lanes for actor in process.executor.actors]
        return [actor for actor in (*batches, *self.orphans) if not actor.ended]

    def step_batch(self, number: int, fault: str = "") -> None:
        if actors := self.actors():
            actors[number % len(actors)].step(fault)
        for orphan in [one for one in self.orphans if not self.writers.works_for(one)]:
            orphan.end()
            self.orphans.remove(orphan)

    def step_lane(self, number: int, fault: str = "") -> None:
        if self.lanes:
            self.lanes[number % len(self.lanes)].loop.step(fault)
        self.lanes = [one for one in self.lanes if not one.loop.ended or self._hang(one)]

    def _hang(self, process: Process) -> bool:
        """A lane that ended gives up what still hangs."""
        for actor in process.executor.actors:
            if self.writers.works_for(actor):
                self.orphans.append(actor)
            else:
                actor.end()
        return False

    def go_on(self, rounds: int) -> None:
        """Everybody takes a step, so many times."""
        for _ in range(rounds):
            for lane in range(len(self.lanes)):
                self.step_lane(lane)
            for batch in range(len(self.actors())):
                self.step_batch(batch)
            self.now_s += 0.05

    def settle(self) -> None:
        """Nothing fails any more: everything has to be settled and committed."""
        _planned.clear()
        while self.ghosts:
            self.broker.evict(self.ghosts.pop())
        if not self.lanes:
            self.join()
        for number in range(_PATIENCE):
            if not self.lanes:
                self.join()
            self.tell_writers()
            self.go_on(1)
            self.now_s += _HALT_S if number % 200 == 199 else 0.0
            if self._all_committed() and not self.actors():
                return
        states = [actor.at for actor in self.actors()]
        raise AssertionError(f"not settled: {self.broker.committed(GROUP)}, {states}, {self.lanes}")

    def close(self) -> None:
        for process in self.lanes:
            process.consumer.dead = True
            for actor in (process.loop, *process.executor.actors):
                actor.end()
        for orphan in self.orphans:
            orphan.end()
        self.sink.close()

    # ---- what has to hold ----

    def dead_letters(self) -> set[Position]:
        """The origins of all dead letters."""
        letters = [parse_dead_letter(record) for record in self.broker.records(DLQ)]
        return {letter.origin for letter in letters if letter is not None}

    def row(self, one: Known) -> AssetRow | None:
        return self.store.asset_rows([one.asset_id]).get(one.asset_id)

    def is_bad(self, one: Known) -> bool:
        kind = (one.text or "").partition(":")[0]
        return (
            one.key is None
            or kind in ("poison", "crash", "refused")
            or (kind == "bad" and one.text not in self.media.mended)
        )

    def check_committed(self) -> None:
        """No committed offset is past an event that is not settled, and none ever goes back."""
        committed = self.broker.committed(GROUP)
        dead = self.dead_letters()
        for record in (record for topic in TOPICS for record in self.broker.records(topic)):
            at = record.position
            if at.offset < committed.get(Partition(at.topic, at.partition), 0):
                one = self.known[_origin(record)]
                assert one.position in dead or self._overtaken(one), f"{at} is committed and not settled"
        for partition, offset in committed.items():
            assert offset >= self.committed.get(partition, 0), f"{partition} was committed back to {offset}"
        self.committed = dict(committed)

    def check_rows(self) -> None:
        """No asset's row ever goes back to an older version."""
        for row in all_asset_rows(self.store):
            before = self.newest.get(row.asset.id, row.version)
            assert row.version == before or row.version.newer_than(before), f"{row.asset} went back to {row.version}"
            self.newest[row.asset.id] = row.version

    def check_books(self) -> None:
        """Once all is settled: each event has its outcome, and the store holds the newest version of each asset.

        An event that was spoiled may have been indexed before, or be a dead letter: what its asset's row says counts.
        """
        newest = self._newest()
        dead = self.dead_letters()
        for one in self.known.values():
            if not self.is_bad(one):
                spoiled = one.text in self.media.spoiled and one.position in dead
                assert self._overtaken(one) or spoiled, f"{one} was lost"
            elif one.position not in dead:
                assert one.key is not None, f"{one} is in no dead letter"
                assert one.asset_id in newest, f"{one} is in no dead letter"
                assert newest[one.asset_id].version.newer_than(one.version), f"{one} is in no dead letter"
        for position in dead:
            one = self.known[position]
            assert self.is_bad(one) or one.text in self.media.mended | self.media.spoiled
        self._check_store(newest)

    def _check_store(self, newest: Mapping[str, Known]) -> None:
        rows = {row.asset.id: row for row in all_asset_rows(self.store)}
        assert {asset: row.version for asset, row in rows.items()} == {
            asset: one.version for asset, one in newest.items()
        }
        torn = self._torn(newest)
        entries = all_entries(self.store, Table.TEXT)
        assert {entry.id: entry.text for entry in entries if entry.asset.id not in torn} == {
            entry_id(rows[asset].asset, Table.TEXT, part): one.text
            for asset, one in newest.items()
            for part in range(parts_of(one.text) if one.text else 0)
            if asset not in torn
        }
        for asset, row in rows.items():
            text = newest[asset].text
            assert row.counts == ({Table.TEXT: parts_of(text)} if text else {})

    def _torn(self, newest: Mapping[str, Known]) -> set[str]:
        """Assets whose newest version may be partly overwritten by one that was spoiled while it was written: that is
        not promised to be mended before the asset's next event.
        """
        torn = set()
        for one in self.known.values():
            older = newest.get(one.asset_id) if one.key is not None and one.text in self.media.spoiled else None
            if older is not None and older.text is not None and one.version.newer_than(older.version):
                torn.add(one.asset_id)
        return torn

    def _newest(self) -> dict[str, Known]:
        """The newest version of each asset that can be indexed or deleted."""
        newest: dict[str, Known] = {}
        for one in self.known.values():
            spoiled = one.text in self.media.spoiled and not self._settled_as(one)
            if not self.is_bad(one) and not spoiled:
                known = newest.setdefault(one.asset_id, one)
                newest[one.asset_id] = one if one.version.newer_than(known.version) else known
        return newest

    def _overtaken(self, one: Known) -> bool:
        """Whether the asset's row stands for the event, or for a newer one."""
        row = None if one.key is None else self.row(one)
        return row is not None and (row.version == one.version or row.version.newer_than(one.version))

    def _settled_as(self, one: Known) -> bool:
        """Whether the asset's row stands for just this event."""
        row = None if one.key is None else self.row(one)
        return row is not None and row.version == one.version

    def _all_committed(self) -> bool:
        committed = self.broker.committed(GROUP)
        positions = [record.position for topic in TOPICS for record in self.broker.records(topic)]
        return all(committed.get(Partition(one.topic, one.partition), 0) > one.offset for one in positions)

    def _writer(self, shard: int) -> Writer:
        store: Any = LaggingStore(ShakyStore(self.store, self.media), self.store, [Table.TEXT])
        return Writer(store, wall_ms=self.now_ms, shard=shard, shards=self.shards, locks=PausingLocks())

    def _pipeline(self, name: str, abandon: threading.Event) -> Pipeline:
        backoff = Backoff(0.01, 0.1, random.Random(0))
        encoder, media = InlinePool([ShakyEncoder()]), InlinePool([self.media])

        def sleep(_seconds: float) -> bool:
            pause("sleep")
            return abandon.is_set()

        return Pipeline(
            lane=name,
            pools=Pools.over(
                fetch=media, decode=media, long_media=media, encoders={ROLE: encoder}, writers=self.writers
            ),
            roles={Modality.TEXT: (ROLE,)},
            dead_letters=ShakySink(self.sink),
            backoff=backoff,
            breaker=Breaker("store", clock=self.clock, backoff=backoff),
            sleep=sleep,
            known_good={Modality.TEXT: event(-1, "known-good", data=b"good:0:1")},
        )


def _message(partition: Partition, key: str, kind: str, text: str | None) -> Message:
    """An event of a kind; a claim check has its text for an address, and no value."""
    headers: dict[str, str] = {}
    if kind == "malformed":
        headers = {"ce_id": "it has no source"}
    elif kind == "claim" and text is not None:
        headers = {"ce_id": "1", "ce_source": "/t", "ce_type": "t", "ce_specversion": "1.0", "ce_dataref": text}
    value = None if text is None else b"" if kind == "claim" else text.encode()
    encoded = tuple((name, found.encode()) for name, found in headers.items())
    return Message(partition.topic, key.encode(), value, encoded, partition=partition.partition)


def _parse(record: Record) -> Event | Rejected:
    return parse_record(record, modality=Modality.TEXT, default_tenant="default", max_inline_bytes=10_000)


def _origin(record: Record) -> Position:
    found = dict(record.headers).get(ORIGIN)
    return record.position if found is None else parse_origin(found)
