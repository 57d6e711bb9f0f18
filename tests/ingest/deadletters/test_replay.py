"""Dead letters sent again, through a lane over a broker and a store in memory."""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from penstock.broker.base import DeadLetter, Message, PartitionLag
from penstock.broker.deadletters import DeadLetterFilter, DeadLetterWriter, parse_dead_letter, to_message
from penstock.broker.headers import ORIGIN, ORIGIN_TIMESTAMP
from penstock.broker.wire import parse_record
from penstock.errors import PermanentError, Reason, UnavailableError, UsageError
from penstock.ingest.deadletters.replay import Replayer, ReplayRequest
from penstock.ingest.deadletters.resolution import Resolution, ResolutionStatus, Resolver
from penstock.ingest.deadletters.selection import read_selected, select
from penstock.ingest.lane.lane import Lane
from penstock.records import AssetRow, Collection, Event, Inline, Modality, Outcome, Position, Record, Rejected, Version
from tests.ingest.builders import TOPIC, event
from tests.ingest.doubles import ScriptedMedia, text_of
from tests.ingest.lane.harness import GROUP, LaneHarness, eventually, parse, running
from tests.replays import KEYS
from tests.store.scans import all_asset_rows, all_entries

DLQ = "media.dlq"


class RepairableMedia(ScriptedMedia):
    """Accepts bad items once it is repaired."""

    def __init__(self) -> None:
        self.repaired = False

    def fetch_and_decode(self, events: Sequence[Event], roles: Sequence[str]) -> Any:
        if self.repaired:
            events = [
                replace(event, payload=Inline(b"mended")) if text_of(event) == "bad" else event for event in events
            ]
        return super().fetch_and_decode(events, roles)


class Plant(LaneHarness):
    """A house whose dead letters go to a topic, and what replays them."""

    def __init__(self) -> None:
        super().__init__()
        self.broker.create_topic(DLQ, 2)
        self.media = RepairableMedia()
        self.stash: dict[str, bytes] = {}
        self.failed_at_s = 0.0
        self.sink = DeadLetterWriter(self.broker.producer(), DLQ, offload=self.put, now=self.now, replays=KEYS)  # type: ignore[assignment]

    def now(self) -> float:
        self.failed_at_s += 1
        return self.failed_at_s

    def put(self, data: bytes) -> str:
        uri = f"asset:{len(self.stash)}"
        self.stash[uri] = data
        return uri

    def read_stash(self, uri: str) -> bytes:
        if uri not in self.stash:
            raise PermanentError(f"{uri} is not in the asset store")
        return self.stash[uri]

    def started(self, name: str = "lane") -> Lane:
        return self.lane(name, media=self.media)

    def read(self, within: Callable[[int], range] = lambda _: range(sys.maxsize)) -> Iterator[DeadLetter]:
        for record in self.broker.records(DLQ):
            if record.position.offset in within(record.position.partition):
                letter = parse_dead_letter(record)
                assert letter is not None
                yield letter

    def lag(self) -> Sequence[PartitionLag]:
        committed = self.broker.committed(GROUP)
        return [
            PartitionLag(partition, committed.get(partition), *self.broker.log_range(partition))
            for partition in self.broker.partitions(TOPIC)
        ]

    def judge(self) -> Resolver:
        return Resolver(
            {TOPIC: Modality.TEXT}, partial(parse, modality=Modality.TEXT), self.store.asset_rows, self.read_stash
        )

    def replay(self, *, clock: Callable[[], float] = time.monotonic, **request: Any) -> list[Resolution]:
        replayer = Replayer(
            read=self.read,
            resolver=self.judge(),
            producer=self.broker.producer(),
            sign=KEYS.signed,
            lag=self.lag,
            show=lambda _activity, _done, _total: None,
            clock=clock,
            sleep=lambda _: time.sleep(0.005),
        )
        return replayer.replay(ReplayRequest(**{"wait_s": 20.0, **request}))

    def settled(self) -> None:
        eventually(lambda: all(lag.lag == 0 for lag in self.lag()), "everything is committed")

    def dead(self, position: Position, key: bytes | None = b"k", value: bytes | None = b"bad", **more: Any) -> None:
        """Writes a dead letter as if the lane had."""
        record = Record(position, key, value, more.pop("headers", ()), more.pop("timestamp_ms", 5))
        message = to_message(
            record,
            Rejected(position, "decode", more.pop("reason", Reason.CORRUPT), "it is bad"),
            topic=DLQ,
            failed_at_ms=round(self.now() * 1000),
        )
        self.broker.append(replace(message, **more))

    def text(self, key: str = "k") -> str:
        entries = all_entries(self.store, Collection.TEXT)
        (text,) = [entry.text for entry in entries if entry.asset.key == key]
        return text


@pytest.fixture
def plant() -> Plant:
    return Plant()


def fates(standings: Sequence[Resolution]) -> Mapping[int, ResolutionStatus]:
    """By the offset of the event's origin."""
    return {resolution.origin.offset: resolution.status for resolution in standings}


def put_row(plant: Plant, *, partition: int = 0, offset: int, timestamp_ms: int, outcome: Outcome) -> None:
    version = Version(timestamp_ms, partition, offset)
    plant.store.put_asset_rows([AssetRow(event(0).asset, version, outcome, {}, "", 0)])


def test_a_replay_is_indexed_as_the_event_it_first_was_and_a_second_changes_nothing(plant: Plant) -> None:
    plant.produce(3, partition=1)
    plant.produce(1, partition=1, value=b"bad", key="k")
    with running(plant.started()):
        plant.settled()
        plant.media.repaired = True
        (resolution,) = plant.replay()
        assert (resolution.status, resolution.origin, resolution.replayed_to) == (
            ResolutionStatus.INDEXED,
            Position(TOPIC, 1, 3),
            Position(TOPIC, 1, 4),
        )
        row = plant.store.asset_rows([event(0, "k").asset.id])[event(0, "k").asset.id]
        assert row.origin == Position(TOPIC, 1, 3)
        (again,) = plant.replay()
        assert (again.status, again.replayed_to) == (ResolutionStatus.INDEXED, None)
    assert len(plant.broker.records(TOPIC)) == 5
    assert plant.text() == "mended"


def test_a_replay_keeps_key_value_and_headers_and_carries_its_origin(plant: Plant) -> None:
    plant.produce(9, partition=1)
    plant.dead(Position(TOPIC, 1, 3), b"\xff", b"\x00v", headers=(("a", b"1"), ("a", b"2")), timestamp_ms=77)
    plant.replay(wait_s=0.0)
    sent = plant.broker.records(TOPIC)[-1]
    assert (sent.position, sent.key, sent.value) == (Position(TOPIC, 1, 9), b"\xff", b"\x00v")
    assert sent.headers[:-1] == (("a", b"1"), ("a", b"2"), (ORIGIN, b"media.text/1/3"), (ORIGIN_TIMESTAMP, b"77"))
    assert KEYS.origin_of(sent) == (Position(TOPIC, 1, 3), 77)
    assert sent.timestamp_ms > 77, "by its first timestamp retention might remove it before it is read"


def test_a_replay_that_fails_again_has_a_reason_and_the_next_one_sends_it_once(plant: Plant) -> None:
    plant.produce(1, partition=0, value=b"bad")
    with running(plant.started()):
        plant.settled()
        for _ in range(2):
            (resolution,) = plant.replay()
            assert resolution.status is ResolutionStatus.FAILED_AGAIN
            assert "corrupt: it is bad" in resolution.detail
        assert len({letter.origin for letter in plant.read()}) == 1
        assert len(list(plant.read())) == 3
        plant.media.repaired = True
        assert [resolution.status for resolution in plant.replay()] == [ResolutionStatus.INDEXED]
    assert len(plant.broker.records(TOPIC)) == 4


def test_the_older_of_two_dead_letters_of_an_event_stands_for_the_newest(plant: Plant) -> None:
    plant.dead(Position(TOPIC, 0, 0), reason=Reason.UNREACHABLE)
    plant.dead(Position(TOPIC, 0, 0), reason=Reason.CORRUPT)
    older, newer = plant.read()
    assert select(plant.read, DeadLetterFilter(reason=Reason.UNREACHABLE)).letters == frozenset()
    at = (older.position.partition, older.position.offset)
    assert [letter.position for letter in read_selected(plant.read, select(plant.read, DeadLetterFilter(), [at]))] == [
        newer.position
    ]


@pytest.mark.parametrize(
    ("partition", "offset", "timestamp_ms"), [(0, 4, 1), (1, 0, 6)], ids=["same partition", "another partition, later"]
)
@pytest.mark.parametrize("outcome", [Outcome.INDEXED, Outcome.DELETED])
def test_a_newer_version_and_a_tombstone_are_left_alone(
    plant: Plant, partition: int, offset: int, timestamp_ms: int, outcome: Outcome
) -> None:
    plant.produce(3, partition=0)
    plant.dead(Position(TOPIC, 0, 2), timestamp_ms=5)
    put_row(plant, partition=partition, offset=offset, timestamp_ms=timestamp_ms, outcome=outcome)
    (resolution,) = plant.replay()
    assert (resolution.status, resolution.replayed_to) == (ResolutionStatus.SUPERSEDED, None)
    assert f"{TOPIC}[{partition}]@{offset} is newer" in resolution.detail
    assert ("deleted" in resolution.detail) == (outcome is Outcome.DELETED)


@pytest.mark.parametrize("value", [b"newer", None], ids=["a newer version", "a tombstone"])
def test_a_newer_version_that_arrives_between_resolution_and_replay_still_wins(
    plant: Plant, value: bytes | None
) -> None:
    plant.produce(1, partition=0, value=b"bad", key="k")
    lane = plant.started()
    with running(lane):
        plant.settled()
        plant.media.repaired = True
        judge = plant.judge()
        blind = replace(judge, asset_rows=lambda _: {})  # it looked before the newer one was there
        plant.judge = lambda: blind  # type: ignore[method-assign]
        plant.broker.append(Message(TOPIC, b"k", value, partition=1, timestamp_ms=2**42))
        plant.settled()
        (resolution,) = plant.replay()
        assert resolution.replayed_to is not None
    (now,) = judge.resolve([resolution])
    assert now.status is ResolutionStatus.SUPERSEDED
    if value is None:
        assert plant.count() == 0
    else:
        assert plant.text() == "newer"


def test_each_letter_that_cannot_be_sent_has_its_reason_and_the_others_are_sent(plant: Plant) -> None:
    plant.produce(9, partition=0)
    plant.broker.create_topic(TOPIC, 2, max_message_bytes=300)
    plant.dead(Position("media.gone", 0, 0))
    plant.dead(Position(TOPIC, 7, 1))
    plant.dead(Position(TOPIC, 1, 2))
    plant.dead(Position(TOPIC, 0, 3), None, None)
    plant.dead(Position(TOPIC, 0, 4), value=b"x" * 300)
    plant.dead(Position(TOPIC, 0, 5), value=None)
    stashed = (("penstock-stashed", b"asset:9"), ("penstock-stashed-bytes", b"7"))
    (letter,) = [record for record in plant.broker.records(DLQ) if (ORIGIN, b"media.text/0/5") in record.headers]
    plant.broker.append(Message(DLQ, b"k", None, (*letter.headers, *stashed)))
    plant.dead(Position(TOPIC, 0, 6), value=b"good")
    with running(plant.started()):
        resolutions = {resolution.origin.offset: resolution for resolution in plant.replay()}
    assert {offset: resolution.status for offset, resolution in resolutions.items()} == {
        **dict.fromkeys(range(6), ResolutionStatus.NOT_SENT),
        6: ResolutionStatus.INDEXED,
    }
    words = [
        "none of the media topics",
        "no media.text[7]",
        "created again",
        "without a key",
        "max.message.bytes",
        "asset:9",
    ]
    for offset, word in enumerate(words):
        assert word in resolutions[offset].detail


def test_an_offloaded_value_is_sent_whole_and_its_asset_identified_without_it(plant: Plant) -> None:
    plant.produce(9, partition=0)
    stashed = (("penstock-stashed", plant.put(b"good").encode()), ("penstock-stashed-bytes", b"4"))
    record = Record(Position(TOPIC, 0, 2), b"k", None, (), 5)
    dead = to_message(record, Rejected(record.position, "decode", Reason.TOO_LARGE, ""), topic=DLQ, failed_at_ms=1)
    plant.broker.append(replace(dead, headers=(*dead.headers, *stashed)))
    with running(plant.started()):
        (resolution,) = plant.replay()
    assert resolution.status is ResolutionStatus.INDEXED
    assert plant.text() == "good"
    plant.stash.clear()
    assert [standing.status for _, standing in plant.judge().resolve_all(plant.read())] == [ResolutionStatus.INDEXED]


def test_the_attributes_of_an_offloaded_structured_event_are_read_from_the_asset_store(plant: Plant) -> None:
    body = b'{"id":"1","source":"/t","type":"t","specversion":"1.0","tenant":"other","data":"good"}'
    stashed = (("penstock-stashed", plant.put(body).encode()), ("penstock-stashed-bytes", b"99"))
    structured = (("content-type", b"application/cloudevents+json"),)
    record = Record(Position(TOPIC, 0, 2), b"k", None, structured, 5)
    dead = to_message(record, Rejected(record.position, "decode", Reason.TOO_LARGE, ""), topic=DLQ, failed_at_ms=1)
    plant.broker.append(replace(dead, headers=(*dead.headers, *stashed)))
    ((_, resolution),) = plant.judge().resolve_all(plant.read())
    assert resolution.asset_id == event(0, "k", tenant="other").asset.id


def test_without_a_lane_a_replay_waits_no_longer_than_requested(plant: Plant) -> None:
    plant.produce(1, partition=0)
    plant.dead(Position(TOPIC, 0, 0))
    now_s = itertools.count(0.0, 15.0)
    (resolution,) = plant.replay(clock=lambda: next(now_s))
    assert (resolution.status, resolution.replayed_to) == (ResolutionStatus.WAITING, Position(TOPIC, 0, 1))


def test_a_replay_outlasts_an_unavailable_broker_while_it_waits(plant: Plant) -> None:
    plant.produce(1, partition=0)
    plant.dead(Position(TOPIC, 0, 0), value=b"good")
    lag, answers = plant.lag, iter([True, False, False])

    def shaky() -> Sequence[PartitionLag]:
        if next(answers, True):
            return lag()
        raise UnavailableError("away")

    plant.lag = shaky  # type: ignore[method-assign]
    with running(plant.started()):
        assert [resolution.status for resolution in plant.replay()] == [ResolutionStatus.INDEXED]


def test_a_committed_replay_without_a_trace_is_unclear(plant: Plant) -> None:
    plant.produce(1, partition=0)
    plant.dead(Position(TOPIC, 0, 0), value=b"good")
    as_other = partial(parse_record, modality=Modality.TEXT, default_tenant="other", max_inline_bytes=1_000)
    other = replace(plant.judge(), parse=as_other)
    plant.judge = lambda: other  # type: ignore[method-assign]
    with running(plant.started()):
        (resolution,) = plant.replay()
    assert resolution.status is ResolutionStatus.UNCLEAR
    assert "tenant" in resolution.detail


def test_a_dry_run_sends_nothing_and_a_limit_no_more_than_its_number(plant: Plant) -> None:
    plant.produce(5, partition=0)
    for offset in range(5):
        plant.dead(Position(TOPIC, 0, offset), b"k%d" % offset)
    assert list(fates(plant.replay(dry_run=True)).values()) == [ResolutionStatus.OPEN] * 5
    assert len(plant.broker.records(TOPIC)) == 5
    assert [resolution.status for resolution in plant.replay(limit=2, wait_s=0.0)] == [ResolutionStatus.SENT] * 2
    assert len(plant.broker.records(TOPIC)) == 7


def test_only_selected_dead_letters_are_sent(plant: Plant) -> None:
    plant.produce(5, partition=0)
    for offset in range(5):
        plant.dead(Position(TOPIC, 0, offset), b"k%d" % offset, reason=list(Reason)[offset % 2])
    by_reason = plant.replay(filter=DeadLetterFilter(reason=list(Reason)[1]), dry_run=True)
    assert sorted(fates(by_reason)) == [1, 3]
    by_key = plant.replay(filter=DeadLetterFilter(key=b"k4", topic=TOPIC, since_ms=5_000), dry_run=True)
    assert sorted(fates(by_key)) == [4]
    selected = next(letter for letter in plant.read() if letter.origin.offset == 2)
    at = frozenset({(selected.position.partition, selected.position.offset)})
    assert sorted(fates(plant.replay(positions=at, dry_run=True))) == [2]
    with pytest.raises(UsageError, match="0@99"):
        plant.replay(positions=frozenset({(0, 99)}))


def test_a_replay_is_no_sample_of_freshness(plant: Plant) -> None:
    plant.produce(1, partition=0, value=b"bad")
    lane = plant.started()
    with running(lane):
        plant.settled()
        plant.media.repaired = True
        plant.replay()
        plant.produce(1, partition=0)
        plant.settled()
        eventually(lambda: lane.status().outcomes.get((Modality.TEXT, Outcome.INDEXED)) == 2, "both are counted")
        assert len(lane.status().freshness_s[Modality.TEXT]) == 1


def test_a_tombstone_that_failed_is_deleted_by_its_replay(plant: Plant) -> None:
    plant.produce(1, partition=0, key="k")
    plant.produce(1, partition=0, key="other")
    plant.dead(Position(TOPIC, 0, 1), b"k", None, timestamp_ms=2**41)
    with running(plant.started()):
        assert [resolution.status for resolution in plant.replay()] == [ResolutionStatus.DELETED]
    assert {row.asset.key for row in all_asset_rows(plant.store) if row.counts} == {"other"}
