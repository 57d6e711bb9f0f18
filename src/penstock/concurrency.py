"""How much several threads hold in memory together."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager


class Room:
    """Room for so much at a time, given in the order of coming. What is larger than all of it goes in alone.

    Args:
        size: of all of it, in any unit.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._taken = 0
        self._changed = threading.Condition()
        self._waiting: deque[object] = deque()

    @contextmanager
    def of(self, wanted: int) -> Iterator[None]:
        """Around what takes so much: begins once there is room for it, and nobody who came before still waits. What
        takes nothing does not wait.
        """
        if not wanted:
            yield
            return
        turn = object()
        with self._changed:
            self._waiting.append(turn)
            try:
                while self._waiting[0] is not turn or (self._taken and self._taken + wanted > self._size):
                    self._changed.wait()
                self._taken += wanted
            finally:
                self._waiting.remove(turn)
                self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self._taken -= wanted
                self._changed.notify_all()
