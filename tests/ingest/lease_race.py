"""Runs drivers that compete for a lease in threads of which one runs at a time, in an order that a seed gives.

The thread changes wherever another process could run in between: around each request to the broker, and in each sleep.
The clock moves only while all sleep, so a race takes no time and can be repeated.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Mapping, Sequence

from tests.ingest.lease_world import LeaseWorld


class StuckError(AssertionError):
    """A race that does not end."""


class Race:
    """Competitors on the broker of a world.

    Args:
        world: calls `between` before each request, and `sleep` for each wait.
        seed: of the order.
        max_s: the longest race, in seconds of the world.
        check: called before each change of the thread.
    """

    def __init__(self, world: LeaseWorld, seed: int, *, max_s: float, check: Callable[[], None]) -> None:
        self._world = world
        self._rng = random.Random(seed)
        self._max_s = max_s
        self._check = check
        self._turn = threading.Condition()
        self._wakes: dict[str, float] = {}
        self._running = ""
        self._errors: list[BaseException] = []
        world.between = lambda: self.sleep(0.0)
        world.sleep = self.sleep

    def run(self, competitors: Mapping[str, Callable[[], None]]) -> None:
        """Returns once all have ended; raises the first error of any."""
        self._wakes = dict.fromkeys(competitors, self._world.now_s)
        threads = [
            threading.Thread(target=self._compete, args=(competitor,), name=name, daemon=True)
            for name, competitor in competitors.items()
        ]
        with self._turn:
            self._choose()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if self._errors:
            raise self._errors[0]

    def sleep(self, seconds: float) -> None:
        """Lets others run, and returns after these seconds of the world."""
        name = threading.current_thread().name
        if name not in self._wakes:  # the test itself, before the race
            return
        with self._turn:
            self._wakes[name] = self._world.now_s + seconds
            self._choose()
            self._await(name)

    def _compete(self, competitor: Callable[[], None]) -> None:
        name = threading.current_thread().name
        with self._turn:
            self._await(name)
        try:
            competitor()
        except BaseException as exc:
            self._errors.append(exc)
        with self._turn:
            del self._wakes[name]
            self._choose()

    def _await(self, name: str) -> None:
        self._turn.wait_for(lambda: self._running == name or bool(self._errors))
        if self._errors:
            raise StuckError("another competitor failed")

    def _choose(self) -> None:
        """Chooses who runs next. A failed check ends the race."""
        try:
            self._check()
            if self._wakes:
                self._running = self._rng.choice(self._ready())
        except AssertionError as exc:
            self._errors.append(exc)
        self._turn.notify_all()

    def _ready(self) -> Sequence[str]:
        if (first_s := min(self._wakes.values())) > self._world.now_s:
            self._world.advance(first_s - self._world.now_s)
        if self._world.now_s > self._max_s:
            raise StuckError(f"the race takes more than {self._max_s:.0f} s")
        return [name for name, at_s in self._wakes.items() if at_s <= self._world.now_s]
