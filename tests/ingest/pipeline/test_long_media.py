"""Long media in the lane: clips go past them, nobody waits for them, and whoever owns the partition next goes on."""

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
from penstock.ingest.pipeline.driver import BatchReport, Pipeline, Unfinished
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
from tests.ingest.doubles import DIM, RecordingSink, ScriptedEncoder, begun_writer
from tests.ingest.lane.test_lane import eventually, running
from tests.store.scans import all_entries

TOPIC, GROUP, SPEECH = "media.audio", "penstock", Collection.SPEECH
PARTITIONS = [Partition(TOPIC, number) for number in range(2)]
SPEC = IndexSpec(
    {SPEECH: {Field.PASSAGE: VectorSpec(Space("test", DIM), Fingerprint("test", "0" * 16, "0" * 16))}},
    {SPEECH: "test"},
    version=1,
    num_shards=1,
)
SLICE_MS = 1_000


class SlicedMedia:
    """Media whose bytes say how many slices they have: b"3". `hold` keeps slices of a key from being made.

    Attributes:
        made: (key, slice) of all that were made, in order.
        apart: of each, whether it was made where clips do not wait.
        waiting: keys of slices that are held now.
    """

    def __init__(self) -> None:
        self.made: list[tuple[str, int]] = []
        self.apart: list[bool] = []
        self.waiting: set[str] = set()
        self._held: dict[str, threading.Event] = {}

    def hold(self, key: str) -> threading.Event:
        return self._held.setdefault(key, threading.Event())

    def decode_segments(
        self, events: Sequence[Event], known: Sequence[Checkpoint], roles: Sequence[str], keep: bool
    ) -> Any:
        begun = {one.asset.id: one for one in known}
        indexable: list[Event] = []
        drafts: list[PendingEntry] = []
        progress: list[Checkpoint] = []
        for one in events:
            if one.is_tombstone:
                continue
            number = begun[one.asset.id].position.scanned_ms // SLICE_MS if one.asset.id in begun else 0
            if number and one.asset.key in self._held:
                self.waiting.add(one.asset.key)
                self._held[one.asset.key].wait(30)
                self.waiting.discard(one.asset.key)
            self.made.append((one.asset.key, number))
            self.apart.append(keep)
            assert isinstance(one.payload, Inline)
            last = number + 1 == int(one.payload.data)
            plain = replace(one, payload=ClaimCheck("asset:x"))
            indexable.append(plain)
            vectors = ((Field.PASSAGE, "passage.text", len(drafts)),)
            drafts.append(
                PendingEntry(plain, SPEECH, number, "audio/mpeg", "asset:x", f"part {number}", vectors=vectors)
            )
            if number or not last:
                place = MediaPosition(0, 0, (number + 1) * SLICE_MS)
                counts = {SPEECH: number + 1}
                begins = begun[one.asset.id].position if one.asset.id in begun else MediaPosition()
                progress.append(
                    Checkpoint(one.asset, one.version, place, counts, "s", "asset:x", start=begins, finished=last)
                )
        tombstones = tuple(one for one in events if one.is_tombstone)
        decoded = Decoded(tuple(indexable), tombstones, tuple(drafts), (), tuple(progress))
        return (decoded, *(EncoderInput(role, ()) for role in roles))

    def compose(self, decoded: Decoded, *heard: object) -> Any:
        texts = tuple(draft.text for draft in decoded.pending)
        return decoded, EncoderInput("passage.text", texts, texts)


class Dying(SlicedMedia):
    """A worker that dies of everything, so often; then it is well."""

    def __init__(self, media: SlicedMedia, deaths: int) -> None:
        super().__init__()
        self._media = media
        self.deaths = deaths

    def decode_segments(self, *args: Any) -> Any:
        if self.deaths:
            self.deaths -= 1
            raise WorkerLostError("died", blamed=True)
        return self._media.decode_segments(*args)


class Deaf:
    def transcribe(self, batch: EncoderInput, start: int, apart: bool) -> tuple[tuple[()], None]:
        return (), None


class House:
    """A broker with a topic of two partitions, a store, one writer, and lanes that share them."""

    def __init__(self) -> None:
        self.broker = MemoryBroker()
        self.broker.create_topic(TOPIC, 2)
        self.store = MemoryStore()
        self.store.ensure(SPEC)
        self.writers = LocalPool(lambda _: begun_writer(self.store))
        self.media = SlicedMedia()
        self.slicer = self.media
        self.sink = RecordingSink()

    def produce(self, key: str, slices: int | None, *, partition: int = 0) -> None:
        value = None if slices is None else str(slices).encode()
        self.broker.append(Message(TOPIC, key.encode(), value, partition=partition))

    def lane(self, name: str = "lane", *, drain_s: float = 5.0, batch: int = 4) -> Lane:
        stop = threading.Event()
        backoff = Backoff(0.001, 0.001, np.random)  # type: ignore[arg-type]
        pipeline = Pipeline(
            lane=name,
            pools=Pools.over(
                fetch=LocalPool(lambda _: self.media),
                decode=LocalPool(lambda _: self.media, 3),
                long_media=LocalPool(lambda _: self.slicer, 2),
                encoders={
                    "speech": LocalPool(lambda _: Deaf()),
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
            admission_check=lambda: "",
            abandon=stop,
            clock=time.monotonic,
            wall_ms=lambda: time.time_ns() // 1_000_000,
        )

    def committed(self, partition: int = 0) -> int:
        return self.broker.committed(GROUP).get(PARTITIONS[partition], 0)

    def texts(self, key: str) -> list[str]:
        return sorted(one.text for one in all_entries(self.store, SPEECH) if one.asset.key == key)

    def outcome(self, key: str) -> Outcome | None:
        asset = AssetRef("default", TOPIC, key)
        row = self.store.asset_rows([asset.id]).get(asset.id)
        return None if row is None else row.outcome


def parse(record: Record) -> Any:
    return parse_record(record, modality=Modality.AUDIO, default_tenant="default", max_inline_bytes=1_000_000)


@pytest.fixture
def house() -> House:
    return House()


def test_a_film_is_indexed_slice_by_slice_and_committed_at_the_end(house: House) -> None:
    house.produce("film", 5)
    with running(house.lane()):
        eventually(lambda: house.committed() == 1, "committed")
    assert house.media.made == [("film", number) for number in range(5)]
    assert house.texts("film") == [f"part {number}" for number in range(5)]
    assert house.outcome("film") is Outcome.INDEXED


def test_clips_go_past_a_film_and_are_committed_with_it(house: House) -> None:
    gate = house.media.hold("film")
    house.produce("film", 3)
    for number in range(20):
        house.produce(f"clip-{number}", 1)
    lane = house.lane()
    with running(lane):
        eventually(lambda: all(house.outcome(f"clip-{number}") for number in range(20)), "the clips are indexed")
        assert house.outcome("film") is None
        assert house.committed() == 0
        eventually(lambda: [(one.asset, one.position.scanned_ms) for one in lane.status().long_media] ==
                   [("default/media.audio/film", SLICE_MS)], "its progress is told")  # fmt: skip
        gate.set()
        eventually(lambda: house.committed() == 21, "committed")
        eventually(lambda: not lane.status().long_media, "it is told no more")


def test_whoever_comes_next_goes_on_with_the_film_and_does_no_clip_again(house: House) -> None:
    gate = house.media.hold("film")
    house.produce("film", 4)
    for number in range(10):
        house.produce(f"clip-{number}", 1)
    first = house.lane("first", drain_s=0.2)
    with running(first):
        eventually(lambda: all(house.outcome(f"clip-{number}") for number in range(10)), "the clips are indexed")
    gate.set()
    before = Counter(house.media.made)
    with running(house.lane("second")):
        eventually(lambda: house.committed() == 11, "committed")
    assert house.texts("film") == [f"part {number}" for number in range(4)]
    again = Counter(house.media.made) - before
    assert not [key for key, _ in again if key.startswith("clip")]
    assert again[("film", 0)] == 0, "the slice that is written is not made again"


def test_films_begun_before_wait_for_their_turn_and_keep_no_clip_waiting(house: House) -> None:
    films = [f"film-{number}" for number in range(6)]
    first, second = house.media, SlicedMedia()
    gates = [media.hold(film) for media in (first, second) for film in films]
    for film in films:
        house.produce(film, 3)
    with running(house.lane("first", drain_s=0.2)):
        eventually(lambda: {film for film, _ in first.made} == set(films), "all are begun")
    house.media = house.slicer = second
    with running(house.lane("second")):
        eventually(lambda: len(second.waiting) == 2, "two are under way, the others wait")
        house.produce("clip", 1)
        eventually(lambda: house.outcome("clip") is not None, "the clip is indexed")
        assert (len(second.waiting), second.made) == (2, [("clip", 0)])
        for gate in gates:
            gate.set()
        eventually(lambda: house.committed() == 7, "committed")
    assert [apart for (_, number), apart in zip(second.made, second.apart, strict=True) if number] == [True] * 12


def test_an_older_version_does_not_wait_for_a_newer_one_that_waits_behind_it(house: House) -> None:
    """The newer was begun in a batch with the older; after the restart they come one by one."""
    gate = house.media.hold("film")
    house.produce("film", 3)
    house.produce("film", 3)
    with running(house.lane("first", drain_s=0.2)):
        eventually(lambda: house.media.made == [("film", 0)], "the newer is begun")
    gate.set()
    with running(house.lane("second", batch=1)):
        eventually(lambda: house.committed() == 2, "committed")
    assert house.texts("film") == ["part 0", "part 1", "part 2"]


def test_a_film_is_not_blamed_for_workers_that_die_of_all_that_is_long(house: House) -> None:
    house.slicer = Dying(house.media, deaths=20)
    house.produce("film", 3)
    with running(house.lane()):
        eventually(lambda: house.committed() == 1, "committed")
    assert house.outcome("film") is Outcome.INDEXED
    assert house.sink.letters == []


def test_older_versions_of_another_partition_are_taken_back_from_a_film_that_goes(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    lane = house.lane()
    newer, older = (
        Delivery(Record(one.position, b"film", b"3", (), 0), Assignment(TOPIC, one.position.partition, 1), one)
        for one in (event(0, "film", topic=TOPIC, partition=number) for number in range(2))
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


def test_a_partition_moves_though_a_film_is_under_way(house: House) -> None:
    gate = house.media.hold("film")
    house.produce("film", 3, partition=0)
    house.produce("other film", 3, partition=1)
    house.media.hold("other film")
    first, second = house.lane("first", drain_s=30), house.lane("second")
    with running(first):
        eventually(lambda: first._in_flight.continuations == 2, "both are in their second slice")
        began_s = time.monotonic()
        with running(second):
            eventually(lambda: len(second.assignments()) == 1, "handed over")
            assert time.monotonic() - began_s < 20
            gate.set()
            house.media.hold("other film").set()
            eventually(lambda: house.committed(0) == house.committed(1) == 1, "committed")
    assert house.texts("film") == house.texts("other film") == ["part 0", "part 1", "part 2"]
    counts: Counter[Outcome] = Counter()
    for lane in (first, second):
        counts.update({outcome: count for (_, outcome), count in lane.status().outcomes.items()})
    assert counts == {Outcome.INDEXED: 2}


@pytest.mark.parametrize("newer", [2, None])
def test_a_newer_version_or_a_tombstone_waits_and_then_takes_its_place(house: House, newer: int | None) -> None:
    gate = house.media.hold("film")
    house.produce("film", 3)
    with running(house.lane()):
        eventually(lambda: house.media.made == [("film", 0)], "it is begun")
        house.produce("film", newer)
        house.produce("clip", 1)
        eventually(lambda: house.outcome("clip") is not None, "the clip is indexed")
        assert house.outcome("film") is None
        gate.set()
        eventually(lambda: house.committed() == 3, "committed")
    assert house.outcome("film") is (Outcome.INDEXED if newer else Outcome.DELETED)
    assert house.texts("film") == (["part 0", "part 1"] if newer else [])


def test_of_versions_in_one_batch_the_newest_is_indexed_and_the_others_wait_for_it(house: House) -> None:
    for _ in range(3):
        house.produce("film", 3)
    lane = house.lane()
    with running(lane):
        eventually(lambda: house.committed() == 3, "committed")
    assert house.texts("film") == ["part 0", "part 1", "part 2"]
    assert lane.status().outcomes == {(Modality.AUDIO, Outcome.INDEXED): 1, (Modality.AUDIO, Outcome.SUPERSEDED): 2}
    row = house.store.asset_rows([AssetRef("default", TOPIC, "film").id])
    assert [one.version.offset for one in row.values()] == [2]


def test_a_store_that_is_away_between_two_slices_costs_none(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    fails = iter([True, False, True, True])

    def away(method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            if next(fails, False):
                raise UnavailableError("away")
            return method(*args)

        return call

    for name in ("put_checkpoints", "upsert", "asset_rows"):
        monkeypatch.setattr(house.store, name, away(getattr(house.store, name)))
    house.produce("film", 5)
    with running(house.lane()):
        eventually(lambda: house.committed() == 1, "committed")
    assert house.media.made == [("film", number) for number in range(5)]
