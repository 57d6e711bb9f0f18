"""A record that lanes die of is parsed by a process of its own, and then dead-lettered, once and in its order."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from penstock.broker.record_parser import RecordParser, present_ms
from penstock.broker.replay_keys import ReplayKeys
from penstock.config import load_settings
from penstock.config.secrets import keep_in_files
from penstock.errors import Reason
from penstock.ingest.lane.receive_journal import ReceiveJournal, read_journal
from penstock.ingest.lane.suspects import MAX_DEATHS, DeathToll, NotedParser, parse_in_child
from penstock.records import Event, Inline, Position, Record, Rejected
from tests.ingest.builders import TOPIC
from tests.ingest.lane.deadly import parse_or_end
from tests.ingest.lane.harness import LaneHarness, eventually, running


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets the child import what pytest imports."""
    monkeypatch.setenv("PYTHONPATH", ":".join([str(Path(__file__).parents[3]), *filter(None, sys.path)]))


def record(value: bytes) -> Record:
    return Record(Position(TOPIC, 0, 7), b"key", value, (), 1)


def test_a_record_that_ends_lanes_is_dead_lettered_once_and_the_others_are_indexed(tmp_path: Path) -> None:
    harness = LaneHarness()
    harness.produce(3, partition=0)
    harness.produce(1, partition=0, value=b"exhausts", key="deadly")
    harness.produce(3, partition=0)
    toll, path = DeathToll(), tmp_path / "lanes" / "lane"
    deadly = Position(TOPIC, 0, 3)
    for death in range(MAX_DEATHS):
        assert toll.suspects == frozenset()
        lane = harness.lane(f"lane {death}", parse=NotedParser(parse_or_end, ReceiveJournal(path), toll.suspects))
        with pytest.raises(MemoryError):
            lane.run()
        assert read_journal(path) == deadly
        assert harness.committed() <= deadly.offset
        assert toll.add(deadly) is (death == MAX_DEATHS - 1)
    parser = NotedParser(parse_or_end, ReceiveJournal(path), toll.suspects)
    with running(harness.lane("lane", parse=parser)):
        eventually(lambda: harness.committed() == harness.produced, "all is committed", 60)
    assert read_journal(path) is None
    assert [(letter.position, letter.step, letter.reason) for letter in harness.sink.letters] == [
        (deadly, "receive", Reason.CRASHES_WORKER)
    ]
    assert harness.count() == harness.produced - 1


def test_a_lane_that_lives_learns_of_a_suspect(tmp_path: Path) -> None:
    parser = NotedParser(parse_or_end, ReceiveJournal(tmp_path / "lane"))
    with pytest.raises(MemoryError):
        parser(record(b"exhausts"))
    parser.suspect([record(b"exhausts").position])
    assert isinstance(parser(record(b"exhausts")), Rejected)


@pytest.mark.parametrize(
    ("value", "outcome"), [(b"kills", "signal 9"), (b"hoards", "exit code 1"), (b"exhausts", "exit code 1")]
)
def test_a_record_that_ends_the_child_crashes_workers(value: bytes, outcome: str) -> None:
    parsed = parse_in_child(parse_or_end, record(value))
    assert isinstance(parsed, Rejected)
    assert (parsed.reason, parsed.step) == (Reason.CRASHES_WORKER, "receive")
    assert outcome in parsed.detail


def test_a_child_that_hangs_is_ended() -> None:
    parsed = parse_in_child(parse_or_end, record(b"hangs"), timeout_s=0.2)
    assert isinstance(parsed, Rejected)
    assert "0.2 s" in parsed.detail


@pytest.mark.parametrize("value", [b"prints", b"x" * 3_000_000])
def test_a_suspect_that_is_harmless_is_the_event_that_a_lane_reads(value: bytes) -> None:
    parsed = parse_in_child(parse_or_end, record(value))
    assert isinstance(parsed, Event)
    assert parsed.payload == Inline(value)
    assert parsed.position == record(value).position


def test_a_journal_names_the_record_of_a_process_that_was_killed(tmp_path: Path) -> None:
    longest = Position("t" * 249, 2**31 - 1, 2**63 - 1)
    journal = ReceiveJournal(tmp_path / "lane")
    assert read_journal(tmp_path / "lane") is None
    for position in (longest, Position("short", 0, 0)):
        journal.begin(position)
        assert read_journal(tmp_path / "lane") == position
    journal.end()
    assert read_journal(tmp_path / "lane") is None
    assert read_journal(tmp_path / "another") is None


def test_only_a_record_of_three_deaths_is_suspect() -> None:
    toll = DeathToll()
    first, second = Position(TOPIC, 0, 1), Position(TOPIC, 0, 2)
    assert [toll.add(position) for position in (first, second, first, second, first)] == [*[False] * 4, True]
    assert toll.suspects == {first}


def test_the_parser_of_a_lane_goes_into_the_child_with_its_keys_in_files(tmp_path: Path) -> None:
    settings = keep_in_files(load_settings(data_dir=tmp_path, replay={"key": "k" * 40}), tmp_path / "secrets")
    parser = RecordParser.of(settings, ReplayKeys.of(settings), now_ms=present_ms)
    received = Record(Position(settings.kafka.text_topic, 0, 7), b"key", b"a text", (), 1)
    assert parse_in_child(parser, received) == parser(received)


def test_a_journal_has_its_space_on_the_disk_before_the_first_note(tmp_path: Path) -> None:
    """A mapped hole needs a block when it is written, and a full disk then ends the process by SIGBUS."""
    ReceiveJournal(tmp_path / "lane")
    with (tmp_path / "lane").open("rb") as file:
        os.fsync(file.fileno())
        status = os.fstat(file.fileno())
    assert status.st_size == 512
    assert status.st_blocks * 512 >= status.st_size
