"""Of the room that several writing threads share."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from penstock.concurrency import Room

_PATIENCE_S = 10.0


class Guest:
    """Goes into a room, stays there until it is let go, and says when it is in."""

    def __init__(self, room: Room, wanted: int, threads: ThreadPoolExecutor) -> None:
        self.inside, self._leave = threading.Event(), threading.Event()
        self._room, self._wanted = room, wanted
        self._stays = threads.submit(self._stay)

    def _stay(self) -> None:
        with self._room.of(self._wanted):
            self.inside.set()
            assert self._leave.wait(_PATIENCE_S)

    def leave(self) -> None:
        self._leave.set()
        self._stays.result(_PATIENCE_S)


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as executor:
        yield executor


def entered(room: Room, wanted: int, threads: ThreadPoolExecutor) -> Guest:
    guest = Guest(room, wanted, threads)
    assert guest.inside.wait(_PATIENCE_S)
    return guest


def waiting(room: Room, wanted: int, threads: ThreadPoolExecutor) -> Guest:
    """One that has come and is not let in; those that came before it waited already."""
    before = len(room._waiting)
    guest = Guest(room, wanted, threads)
    while len(room._waiting) == before:
        assert not guest.inside.is_set()
    return guest


def test_what_fits_goes_in_beside_the_others_and_the_next_waits(threads: ThreadPoolExecutor) -> None:
    room = Room(10)
    first, second = entered(room, 6, threads), entered(room, 4, threads)
    third = waiting(room, 1, threads)
    second.leave()
    assert third.inside.wait(_PATIENCE_S)
    third.leave()
    first.leave()


def test_what_is_larger_than_the_room_goes_in_alone(threads: ThreadPoolExecutor) -> None:
    room = Room(10)
    small = entered(room, 1, threads)
    large = waiting(room, 100, threads)
    small.leave()
    assert large.inside.wait(_PATIENCE_S)
    after = waiting(room, 1, threads)
    large.leave()
    assert after.inside.wait(_PATIENCE_S)
    after.leave()


def test_a_small_one_does_not_overtake_a_large_one_that_waits(threads: ThreadPoolExecutor) -> None:
    room = Room(10)
    first = entered(room, 6, threads)
    large = waiting(room, 10, threads)
    small = waiting(room, 1, threads)
    nothing = entered(room, 0, threads)
    nothing.leave()
    first.leave()
    assert large.inside.wait(_PATIENCE_S)
    assert not small.inside.is_set()
    large.leave()
    assert small.inside.wait(_PATIENCE_S)
    small.leave()


def test_room_is_given_back_by_one_that_fails() -> None:
    room = Room(1)
    with pytest.raises(KeyError), room.of(1):
        raise KeyError
    with room.of(1):
        pass
