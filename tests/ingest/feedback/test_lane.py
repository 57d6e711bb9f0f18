"""Tests of the lane of feedback: every event gets one outcome, whatever fails between."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest

from penstock.audit.feedback import FeedbackAudit, audit_feedback
from penstock.broker import headers as names
from penstock.broker.base import Message
from penstock.broker.change_messages import change_messages
from penstock.broker.feedback_messages import feedback_message
from penstock.broker.memory.broker import MemoryBroker
from penstock.broker.memory.reader import MemoryReader
from penstock.errors import PermanentError, UnavailableError
from penstock.ingest.feedback.lane import FeedbackLane
from penstock.ingest.feedback.settle import FeedbackSettler
from penstock.ingest.feedback.sweep import oldest_ms
from penstock.records import Action, AssetRef, AssetRow, Choice, IndexChange, Outcome, Position, Version
from penstock.store.clicks import MemoryClicks
from tests.choices import DAY_MS, DIM, ENCODER, NOW_MS, choice

TOPIC, CHANGES, LETTERS, GROUP = "search.feedback", "penstock.changes", "search.feedback.dead-letters", "g.feedback"
HALF_LIFE_DAYS = 90.0


class Rows:
    """Asset rows by asset."""

    def __init__(self) -> None:
        self.rows: dict[str, AssetRow] = {}

    def set(self, asset: AssetRef, outcome: Outcome, at_ms: int = NOW_MS - 1) -> None:
        self.rows[asset.id] = AssetRow(asset, Version(at_ms, 0, 0), outcome, {}, "", 0)

    def asset_rows(self, asset_ids: Sequence[str]) -> Mapping[str, AssetRow]:
        return {id_: self.rows[id_] for id_ in asset_ids if id_ in self.rows}


class World:
    """A lane over a broker and a click memory in memory."""

    def __init__(self) -> None:
        self.broker = MemoryBroker(blocking=False, now_ms=lambda: NOW_MS)
        for topic in (TOPIC, CHANGES, LETTERS):
            self.broker.create_topic(topic)
        self.is_down = False
        self.clicks = MemoryClicks(before_call=self._check_store)
        self.rows = Rows()
        self.producer = self.broker.producer()
        self.start()

    def start(self) -> None:
        """Starts a lane, as after a crash of the one before."""
        settler = FeedbackSettler(self.clicks, self.rows, (ENCODER, DIM), self.producer, LETTERS, now_ms=lambda: NOW_MS)
        self.consumer = self.broker.consumer(GROUP, [TOPIC, CHANGES], drain_timeout_s=5)
        self.lane = FeedbackLane(
            self.consumer,
            settler,
            self.clicks,
            self.rows,
            TOPIC,
            half_life_days=HALF_LIFE_DAYS,
            clock=lambda: 0.0,
            wall_ms=lambda: NOW_MS,
        )

    def _check_store(self) -> None:
        if self.is_down:
            raise UnavailableError("the store is down")

    def send(self, *choices: Choice) -> None:
        for choice_ in choices:
            self.producer.send(feedback_message(TOPIC, choice_, query_id="q")).result()

    def follow(self, polls: int = 4) -> None:
        for _ in range(polls):
            self.lane.follow_once()

    def delete(self, asset: AssetRef) -> None:
        self.rows.set(asset, Outcome.DELETED)
        change = IndexChange(asset.tenant, asset.topic, asset.key, Position(asset.topic, 0, 1), True, {}, NOW_MS)
        for message in change_messages(CHANGES, [change]):
            self.producer.send(message).result()

    def audit(self) -> FeedbackAudit:
        return audit_feedback(
            MemoryReader(self.broker, GROUP),
            self.clicks,
            self.rows,
            topic=TOPIC,
            dead_letter_topic=LETTERS,
            kept_since_ms=oldest_ms(NOW_MS, HALF_LIFE_DAYS),
        )

    def kept(self) -> dict[str, Action]:
        return {kept.asset.key: kept.action for page in self.clicks.scan() for kept in page}


@pytest.fixture
def world() -> World:
    return World()


HERON, OTTER = choice("grey heron", "heron"), choice("grey heron", "otter", "bob")


def test_a_choice_is_remembered_and_its_offset_committed(world: World) -> None:
    world.send(HERON, OTTER)
    world.follow()
    assert world.kept() == {"heron": Action.CLICK, "otter": Action.CLICK}
    report = world.audit()
    assert (report.events, report.remembered, report.unsettled, report.balanced) == (2, 2, 0, True)


def test_the_newest_vote_of_a_voter_counts_and_the_others_are_superseded(world: World) -> None:
    world.send(HERON, replace(HERON, action=Action.DISLIKE, time_ms=NOW_MS + 1))
    world.follow()
    world.send(replace(HERON, action=Action.LIKE, time_ms=NOW_MS - 1))  # late
    world.follow()
    assert world.kept() == {"heron": Action.DISLIKE}
    report = world.audit()
    assert (report.remembered, report.superseded, report.balanced) == (1, 2, True)


def test_a_crash_after_the_write_and_before_the_commit_changes_nothing(world: World) -> None:
    world.send(HERON, replace(HERON, action=Action.DISLIKE, time_ms=NOW_MS + 1), OTTER)
    world.lane._apply(world.broker.records(TOPIC))
    before = world.kept()
    world.start()
    world.follow(6)
    assert world.kept() == before
    assert world.audit().balanced


def test_events_wait_while_the_click_memory_is_down(world: World) -> None:
    world.send(HERON)
    world.is_down = True
    with pytest.raises(UnavailableError):
        world.follow()
    assert not world.broker.committed(GROUP)
    world.is_down = False
    world.follow()
    assert world.kept() == {"heron": Action.CLICK}
    assert world.audit().balanced


def test_what_is_no_event_and_what_another_encoder_made_becomes_a_dead_letter_without_contents(world: World) -> None:
    world.producer.send(Message(TOPIC, b"k", b"the words of somebody")).result()
    world.send(replace(HERON, encoder="another"), replace(HERON, vector=HERON.vector[: DIM // 2]))
    world.send(OTTER)
    world.follow()
    letters = world.broker.records(LETTERS)
    assert {dict(letter.headers)[names.REASON] for letter in letters} == {b"malformed", b"unsupported"}
    assert all(letter.value == b"" for letter in letters)
    assert world.kept() == {"otter": Action.CLICK}
    report = world.audit()
    assert (report.dead_lettered, report.remembered, report.balanced) == (3, 1, True)


def test_a_choice_dated_years_ahead_is_dead_lettered_and_replaces_no_later_one(world: World) -> None:
    world.send(replace(HERON, action=Action.DISLIKE, time_ms=NOW_MS + 365 * DAY_MS), HERON)
    world.follow()
    (letter,) = world.broker.records(LETTERS)
    assert dict(letter.headers)[names.REASON] == b"forbidden"
    assert world.kept() == {"heron": Action.CLICK}
    assert world.audit().balanced


def test_a_choice_that_the_store_refuses_is_dead_lettered_alone(world: World) -> None:
    put = world.clicks.put

    def refuse(choices: Sequence[Choice]) -> None:
        if any(refused.asset.key == "heron" for refused in choices):
            raise PermanentError("the key is too long")
        put(choices)

    world.clicks.put = refuse  # type: ignore[method-assign]
    world.send(HERON, OTTER, choice("red fox", "fox"))
    world.follow()
    assert set(world.kept()) == {"otter", "fox"}
    report = world.audit()
    assert (report.dead_lettered, report.remembered, report.balanced) == (1, 2, True)


def test_a_tombstone_removes_the_choices_of_its_asset_and_keeps_later_ones_out(world: World) -> None:
    world.send(HERON, OTTER)
    world.follow()
    world.delete(HERON.asset)
    world.follow()
    assert set(world.kept()) == {"otter"}
    world.send(choice("a bird that fishes", "heron", "cleo"))
    world.follow()
    assert set(world.kept()) == {"otter"}
    report = world.audit()
    assert (report.deleted, report.remembered, report.balanced) == (2, 1, True)


def test_an_old_deletion_removes_no_choices_of_an_asset_that_is_indexed_again(world: World) -> None:
    world.send(HERON, OTTER)
    world.follow()
    for asset in (HERON.asset, OTTER.asset):
        world.delete(asset)
    world.rows.set(HERON.asset, Outcome.INDEXED)  # before the lane reads of the deletion
    world.follow()
    assert set(world.kept()) == {"heron"}
    report = world.audit()
    assert (report.deleted, report.remembered, report.balanced) == (1, 1, True)


def test_a_deletion_removes_the_choices_of_an_asset_without_a_row(world: World) -> None:
    world.send(HERON)
    world.follow()
    world.delete(HERON.asset)
    del world.rows.rows[HERON.asset.id]
    world.follow()
    assert world.kept() == {}


def test_a_purge_of_the_tenant_removes_its_choices(world: World) -> None:
    theirs = choice("grey heron", "heron", tenant="acme")
    world.send(HERON, theirs)
    world.follow()
    world.rows.set(theirs.asset, Outcome.DELETED)
    assert world.clicks.drop_tenant("acme") == 1
    assert set(world.kept()) == {"heron"}
    assert world.audit().balanced


def test_the_sweep_removes_what_is_old_or_of_a_deleted_asset(world: World) -> None:
    old = choice("red fox", "fox", time_ms=NOW_MS - round(7 * HALF_LIFE_DAYS * DAY_MS))
    world.send(HERON, OTTER, old)
    world.follow()
    world.rows.set(OTTER.asset, Outcome.EXPIRED)
    world.lane.sweep()
    assert set(world.kept()) == {"heron"}
    report = world.audit()
    assert (report.remembered, report.deleted, report.expired, report.balanced) == (1, 1, 1, True)


def test_the_audit_names_an_event_that_was_committed_and_is_nowhere(world: World) -> None:
    world.send(HERON, OTTER)
    world.follow()
    world.clicks.drop([HERON.id])
    report = world.audit()
    assert not report.balanced
    (missing,) = report.missing
    assert missing.startswith(TOPIC)
    assert report.remembered == 1


def test_the_audit_does_not_judge_what_is_not_committed(world: World) -> None:
    world.send(HERON)
    report = world.audit()
    assert (report.events, report.unsettled, report.balanced) == (0, 1, True)
