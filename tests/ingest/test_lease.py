"""Tests the lease of a driver: one holder at a time, in rising epochs, and no write without it."""

from __future__ import annotations

import threading
from collections.abc import Hashable
from contextlib import suppress
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from penstock.errors import LeaseHeldError, UnavailableError, UnconfirmedError
from penstock.ingest.lease import CONFIRM_INTERVAL_S, LeaseHolder
from penstock.ingest.lease_keeper import LeaseKeeper, LeaseRenewals
from penstock.store.lease import VALID_SHARE, LeaseGuard, Renewal
from tests.ingest.lane.harness import eventually
from tests.ingest.lease_world import TIMEOUT_S, Driver, LeaseWorld, SentRenewal


@pytest.fixture
def world() -> LeaseWorld:
    return LeaseWorld()


def running(world: LeaseWorld, name: str) -> Driver:
    """A driver that holds the lease, whose writers know it."""
    driver = world.driver(name)
    world.acquire(driver)
    for _ in range(3):
        world.turn_and_deliver(driver)
    return driver


def test_writers_may_write_once_a_confirmation_has_reached_them(world: LeaseWorld) -> None:
    driver = world.driver("first")
    world.acquire(driver)
    assert world.writing() == []
    for _ in range(3):
        world.turn_and_deliver(driver)
    assert world.writing() == list(driver.guards.values())


def test_a_second_driver_is_refused_in_one_line_that_names_the_first(world: LeaseWorld) -> None:
    first = running(world, "first")
    world.on_sleep = lambda: world.turn_and_deliver(first)
    second = world.driver("second")
    began_s = world.now_s
    with pytest.raises(LeaseHeldError, match=r"the driver with pid 0 on first, since .* UTC, on Ray ray\.") as refused:
        world.acquire(second)
    assert refused.value.exit_code == 4
    assert "\n" not in str(refused.value)
    assert world.now_s - began_s < 3
    assert len(world.writing()) == 2, "the first driver was disturbed"
    assert len(world.epochs) == 1


def test_the_lease_of_a_dead_driver_is_taken_once_its_session_has_run_out(world: LeaseWorld) -> None:
    running(world, "first")
    second = world.driver("second")
    began_s = world.now_s
    world.acquire(second)
    assert TIMEOUT_S - 2 * CONFIRM_INTERVAL_S <= world.now_s - began_s <= TIMEOUT_S + 3
    assert world.epochs == sorted(set(world.epochs))
    assert len(world.epochs) == 2


def test_the_lease_of_a_driver_that_left_is_taken_immediately(world: LeaseWorld) -> None:
    first = running(world, "first")
    first.lease.release()
    began_s = world.now_s
    world.acquire(world.driver("second"))
    assert world.now_s - began_s < 2


def test_a_standby_waits_until_the_first_has_died(world: LeaseWorld) -> None:
    first = running(world, "first")
    alive_until_s = world.now_s + 100

    def first_lives() -> None:
        if world.now_s < alive_until_s:
            world.turn_and_deliver(first)

    world.on_sleep = first_lives
    second = world.driver("second")
    world.acquire(second, wait=True)
    assert alive_until_s + TIMEOUT_S - 2 <= world.now_s <= alive_until_s + TIMEOUT_S + 5
    assert second.holds


def test_a_standby_outlasts_an_outage_of_the_broker_and_says_so_once(
    world: LeaseWorld, caplog: pytest.LogCaptureFixture
) -> None:
    first = running(world, "first")
    began_s = world.now_s
    alive_until_s = began_s + 400

    def live_through_an_outage() -> None:
        world.broker.available = not 20 < world.now_s - began_s < 300
        if world.now_s < alive_until_s:
            world.turn_and_deliver(first)

    world.on_sleep = live_through_an_outage
    second = world.driver("second")
    world.acquire(second, wait=True)
    assert second.holds
    assert world.now_s >= alive_until_s
    reported = [record.getMessage() for record in caplog.records if record.name == "penstock.ingest.lease"]
    assert len([message for message in reported if "no broker answers" in message]) == 1


def test_a_standby_that_never_had_an_answer_reports_it(world: LeaseWorld) -> None:
    world.broker.available = False
    with pytest.raises(UnavailableError):
        world.acquire(world.driver("first"), wait=True)


def test_a_standby_ends_when_it_is_stopped(world: LeaseWorld) -> None:
    first = running(world, "first")
    stop = threading.Event()

    def stop_later() -> None:
        world.turn_and_deliver(first)
        if world.now_s > 30:
            stop.set()

    world.on_sleep = stop_later
    assert not world.driver("second").lease.acquire(wait=True, stop=stop)


def test_a_driver_that_was_suspended_ends_once_another_holds_the_lease(world: LeaseWorld) -> None:
    first = running(world, "first")
    second = world.driver("second")
    world.acquire(second)  # time passes, and the first driver does nothing
    assert not any(guard.holds for guard in first.guards.values())
    world.turn(first)  # notices that it was removed
    with pytest.raises(LeaseHeldError, match="on second"):
        first.renewals.turn(list(first.guards))
    assert len(world.epochs) == 2


def test_a_driver_that_was_removed_holds_the_lease_again_in_a_newer_epoch_if_nobody_else_does(
    world: LeaseWorld,
) -> None:
    first = running(world, "first")
    (before,) = world.epochs
    world.advance(TIMEOUT_S + 1)
    for _ in range(5):
        world.turn_and_deliver(first)
    assert world.epochs[0] == before < world.epochs[-1]
    assert {guard.epoch for guard in world.writing()} == {world.epochs[-1]}
    assert len(world.writing()) == 2


def test_writers_stop_while_the_broker_is_away_and_continue_afterwards(world: LeaseWorld) -> None:
    first = running(world, "first")
    world.broker.available = False
    for _ in range(int(2 * TIMEOUT_S * VALID_SHARE)):
        world.turn_and_deliver(first)
        world.advance(0.5)
    assert world.writing() == []
    world.broker.available = True
    for _ in range(3):
        world.turn_and_deliver(first)
    assert len(world.writing()) == 2
    assert len(world.epochs) == 1


def test_a_message_that_was_not_received_before_a_confirmation_is_not_confirmed_by_it(world: LeaseWorld) -> None:
    driver = world.driver("first", writers=1)
    world.acquire(driver)
    for _ in range(3):
        world.turn(driver)  # the writer is suspended, and receives nothing
    world.advance(TIMEOUT_S - 1)
    for message in driver.sent:
        message.deliver()
    assert world.writing() == []


def deliver_between_commit_and_answer(world: LeaseWorld, driver: Driver) -> None:
    """Lets the messages that a driver has sent arrive after its next commit, and the answer of it after them."""
    (consumer,) = world.consumers
    commit = consumer.commit

    def commit_and_answer_late(*args: Any, **kwargs: Any) -> None:
        commit(*args, **kwargs)
        world.advance(3)
        for message in driver.sent:
            message.deliver()

    consumer.commit = commit_and_answer_late  # type: ignore[method-assign]


def test_a_message_that_arrives_between_the_commit_and_its_answer_is_not_confirmed_by_it(world: LeaseWorld) -> None:
    driver = world.driver("first", writers=1)
    world.acquire(driver)
    world.turn(driver)
    deliver_between_commit_and_answer(world, driver)
    world.turn(driver)
    driver.sent[-1].deliver()
    assert world.writing() == []


def test_a_message_that_keeps_contact_during_a_confirmation_is_not_confirmed_by_it(world: LeaseWorld) -> None:
    driver = world.driver("first", writers=1)
    world.acquire(driver)
    world.broker.available = False
    world.turn(driver)
    world.broker.available = True
    deliver_between_commit_and_answer(world, driver)
    world.turn(driver)
    assert len(driver.sent) == 3, "one before the confirmation, as the last had failed"
    driver.sent[-1].deliver()
    assert world.writing() == []


@pytest.mark.parametrize("failure", [None, UnavailableError("no broker")])
def test_a_driver_whose_confirmations_fail_slowly_is_silent_for_no_longer_than_one(
    failure: UnavailableError | None,
) -> None:
    now_s, confirmation_s = 0.0, 9.5
    guard = LeaseGuard(TIMEOUT_S, lambda: now_s)
    silences_s: list[float] = []

    def confirm() -> None:
        nonlocal now_s
        now_s += confirmation_s
        silences_s.append(guard.silent_s)
        if failure is not None:
            raise failure

    def send(_: Hashable, renewal: Renewal) -> SentRenewal:
        message = SentRenewal(guard, renewal)
        message.deliver()
        return message

    renewals = LeaseRenewals(confirm, send, lambda: now_s)
    for _ in range(5):
        with suppress(UnavailableError):
            renewals.turn(["writer"])
        now_s += CONFIRM_INTERVAL_S
    assert max(silences_s) == confirmation_s < TIMEOUT_S
    assert not guard.holds


def test_a_join_within_a_confirmation_makes_it_void(world: LeaseWorld) -> None:
    driver = running(world, "first")
    (consumer,) = world.consumers
    commit = consumer.commit

    def rejoin_and_commit(*args: Any, **kwargs: Any) -> None:
        world.broker.evict(consumer.inner)
        consumer.inner.poll(0.0, 1)
        commit(*args, **kwargs)

    consumer.commit = rejoin_and_commit  # type: ignore[method-assign]
    assert driver.lease.confirm() is None


def test_a_broker_that_does_not_answer_at_the_start_is_reported(world: LeaseWorld) -> None:
    world.broker.available = False
    with pytest.raises(UnavailableError):
        world.acquire(world.driver("first"))


def test_a_foreign_member_of_the_control_group_is_reported(world: LeaseWorld) -> None:
    foreign = world.broker.consumer("penstock.control", ["media.control"], drain_timeout_s=1)
    foreign.poll(0, 1)
    with pytest.raises(UnavailableError, match=r"kafka\.control_topic"):
        world.acquire(world.driver("first"))


@pytest.mark.parametrize("writers_may_run", [False, True])
def test_a_driver_leaves_at_once_unless_a_writer_may_still_act_on_its_lease(
    world: LeaseWorld, writers_may_run: bool
) -> None:
    first = running(world, "first")
    keeper = LeaseKeeper(first.lease, list, lambda _, renewal: first.sent[-1], world.advance)
    (consumer,) = world.consumers
    close, writing_then = consumer.close, []

    def leave(timeout_s: float) -> None:
        writing_then.append(len(world.writing()))
        close(timeout_s)

    consumer.close = leave  # type: ignore[method-assign]
    began_s = world.now_s
    keeper.stop(writers_may_run=writers_may_run)
    assert writing_then == [0 if writers_may_run else 2]
    assert world.now_s - began_s <= (TIMEOUT_S * VALID_SHARE if writers_may_run else 0)
    world.acquire(world.driver("second"))
    assert world.now_s - began_s < TIMEOUT_S


def test_the_driver_itself_writes_only_on_a_confirmation_that_has_not_run_out(world: LeaseWorld) -> None:
    first = running(world, "first")
    keeper = LeaseKeeper(first.lease, list, lambda _, renewal: first.sent[-1], world.advance)
    keeper.check_write()
    world.advance(TIMEOUT_S * VALID_SHARE)
    with pytest.raises(UnconfirmedError):
        keeper.check_write()
    world.turn(first)
    keeper.check_write()


def test_a_confirmation_whose_answer_came_late_lets_the_driver_write_nothing(world: LeaseWorld) -> None:
    driver = running(world, "first")
    (consumer,) = world.consumers
    commit = consumer.commit

    def commit_and_sleep(*args: Any, **kwargs: Any) -> None:
        commit(*args, **kwargs)
        world.advance(TIMEOUT_S - 1)  # the process was suspended

    consumer.commit = commit_and_sleep  # type: ignore[method-assign]
    assert driver.lease.confirm() is not None
    assert not driver.lease.holds


def test_a_driver_with_a_successor_writes_nothing(world: LeaseWorld) -> None:
    first = running(world, "first")
    keeper = LeaseKeeper(first.lease, list, lambda _, renewal: first.sent[-1], world.advance)
    world.acquire(world.driver("second"))
    with pytest.raises(UnconfirmedError):
        keeper.check_write()
    keeper.start()
    eventually(lambda: keeper.is_lost, "the driver knows its successor")
    with pytest.raises(LeaseHeldError):
        keeper.check_write()


def test_notes_that_no_driver_wrote_name_nobody() -> None:
    assert LeaseHolder.parse("") is None
    assert LeaseHolder.parse("[1]") is None
    assert LeaseHolder.parse('{"host": "h"}') is None
    holder = LeaseHolder.of_this_process("10.0.0.1:6379")
    assert LeaseHolder.parse(holder.note(7)) == holder


_MAX_LATE = 13  # the last messages of which one may still come, for the first time or again
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("advance"), st.sampled_from([0.5, 1.0, 2.5, 7.5, 8.0, 9.0, 12.0])),
        st.tuples(st.sampled_from(["turn", "turn and deliver", "die", "start", "release"]), st.integers(0, 1)),
        st.tuples(st.sampled_from(["turn", "turn and deliver"]), st.just(0)),
        st.tuples(st.just("deliver"), st.integers(0, _MAX_LATE - 1)),
        st.tuples(st.just("broker"), st.booleans()),
    ),
    max_size=60,
)


class Competition:
    """Two drivers at a time that start, pause, die and leave, and messages that come late, in any order or twice."""

    def __init__(self) -> None:
        self.world = LeaseWorld()
        self.present = [self.world.driver(f"d{number}") for number in range(2)]
        self.world.acquire(self.present[0])
        self.world.on_sleep = self.check

    def step(self, kind: str, value: float) -> None:
        world, driver = self.world, self.present[int(value) % 2]
        if kind == "advance":
            world.advance(value)
        elif kind == "broker":
            world.broker.available = bool(value)
        elif kind == "deliver":
            late = [message for sender in world.drivers for message in sender.sent][-_MAX_LATE:]
            if late:
                late[int(value) % len(late)].deliver()
        elif kind in ("die", "release"):
            if kind == "release":  # its actors have ended before
                driver.guards = {}
                driver.lease.release()
            self.present[int(value) % 2] = world.driver(f"d{len(world.drivers)}")
        elif kind == "start" and not driver.holds and world.broker.available:
            try:
                world.acquire(driver)
            except (LeaseHeldError, UnavailableError):
                self.present[int(value) % 2] = world.driver(f"d{len(world.drivers)}")
        elif kind == "turn" and driver.holds:
            world.turn(driver)
        elif kind == "turn and deliver" and driver.holds:
            world.turn_and_deliver(driver)

    def check(self) -> None:
        epochs = self.world.epochs
        assert epochs == sorted(set(epochs)), f"epochs do not rise: {epochs}"
        assert {guard.epoch for guard in self.world.writing()} <= set(epochs[-1:]), "a former driver may still write"


@settings(max_examples=300)
@given(STEPS)
def test_no_writer_of_a_former_driver_may_write_once_another_holds_the_lease(steps: list[tuple[str, float]]) -> None:
    competition = Competition()
    for kind, value in steps:
        competition.step(kind, value)
        competition.check()
