"""Tests how long a writer or a lane may act on the messages of its driver."""

from __future__ import annotations

import pytest

from penstock.errors import NotReadyError
from penstock.store.lease import VALID_SHARE, LeaseGuard, Renewal, boot_time_s
from tests.clock import Clock

TIMEOUT_S = 10.0


@pytest.fixture
def clock() -> Clock:
    return Clock(100.0)


@pytest.fixture
def guard(clock: Clock) -> LeaseGuard:
    return LeaseGuard(TIMEOUT_S, clock)


def test_nothing_is_written_before_the_first_confirmation(guard: LeaseGuard) -> None:
    guard.renew(Renewal(epoch=3, mark=1, confirmed=0))
    with pytest.raises(NotReadyError):
        guard.admit(3)


def test_a_confirmation_counts_from_the_receipt_of_the_message_that_it_confirms(
    guard: LeaseGuard, clock: Clock
) -> None:
    guard.renew(Renewal(3, 1, 0))
    clock.now_s += 5
    guard.renew(Renewal(3, 2, 1))
    clock.now_s = 100 + TIMEOUT_S * VALID_SHARE - 0.01
    guard.admit(3)
    clock.now_s += 0.02
    with pytest.raises(NotReadyError):
        guard.check()


def test_the_lease_holds_again_once_it_is_confirmed_again(guard: LeaseGuard, clock: Clock) -> None:
    guard.renew(Renewal(3, 1, 0))
    guard.renew(Renewal(3, 2, 1))
    clock.now_s += 60
    guard.renew(Renewal(3, 3, 2))
    assert not guard.holds
    guard.renew(Renewal(3, 4, 3))
    assert guard.holds


def test_messages_that_overtake_each_other_never_lengthen_the_lease(guard: LeaseGuard, clock: Clock) -> None:
    guard.renew(Renewal(3, 1, 0))
    clock.now_s += 60
    guard.renew(Renewal(3, 3, 2))  # of 2, which confirms 1, nothing is known here yet
    assert not guard.holds
    guard.renew(Renewal(3, 2, 1))
    assert not guard.holds


def test_messages_that_come_twice_never_lengthen_the_lease(guard: LeaseGuard, clock: Clock) -> None:
    messages = [Renewal(3, 1, 0), Renewal(3, 2, 1), Renewal(3, 3, 2)]
    for message in messages:
        guard.renew(message)
    clock.now_s += 60
    for message in messages:
        guard.renew(message)
    assert not guard.holds
    guard.renew(Renewal(3, 4, 3))
    assert not guard.holds


def test_a_newer_epoch_needs_a_confirmation_of_its_own(guard: LeaseGuard) -> None:
    guard.renew(Renewal(3, 1, 0))
    guard.renew(Renewal(3, 2, 1))
    guard.renew(Renewal(4, 3, 0))
    assert not guard.holds
    guard.renew(Renewal(3, 4, 2))  # a message of the former epoch that comes late
    assert not guard.holds
    guard.renew(Renewal(4, 5, 3))
    guard.admit(4)
    with pytest.raises(NotReadyError):
        guard.admit(3)


def test_a_driver_that_lives_without_a_confirmation_is_not_silent(guard: LeaseGuard, clock: Clock) -> None:
    clock.now_s += 20
    assert guard.silent_s == 20
    guard.renew(Renewal(3, 1, 0))
    assert guard.silent_s == 0


def test_the_clock_of_leases_goes_on() -> None:
    assert boot_time_s() <= boot_time_s()
