"""The number of open dead letters, counted beside a lane over a broker and a store in memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from penstock.errors import Reason, UnavailableError
from penstock.ingest.deadletters import open_count, resolution
from penstock.ingest.deadletters.open_count import OpenDeadLetters
from penstock.records import Outcome, Position
from tests.ingest.builders import TOPIC
from tests.ingest.deadletters.test_replay import DLQ, Plant, put_row
from tests.ingest.lane.harness import running


class Counted:
    """A plant, its count, and how many dead letters were read for it."""

    def __init__(self) -> None:
        self.plant = Plant()
        self.letters_read = 0
        reader = self.plant.broker

        def read(within: Callable[[int], range]) -> object:
            for letter in self.plant.read(within):
                self.letters_read += 1
                yield letter

        self.open = OpenDeadLetters(
            read,  # type: ignore[arg-type]
            lambda: {partition: reader.log_range(partition) for partition in reader.partitions(DLQ)},
            lambda: self.plant.judge(),  # noqa: PLW0108 - the one of the call
        )


@pytest.fixture
def counted() -> Counted:
    return Counted()


def test_each_dead_letter_is_read_one_time_and_counts_until_its_event_is_resolved(counted: Counted) -> None:
    plant = counted.plant
    assert counted.open.count() == 0
    plant.produce(2, partition=1)
    plant.produce(1, partition=1, value=b"bad", key="k")
    with running(plant.started()):
        plant.settled()
        assert [counted.open.count() for _ in range(3)] == [1, 1, 1]
        assert counted.letters_read == 1
        plant.media.repaired = True
        plant.replay()
        assert counted.open.count() == 0


def test_topics_of_new_tenants_are_known_without_a_restart(counted: Counted, monkeypatch: pytest.MonkeyPatch) -> None:
    """The event of a letter in an unknown topic cannot be compared with its asset's row, and stays open."""
    judge = counted.plant.judge
    monkeypatch.setattr(counted.plant, "judge", lambda: replace(judge(), topics={}))
    assert counted.open.count() == 0
    monkeypatch.setattr(counted.plant, "judge", judge)
    counted.plant.dead(Position(TOPIC, 0, 0))
    put_row(counted.plant, offset=5, timestamp_ms=2**41, outcome=Outcome.INDEXED)
    assert counted.open.count() == 0


def test_an_event_that_failed_twice_counts_one_time(counted: Counted) -> None:
    for reason in (Reason.UNREACHABLE, Reason.CORRUPT):
        counted.plant.dead(Position(TOPIC, 0, 0), reason=reason)
        assert counted.open.count() == 1


def test_a_newer_event_of_the_asset_resolves_it(counted: Counted) -> None:
    counted.plant.dead(Position(TOPIC, 0, 4), timestamp_ms=5)
    assert counted.open.count() == 1
    put_row(counted.plant, offset=9, timestamp_ms=6, outcome=Outcome.DELETED)
    assert counted.open.count() == 0


def test_an_interrupted_count_is_repeated_and_loses_nothing(counted: Counted, monkeypatch: pytest.MonkeyPatch) -> None:
    counted.plant.dead(Position(TOPIC, 0, 4))

    def away(_: object) -> object:
        raise UnavailableError("the store is away")

    with monkeypatch.context() as patch:
        patch.setattr(counted.plant.store, "asset_rows", away)
        broken = OpenDeadLetters(counted.open._read, counted.open._bounds, counted.plant.judge)
        with pytest.raises(UnavailableError):
            broken.count()
    assert counted.open.count() == 1


def test_those_beyond_the_remembered_are_counted_once_although_their_reading_was_interrupted(
    counted: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(open_count, "_MAX_REMEMBERED", 2)
    monkeypatch.setattr(resolution, "_MAX_LETTERS", 1)  # of a batch, so that some are compared before the interruption
    for offset in range(5):
        counted.plant.dead(Position(TOPIC, 0, offset))
    complete = counted.open._read

    def interrupted(within: Callable[[int], range]) -> object:
        yield from complete(within)
        raise UnavailableError("the broker is away")

    counted.open._read = interrupted  # type: ignore[assignment]
    for _ in range(3):
        with pytest.raises(UnavailableError):
            counted.open.count()
    counted.open._read = complete
    assert [counted.open.count() for _ in range(2)] == [5, 5]
