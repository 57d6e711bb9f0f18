"""Long media in the lane: clips overtake them, and the next owner of the partition continues them."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from penstock.broker.base import Message, Partition
from penstock.broker.memory.broker import MemoryBroker
from penstock.broker.wire import parse_record
from penstock.encoders.base import Fingerprint, Space
from penstock.errors import UnavailableError, WorkerLostError
from penstock.ingest.delivery import Batch, Delivery
from penstock.ingest.executor.pool import LocalPool
from penstock.ingest.executor.proxies import Pools
from penstock.ingest.lane.batcher import Batcher, BatchLimits
from penstock.ingest.lane.lane import Lane, LaneLimits
from penstock.ingest.pipeline.driver import Pipeline
from penstock.ingest.pipeline.types import BatchReport, Unfinished
from penstock.records import (
    AssetRef,
    Assignment,
    Checkpoint,
    ClaimCheck,
    Collection,
    Decoded,
    EncoderInput,
    Event,
    Field,
    IndexChange,
    Inline,
    MediaPosition,
    Modality,
    Outcome,
    PendingEntry,
    Record,
)
from penstock.retries import Backoff, Breaker
from penstock.store.base import IndexSpec, VectorSpec
from penstock.store.memory import MemoryStore
from tests.ingest.builders import event
from tests.ingest.doubles import DIM, RecordingSink, ScriptedEncoder, started_writer
from tests.ingest.lane.harness import eventually, running
from tests.store.scans import all_entries

TOPIC, GROUP, SPEECH = "media.audio", "penstock", Collection.SPEECH
PARTITIONS = [Partition(TOPIC, number) for number in range(2)]
SPEC = IndexSpec(
    {SPEECH: {Field.PASSAGE: VectorSpec(Space("test", DIM), Fingerprint("test", "0" * 16, "0" * 16))}},
    {SPEECH: "test"},
    version=1,
    num_shards=1,
)
SEGMENT_MS = 1_000


class SegmentedMedia:
    """A media worker for events whose bytes are their number of segments: b"3". `hold` delays the segments of a key.

    Attributes:
        decoded: (key, segment) of all segments, in order.
        kept_open: for each of them, whether it was decoded by the workers of long media.
        waiting: keys of segments that are held now.
    """

    def __init__(self) -> None:
        self.decoded: list[tuple[str, int]] = []
        self.kept_open: list[bool] = []
        self.waiting: set[str] = set()
        self._held: dict[str, threading.Event] = {}

    def hold(self, key: str) -> threading.Event:
        """Holds all segments of a key but the first, until the returned event is set."""
        return self._held.setdefault(key, threading.Event())

    def decode_segments(
        self, events: Sequence[Event], checkpoints: Sequence[Checkpoint], roles: Sequence[str], keep_open: bool
    ) -> Any:
        positions = {checkpoint.asset.id: checkpoint.position for checkpoint in checkpoints}
        indexable: list[Event] = []
        pending: list[PendingEntry] = []
        written: list[Checkpoint] = []
        for source in events:
            if source.is_tombstone:
                continue
            asset, start = source.asset, positions.get(source.asset.id, MediaPosition())
            number = start.scanned_ms // SEGMENT_MS
            if number and asset.key in self._held:
                self.waiting.add(asset.key)
                self._held[asset.key].wait(30)
                self.waiting.discard(asset.key)
            self.decoded.append((asset.key, number))
            self.kept_open.append(keep_open)
            assert isinstance(source.payload, Inline)
            is_last = number + 1 == int(source.payload.data)
            plain = replace(source, payload=ClaimCheck("asset:x"))
            indexable.append(plain)
            vectors = ((Field.PASSAGE, "passage.text", len(pending)),)
            pending.append(
                PendingEntry(plain, SPEECH, number, "audio/mpeg", "asset:x", f"part {number}", vectors=vectors)
            )
            if number or not is_last:
                end, counts = MediaPosition(0, 0, (number + 1) * SEGMENT_MS), {SPEECH: number + 1}
                written.append(
                    Checkpoint(asset, source.version, end, counts, "s", "asset:x", start=start, finished=is_last)
                )
        tombstones = tuple(source for source in events if source.is_tombstone)
        decoded = Decoded(tuple(indexable), tombstones, tuple(pending), (), tuple(written))
        return (decoded, *(EncoderInput(role, ()) for role in roles))

    def compose(self, decoded: Decoded, *transcripts: object) -> Any:
        texts = tuple(entry.text for entry in decoded.pending)
        return decoded, EncoderInput("passage.text", texts, texts)


class DyingWorker(SegmentedMedia):
    """A worker that dies of every segment, `deaths` times in all; after that it is healthy."""

    def __init__(self, media: SegmentedMedia, deaths: int) -> None:
        super().__init__()
        self._media = media
        self.deaths = deaths

    def decode_segments(self, *args: Any) -> Any:
        if self.deaths:
            self.deaths -= 1
            raise WorkerLostError("died", blamed=True)
        return self._media.decode_segments(*args)


class SilentTranscriber:
    """A transcriber that finds no speech."""

    def transcribe(self, batch: EncoderInput, start: int, is_long_media: bool) -> tuple[tuple[()], None]:
        return (), None


class Stack:
    """A broker with a topic of two partitions, a store, one writer, and lanes that share them."""

    def __init__(self) -> None:
        self.broker = MemoryBroker()
        self.broker.create_topic(TOPIC, 2)
        self.store = MemoryStore()
        self.store.ensure(SPEC)
        self.writers = LocalPool(lambda _: started_writer(self.store))
        self.media = SegmentedMedia()
        self.long_media_worker = self.media
        self.sink = RecordingSink()
        self.changes: list[IndexChange] = []

    def publish(self, changes: Sequence[IndexChange]) -> None:
        """See `ChangeSink.publish`."""
        self.changes += changes

    def close(self, timeout_s: float) -> None: ...

    def produce(self, key: str, segments: int | None, *, partition: int = 0) -> None:
        value = None if segments is None else str(segments).encode()
        self.broker.append(Message(TOPIC, key.encode(), value, partition=partition))

    def lane(self, name: str = "lane", *, drain_s: float = 5.0, batch: int = 4) -> Lane:
        stop = threading.Event()
        backoff = Backoff(0.001, 0.001, np.random)  # type: ignore[arg-type]
        pipeline = Pipeline(
            lane=name,
            pools=Pools.over(
                fetch=LocalPool(lambda _: self.media),
                decode=LocalPool(lambda _: self.media, 3),
                long_media=LocalPool(lambda _: self.long_media_worker, 2),
                encoders={
                    "speech": LocalPool(lambda _: SilentTranscriber()),
                    "passage.text": LocalPool(lambda _: ScriptedEncoder()),
                },
                writers=self.writers,
            ),
            roles={Modality.AUDIO: ("speech", "passage.text")},
            dead_letters=self.sink,
            backoff=backoff,
            breaker=Breaker("store", clock=lambda: float("inf"), backoff=backoff),
            sleep=lambda _: stop.is_set(),
            known_good={
                Modality.AUDIO: replace(event(-1, "known-good", topic=TOPIC, data=b"1"), modality=Modality.AUDIO)
            },
            changes=self,
        )
        return Lane(
            name=name,
            consumer=self.broker.consumer(GROUP, [TOPIC], drain_timeout_s=drain_s),
            pipeline=pipeline,
            batcher=Batcher(BatchLimits(batch, 100_000, 0.001, 4), time.monotonic),
            parse=parse,
            topics={TOPIC: Modality.AUDIO},
            limits=LaneLimits(1_000_000, 0.01, drain_s),
            executor=ThreadPoolExecutor(8),
            admission_checks={},
            abandon=stop,
            clock=time.monotonic,
            wall_ms=lambda: time.time_ns() // 1_000_000,
        )

    def committed(self, partition: int = 0) -> int:
        return self.broker.committed(GROUP).get(PARTITIONS[partition], 0)

    def texts(self, key: str) -> list[str]:
        return sorted(entry.text for entry in all_entries(self.store, SPEECH) if entry.asset.key == key)

    def outcome(self, key: str) -> Outcome | None:
        asset = AssetRef("default", TOPIC, key)
        row = self.store.asset_rows([asset.id]).get(asset.id)
        return None if row is None else row.outcome


def parse(record: Record) -> Any:
    return parse_record(record, modality=Modality.AUDIO, default_tenant="default", max_inline_bytes=1_000_000)


@pytest.fixture
def stack() -> Stack:
    return Stack()


def test_long_media_are_indexed_segment_by_segment_and_committed_at_the_end(stack: Stack) -> None:
    stack.produce("talk", 5)
    with running(stack.lane()):
        eventually(lambda: stack.committed() == 1, "committed")
    assert stack.media.decoded == [("talk", number) for number in range(5)]
    assert stack.texts("talk") == [f"part {number}" for number in range(5)]
    assert stack.outcome("talk") is Outcome.INDEXED
    announced = [(change.counts[SPEECH], change.since.get(SPEECH, 0), change.complete) for change in stack.changes]
    assert announced == [(1, 0, False), (2, 1, False), (3, 2, False), (4, 3, False), (5, 4, True)]


def test_a_segment_that_was_written_but_not_announced_is_announced_by_the_next_owner(stack: Stack) -> None:
    gate = stack.media.hold("talk")
    stack.produce("talk", 3)
    with running(stack.lane("first", drain_s=0.2)):
        eventually(lambda: stack.texts("talk") == ["part 0"], "the first segment is written")
    stack.changes.clear()  # as if the lane had died before it announced the segment
    gate.set()
    with running(stack.lane("second")):
        eventually(lambda: stack.committed() == 1, "committed")
    announced = {id_ for change in stack.changes for id_ in change.new_entry_ids()[SPEECH]}
    assert announced == {entry.id for entry in all_entries(stack.store, SPEECH)}


def test_clips_overtake_long_media_and_are_committed_with_them(stack: Stack) -> None:
    gate = stack.media.hold("talk")
    stack.produce("talk", 3)
    for number in range(20):
        stack.produce(f"clip-{number}", 1)
    lane = stack.lane()
    with running(lane):
        eventually(lambda: all(stack.outcome(f"clip-{number}") for number in range(20)), "the clips are indexed")
        assert stack.outcome("talk") is None
        assert stack.committed() == 0
        eventually(lambda: [(media.asset, media.position.scanned_ms) for media in lane.status().long_media] ==
                   [("default/media.audio/talk", SEGMENT_MS)], "its progress is published")  # fmt: skip
        gate.set()
        eventually(lambda: stack.committed() == 21, "committed")
        eventually(lambda: not lane.status().long_media, "its progress is removed")


def test_the_next_owner_continues_long_media_and_repeats_no_clip(stack: Stack) -> None:
    gate = stack.media.hold("talk")
    stack.produce("talk", 4)
    for number in range(10):
        stack.produce(f"clip-{number}", 1)
    first = stack.lane("first", drain_s=0.2)
    with running(first):
        eventually(lambda: all(stack.outcome(f"clip-{number}") for number in range(10)), "the clips are indexed")
    gate.set()
    before = Counter(stack.media.decoded)
    with running(stack.lane("second")):
        eventually(lambda: stack.committed() == 11, "committed")
    assert stack.texts("talk") == [f"part {number}" for number in range(4)]
    again = Counter(stack.media.decoded) - before
    assert not [key for key, _ in again if key.startswith("clip")]
    assert again[("talk", 0)] == 0, "the written segment is not decoded again"


def test_resumed_long_media_take_turns_and_delay_no_clip(stack: Stack) -> None:
    talks = [f"talk-{number}" for number in range(6)]
    first, second = stack.media, SegmentedMedia()
    gates = [media.hold(talk) for media in (first, second) for talk in talks]
    for talk in talks:
        stack.produce(talk, 3)
    with running(stack.lane("first", drain_s=0.2)):
        eventually(lambda: {key for key, _ in first.decoded} == set(talks), "all have begun")
    stack.media = stack.long_media_worker = second
    with running(stack.lane("second")):
        # Each talk belongs to one of the two workers, and the first ones may be those of the same one.
        eventually(lambda: len(second.waiting) in (1, 2), "one or two are under way, the others wait")
        stack.produce("clip", 1)
        eventually(lambda: stack.outcome("clip") is not None, "the clip is indexed")
        assert len(second.waiting) in (1, 2)
        assert second.decoded == [("clip", 0)]
        for gate in gates:
            gate.set()
        eventually(lambda: stack.committed() == 7, "committed")
    assert [kept_open for (_, number), kept_open in zip(second.decoded, second.kept_open, strict=True) if number] == [
        True
    ] * 12


def test_an_older_version_does_not_wait_for_a_newer_one_that_is_queued_behind_it(stack: Stack) -> None:
    """The newer began in a batch with the older; after the restart they come one by one."""
    gate = stack.media.hold("talk")
    stack.produce("talk", 3)
    stack.produce("talk", 3)
    with running(stack.lane("first", drain_s=0.2)):
        eventually(lambda: stack.media.decoded == [("talk", 0)], "the newer has begun")
    gate.set()
    with running(stack.lane("second", batch=1)):
        eventually(lambda: stack.committed() == 2, "committed")
    assert stack.texts("talk") == ["part 0", "part 1", "part 2"]


def test_long_media_are_not_blamed_for_workers_that_die_of_every_segment(stack: Stack) -> None:
    stack.long_media_worker = DyingWorker(stack.media, deaths=20)
    stack.produce("talk", 3)
    with running(stack.lane()):
        eventually(lambda: stack.committed() == 1, "committed")
    assert stack.outcome("talk") is Outcome.INDEXED
    assert stack.sink.letters == []


def test_older_versions_of_another_partition_are_queued_again_when_long_media_move(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    lane = stack.lane()
    newer, older = (
        Delivery(Record(talk.position, b"talk", b"3", (), 0), Assignment(TOPIC, talk.position.partition, 1), talk)
        for talk in (event(0, "talk", topic=TOPIC, partition=number) for number in range(2))
    )
    monkeypatch.setattr(lane, "_still_ours", lambda delivery: delivery is older)
    lane._batcher.add(newer)
    lane._batcher.add(older)
    batch = Batch(1, TOPIC, (newer, older))
    eventually(lambda: lane._batcher.next_batch() is not None, "the batch goes")
    unfinished = Unfinished(newer, MediaPosition(0, 0, 1_000), (older,))
    lane._batches._reports.put((batch, BatchReport(batch, unfinished=[unfinished])))
    lane._collect_reports()
    assert lane._batcher.has_queued(PARTITIONS[1])
    assert not lane._batcher.has_queued(PARTITIONS[0])


def test_a_partition_moves_while_long_media_are_under_way(stack: Stack) -> None:
    gate = stack.media.hold("talk")
    stack.produce("talk", 3, partition=0)
    stack.produce("other talk", 3, partition=1)
    stack.media.hold("other talk")
    first, second = stack.lane("first", drain_s=30), stack.lane("second")
    with running(first):
        eventually(lambda: first._in_flight.continuations == 2, "both are in their second segment")
        began_s = time.monotonic()
        with running(second):
            eventually(lambda: len(second.assignments()) == 1, "handed over")
            assert time.monotonic() - began_s < 20
            gate.set()
            stack.media.hold("other talk").set()
            eventually(lambda: stack.committed(0) == stack.committed(1) == 1, "committed")
    assert stack.texts("talk") == stack.texts("other talk") == ["part 0", "part 1", "part 2"]
    counts: Counter[Outcome] = Counter()
    for lane in (first, second):
        counts.update({outcome: count for (_, outcome), count in lane.status().outcomes.items()})
    assert counts == {Outcome.INDEXED: 2}


@pytest.mark.parametrize("newer", [2, None])
def test_a_newer_version_or_a_tombstone_waits_and_then_replaces_long_media(stack: Stack, newer: int | None) -> None:
    gate = stack.media.hold("talk")
    stack.produce("talk", 3)
    with running(stack.lane()):
        eventually(lambda: stack.media.decoded == [("talk", 0)], "it has begun")
        stack.produce("talk", newer)
        stack.produce("clip", 1)
        eventually(lambda: stack.outcome("clip") is not None, "the clip is indexed")
        assert stack.outcome("talk") is None
        gate.set()
        eventually(lambda: stack.committed() == 3, "committed")
    assert stack.outcome("talk") is (Outcome.INDEXED if newer else Outcome.DELETED)
    assert stack.texts("talk") == (["part 0", "part 1"] if newer else [])


def test_the_newest_of_several_versions_in_a_batch_is_indexed_and_the_others_wait_for_it(stack: Stack) -> None:
    for _ in range(3):
        stack.produce("talk", 3)
    lane = stack.lane()
    with running(lane):
        eventually(lambda: stack.committed() == 3, "committed")
    assert stack.texts("talk") == ["part 0", "part 1", "part 2"]
    assert lane.status().outcomes == {(Modality.AUDIO, Outcome.INDEXED): 1, (Modality.AUDIO, Outcome.SUPERSEDED): 2}
    row = stack.store.asset_rows([AssetRef("default", TOPIC, "talk").id])
    assert [asset_row.version.offset for asset_row in row.values()] == [2]


def test_a_store_that_is_unavailable_between_two_segments_costs_no_segment(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    fails = iter([True, False, True, True])

    def flaky(method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            if next(fails, False):
                raise UnavailableError("unavailable")
            return method(*args)

        return call

    for name in ("put_checkpoints", "upsert", "asset_rows"):
        monkeypatch.setattr(stack.store, name, flaky(getattr(stack.store, name)))
    stack.produce("talk", 5)
    with running(stack.lane()):
        eventually(lambda: stack.committed() == 1, "committed")
    assert stack.media.decoded == [("talk", number) for number in range(5)]
